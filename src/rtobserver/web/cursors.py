"""Turn places in a list into the opaque cursors of the API, and back. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from rtobserver.store.calls import Before
from rtobserver.store.decided import Spot
from rtobserver.store.decisions import Place
from rtobserver.store.feed import Mark
from rtobserver.store.hits import HitPlace
from rtobserver.store.positions import Position

_AUDIT = re.compile(r"aud_[0-9a-f]{22}")
_TAIL = re.compile(r"t([0-9]{1,19}):([0-9]{1,19}):([0-9]{1,19})")
_DECISIONS = re.compile(r"d([0-9]{1,9}):([0-9]{1,9}):(.{1,160})", re.DOTALL)
_ALL_DECISIONS = re.compile(r"a([0-9]{1,19}):([0-9]{1,19}):([0-9]{1,9}):([0-9]{1,9}):(.{1,160})", re.DOTALL)
_LINE = re.compile(r"l[0-9a-f]{24}")
_NUMBER = re.compile(r"n([0-9]{1,19})")
_HITS = re.compile(r"h([0-9]{1,19}(?:,[0-9]{1,19}){0,3}):(.{0,100})", re.DOTALL)
_CALLS = re.compile(r"c([0-9]{1,19}):([0-9]{1,19})")


def of_calls(before: Before | None) -> str | None:
    """Write the cursor behind a page of calls."""
    return None if before is None else _write(f"c{before.started_at}:{before.key}")


def to_calls(cursor: str) -> Before | None:
    """Read a cursor of a list of calls; None where it is none of ours."""
    match = _CALLS.fullmatch(_read(cursor))
    if match is None or int(match[1]) >= 1 << 63 or int(match[2]) >= 1 << 63:
        return None
    return Before(int(match[1]), int(match[2]))


def of_positions(position: Position | None) -> str | None:
    """Write the cursor behind a page of a call's rows."""
    return None if position is None else _write(f"p{position}")


def to_positions(cursor: str) -> Position | None:
    """Read a cursor of a list of a call's rows; None where it is none of ours."""
    text = _read(cursor)
    return Position.parse(text[1:]) if text.startswith("p") else None


def of_tail(mark: Mark) -> str:
    """Write the place of an entry among those of all calls."""
    return _write(f"t{':'.join(map(str, mark))}")


def to_tail(cursor: str) -> Mark | None:
    """Read a place among the entries of all calls; None where it is none of ours."""
    match = _TAIL.fullmatch(_read(cursor))
    if match is None or any(int(number) >= 1 << 63 for number in match.groups()):
        return None
    return Mark(*map(int, match.groups()))


def of_audit(audit_id: str | None) -> str | None:
    """Write the cursor behind a page of the audit."""
    return None if audit_id is None else _write(audit_id)


def to_audit(cursor: str) -> str | None:
    """Read a cursor of the audit; None where it is none of ours."""
    text = _read(cursor)
    return text if _AUDIT.fullmatch(text) else None


def of_decisions(place: Place | None) -> str | None:
    """Write the cursor behind a page of a call's decisions."""
    return None if place is None else _write(f"d{place.epoch}:{place.seq}:{place.policy}")


def to_decisions(cursor: str) -> Place | None:
    """Read a cursor of a list of a call's decisions; None where it is none of ours."""
    match = _DECISIONS.fullmatch(_read(cursor))
    return None if match is None else Place(int(match[1]), int(match[2]), match[3])


def of_all_decisions(spot: Spot | None) -> str | None:
    """Write the cursor behind a page of the decisions of all calls."""
    return None if spot is None else _write(f"a{':'.join(map(str, spot))}")


def to_all_decisions(cursor: str) -> Spot | None:
    """Read a cursor of a list of all decisions; None where it is none of ours."""
    match = _ALL_DECISIONS.fullmatch(_read(cursor))
    if match is None or any(int(match[number]) >= 1 << 63 for number in (1, 2)):
        return None
    received_at, call_key, epoch, seq = (int(match[number]) for number in (1, 2, 3, 4))
    return Spot(received_at, call_key, epoch, seq, match[5])


def of_line(item_id: str | None) -> str | None:
    """Write the cursor behind a page of a transcript, which ended with this item."""
    return None if item_id is None else _write(line_mark(item_id))


def to_line(cursor: str) -> str | None:
    """Read a cursor of a transcript: the `line_mark` of the page's last item; None where it is none of ours."""
    text = _read(cursor)
    return text if _LINE.fullmatch(text) else None


def line_mark(item_id: str) -> str:
    """Name an item in a cursor; its id may be longer than a parameter can be."""
    return "l" + hashlib.blake2b(item_id.encode(), digest_size=12).hexdigest()


def of_number(number: int | None) -> str | None:
    """Write the cursor behind a page whose rows are numbered."""
    return None if number is None else _write(f"n{number}")


def to_number(cursor: str) -> int | None:
    """Read a cursor of a list whose rows are numbered; None where it is none of ours."""
    match = _NUMBER.fullmatch(_read(cursor))
    if match is None or int(match[1]) >= 1 << 63:
        return None
    return int(match[1])


def of_hits(place: HitPlace | None) -> str | None:
    """Write the cursor behind a page of what was found."""
    return None if place is None else _write(f"h{','.join(map(str, place.numbers))}:{place.item_id}")


def to_hits(cursor: str) -> HitPlace | None:
    """Read a cursor of what was found; None where it is none of ours."""
    match = _HITS.fullmatch(_read(cursor))
    if match is None:
        return None
    numbers = tuple(int(number) for number in match[1].split(","))
    return None if any(number >= 1 << 63 for number in numbers) else HitPlace(numbers, match[2])


def _write(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
