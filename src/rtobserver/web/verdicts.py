"""Say in words how whole the record of a call is, and why. Pure.

The verdict itself was given at the call's end (`observation/verdict.py`); here its findings and the
call's gaps are read out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rtobserver.store import calls, gaps

GAPS: Mapping[str, str] = {
    "before_attach": "before the observer was connected",
    "reattach": "while the connection to upstream was broken",
    "takeover": "until another run of the daemon took the call up",
    "oversize": "because a frame was too large to be received",
    "protocol": "because upstream broke the rules of the connection",
    "shed": "because more came than the database could take",
    "disk": "because the disk was full or failed",
    "corrupt": "because the database was damaged or refused it",
    "paused": "while the recording was paused",
    "erased": "because retention took it away",
    "unknown_end": "because nobody knows when the call ended",
}
"""Why something is missing; goes on from "nothing was recorded"."""

STORIES: Mapping[str, str] = {
    "connecting": "The call is being connected. The verdict on its record is given at its end.",
    "live": "The call goes on. The verdict on its record is given at its end.",
    "unobserved": "The call took place, and nobody could observe it: nothing of what was said is known.",
    "lost": "The observer lost the call: how it went on and when it ended is not known.",
    "failed": "The call never began, so that there is nothing to record.",
}
"""What there is to say of a call by its status alone."""


class Checks(msgspec.Struct, frozen=True):
    """Say what was found when the record was looked through at the end of the call."""

    broken_items: Annotated[list[str], Meta(description="Items whose streamed text differs from their final one.")] = []
    recovered_items: Annotated[
        list[str], Meta(description="Items whose text a gap had swallowed, and which was then asked for.")
    ] = []
    unfinished_responses: Annotated[list[str], Meta(description="Responses whose end was not received.")] = []
    missed_before_attach: Annotated[
        bool, Meta(description="Whether something happened before the observer was connected.")
    ] = False
    counts: Annotated[dict[str, int] | None, Meta(description="Events on record, by type; null if unknown.")] = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Say how whole the record of a call is, and why."""

    call_id: str
    completeness: Annotated[str | None, Meta(description="The verdict in one word; null while the call has not ended.")]
    checks: Annotated[Checks | None, Meta(description="What was found at its end; null while it has not ended.")]
    verdict: Annotated[list[str], Meta(description="Why its record is complete or not, in sentences.")]


def verdict(call: calls.Call, found: Mapping[str, Any], lost: Iterable[gaps.Gap]) -> Verdict:
    """Read out what the record of a call was found to be."""
    checks = msgspec.convert(found, Checks) if found else None
    return Verdict(
        call_id=call.call_id,
        completeness=call.completeness,
        checks=checks,
        verdict=list(sentences(call, checks or Checks(), lost)),
    )


def sentences(call: calls.Call, checks: Checks, lost: Iterable[gaps.Gap]) -> Iterable[str]:
    """Say why a record is complete or not."""
    if call.purged_at is not None:
        yield "Retention took its entries and its transcript away; sums and figures stay."
    if call.status in STORIES:
        yield STORIES[call.status]
    counted: dict[str, list[gaps.Gap]] = {}
    for gap in lost:
        # what was missed before the connection counts only where something was
        if (gap.counted or gap.state == "open") and gap.reason != "erased":
            counted.setdefault(gap.reason, []).append(gap)
    for reason, found in counted.items():
        yield _of_gaps(reason, found)
    if call.status == "ended" and checks.counts is not None and not checks.counts:
        yield "Nothing at all was heard of the call."
    if checks.missed_before_attach:
        yield "Something was said or done before the observer was connected, and is not in the record."
    if checks.broken_items:
        what = _many(len(checks.broken_items), "text was", "texts were")
        yield f"{what} not received as a whole: the streamed words differ from the final ones."
    if len(checks.unfinished_responses) > 1:
        yield f"The ends of {len(checks.unfinished_responses)} responses were not received."
    if checks.recovered_items:
        yield f"{_many(len(checks.recovered_items), 'text', 'texts')} fell into a gap and was asked for afterwards."
    if call.completeness == "complete":
        yield "Everything since the beginning was received, and what was received agrees with itself."


def _of_gaps(reason: str, found: list[gaps.Gap]) -> str:
    frames = [gap.lost for gap in found]
    times = "" if len(found) == 1 else f"{len(found)} times "
    words = f"{times}nothing was recorded {GAPS.get(reason, reason)}"
    if any(gap.state == "open" for gap in found):
        words += ", and still nothing is"
    if all(gap.state == "recovered" for gap in found):
        words += "; all that is known to be missing was asked for"
    known = sum(each for each in frames if each is not None)
    if known:
        words += f" ({_many(known, 'frame', 'frames')}{' at least' if None in frames else ''})"
    return f"{words[0].upper()}{words[1:]}."


def _many(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
