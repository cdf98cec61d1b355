"""Read a frame's envelope; unknown types are kept, never refused.

A frame's bytes are the record. What is parsed here is best effort: `read` gives the few fields
that the machine and the fold go by, `fields` the whole object when a rule or the fold needs it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

MAX_DEPTH = 100
"""Deeper nesting is not embedded in JSON answers (design, section 8)."""


class Event(msgspec.Struct, gc=False):
    """Hold the envelope of a server event; None stands for absent, null or not a string."""

    type: str | None = None
    event_id: str | None = None
    item_id: str | None = None
    response_id: str | None = None
    delta: str | None = None


_UNKNOWN = Event()
_decode = msgspec.json.Decoder(Event).decode
_decode_any = msgspec.json.Decoder().decode


def read(frame: bytes) -> tuple[Event, bool]:
    """Read a frame's envelope, and say whether the frame can be embedded in JSON as it stands.

    The second value is true when the frame is strict RFC 8259 text in UTF-8, without raw CR, LF or
    NUL, nested at most `MAX_DEPTH` deep. Never raises.
    """
    try:
        event = _decode(frame)
        if not frame.isascii():
            frame.decode()  # the decoder does not check the UTF-8 of what it skips
    except (ValueError, RecursionError):
        return _read_odd(frame)
    if (
        b"\n" in frame
        or b"\r" in frame
        or (frame.count(b"{") + frame.count(b"[") > MAX_DEPTH and depth(frame) > MAX_DEPTH)
    ):
        return event, False
    return event, True


def fields(frame: bytes) -> dict[str, Any]:
    """Decode the whole frame; an empty dict when it is no JSON object. Never raises."""
    try:
        value = _decode_any(frame)
    except (ValueError, RecursionError):
        value = _loads(frame)
    return value if isinstance(value, dict) else {}


def depth(frame: bytes) -> int:
    """Count how deep a JSON text nests arrays and objects; brackets inside strings do not count."""
    deepest = level = 0
    inside = escaped = False
    for byte in frame:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


class _NotJsonError(ValueError):
    pass


_REFUSED = object()


def _refuse(constant: str) -> Any:
    raise _NotJsonError(constant)


def _loads(frame: bytes) -> Any:
    """Decode what the fast decoder refuses although the grammar allows it (lone surrogates, huge numbers)."""
    if frame.count(b"{") + frame.count(b"[") > MAX_DEPTH and depth(frame) > MAX_DEPTH:
        return _REFUSED
    try:
        return json.loads(frame.decode(), parse_constant=_refuse, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return _REFUSED


def _number(digits: str) -> float:
    # Python's own int() refuses more than 4,300 digits; a record that odd needs no exact value
    return float(digits)


def _read_odd(frame: bytes) -> tuple[Event, bool]:
    value = _loads(frame)
    if value is _REFUSED:
        return _UNKNOWN, False
    embeddable = b"\n" not in frame and b"\r" not in frame
    if not isinstance(value, dict):
        return _UNKNOWN, embeddable
    return Event(**{name: _text(value.get(name)) for name in Event.__struct_fields__}), embeddable


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value
