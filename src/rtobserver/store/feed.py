"""Read entries of all calls in the order in which they were committed, and the rows of calls as they change.

`marks.py` says what that order is. Erasing the newest rows lets SQLite give their rowids again; a
`Mark` there knows the row that it stands at, and is set back when that row is there no more.
PostgreSQL gives no number twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rtobserver.store import calls, entries, marks, tables
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.dialects import Either
from rtobserver.store.entries import Entry
from rtobserver.store.marks import START, Mark

__all__ = ["START", "Fed", "Mark", "behind", "newest", "settle"]

RECENT_US = 60_000_000
"""A call's row is looked at for at least so long after the call began, however soon it ended."""

_entry, _call = tables.entry, tables.call


@dataclass(frozen=True, slots=True)
class Fed:
    """Be an entry with its call and its place among the entries of all calls."""

    mark: Mark
    call_key: int
    call_id: str
    entry: Entry


async def newest(database: Database) -> Mark:
    """Stand at the entry that was committed last.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    statement = sa.select(*marks.COLUMNS).select_from(_entry).order_by(marks.number.desc()).limit(1)
    async with database.reading() as connection:
        row = (await connection.execute(statement if database.dialect == "sqlite" else marks.HORIZON)).first()
    return Mark(*row) if row else START


async def settle(database: Database, mark: Mark) -> Mark:
    """Set a mark back behind what was committed since, if its own row was erased; else give it as it is.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    if mark == START or database.dialect != "sqlite":
        return mark
    there = sa.select(_entry.c.at, _entry.c.seq).where(marks.number == mark.number)
    # rowids that are given again belong to entries received later
    earlier = (
        sa.select(*marks.COLUMNS)
        .select_from(_entry)
        .where(marks.number <= mark.number, _entry.c.at <= mark.first)
        .order_by(marks.number.desc())
        .limit(1)
    )
    async with database.reading() as connection:
        row = (await connection.execute(there)).first()
        if row is not None and tuple(row) == (mark.first, mark.second):
            return mark
        found = (await connection.execute(earlier)).first()
    return Mark(*found) if found else START


async def behind(
    database: Database, mark: Mark, *, until: Mark, keys: Collection[int] | None = None, limit: int
) -> list[Fed]:
    """Read entries behind a mark, up to another one and at most `limit`; of some calls only, if `keys` names them.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    size = sa.func.length(_entry.c.payload)
    payload = sa.case((size <= entries.INLINE_BYTES, _entry.c.payload))
    statement = (
        sa.select(*marks.COLUMNS, _call.c.call_key, _call.c.day, _call.c.call_id, *entries.HEAD, payload)
        .join_from(_entry, _call, sa.and_(_call.c.call_key == _entry.c.call_key, _call.c.day == _entry.c.day))
        .where(marks.between(mark, until))
        # what is being erased is gone for readers at once
        .where(_call.c.purged_at.is_(None))
        .where(_entry.c.flags.op("&")(tables.FLAG_OVERLAP) == 0)
        .order_by(*marks.ORDER)
        .limit(limit)
    )
    if keys is not None:
        # the plus keeps SQLite from walking through all entries of these calls
        key = Either(sa.literal_column("+entry.call_key", sa.BigInteger()), _entry.c.call_key, sa.BigInteger())
        statement = statement.where(key.in_(sorted(keys)))
    async with database.reading() as connection:
        rows = (await connection.execute(statement)).all()
    found = []
    for row in rows:
        body = row[-1]
        if body is None:
            body = await entries.payload_of(database, row.call_key, row.day, row.epoch, row.seq)
        entry = Entry(row.epoch, row.seq, row.kind, row.at, row.offset_us, row.type, row.event_id, row.flags, body)
        found.append(Fed(marks.mark_of(row), row.call_key, row.call_id, entry))
    return found


CallRows = dict[int, tuple[Any, ...]]
"""The rows of calls as they were read, by `call_key`."""


async def rows_of_calls(database: Database, keys: Collection[int], *, all_since: int | None = None) -> CallRows:
    """Read the rows of some calls; with `all_since`, of those too that go on or began since that time.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    wanted: sa.ColumnElement[bool] = _call.c.call_key.in_(sorted(keys))
    if all_since is not None:
        going_on = _call.c.status.in_(("connecting", "live"))
        wanted = sa.or_(wanted, going_on, _call.c.started_at >= all_since - RECENT_US)
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(*calls.COLUMNS).where(wanted))).all()
    return {row.call_key: tuple(row) for row in rows}


def call_of(row: tuple[Any, ...]) -> Call:
    """Read a row that `rows_of_calls` gave."""
    values: Mapping[str, Any] = {column.name: value for column, value in zip(calls.COLUMNS, row, strict=True)}
    return calls.call_of(values)
