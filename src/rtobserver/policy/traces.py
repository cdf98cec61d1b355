"""Tell from recorded commands which policies an event came of, as `observation/causes.py` tells it live. Pure.

A command's answer names no cause (protocol.md 2.7), so it is tied by what it is about, and failing that to
the oldest command of its type. It is upstream's answer to a command that counts, and not what a response
says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rtobserver.policy.descent import NOBODY, Descent
from rtobserver.policy.rules import Json
from rtobserver.policy.tampering import reflects
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import mapping

PATIENCE = 10.0
"""Seconds after which an answer is no longer waited for."""


class Traces:
    """Follow the recorded commands of one call; `policies` names those of commands by their event ids."""

    __slots__ = ("_descent", "_outstanding", "_policies", "_recorded")

    def __init__(self, policies: Mapping[str, str]) -> None:
        self._policies = policies
        self._outstanding: dict[str, tuple[float, Mapping[str, Json], frozenset[str]]] = {}
        self._descent = Descent()
        self._recorded = Descent()
        """What a take-over finds of that in what was recorded."""

    def taken_over(self) -> None:
        """Go on from recorded commands alone, as another run does: who it was that asked, and for what."""
        self._outstanding.clear()
        self._descent = self._recorded.copy()

    def policy_of(self, command: Mapping[str, Json]) -> str | None:
        """Name the policy that a command is of; a file without a store tells it of responses only."""
        event_id = command.get("event_id")
        if isinstance(event_id, str) and event_id in self._policies:
            return self._policies[event_id]
        named = mapping(mapping(command.get("response")).get("metadata")).get("rtobserver")
        return named if isinstance(named, str) and named != "operator" else None

    def issued(
        self, command: Mapping[str, Json], causes: frozenset[str], age: float, policy: str | None = None
    ) -> None:
        """Take note of a command that went to upstream; `policy` is whose it is."""
        if policy is not None:
            self._recorded.recalled(command, policy)
        event_id = command.get("event_id")
        if not isinstance(event_id, str):
            return
        self._outstanding[event_id] = (age + PATIENCE, command, causes)
        self._descent.commanded(command, causes)

    def lost(self) -> None:
        """Take note that the sideband was lost: nothing that is outstanding will be answered."""
        self._outstanding.clear()

    def recorded_of(self, event: Event, frame: bytes) -> frozenset[str]:
        """Name the policies that an event came of, as a take-over finds it."""
        found = self._recorded.of(event, frame)
        self._recorded.inherit(event, frame, found)
        return found

    def of(self, event: Event, frame: bytes, age: float) -> frozenset[str]:
        """Name the policies that an event came of."""
        answered = self._answered(canonical(event.type or ""), frame, age) if self._outstanding else NOBODY
        found = answered | self._descent.of(event, frame)
        self._descent.inherit(event, frame, found)
        return found

    def _answered(self, type_: str, frame: bytes, age: float) -> frozenset[str]:
        for event_id in [event_id for event_id, (due, _, _) in self._outstanding.items() if due <= age]:
            del self._outstanding[event_id]
        if type_ == "error":
            refused = mapping(fields(frame).get("error")).get("event_id")
            if isinstance(refused, str) and refused in self._outstanding:
                return self._outstanding.pop(refused)[2]
            return NOBODY
        wanted = ANSWERS.get(type_)
        if wanted is None:
            return NOBODY
        command_type, answers = wanted
        asked = [(id_, each) for id_, each in self._outstanding.items() if each[1].get("type") == command_type]
        answer = fields(frame) if asked else {}
        for event_id, (_, command, causes) in asked:
            if answers(command, answer):
                del self._outstanding[event_id]
                if causes:
                    self._descent.remember(mapping(answer.get("response")).get("id"), causes)
                return causes
        return NOBODY


def _always(_asked: Mapping[str, Json], _answer: Mapping[str, Json]) -> bool:
    return True


def _same_response(asked: Mapping[str, Json], answer: Mapping[str, Json]) -> bool:
    response = mapping(answer.get("response"))
    wanted = mapping(asked.get("response"))
    apart = wanted.get("conversation") == "none"
    if "conversation_id" in response and apart != (response["conversation_id"] is None):
        return False
    return (response.get("metadata") or {}) == (wanted.get("metadata") or {})


def _cancelled(asked: Mapping[str, Json], answer: Mapping[str, Json]) -> bool:
    response = mapping(answer.get("response"))
    return response.get("status") == "cancelled" and asked.get("response_id") in (None, response.get("id"))


def _shown(asked: Mapping[str, Json], answer: Mapping[str, Json]) -> bool:
    # another's update may be answered while ours is under way
    return reflects(mapping(asked.get("session")), mapping(answer.get("session")))


def _same_item(asked: Mapping[str, Json], answer: Mapping[str, Json]) -> bool:
    wanted = asked.get("item_id") or mapping(asked.get("item")).get("id")
    return wanted in (answer.get("item_id"), mapping(answer.get("item")).get("id"))


ANSWERS: Mapping[str, tuple[str, Callable[[Mapping[str, Json], Mapping[str, Json]], bool]]] = {
    "session.updated": ("session.update", _shown),
    "response.created": ("response.create", _same_response),
    "response.done": ("response.cancel", _cancelled),
    "output_audio_buffer.cleared": ("output_audio_buffer.clear", _always),
    "input_audio_buffer.cleared": ("input_audio_buffer.clear", _always),
    "input_audio_buffer.committed": ("input_audio_buffer.commit", _always),
    "conversation.item.added": ("conversation.item.create", _same_item),
    "conversation.item.deleted": ("conversation.item.delete", _same_item),
    "conversation.item.truncated": ("conversation.item.truncate", _same_item),
    "conversation.item.retrieved": ("conversation.item.retrieve", _same_item),
}
"""What acknowledges which client event, and whether it can be about this one."""
