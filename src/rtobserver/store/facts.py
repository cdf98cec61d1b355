"""Read how the database as a whole is doing, for `/system`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import sqlalchemy as sa

from rtobserver.store import schema, tables
from rtobserver.store.database import Database, Dialect

REPLICAS = 100
"""Runs of the daemon that are listed, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Be one run of a daemon; times are microseconds since 1970."""

    replica_id: str
    started_at: int
    beat_at: int
    """Everything received before it is stored."""
    stopped_at: int | None
    version: str
    lease_until: int | None
    """None on SQLite, where nobody beats."""
    fenced_at: int | None
    """When it was declared dead, or ended in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Sum up gaps of one reason."""

    reason: str
    count: int
    lost: int
    """Frames, where it is known how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Be what the database says of itself."""

    replicas: list[Replica]
    calls: dict[str, int]
    """By status; calls that are not over yet have their own."""
    outcomes: dict[str, int]
    """Of those that are over."""
    losses: list[Losses]
    quarantined: int
    """Entries that the database refused for what they hold, and that were put aside."""
    erasures_pending: int
    """Erasures whose bytes may still be in the files."""
    size_bytes: int
    wal_bytes: int
    dialect: Dialect
    version: str
    """Of SQLite, or of the server."""
    schema: str


async def read(database: Database, *, since: int) -> Facts:
    """Read all of it; calls and gaps are those of calls that began since a time.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    replica, call, gap, tombstone = tables.replica, tables.call, tables.gap, tables.tombstone
    quarantine = tables.quarantine
    run = [replica.c[field.name] for field in fields(Replica)]
    newest = sa.select(*run).order_by(replica.c.started_at.desc()).limit(REPLICAS)
    statuses = sa.select(call.c.status, sa.func.count()).where(call.c.started_at >= since).group_by(call.c.status)
    outcomes = (
        sa.select(call.c.outcome, sa.func.count())
        .where(call.c.started_at >= since, call.c.outcome.is_not(None))
        .group_by(call.c.outcome)
    )
    losses = (
        sa.select(gap.c.reason, sa.func.count(), sa.func.coalesce(sa.func.sum(gap.c.lost), 0))
        .select_from(call)
        .join(gap, sa.and_(gap.c.call_key == call.c.call_key, gap.c.day == call.c.day))
        .where(call.c.started_at >= since)
        .group_by(gap.c.reason)
        .order_by(gap.c.reason)
    )
    pending = sa.select(sa.func.count()).select_from(tombstone).where(tombstone.c.completed_at.is_(None))
    async with database.reading() as connection:
        replicas = [Replica(**row) for row in (await connection.execute(newest)).mappings()]
        by_status = {str(row[0]): int(row[1]) for row in await connection.execute(statuses)}
        by_outcome = {str(row[0]): int(row[1]) for row in await connection.execute(outcomes)}
        by_reason = [
            Losses(reason=reason, count=count, lost=lost) for reason, count, lost in await connection.execute(losses)
        ]
        erasures = int((await connection.execute(pending)).scalar() or 0)
        quarantined = int((await connection.execute(sa.select(sa.func.count()).select_from(quarantine))).scalar() or 0)
    figures = await database.figures()
    return Facts(
        replicas=replicas,
        calls=by_status,
        outcomes=by_outcome,
        losses=by_reason,
        quarantined=quarantined,
        erasures_pending=erasures,
        size_bytes=figures.size_bytes,
        wal_bytes=figures.wal_bytes,
        version=figures.version,
        dialect=database.dialect,
        schema=schema.head(),
    )
