"""Read a call's entries in order, in chunks: memory stays flat however long the call is.

No transaction is open between two chunks, so a slow reader never keeps the WAL from being
checkpointed; entries that are recorded meanwhile come at the end, unless `Filter.until_number` leaves
them out: without it, reading a live call may never end. A chunk holds `CHUNK_ROWS` rows
at most, payloads over `INLINE_BYTES` are fetched one by one when their turn comes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.store import marks, tables
from rtobserver.store.database import Database
from rtobserver.store.dialects import matches
from rtobserver.store.positions import CallKey, Position, of_call

CHUNK_ROWS = 500
INLINE_BYTES = 16 * 1024

_entry = tables.entry
HEAD = (
    _entry.c.epoch,
    _entry.c.seq,
    _entry.c.kind,
    _entry.c.at,
    _entry.c.offset_us,
    _entry.c.type,
    _entry.c.event_id,
    _entry.c.flags,
)
"""Columns of an entry but for its payload."""


class Entry(NamedTuple):
    """Be one recorded line of a call; its fields are the columns of a chunk."""

    epoch: int
    seq: int
    kind: int
    at: int
    """Microseconds since 1970."""
    offset_us: int
    type: str | None
    event_id: str | None
    flags: int
    payload: bytes

    @property
    def position(self) -> Position:
        """Say where it stands."""
        return Position(self.epoch, self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Say which entries are wanted; all of it must hold."""

    type: str | None = None
    """A type, or a pattern in which `*` stands for anything and `?` for one character."""
    types: Collection[str] = ()
    """If there are any: only entries of these types."""
    kind: int | None = None
    overlap: bool = False
    """Whether to give what an old owner still received after its successor had attached."""
    until_number: int | None = None
    """Of what was committed, only so much: the number of a `Mark`."""


async def read(
    database: Database,
    call: CallKey,
    wanted: Filter | None = None,
    *,
    after: Position | None = None,
    limit: int | None = None,
) -> AsyncGenerator[Entry]:
    """Give a call's entries behind a position, in order, at most `limit`.

    Raises:
        StoreUnavailable: the database cannot be read now; what was given until then is right.

    """
    left = limit
    while left is None or left > 0:
        asked = CHUNK_ROWS if left is None else min(CHUNK_ROWS, left)
        async with database.reading() as connection:
            result = await connection.execute(chunk_statement(call, wanted or Filter(), after, asked))
            rows = result.all()
        for row in rows:
            payload = row[-1]
            if payload is None:
                payload = await payload_of(database, call.key, call.day, row.epoch, row.seq)
            yield Entry(row.epoch, row.seq, row.kind, row.at, row.offset_us, row.type, row.event_id, row.flags, payload)
        if len(rows) < asked:
            return
        after = Position(rows[-1].epoch, rows[-1].seq)
        left = None if left is None else left - asked


class End(NamedTuple):
    """Be the first entry of a call, or the last."""

    at: int
    position: Position


async def ends(database: Database, call: CallKey) -> tuple[End, End] | None:
    """Find the first entry of a call and the last; None if it has none.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        rows = [(await connection.execute(end_statement(call, last=last))).first() for last in (False, True)]
    first, last = [row and End(row.at, Position(row.epoch, row.seq)) for row in rows]
    return None if first is None or last is None else (first, last)


@dataclass(frozen=True, slots=True)
class Extent:
    """Be all that a call has of entries by now, overlap and all."""

    count: int
    last: Position | None
    """Where the last of them stands."""


async def extent(database: Database, call: CallKey) -> Extent:
    """Count the entries of a call up to its last one.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    place = sa.tuple_(_entry.c.epoch, _entry.c.seq)
    newest = (_entry.c.epoch.desc(), _entry.c.seq.desc())
    async with database.reading() as connection:
        statement = sa.select(_entry.c.epoch, _entry.c.seq).where(of_call(_entry, call, None))
        row = (await connection.execute(statement.order_by(*newest).limit(1))).first()
        if row is None:
            return Extent(0, None)
        last = Position(row.epoch, row.seq)
        counted = sa.select(sa.func.count()).where(of_call(_entry, call, None), place <= sa.tuple_(*last))
        return Extent((await connection.execute(counted)).scalar_one(), last)


def end_statement(call: CallKey, *, last: bool) -> sa.Select[Any]:
    """Write the statement that finds the first entry of a call, or the last."""
    own = sa.and_(of_call(_entry, call, None), _entry.c.flags.op("&")(tables.FLAG_OVERLAP) == 0)
    order = (_entry.c.epoch.desc(), _entry.c.seq.desc()) if last else (_entry.c.epoch, _entry.c.seq)
    return sa.select(_entry.c.at, _entry.c.epoch, _entry.c.seq).where(own).order_by(*order).limit(1)


def chunk_statement(call: CallKey, wanted: Filter, after: Position | None, limit: int) -> sa.Select[Any]:
    """Write the statement of a chunk; large payloads come as null."""
    size = sa.func.length(_entry.c.payload)
    payload = sa.case((size <= INLINE_BYTES, _entry.c.payload))
    statement = sa.select(*HEAD, payload).where(of_call(_entry, call, after))
    if wanted.kind is not None:
        statement = statement.where(_entry.c.kind == wanted.kind)
    if wanted.type is not None:
        statement = statement.where(_matches(wanted.type))
    if wanted.types:
        statement = statement.where(_entry.c.type.in_(sorted(wanted.types)))
    if wanted.until_number is not None:
        statement = statement.where(marks.number <= wanted.until_number)
    if not wanted.overlap:
        statement = statement.where(_entry.c.flags.op("&")(tables.FLAG_OVERLAP) == 0)
    return statement.order_by(_entry.c.epoch, _entry.c.seq).limit(limit)


def _matches(pattern: str) -> sa.ColumnElement[bool]:
    if not {"*", "?"} & set(pattern):
        return _entry.c.type == pattern
    return matches(_entry.c.type, pattern)


async def payload_of(database: Database, key: int, day: int, epoch: int, seq: int) -> bytes:
    """Read the payload of one entry; empty where retention took it meanwhile.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    statement = sa.select(_entry.c.payload).where(
        _entry.c.call_key == key, _entry.c.day == day, _entry.c.epoch == epoch, _entry.c.seq == seq
    )
    async with database.reading() as connection:
        return bytes((await connection.execute(statement)).scalar() or b"")
