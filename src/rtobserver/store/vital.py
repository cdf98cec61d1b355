"""Keep in memory the few rows without which nobody could read what is recorded: keys, our secrets, the newest calls.

A file that is damaged or written over is given back those of them that it lacks: so no key is lost
while the daemon runs, and a call of which every row is gone is not forgotten but says so.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from rtobserver.store import tables
from rtobserver.store.immediate import immediately

WHOLE = (tables.secret.name, tables.api_key.name)
"""Tables that are kept whole: they are small and change seldom."""
MOST_CALLS, NEW_CALLS = 2_000, 400
"""Calls that are kept, and how many of the newest are read again each time."""
CALLS_SECONDS = 5.0
"""Between two looks at them."""

_CALLS = [column.name for column in tables.call.columns]
_KEY, _ENDED = _CALLS.index("call_key"), _CALLS.index("ended_at")
_FOUND = "SELECT ended_at, erased_at FROM call WHERE call_key = ?"
_TAKEN_AWAY = "SELECT 1 FROM tombstone WHERE call_key = ?"

Row = tuple[Any, ...]


@dataclass(slots=True)
class Kept:
    """Be what is kept; a row is its columns, in the order of the table, behind its rowid where that is kept too."""

    whole: dict[str, list[Row]] = field(default_factory=dict)
    calls: dict[int, Row] = field(default_factory=dict)
    """By their keys, the oldest first."""


class Vital:
    """Hold the rows as they were when last they could be read; for the writer's thread."""

    def __init__(self) -> None:
        self.kept = Kept()
        self._calls_due = 0.0

    def look(self, connection: sqlite3.Connection) -> None:
        """Read the rows again; where that fails, those from before are kept."""
        kept, now = self.kept, time.monotonic()
        for name in WHOLE:
            with contextlib.suppress(sqlite3.Error):
                kept.whole[name] = connection.execute(f'SELECT rowid, {_columns(name)} FROM "{name}"').fetchall()  # noqa: S608 - our names
        if now < self._calls_due:
            return
        self._calls_due = now + CALLS_SECONDS
        count = NEW_CALLS if kept.calls else MOST_CALLS
        sql = f"SELECT {_columns('call')} FROM call ORDER BY rowid DESC LIMIT {count}"  # noqa: S608
        with contextlib.suppress(sqlite3.Error):
            for row in reversed(connection.execute(sql).fetchall()):
                kept.calls.pop(row[_KEY], None)
                kept.calls[row[_KEY]] = row
        while len(kept.calls) > MOST_CALLS:
            kept.calls.pop(next(iter(kept.calls)))

    def forget(self, keys: set[int]) -> None:
        """Keep nothing of calls that are erased."""
        for key in keys & self.kept.calls.keys():
            del self.kept.calls[key]


def put(target: sqlite3.Connection, kept: Kept, observed: Collection[int] = ()) -> int:
    """Write keys and secrets, whatever stands in their place, and calls that are not there or not known to have ended.

    Whoever observes a call knows its row better. Gives how many calls were written. Raises sqlite3.Error.
    """
    written = 0
    with immediately(target):
        for name, rows in kept.whole.items():
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                sql = f'INSERT OR REPLACE INTO "{name}" (rowid, {_columns(name)}) VALUES ({marks})'  # noqa: S608
                target.executemany(sql, rows)
        marks = ", ".join("?" * len(_CALLS))
        sql = f"INSERT OR REPLACE INTO call ({_columns('call')}) VALUES ({marks})"  # noqa: S608
        for key, row in kept.calls.items():
            if key in observed or target.execute(_TAKEN_AWAY, (key,)).fetchone():
                continue
            found = target.execute(_FOUND, (key,)).fetchone()
            if found is None or (found == (None, None) and row[_ENDED] is not None):
                target.execute(sql, row)
                written += 1
    return written


def _columns(name: str) -> str:
    return ", ".join(f'"{column.name}"' for column in tables.metadata.tables[name].columns)
