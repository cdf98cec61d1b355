"""Read a call's gaps: what was not received or not kept, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey, Position, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Be one admitted loss; times are microseconds since 1970."""

    position: Position
    """Where the gap's own entry stands."""
    from_at: int
    to_at: int | None
    reason: str
    after: str | None
    """Position of the last entry before it."""
    state: str
    lost: int | None
    lost_by_type: Mapping[str, int]
    counted: bool
    """Whether it enters `gap_count` and the verdict."""


async def page(database: Database, call: CallKey, *, after: Position | None = None, limit: int) -> list[Gap]:
    """Read a call's gaps behind a position, in order.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    return [_gap_of(row) for row in await rows_of(database, tables.gap, call, after=after, limit=limit)]


async def recent(database: Database, *, since: int, limit: int) -> list[tuple[str, Gap]]:
    """Read counted gaps of the calls that began since a time, with the calls' ids: open ones first, then the newest.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    call, gap = tables.call, tables.gap
    statement = (
        sa.select(call.c.call_id, gap)
        .select_from(call)
        .join(gap, sa.and_(gap.c.call_key == call.c.call_key, gap.c.day == call.c.day))
        .where(call.c.started_at >= since, gap.c.counted)
        .order_by(gap.c.state != "open", gap.c.from_at.desc())
        .limit(limit)
    )
    async with database.reading() as connection:
        rows = (await connection.execute(statement)).mappings().all()
    return [(row["call_id"], _gap_of(row)) for row in rows]


def _gap_of(row: Mapping[Any, Any]) -> Gap:
    return Gap(
        position=Position(row["epoch"], row["seq"]),
        from_at=row["from_at"],
        to_at=row["to_at"],
        reason=row["reason"],
        after=row["after"],
        state=row["state"],
        lost=row["lost"],
        lost_by_type=json.loads(row["lost_by_type"]),
        counted=row["counted"],
    )
