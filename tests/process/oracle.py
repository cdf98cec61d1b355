"""Compare what upstream produced in a call with what the API gives back of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from rtobserver.simulator.call import Call
from tests.support.stage import Entry

Json = dict[str, Any]

TOLERANCE = 0.5
"""Seconds that an event may take from upstream to its receipt on a busy machine."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a record amounts to; all but the first three and the gaps' length must be 0."""

    produced: int
    stored: int
    missing: int
    missing_unexplained: int
    """Missing, and no gap stands at that place and that time."""
    duplicates: int
    altered: int
    """Stored with other bytes than were sent."""
    inversions: int
    seq_holes: int
    gap_seconds: float
    """Of all gaps but the one before the first attach."""

    @property
    def is_sound(self) -> bool:
        """Say whether nothing is wrong, whatever is missing."""
        wrong = (self.missing_unexplained, self.duplicates, self.altered, self.inversions, self.seq_holes)
        return not any(wrong)


def verify(call: Call, entries: Sequence[Entry], gaps: Sequence[Json]) -> Figures:
    """Give the figures of one call."""
    sent = {frame.event_id: frame for frame in call.produced}
    placed: dict[int, int] = {}
    altered = duplicates = 0
    order: list[int] = []
    for index, entry in enumerate(entries):
        if entry.kind != "event":
            continue
        frame = sent[entry.fields["event_id"]]
        altered += entry.payload != frame.frame
        duplicates += frame.ordinal in placed
        placed[frame.ordinal] = index
        order.append(frame.ordinal)
    missing = [frame for frame in call.produced if frame.ordinal not in placed]
    declared = [index for index, entry in enumerate(entries) if entry.kind == "gap"]
    return Figures(
        produced=len(call.produced),
        stored=len(placed),
        missing=len(missing),
        missing_unexplained=sum(
            not (_stands_a_gap(frame.ordinal, placed, declared, len(entries)) and _was_a_gap(frame.at, gaps))
            for frame in missing
        ),
        duplicates=duplicates,
        altered=altered,
        inversions=sum(later <= earlier for earlier, later in pairwise(order)),
        seq_holes=_holes(entries),
        gap_seconds=sum(length(gap) for gap in gaps if gap["reason"] != "before_attach"),
    )


def say(name: str, **figures: object) -> None:
    """Show figures to whoever runs pytest with -s or -rP."""
    sys.stdout.write(f"{name}: {', '.join(f'{key}={value}' for key, value in figures.items())}\n")


def seconds(time: str) -> float:
    """Give a time of the API as Unix seconds."""
    return datetime.fromisoformat(time).timestamp()


def length(gap: Json) -> float:
    """Give a gap's length in seconds; one without an end has none."""
    return seconds(gap["to"]) - seconds(gap["from"])


def _stands_a_gap(ordinal: int, placed: dict[int, int], declared: Sequence[int], end: int) -> bool:
    before = max((index for number, index in placed.items() if number < ordinal), default=-1)
    behind = min((index for number, index in placed.items() if number > ordinal), default=end)
    return any(before < index < behind for index in declared)


def _was_a_gap(at: float, gaps: Sequence[Json]) -> bool:
    return any(
        seconds(gap["from"]) - TOLERANCE <= at and (gap["to"] is None or at <= seconds(gap["to"]) + TOLERANCE)
        for gap in gaps
    )


def _holes(entries: Sequence[Entry]) -> int:
    """Count numbers that are left out of an epoch, and positions out of order."""
    expected: dict[int, int] = {}
    holes = 0
    for epoch, seq in (entry.position for entry in entries):
        holes += seq != expected.get(epoch, 1)
        expected[epoch] = seq + 1
    return holes + sum(later.position < earlier.position for earlier, later in pairwise(entries))
