"""Tell which policies an event comes of: what our commands brought about, and what came of that. Pure.

An acknowledgement comes of the policies that its command came of; so does a response that was asked for,
with everything in it, and an item of ours. It is upstream's answer to a command that counts and not what a
response says of itself, which any page can write.
"""

from __future__ import annotations

from rtobserver.observation.commands import Author, Json, Told
from rtobserver.policy.descent import NOBODY, Descent
from rtobserver.realtime.events import Event
from rtobserver.realtime.values import mapping


class Causes:
    """Remember what came of the commands of policies in one call."""

    __slots__ = ("_answered", "_descent")

    def __init__(self) -> None:
        self._answered = NOBODY
        self._descent = Descent()

    def issued(self, event: Json, author: Author) -> None:
        """Take note of a command."""
        self._descent.commanded(event, author.causes)

    def answered(self, author: Author, told: Told) -> None:
        """Take note that a command was answered by the event that `of` is asked about next."""
        if author.causes:
            self._answered |= author.causes
            self._descent.remember(mapping(told.answer.get("response")).get("id"), author.causes)

    def recall(self, event: Json, policy: str) -> None:
        """Take in a command of a policy from an earlier epoch."""
        self._descent.recalled(event, policy)

    def of(self, event: Event, frame: bytes) -> frozenset[str]:
        """Name the policies that an event comes of."""
        answered, self._answered = self._answered, NOBODY
        found = answered | self._descent.of(event, frame)
        self._descent.inherit(event, frame, found)
        return found
