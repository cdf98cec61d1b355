"""Read recordings from lines: our own export of entries, or raw server events. Pure.

A line of our own export has a `payload`, and says when it came. A raw event says nothing about time:
it came `RAW_GAP_US` after what stands before it. A line with nothing but an `offset_ms` lets time pass.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from rtobserver.realtime.entries import COMMAND, EVENT, GAP, JSON, OVERLAP
from rtobserver.realtime.events import read

RAW_GAP_US = 20_000
"""Between two raw events."""
BEGINNING_US = 1_767_225_600_000_000
"""When a call began whose lines do not say it: the first moment of 2026."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {"event": EVENT, "command": COMMAND, "gap": GAP}
_MARK = b',"payload":'
_OURS = ("payload", "payload_base64", "offset_ms")


class RecordingError(ValueError):
    """Say in plain words what is wrong with a line."""


class Line(Protocol):
    """Be one recorded line of a call, from the store or from a file."""

    @property
    def epoch(self) -> int:
        """Say whose stretch of observing it belongs to."""

    @property
    def seq(self) -> int:
        """Give its number in the epoch."""

    @property
    def kind(self) -> int:
        """Say what it is: event, command or gap."""

    @property
    def at(self) -> int:
        """Give its time in microseconds since 1970."""

    @property
    def offset_us(self) -> int:
        """Give the call's age."""

    @property
    def type(self) -> str | None:
        """Give the event's type."""

    @property
    def event_id(self) -> str | None:
        """Give the event's id."""

    @property
    def flags(self) -> int:
        """Give its flags."""

    @property
    def payload(self) -> bytes:
        """Give the frame."""


class Recorded(NamedTuple):
    """Be a line that was read from a file."""

    epoch: int
    seq: int
    kind: int
    at: int
    offset_us: int
    type: str | None
    event_id: str | None
    flags: int
    payload: bytes


class Recording(NamedTuple):
    """Be a whole file."""

    lines: tuple[Recorded, ...]
    started_at: int
    age: float
    """Seconds from the beginning of the call until the file ends."""


def read_recording(texts: Iterable[bytes]) -> Recording:
    """Read the lines of a file.

    Raises:
        RecordingError: one of them is neither an event nor an entry; names it by its number.

    """
    reader = _Reader()
    lines = tuple(reader.read(texts))
    return Recording(lines, reader.started_at or BEGINNING_US, reader.offset_us / 1e6)


class _Reader:
    def __init__(self) -> None:
        self.started_at: int | None = None
        self.offset_us = 0
        self._epoch, self._seq = 1, 0
        self._is_first = True

    def read(self, texts: Iterable[bytes]) -> Iterator[Recorded]:
        for number, text in enumerate(texts, 1):
            text = text.strip()
            if not text:
                continue
            try:
                recorded = self._line(text)
            except (ValueError, RecursionError) as exc:
                raise RecordingError(f"line {number}: {exc}") from None
            if recorded is not None:
                yield recorded

    def _line(self, text: bytes) -> Recorded | None:
        head, mark, rest = text.partition(_MARK)
        if mark and text.startswith(b'{"position":') and (fields := _object(head + b"}")) is not None:
            # the frame's own bytes, which no parser need understand
            return self._ours(fields, rest.removesuffix(b"}"))
        fields = _object(text)
        if fields is None:
            raise RecordingError("not a JSON object")
        if not any(name in fields for name in _OURS):
            return self._raw(text)
        if "payload_base64" in fields:
            return self._ours(fields, base64.b64decode(fields["payload_base64"], validate=True))
        if "payload" in fields:
            return self._ours(fields, json.dumps(fields["payload"]).encode())
        self._pass(fields)
        return None

    def _raw(self, text: bytes) -> Recorded:
        event, embeddable = read(text)
        if event.type is None:
            raise RecordingError("an event has a `type`")
        if not self._is_first:
            self.offset_us += RAW_GAP_US
        self._is_first = False
        self._seq += 1
        at = (self.started_at or BEGINNING_US) + self.offset_us
        flags = JSON if embeddable else 0
        return Recorded(self._epoch, self._seq, EVENT, at, self.offset_us, event.type, event.event_id, flags, text)

    def _ours(self, fields: dict[str, Any], payload: bytes) -> Recorded:
        self._pass(fields)
        self._is_first = False
        kind = _KINDS.get(fields.get("kind", "event"))
        if kind is None:
            raise RecordingError(f"`kind` is event, command or gap, not {fields['kind']!r}")
        self._epoch, self._seq = _whole(fields, "epoch", self._epoch), _whole(fields, "seq", self._seq + 1)
        event, embeddable = read(payload)
        flags = (JSON if embeddable else 0) | (OVERLAP if fields.get("overlap") is True else 0)
        at = microseconds(fields["at"]) if "at" in fields else None
        if self.started_at is None:
            self.started_at = BEGINNING_US if at is None else at - self.offset_us
        if at is None:
            at = self.started_at + self.offset_us
        type_, event_id = fields.get("type", event.type), fields.get("event_id", event.event_id)
        return Recorded(self._epoch, self._seq, kind, at, self.offset_us, type_, event_id, flags, payload)

    def _pass(self, fields: dict[str, Any]) -> None:
        """Move the clock on; it never goes back."""
        offset = fields.get("offset_ms")
        if offset is None:
            self.offset_us += 0 if self._is_first else RAW_GAP_US
        elif isinstance(offset, bool) or not isinstance(offset, int | float) or not 0 <= offset < 1e12:
            raise RecordingError(f"`offset_ms` is a number of milliseconds, not {offset!r}")
        else:
            self.offset_us = max(self.offset_us, round(offset * 1000))


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _whole(fields: dict[str, Any], name: str, otherwise: int) -> int:
    value = fields.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RecordingError(f"`{name}` is a whole number from 1 on, not {value!r}")
    return value


def microseconds(text: object) -> int:
    """Read a time as our own export writes it, in microseconds since 1970.

    Raises:
        RecordingError: it is none.

    """
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise RecordingError(f"`at` is a time such as 2026-01-31T08:00:00Z, not {text!r}") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
