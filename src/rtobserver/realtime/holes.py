"""Find the numbers that a call's entries leave out, and which of them no gap counts yet. Pure.

`seq` is dense within an epoch, so that a number without an entry is something that was received and
is not there: shed, refused by the database, or lost with a damaged part of the file. The entries on
either side tell when that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

LEAVE_HOLES = ("shed", "disk", "corrupt")
"""Reasons of gaps that count numbers without an entry."""
MOST = 20
"""Gaps that one damage makes in a call; what lies further behind shares the last."""


class Run(NamedTuple):
    """Be numbers of one epoch, on end, that have no entry."""

    epoch: int
    first: int
    lost: int
    """How many they are."""
    from_at: int | None
    """Receipt of the entry before them, in microseconds; None where there is none."""
    to_at: int
    """Receipt of the entry behind them."""


class Counted(NamedTuple):
    """Be what a gap accounts for."""

    epoch: int
    from_at: int
    to_at: int | None
    reason: str
    lost: int | None


@dataclass(frozen=True, slots=True)
class Loss:
    """Say how many entries of a call are not there, and between which they were."""

    lost: int
    from_at: int | None
    """None is the beginning of the call."""
    to_at: int
    after: str | None
    """Position of the last number before them; None where there is none."""


def undeclared(runs: Iterable[Run], gaps: Iterable[Counted]) -> list[Loss]:
    """Give what is left of the runs when each gap has accounted for as many numbers of its time as it counts."""
    left = list(runs)
    first = 0
    for gap in sorted(gaps, key=lambda each: each.from_at):
        count = (gap.lost or 0) if gap.reason in LEAVE_HOLES else 0
        for index in range(first, len(left)):
            if not count:
                break
            run = left[index]
            if run.lost and _explains(gap, run):
                taken = min(count, run.lost)
                count -= taken
                left[index] = run._replace(lost=run.lost - taken)
        while first < len(left) and not left[first].lost:
            first += 1
    return [_loss(run) for run in left if run.lost]


def fewest(losses: Sequence[Loss], most: int = MOST) -> list[Loss]:
    """Make no more than so many losses of many."""
    if len(losses) <= most:
        return list(losses)
    rest = losses[most - 1 :]
    last = replace(rest[0], lost=sum(loss.lost for loss in rest), to_at=max(loss.to_at for loss in rest))
    return [*losses[: most - 1], last]


def _explains(gap: Counted, run: Run) -> bool:
    if gap.epoch != run.epoch and gap.reason != "corrupt":
        return False
    # a clock that was set back makes the end the earlier one
    begin = run.to_at if run.from_at is None else min(run.from_at, run.to_at)
    end = run.to_at if run.from_at is None else max(run.from_at, run.to_at)
    return (gap.to_at is None or begin <= gap.to_at) and (run.from_at is None or gap.from_at <= end)


def _loss(run: Run) -> Loss:
    after = f"{run.epoch}:{run.first - 1}" if run.first > 1 else None
    return Loss(run.lost, run.from_at, run.to_at, after)
