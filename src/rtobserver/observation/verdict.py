"""Judge, at the end of a call, how it ended and how whole its record is.

Pure. `complete`: everything since the call began was received, and what was received agrees with
itself. `complete_with_gaps`: what is missing lies within declared gaps. `incomplete`: the record
contradicts itself although no gap explains it, or the call was lost or never observed.
"""

from __future__ import annotations

from typing import Any, Literal

from rtobserver.observation.commands import HungUpBy
from rtobserver.realtime.events import fields
from rtobserver.realtime.rows import Totals
from rtobserver.realtime.values import mapping

Completeness = Literal["complete", "complete_with_gaps", "incomplete"]

_OUTCOMES: dict[str, str] = {
    "browser": "hung_up",
    "operator": "hung_up",
    "shutdown": "hung_up",
    "policy": "policy",
    "max_duration": "max_duration",
    "undelivered": "undelivered",
}


def outcome(hung_up_by: HungUpBy | None, *, expired: bool) -> str:
    """Say how a call ended, by who had it hung up if that is what ended it."""
    if hung_up_by is not None:
        return _OUTCOMES[hung_up_by]
    return "expired" if expired else "browser_left"


def is_expiry(error: bytes) -> bool:
    """Say whether an `error` announces that the session's time is over."""
    return mapping(fields(error).get("error")).get("code") == "session_expired"


def judge(status: str, totals: Totals, gap_count: int, counts: dict[str, int]) -> tuple[Completeness, dict[str, Any]]:
    """Give the verdict and what it rests on.

    A call often ends within a response, so one that never ended is only suspicious where another
    response came after it.
    """
    checks = {
        "counts": counts,
        "broken_items": list(totals.broken),
        "recovered_items": list(totals.recovered),
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
