"""Read what policies decided over all calls: the newest decisions, and how many there were in each stretch of time.

What was decided in a call that is being erased is not listed; when it is erased, nothing of it is left to count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.decisions import Decision, of_row

_call, _decision = tables.call, tables.decision
_ORDER = (_decision.c.received_at, _decision.c.call_key, _decision.c.epoch, _decision.c.seq, _decision.c.policy)


class Spot(NamedTuple):
    """Mark where a page of all decisions ended."""

    received_at: int
    call_key: int
    epoch: int
    seq: int
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Say which decisions are wanted; times are microseconds since 1970, and all of it must hold."""

    policy: str | None = None
    mode: str | None = None
    outcome: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Be a decision, and say in which call it was taken."""

    call_id: str
    call_key: int
    decision: Decision

    @property
    def spot(self) -> Spot:
        """Say where it stands among all decisions."""
        each = self.decision
        return Spot(each.received_at, self.call_key, *each.position, each.policy)


@dataclass(frozen=True, slots=True)
class Count:
    """Say how often a policy decided alike in a stretch of time."""

    begins: int
    """Of the stretch, in microseconds since 1970."""
    mode: str
    outcome: str | None
    decisions: int


async def newest(database: Database, wanted: Wanted, *, before: Spot | None = None, limit: int) -> list[Told]:
    """Read decisions of all calls, newest first.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    async with database.reading() as connection:
        rows = (await connection.execute(newest_statement(wanted, before, limit))).mappings().all()
    return [Told(row["call_id"], row["call_key"], of_row(row)) for row in rows]


async def counts(database: Database, policy: str, *, since: int, until: int, step: int) -> list[Count]:
    """Count the decisions of a policy in stretches of `step` microseconds, which begin at whole ones since 1970.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    async with database.reading() as connection:
        rows = await connection.execute(counts_statement(policy, since, until, step))
        return [Count(number * step, mode, outcome, many) for number, mode, outcome, many in rows]


def newest_statement(wanted: Wanted, before: Spot | None, limit: int) -> sa.Select[Any]:
    """Write the statement of a page."""
    own = sa.and_(_call.c.call_key == _decision.c.call_key, _call.c.day == _decision.c.day)
    statement = (
        sa.select(_decision, _call.c.call_id)
        .select_from(_decision.join(_call, own))
        .where(*_those(wanted), _call.c.erased_at.is_(None))
    )
    if before is not None:
        # the first says what the second does, so that an index is read from there on
        statement = statement.where(
            _decision.c.received_at <= before.received_at, sa.tuple_(*_ORDER) < sa.tuple_(*before)
        )
    return statement.order_by(*(column.desc() for column in _ORDER)).limit(limit)


def counts_statement(policy: str, since: int, until: int, step: int) -> sa.Select[Any]:
    """Write the statement that counts."""
    number = (_decision.c.received_at // step).label("number")
    return (
        sa.select(number, _decision.c.mode, _decision.c.outcome, sa.func.count())
        .where(*_those(Wanted(policy=policy, since=since, until=until)))
        # by its name: to PostgreSQL a number that is handed over twice is two
        .group_by("number", _decision.c.mode, _decision.c.outcome)
        .order_by("number", _decision.c.mode, _decision.c.outcome.nulls_first())
    )


def _those(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    for name in ("policy", "mode", "outcome"):
        value = getattr(wanted, name)
        if value is not None:
            found.append(_decision.c[name] == value)
    if wanted.since is not None:
        found.append(_decision.c.received_at >= wanted.since)
    if wanted.until is not None:
        found.append(_decision.c.received_at < wanted.until)
    return found
