"""Read a call's gaps: what was not received or not kept, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

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
    rows = await rows_of(database, tables.gap, call, after=after, limit=limit)
    return [
        Gap(
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
        for row in rows
    ]
