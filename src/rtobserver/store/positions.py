"""Where a row stands in its call: `EPOCH:SEQ`; and pages of rows in that order."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol, Self

import sqlalchemy as sa

from rtobserver.store.database import Database

_FORM = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")


class Position(NamedTuple):
    """Name an entry of a call."""

    epoch: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `EPOCH:SEQ`; None where it is something else."""
        match = _FORM.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


class CallKey(Protocol):
    """Point at a call's rows."""

    @property
    def key(self) -> int:
        """Give `call_key`."""

    @property
    def day(self) -> int:
        """Give the day that the call began."""


def of_call(table: sa.Table, call: CallKey, after: Position | None) -> sa.ColumnElement[bool]:
    """Choose a call's rows behind a position."""
    chosen = sa.and_(table.c.call_key == call.key, table.c.day == call.day)
    if after is None:
        return chosen
    return sa.and_(chosen, sa.tuple_(table.c.epoch, table.c.seq) > sa.tuple_(after.epoch, after.seq))


async def rows_of(
    database: Database, table: sa.Table, call: CallKey, *, after: Position | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Read a call's rows of a table behind a position, in order, as plain dicts.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        rows = await connection.execute(rows_statement(table, call, after, limit))
        return [dict(row) for row in rows.mappings()]


def rows_statement(table: sa.Table, call: CallKey, after: Position | None, limit: int | None) -> sa.Select[Any]:
    """Write the statement that reads a call's rows of a table, in order."""
    return sa.select(table).where(of_call(table, call, after)).order_by(table.c.epoch, table.c.seq).limit(limit)
