"""Copy what can still be read of a damaged database into a new one.

Rows are read backwards by rowid, around what cannot be read: the newest first, and the small tables
of which a daemon lives before all others.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from rtobserver.store import tables
from rtobserver.store.immediate import immediately

ROWS = 500
"""Rows that are read at a time."""

_ORDER = ("secret", "api_key", "tombstone", "call", "replica", "order", "audit", "gap", "decision", "command")
_LAST = ("response", "item", "quarantine", "entry")
_TAKEN_AWAY = "SELECT call_key FROM tombstone UNION SELECT call_key FROM call WHERE purged_at IS NOT NULL"
_FIRST_ROWID, _LAST_ROWID = 0, (1 << 63) - 1


@dataclass(slots=True)
class Salvaged:
    """Say what was brought over."""

    rows: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    """Tables of which something could not be read."""
    left: list[str] = field(default_factory=list)
    """Tables that there was no time for, or not enough."""
    is_mixed: bool = False
    """Whether what was read was of several states, so that anything may be missing."""
    gaps_regained: int = 0
    """Gaps of which the row was made anew from the entry."""
    calls_regained: int = 0
    """Calls of which the row was made anew from what indexes repeat of it."""
    calls_lost: int = 0
    """Calls that have entries, and of which nobody knows the id."""

    def lacks(self, name: str) -> bool:
        """Say whether there may have been rows of a table that are not among the copied ones."""
        return self.is_mixed or name in self.damaged or name in self.left

    @property
    def lacks_entries(self) -> bool:
        """Say the same of entries."""
        return self.lacks("entry")


def bring_over(source: sqlite3.Connection, target: sqlite3.Connection, seconds: float) -> Salvaged:
    """Copy all rows that can be read, for so many seconds; a row that is there already stays as it is.

    Raises:
        sqlite3.Error: the target cannot be written now.

    """
    salvaged = Salvaged()
    deadline = time.monotonic() + seconds
    for name in _tables():
        _bring(name, source, target, salvaged, deadline)
    return salvaged


def bring_older(source: sqlite3.Connection, target: sqlite3.Connection, seconds: float, salvaged: Salvaged) -> None:
    """Copy what an older state of the same database has beyond; nothing of calls that were erased or purged since.

    Raises:
        sqlite3.Error: the target cannot be written now.

    """
    salvaged.is_mixed = True
    deadline = time.monotonic() + seconds
    found = Salvaged()
    taken_away = {row[0] for row in target.execute(_TAKEN_AWAY)}
    for name in _tables():
        brought = salvaged.rows.get(name, 0)
        _bring(name, source, target, found, deadline, taken_away)
        salvaged.rows[name] = brought + found.rows[name]


def _tables() -> Iterator[str]:
    yield from _ORDER
    yield from (name for name in tables.metadata.tables if name not in (*_ORDER, *_LAST, "lease"))
    yield from _LAST


def _bring(
    name: str,
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    salvaged: Salvaged,
    deadline: float,
    left_out: Collection[int] = (),
) -> None:
    salvaged.rows.setdefault(name, 0)
    columns = [column.name for column in tables.metadata.tables[name].columns]
    try:
        there = {row[1] for row in source.execute(f'PRAGMA table_info("{name}")')}
    except sqlite3.DatabaseError:
        there = set()
    columns = [column for column in columns if column in there]
    if not columns:
        salvaged.damaged.append(name)
        return
    named = ", ".join(f'"{column}"' for column in ("rowid", *columns))
    read = f'SELECT {named} FROM "{name}" WHERE rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?'  # noqa: S608
    marks = ", ".join("?" * (len(columns) + 1))
    write = f'INSERT OR IGNORE INTO "{name}" ({named}) VALUES ({marks})'  # noqa: S608 - only our own names
    reading = _Reading(source, read)
    count = 0
    by_call = columns.index("call_key") + 1 if left_out and "call_key" in columns and name != "tombstone" else None
    for rows in reading.newest_first():
        if by_call is not None:
            rows = [row for row in rows if row[by_call] not in left_out]
        with immediately(target):
            count += _write(target, write, rows)
        if time.monotonic() > deadline:
            salvaged.left.append(name)
            break
    salvaged.rows[name] = count
    if reading.failed:
        salvaged.damaged.append(name)


def _write(target: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]) -> int:
    try:
        return target.executemany(sql, rows).rowcount
    except (sqlite3.IntegrityError, sqlite3.DataError):
        count = 0
        for row in rows:
            # what damage made of it does not fit its table
            with contextlib.suppress(sqlite3.IntegrityError, sqlite3.DataError):
                count += target.execute(sql, row).rowcount
        return count


class _Reading:
    """Read a table backwards by rowid, around what cannot be read."""

    def __init__(self, source: sqlite3.Connection, sql: str) -> None:
        self._source = source
        self._sql = sql
        self.failed = False

    def newest_first(self) -> Iterator[list[tuple[Any, ...]]]:
        upper, limit, step = _LAST_ROWID, ROWS, 1
        hole_top: int | None = None
        while upper >= _FIRST_ROWID:
            try:
                rows = self._read(_FIRST_ROWID, upper, limit)
            except sqlite3.DatabaseError:
                self.failed = True
                if hole_top is None:
                    hole_top = upper = self._top(upper)
                if limit > 1:
                    limit = max(1, limit // 8)
                else:
                    # the row below, then further and further
                    upper, step = upper - step, step * 2
                continue
            if hole_top is not None:
                found = rows[0][0] if rows else _FIRST_ROWID
                yield from self._behind(found, hole_top)
                hole_top = None
            if not rows:
                return
            yield rows
            upper, limit, step = rows[-1][0] - 1, min(ROWS, limit * 8), 1

    def _top(self, upper: int) -> int:
        """Give a rowid above which nothing is, so that steps begin where rows are."""
        if upper < _LAST_ROWID:
            return upper
        for bits in range(1, 63):
            try:
                if not self._read(1 << bits, upper, 1):
                    return 1 << bits
            except sqlite3.DatabaseError:
                continue
        return upper

    def _behind(self, found: int, top: int) -> Iterator[list[tuple[Any, ...]]]:
        """Read upwards what a step went past, as far as that can be read."""
        lower = found + 1
        while lower <= top:
            sql = self._sql.replace("DESC", "ASC")
            try:
                rows = self._source.execute(sql, (lower, top, 1)).fetchall()
            except sqlite3.DatabaseError:
                return
            if not rows:
                return
            yield rows
            lower = rows[-1][0] + 1

    def _read(self, lower: int, upper: int, limit: int) -> list[tuple[Any, ...]]:
        return self._source.execute(self._sql, (lower, upper, limit)).fetchall()
