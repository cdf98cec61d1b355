"""Send client events into a call, and learn what became of each.

Pure. A command is recorded, then sent; it is outstanding until upstream acknowledges it, refuses it
with an `error` that names it, or nothing can be known any more: the sideband is gone, the call is
over, or `PATIENCE` has passed. Whoever issued it is told each of these, once.

Acknowledgements name no cause (protocol.md 2.7), so they are tied by what they are about: an item,
a response, its metadata; failing that, to the oldest command of that type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from rtobserver.observation.effects import Effect, Send
from rtobserver.observation.ledger import Ledger
from rtobserver.policy.traces import ANSWERS
from rtobserver.realtime.entries import CommandRow, DecisionRow
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.placeholders import placeholder
from rtobserver.realtime.redaction import strip_audio
from rtobserver.realtime.values import mapping, text

PATIENCE = 10.0
"""Seconds after which an acknowledgement is no longer waited for."""
MAX_OUTSTANDING = 1_000
"""Commands that are waited for at once; beyond it the oldest is given up."""

Json = dict[str, Any]
Source = Literal["policy", "operator", "system"]
HungUpBy = Literal["browser", "operator", "policy", "max_duration", "undelivered", "shutdown", "given_up"]
"""Who or what had a call hung up."""


class Author(msgspec.Struct, frozen=True):
    """Say who or what a command is for."""

    source: Source
    policy: str | None = None
    decision: DecisionRow | None = None
    """What the command carries out."""
    causes: frozenset[str] = frozenset()
    """Policies that led to it."""
    conceals: bool = False
    """Whether it may repeat what must not be stored: then a placeholder is recorded in its stead."""


OPERATOR = Author("operator")


class Told(msgspec.Struct):
    """Be what whoever issued a command is told of it."""

    state: Literal["sent", "acknowledged", "failed", "unknown", "expired", "released"]
    """`expired` and `released` (for another to send): it was never sent."""
    at: int
    mono: float
    event_id: str | None = None
    error: str | None = None
    answer: Json = {}
    """The event that acknowledged it."""


Tell = Callable[[Told], list[Effect]]


class Follows(Protocol):
    """Follow what is sent, and what comes of it."""

    def issued(self, event: Json, author: Author, mono: float) -> None:
        """Take note of a client event that is sent now, with its ids."""

    def answered(self, event: Json, author: Author, told: Told) -> None:
        """Take note that it was acknowledged or refused."""


class _Outstanding(msgspec.Struct):
    row: CommandRow
    author: Author
    event: Json
    due: float
    tell: Tell


class Commands:
    """Keep the commands of one epoch that are outstanding."""

    __slots__ = ("_audio_key", "_ledger", "_outstanding", "follower")

    def __init__(self, ledger: Ledger, audio_key: bytes | None) -> None:
        self._ledger = ledger
        self._audio_key = audio_key
        self._outstanding: dict[str, _Outstanding] = {}
        self.follower: Follows | None = None

    @property
    def due(self) -> float | None:
        """Give the monotonic time at which the oldest is given up."""
        return min((each.due for each in self._outstanding.values()), default=None)

    def __bool__(self) -> bool:
        return bool(self._outstanding)

    def issue(self, event: Json, author: Author, tell: Tell, at: int, mono: float) -> list[Effect]:
        """Record and send a client event, under an `event_id` of ours; an item of ours gets such an id too."""
        effects: list[Effect] = []
        if len(self._outstanding) >= MAX_OUTSTANDING:
            effects = self._settle(next(iter(self._outstanding)), "unknown", at, mono, "too many commands at once")
        event_id = self._ledger.next_command_id()
        event = {**event, "event_id": event_id}
        if event.get("type") == "conversation.item.create" and isinstance(event.get("item"), dict):
            event["item"] = {"id": event_id, **event["item"]}
        row = self._row(event_id, str(event.get("type")), author, "sent", at)
        body = msgspec.json.encode(event)
        if author.conceals:
            kept = placeholder(body, [text for text in (_item_id(event),) if text])
        else:
            kept = body if self._audio_key is None else strip_audio(body, None, self._audio_key)[0]
        self._outstanding[event_id] = _Outstanding(row, author, event, mono + PATIENCE, tell)
        if self.follower is not None:
            self.follower.issued(event, author, mono)
        record = self._ledger.command(row, kept, at, mono)
        effects += [record, row, Send(event_id, body.decode(), row, author.decision)]
        return effects + tell(Told("sent", at, mono, event_id))

    def note(self, body: Json, author: Author, at: int, mono: float) -> tuple[str, list[Effect]]:
        """Record something that was done to the recording itself, and that upstream never hears of; gives its id."""
        event_id = self._ledger.next_command_id()
        row = self._row(event_id, str(body["type"]), author, "acknowledged", at)
        row.acknowledged_at = at
        return event_id, [self._ledger.command(row, msgspec.json.encode({**body, "event_id": event_id}), at, mono), row]

    def hang_up(self, body: Json, author: Author, at: int, mono: float) -> tuple[CommandRow, list[Effect]]:
        """Record that the call is to be ended; upstream is asked for that by other means than a client event."""
        event_id = self._ledger.next_command_id()
        row = self._row(event_id, str(body["type"]), author, "sent", at)
        return row, [self._ledger.command(row, msgspec.json.encode({**body, "event_id": event_id}), at, mono), row]

    def _row(
        self, event_id: str, type_: str, author: Author, state: Literal["sent", "acknowledged"], at: int
    ) -> CommandRow:
        epoch, seq = self._ledger.epoch, self._ledger.seq
        return CommandRow(epoch, seq, event_id, type_, author.source, state, at, policy=author.policy)

    def heard(self, event: Event, frame: bytes, at: int, mono: float) -> list[Effect]:
        """Take in a server event: it may say what became of a command."""
        type_ = canonical(event.type or "")
        if type_ == "error":
            error = mapping(fields(frame).get("error"))
            cause = error.get("event_id")
            if isinstance(cause, str) and cause in self._outstanding:
                problem = text(error.get("code")) or text(error.get("type")) or "error"
                return self._settle(cause, "failed", at, mono, problem)
            return []
        found = ANSWERS.get(type_)
        if found is None:
            return []
        command_type, answers = found
        asked = [each for each in self._outstanding.values() if each.event["type"] == command_type]
        if not asked:
            return []
        answer = fields(frame)
        for each in asked:
            if answers(each.event, answer):
                return self._settle(each.row.event_id, "acknowledged", at, mono, answer=answer)
        return []

    def unsent(self, event_id: str, problem: str, at: int, mono: float, *, never: bool = False) -> list[Effect]:
        """Take note that sending failed: whether the command arrived cannot be known unless it `never` left."""
        return self._settle(event_id, "failed" if never else "unknown", at, mono, problem)

    def give_up(self, problem: str, at: int, mono: float, *, until: float | None = None) -> list[Effect]:
        """Cease to wait for all commands, or for those that were due until then."""
        overdue = [each.row.event_id for each in self._outstanding.values() if until is None or each.due <= until]
        return [effect for event_id in overdue for effect in self._settle(event_id, "unknown", at, mono, problem)]

    def _settle(
        self,
        event_id: str,
        state: Literal["acknowledged", "failed", "unknown"],
        at: int,
        mono: float,
        error: str | None = None,
        answer: Json | None = None,
    ) -> list[Effect]:
        each = self._outstanding.pop(event_id, None)
        if each is None:
            return []
        each.row.state, each.row.error = state, error
        each.row.acknowledged_at = at if state == "acknowledged" else None
        told = Told(state, at, mono, event_id, error, answer or {})
        if self.follower is not None and state != "unknown":
            self.follower.answered(each.event, each.author, told)
        return [each.row, *each.tell(told)]


def _item_id(event: Json) -> str | None:
    found = mapping(event.get("item")).get("id") or event.get("item_id")
    return found if isinstance(found, str) else None
