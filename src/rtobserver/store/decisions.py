"""Read what policies decided in a call. Several may decide at one entry, so a place names the policy too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.policy.active import DEMOTED
from rtobserver.realtime.entries import DecisionRow
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey, Position

MAX_ROWS = 100_000
"""Decisions of one call that are read at a take-over."""

_decision = tables.decision


class Place(NamedTuple):
    """Mark where a page of decisions ended."""

    epoch: int
    seq: int
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Be one policy's verdict; times are microseconds since 1970."""

    position: Position
    """Where the entry stands that triggered it."""
    policy: str
    policy_set: str
    """Hash of the set that it belonged to."""
    trigger: str
    mode: str
    acted: bool
    actions: tuple[Any, ...]
    received_at: int
    matched_at: int
    sent_at: int | None
    acknowledged_at: int | None
    outcome: str | None
    detail: str | None
    """The words to the outcome."""
    match: str | None
    """What was said that matched."""
    item_id: str | None
    response_id: str | None
    played_ms: int | None
    """Of a cancelled response: about how much of what matched was heard."""

    @property
    def place(self) -> Place:
        """Say where it stands among the call's decisions."""
        return Place(*self.position, self.policy)


async def page(database: Database, call: CallKey, *, after: Place | None = None, limit: int) -> list[Decision]:
    """Read a call's decisions behind a place, in order.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        rows = (await connection.execute(page_statement(call, after, limit))).mappings().all()
    return [of_row(row) for row in rows]


def of_row(row: Mapping[Any, Any]) -> Decision:
    """Make a decision of what a statement gave."""
    return Decision(
        position=Position(row["epoch"], row["seq"]),
        actions=_actions(row),
        **{name: row[name] for name in Decision.__slots__ if name not in ("position", "actions")},
    )


async def rows(database: Database, call: CallKey) -> list[DecisionRow]:
    """Read all that was decided in a call, in order, as it was written.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    names = DecisionRow.__struct_fields__
    async with database.reading() as connection:
        found = (await connection.execute(page_statement(call, None, MAX_ROWS))).mappings().all()
    return [DecisionRow(**{**{name: row[name] for name in names}, "actions": _actions(row)}) for row in found]


async def rates(database: Database, policies: Sequence[str], *, since: int) -> list[tuple[str, int]]:
    """Read which of these policies acted since a time, or would have in another call, and when.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    if not policies:
        return []
    async with database.reading() as connection:
        return [(policy, at) for policy, at in await connection.execute(rates_statement(policies, since))]


def rates_statement(policies: Sequence[str], since: int) -> sa.Select[Any]:
    """Write the statement that reads rates."""
    return sa.select(_decision.c.policy, _decision.c.received_at).where(
        _decision.c.policy.in_(policies),
        _decision.c.received_at >= since,
        sa.or_(_decision.c.acted, _decision.c.outcome == "not_in_canary"),
    )


async def demotions(database: Database, policies: Sequence[str], *, since: int) -> list[tuple[str, int]]:
    """Read which of these policies were demoted since a time, and when.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    if not policies:
        return []
    statement = sa.select(_decision.c.policy, sa.func.min(_decision.c.received_at)).where(
        _decision.c.policy.in_(policies),
        _decision.c.received_at > since,
        _decision.c.mode == "observe",
        _decision.c.detail == DEMOTED,
    )
    async with database.reading() as connection:
        return [(policy, at) for policy, at in await connection.execute(statement.group_by(_decision.c.policy))]


def page_statement(call: CallKey, after: Place | None, limit: int) -> sa.Select[Any]:
    """Write the statement of a page."""
    order = (_decision.c.epoch, _decision.c.seq, _decision.c.policy)
    statement = sa.select(_decision).where(_decision.c.call_key == call.key, _decision.c.day == call.day)
    if after is not None:
        statement = statement.where(sa.tuple_(*order) > sa.tuple_(*after))
    return statement.order_by(*order).limit(limit)


def _actions(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(json.loads(row["actions"]))
