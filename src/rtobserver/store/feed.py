"""Read entries of all calls in the order in which they were committed, and the rows of calls as they change.

The order is the rowid's: there is one writer, so a row that is committed later has a larger one, and
none is passed over. Erasing the newest rows lets SQLite give their rowids again; a `Mark` therefore
knows the row that it stands at, and is set back when that row is there no more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.store import calls, entries, tables
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.entries import Entry

RECENT_US = 60_000_000
"""A call's row is looked at for at least so long after the call began, however soon it ended."""

_entry, _call = tables.entry, tables.call
_rowid = entries.rowid


class Mark(NamedTuple):
    """Stand at an entry, or before all of them (`START`)."""

    rowid: int
    at: int
    seq: int


START = Mark(0, 0, 0)


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
    statement = sa.select(_rowid, _entry.c.at, _entry.c.seq).order_by(_rowid.desc()).limit(1)
    async with database.reading() as connection:
        row = (await connection.execute(statement)).first()
    return Mark(*row) if row else START


async def settle(database: Database, mark: Mark) -> Mark:
    """Set a mark back behind what was committed since, if its own row was erased; else give it as it is.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    if mark.rowid == 0:
        return mark
    there = sa.select(_entry.c.at, _entry.c.seq).where(_rowid == mark.rowid)
    # rowids that are given again belong to entries received later
    earlier = (
        sa.select(_rowid, _entry.c.at, _entry.c.seq)
        .where(_rowid <= mark.rowid, _entry.c.at <= mark.at)
        .order_by(_rowid.desc())
        .limit(1)
    )
    async with database.reading() as connection:
        row = (await connection.execute(there)).first()
        if row is not None and tuple(row) == (mark.at, mark.seq):
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
        sa.select(_rowid, _call.c.call_key, _call.c.day, _call.c.call_id, *entries.HEAD, payload)
        .join_from(_entry, _call, _call.c.call_key == _entry.c.call_key)
        .where(_rowid > mark.rowid, _rowid <= until.rowid)
        # what is being erased is gone for readers at once
        .where(_call.c.purged_at.is_(None))
        .where(_entry.c.flags.op("&")(tables.FLAG_OVERLAP) == 0)
        .order_by(_rowid)
        .limit(limit)
    )
    if keys is not None:
        # the plus keeps SQLite from walking through all entries of these calls
        statement = statement.where(sa.literal_column("+entry.call_key", sa.BigInteger()).in_(sorted(keys)))
    async with database.reading() as connection:
        rows = (await connection.execute(statement)).all()
    found = []
    for row in rows:
        rowid, key, day, call_id, body = row[0], row[1], row[2], row[3], row[-1]
        if body is None:
            body = await entries.payload_of(database, key, day, row.epoch, row.seq)
        entry = Entry(row.epoch, row.seq, row.kind, row.at, row.offset_us, row.type, row.event_id, row.flags, body)
        found.append(Fed(Mark(rowid, entry.at, entry.seq), key, call_id, entry))
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
