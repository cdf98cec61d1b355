"""Read the client events that we sent into a call, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey, Position, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Be one client event of ours; times are microseconds since 1970."""

    position: Position
    event_id: str
    type: str
    source: str
    policy: str | None
    state: str
    sent_at: int | None
    acknowledged_at: int | None
    error: str | None


async def page(database: Database, call: CallKey, *, after: Position | None = None, limit: int) -> list[Command]:
    """Read a call's commands behind a position, in order.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    rows = await rows_of(database, tables.command, call, after=after, limit=limit)
    names = [name for name in Command.__slots__ if name != "position"]
    return [Command(position=Position(row["epoch"], row["seq"]), **{name: row[name] for name in names}) for row in rows]


async def policies(database: Database, call: CallKey) -> dict[str, str]:
    """Name the policies that had commands sent into a call, by the ids of those.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    command = tables.command.c
    statement = sa.select(command.event_id, command.policy).where(
        command.call_key == call.key, command.day == call.day, command.policy.is_not(None)
    )
    async with database.reading() as connection:
        return {row.event_id: row.policy for row in await connection.execute(statement)}
