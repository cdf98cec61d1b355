"""Say where an entry stands among the entries of all calls, in the order in which they were committed.

On SQLite that is the order of rowids: there is one writer, so a row that is committed later has a
larger one, and none is passed over.

On PostgreSQL transactions overlap. Each entry knows the transaction that it came with, and only what
came with transactions older than any that is still open is given: whatever is committed later has a
larger number, so none is passed over there either, and nothing is given twice. Entries of one
transaction come by call and position. A transaction that somebody keeps open after having written
anything holds back what came later, until it ends.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.dialects import Either

_BIG = sa.BigInteger()
_entry = tables.entry
_LAST = (1 << 63) - 1
_EPOCH = 1 << 32

number = Either(sa.literal_column("entry.rowid", _BIG), sa.literal_column("entry.landed", _BIG), _BIG)
"""Grows with each commit."""
_place = sa.cast(_entry.c.epoch, _BIG) * sa.literal(_EPOCH, _BIG) + _entry.c.seq
COLUMNS = (
    number.label("number"),
    Either(_entry.c.at, _entry.c.call_key, _BIG).label("first"),
    Either(_entry.c.seq, _place, _BIG).label("second"),
)
"""The fields of the mark of an entry."""
ORDER = (number, Either(number, _entry.c.call_key, _BIG), Either(number, _entry.c.epoch, _BIG), _entry.c.seq)


class Mark(NamedTuple):
    """Stand at an entry, or before all of them (`START`), or behind all that were there (`HORIZON`)."""

    number: int
    first: int
    """What tells entries of one number apart: on SQLite, who had the rowid (time and seq); on PostgreSQL, what comes
    first within a transaction (call and position)."""
    second: int


START = Mark(0, 0, 0)
HORIZON = sa.select(
    sa.literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1", _BIG),
    sa.literal(_LAST, _BIG),
    sa.literal(_LAST, _BIG),
)
"""The statement that stands, on PostgreSQL, behind all that is given by now."""


def between(mark: Mark, until: Mark) -> sa.ColumnElement[bool]:
    """Choose the entries behind one mark, up to another one that is newer than what was read up to the first."""
    inside = sa.tuple_(_entry.c.call_key, _place) > sa.tuple_(
        sa.literal(mark.first, _BIG), sa.literal(mark.second, _BIG)
    )
    begin = sa.literal(mark.number, _BIG)
    behind = Either(number > begin, sa.and_(number >= begin, sa.or_(number > begin, inside)), sa.Boolean())
    return sa.and_(behind, number <= sa.literal(until.number, _BIG))


def mark_of(row: Any) -> Mark:
    """Read the mark of a row that holds `COLUMNS`."""
    return Mark(row.number, row.first, row.second)
