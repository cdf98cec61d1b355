"""Tell which policies an event comes of: what our commands brought about, and what came of that. Pure.

An acknowledgement comes of the policies that its command came of; so does a response that was asked for,
with everything in it, and an item of ours. It is upstream's answer to a command that counts and not what a
response says of itself, which any page can write.
"""

from __future__ import annotations

from rtobserver.observation.commands import Author, Json, Told
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import identifier, mapping

MAX_IDS = 2_000
"""Responses and items that are remembered."""

NOBODY: frozenset[str] = frozenset()

_OF_RESPONSES = frozenset({"response.created", "response.done"})
_OF_ITEMS = frozenset({"conversation.item.added", "conversation.item.done", "response.output_item.added"})


class Causes:
    """Remember what came of the commands of policies in one call."""

    __slots__ = ("_answered", "_ids", "_open")

    def __init__(self) -> None:
        self._answered = NOBODY
        self._ids: dict[str, frozenset[str]] = {}
        self._open: list[tuple[Json, frozenset[str]]] = []
        """Responses that an earlier epoch asked for: their metadata, and for whom."""

    def issued(self, event: Json, author: Author) -> None:
        """Take note of a command."""
        if author.causes and event.get("type") == "conversation.item.create":
            self._remember(mapping(event.get("item")).get("id"), author.causes)

    def answered(self, author: Author, told: Told) -> None:
        """Take note that a command was answered by the event that `of` is asked about next."""
        if author.causes:
            self._answered |= author.causes
            self._remember(mapping(told.answer.get("response")).get("id"), author.causes)

    def recall(self, event: Json, policy: str) -> None:
        """Take in a command of a policy from an earlier epoch."""
        author = Author("policy", policy, causes=frozenset({policy}))
        self.issued(event, author)
        metadata = mapping(mapping(event.get("response")).get("metadata"))
        if event.get("type") == "response.create" and metadata:
            self._open.append((metadata, author.causes))

    def of(self, event: Event, frame: bytes) -> frozenset[str]:
        """Name the policies that an event comes of."""
        found, self._answered = self._answered, NOBODY
        if not self._ids and not self._open:
            return found
        type_ = canonical(event.type or "")
        ids = [event.response_id, event.item_id]
        if type_ in _OF_RESPONSES:
            response = mapping(fields(frame).get("response"))
            ids.append(identifier(response.get("id")))
            found |= self._expected(response)
        elif type_ in _OF_ITEMS:
            ids.append(identifier(mapping(fields(frame).get("item")).get("id")))
        for id_ in ids:
            if id_ is not None:
                found |= self._ids.get(id_, NOBODY)
        if found and type_ == "response.output_item.added":
            self._remember(ids[-1], found)
        return found

    def _expected(self, response: Json) -> frozenset[str]:
        for number, (metadata, causes) in enumerate(self._open):
            if response.get("metadata") == metadata:
                del self._open[number]
                self._remember(response.get("id"), causes)
                return causes
        return NOBODY

    def _remember(self, id_: object, causes: frozenset[str]) -> None:
        name = identifier(id_)
        if name is not None:
            self._ids[name] = self._ids.get(name, NOBODY) | causes
            if len(self._ids) > MAX_IDS:
                del self._ids[next(iter(self._ids))]
