"""Make the row of a gap again from its entry, and from what was recorded behind it. Pure.

The entry of a gap is written when the loss begins, and says since when and why; what became of it
stands only in the row. Where that was lost with a damaged part of the file, the end is found where
the next thing was heard, and what is missing is counted by the numbers that no entry has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast, get_args

import msgspec

from rtobserver.realtime.entries import GapReason, GapRow
from rtobserver.realtime.events import fields
from rtobserver.realtime.holes import LEAVE_HOLES, Loss

_REASONS = frozenset(get_args(GapReason))


@dataclass(slots=True)
class Declaration:
    """Be the entry of a gap that has no row, and what came behind it; times are microseconds since 1970."""

    epoch: int
    seq: int
    payload: bytes
    next_at: int | None = None
    """Receipt of the next event, or when the next command was sent."""
    resumed_at: int | None = None
    """When recording was resumed next."""


class Life(NamedTuple):
    """Say what else is known of the call; None is not known."""

    ended_at: int | None = None
    attached_at: int | None = None
    """When it was first heard."""
    missed: bool = False
    """Whether something from before that is known to be missing."""


class _Gap(NamedTuple):
    row: GapRow
    declared: Declaration


def regained(declared: Iterable[Declaration], losses: Sequence[Loss], life: Life) -> list[GapRow]:
    """Give the rows that can be made; `losses` are numbers without an entry that no row counts.

    A gap that counted entries has no row again where no number shows what it counted: what is missing then
    shows in the call's own count.
    """
    found = [_Gap(row, each) for each in declared if (row := _begun(each)) is not None]
    counting = [gap for gap in found if gap.row.reason in LEAVE_HOLES]
    for loss in losses:
        gap = _behind(loss, counting)
        if gap is not None:
            gap.row.lost = (gap.row.lost or 0) + loss.lost
            gap.row.to_at = max(gap.row.from_at, gap.row.to_at or 0, loss.to_at)
    rows = []
    for row, each in found:
        if row.reason in LEAVE_HOLES:
            if not row.lost:
                continue
            row.lost_by_type = {} if row.reason == "corrupt" else {"(unknown)": row.lost}
        else:
            row.to_at = _end(row, each, life)
        row.counted = row.reason != "before_attach" or life.missed
        if row.to_at is not None:
            row.state = "bounded" if life.ended_at is None else "final"
        rows.append(row)
    return rows


def _begun(declared: Declaration) -> GapRow | None:
    told = fields(declared.payload)
    reason, after = told.get("reason"), told.get("after")
    if reason not in _REASONS:
        return None
    from_at = _microseconds(told.get("from"))
    if from_at is None:
        return None
    row = GapRow(declared.epoch, declared.seq, from_at, cast("GapReason", reason), None)
    row.after = after if isinstance(after, str) else None
    row.to_at = _microseconds(told.get("to"))
    row.lost_by_type = {}
    return row


def _end(row: GapRow, declared: Declaration, life: Life) -> int | None:
    if row.to_at is not None:
        return row.to_at
    if row.reason == "paused":
        end = declared.resumed_at if declared.resumed_at is not None else life.ended_at
    else:
        ends = [declared.next_at, life.attached_at if row.reason == "before_attach" else None]
        end = min((each for each in ends if each is not None), default=life.ended_at)
    return None if end is None else max(row.from_at, end)


def _behind(loss: Loss, gaps: Iterable[_Gap]) -> _Gap | None:
    """Find the gap that counted a loss: the one at its place, else the last that began before its end."""
    gaps = list(gaps)
    for gap in gaps:
        if loss.after is not None and gap.row.after == loss.after:
            return gap
    epoch = None if loss.after is None else int(loss.after.partition(":")[0])
    begun = [gap for gap in gaps if gap.row.from_at <= loss.to_at and epoch in (None, gap.row.epoch)]
    return max(begun, key=lambda gap: gap.row.from_at, default=None)


def _microseconds(text: object) -> int | None:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    if moment.tzinfo is None:
        return None
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
