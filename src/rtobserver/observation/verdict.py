"""Judge, at the end of a call, how whole its record is.

Pure. `complete`: everything since the call began was received, and what was received agrees with
itself. `complete_with_gaps`: what is missing lies within declared gaps. `incomplete`: the record
contradicts itself although no gap explains it, or the call was lost or never observed.
"""

from __future__ import annotations

from typing import Any, Literal

from rtobserver.realtime.rows import Totals

Completeness = Literal["complete", "complete_with_gaps", "incomplete"]


def judge(status: str, totals: Totals, gap_count: int, counts: dict[str, int]) -> tuple[Completeness, dict[str, Any]]:
    """Give the verdict and what it rests on.

    A call often ends within a response, so one that never ended is only suspicious where another
    response came after it.
    """
    checks = {
        "counts": counts,
        "broken_items": list(totals.broken),
        "unfinished_responses": list(totals.unfinished),
        "missed_before_attach": totals.missed,
    }
    if status != "ended":
        return "incomplete", checks
    if gap_count:
        return "complete_with_gaps", checks
    if totals.broken or len(totals.unfinished) > 1:
        return "incomplete", checks
    return "complete", checks
