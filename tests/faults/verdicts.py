"""Hold what the API says of a call as a whole to what is on record of it, and its gaps to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.support.stage import Entry

Json = dict[str, Any]

SAME = 0.001
"""Seconds by which two gaps may touch."""
_MAY_LIE_IN_OTHERS = ("paused", "erased", "corrupt")
"""What was not to be recorded, or was lost after it had been: other gaps may stand beside it."""
_GOING_ON = ("connecting", "live")
_NEVER_WHOLE = ("unobserved", "lost", "failed")


def contradictions(
    call: Json, entries: Sequence[Entry], gaps: Sequence[Json], *, was_heard: bool, missed: bool
) -> Iterator[str]:
    """Say what is not true of a call's row.

    `was_heard` is whether there ever was a sideband, `missed` whether anything is missing that was sent when there
    had been one. What was sent before may be missing: whether it counts, what was said later tells.
    """
    verdict = call["completeness"]
    if call["status"] in _GOING_ON:
        if verdict is not None:
            yield f"{verdict} before its end"
        return
    lost = sum(gap["lost"] or 0 for gap in gaps if gap["reason"] == "corrupt")
    if not len(entries) <= call["entry_count"] <= len(entries) + lost:
        yield f"entry_count {call['entry_count']} of {len(entries)}"
    before = sum(gap["reason"] == "before_attach" for gap in gaps)
    if not len(gaps) - before <= call["gap_count"] <= len(gaps):
        yield f"gap_count {call['gap_count']} of {len(gaps) - before} to {len(gaps)}"
    if verdict is None:
        yield "no verdict"
    if verdict == "complete" and (missed or not was_heard or call["gap_count"] or call["status"] in _NEVER_WHOLE):
        yield f"complete, though {call['status']}, heard: {was_heard}, missed: {missed}, {call['gap_count']} gaps"
    if verdict == "complete_with_gaps" and not call["gap_count"]:
        yield "complete_with_gaps without one"


def double(gaps: Sequence[Json]) -> int:
    """Count the gaps that begin before another of their call has ended: what is missing there is declared twice."""
    spans = sorted(
        (_seconds(gap["from"]), _seconds(gap["to"])) for gap in gaps if gap["reason"] not in _MAY_LIE_IN_OTHERS
    )
    found, reached = 0, float("-inf")
    for earlier, later in pairwise(spans):
        reached = max(reached, earlier[1])
        found += later[0] < reached - SAME and later[1] > later[0]
    return found


def _seconds(time: str | None) -> float:
    return float("inf") if time is None else datetime.fromisoformat(time).timestamp()
