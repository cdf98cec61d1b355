"""Count what policies decided of late, and find their last faults.

Counts are read from an index alone, and for the policies that are asked for only: those that were
taken out of the configuration cost nothing. How far back is for whoever asks to bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.positions import Position

FAULTS = 10
"""The newest that are given of one policy."""

_call, _decision = tables.call, tables.decision
_WOULD = ("observed", "not_in_canary")
_FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Be one decision that could not be taken or filled in; times are microseconds since 1970."""

    call_id: str
    position: Position
    at: int
    detail: str | None
    """None where it went with the recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """Be the newest decision of a policy."""

    at: int
    call_id: str | None
    """None where the call is being erased."""
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Be what one policy did since a time."""

    decisions: int = 0
    acted: int = 0
    would_have_acted: int = 0
    """In observe mode, or outside the canary."""
    faults: int = 0
    last: Last | None = None
    """What it decided last, also earlier than that time."""
    last_faults: tuple[Fault, ...] = ()
    """Newest first, at most `FAULTS`; none of calls that were erased."""


async def tallies(database: Database, policies: Sequence[str], *, since: int) -> dict[str, Tally]:
    """Count the decisions of policies since a time; all of them are in the answer.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    found: dict[str, Tally] = {}
    if not policies:
        return found
    async with database.reading() as connection:
        counts = {
            row["policy"]: row for row in (await connection.execute(counts_statement(policies, since))).mappings()
        }
        for policy in policies:
            row = counts.get(policy)
            newest = (await connection.execute(last_statement(policy))).mappings().first()
            faults: list[Fault] = []
            if row is not None and row["faults"]:
                faults = [
                    _fault(each) for each in (await connection.execute(faults_statement(policy, since))).mappings()
                ]
            found[policy] = Tally(
                **{name: row[name] for name in ("decisions", "acted", "would_have_acted", "faults")} if row else {},
                last=None if newest is None else _last(newest),
                last_faults=tuple(faults),
            )
    return found


def counts_statement(policies: Sequence[str], since: int) -> sa.Select[Any]:
    """Write the statement that counts."""
    return (
        sa.select(
            _decision.c.policy,
            sa.func.count().label("decisions"),
            _many(_decision.c.acted).label("acted"),
            _many(_decision.c.outcome.in_(_WOULD)).label("would_have_acted"),
            _many(_decision.c.outcome == _FAULT).label("faults"),
        )
        .where(_decision.c.policy.in_(policies), _decision.c.received_at >= since)
        .group_by(_decision.c.policy)
    )


def last_statement(policy: str) -> sa.Select[Any]:
    """Write the statement that finds what a policy decided last."""
    own = sa.and_(_call.c.call_key == _decision.c.call_key, _call.c.day == _decision.c.day)
    erased = _call.c.erased_at.is_not(None)
    return (
        sa.select(_decision.c.received_at, _decision.c.epoch, _decision.c.seq, _call.c.call_id, erased.label("erased"))
        .select_from(_decision.join(_call, own))
        .where(_decision.c.policy == policy)
        .order_by(_decision.c.received_at.desc())
        .limit(1)
    )


def faults_statement(policy: str, since: int) -> sa.Select[Any]:
    """Write the statement that finds a policy's last faults."""
    own = sa.and_(_call.c.call_key == _decision.c.call_key, _call.c.day == _decision.c.day)
    return (
        sa.select(_call.c.call_id, _decision.c.epoch, _decision.c.seq, _decision.c.received_at, _decision.c.detail)
        .select_from(_decision.join(_call, own))
        .where(
            _decision.c.policy == policy,
            _decision.c.received_at >= since,
            _decision.c.outcome == _FAULT,
            _call.c.erased_at.is_(None),
        )
        .order_by(_decision.c.received_at.desc())
        .limit(FAULTS)
    )


def _many(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _last(row: Any) -> Last:
    return Last(
        at=row["received_at"],
        call_id=None if row["erased"] else row["call_id"],
        position=Position(row["epoch"], row["seq"]),
    )


def _fault(row: Any) -> Fault:
    return Fault(
        call_id=row["call_id"],
        position=Position(row["epoch"], row["seq"]),
        at=row["received_at"],
        detail=row["detail"],
    )
