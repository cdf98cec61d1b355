"""Keep in memory the few rows without which nobody could read what is recorded: keys, and our own secrets.

They are small and change seldom; a file that is damaged or written over is given them back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

from rtobserver.store import tables

KEPT = (tables.secret.name, tables.api_key.name)

Rows = dict[str, list[tuple[Any, ...]]]
"""Rows by table; a row is its rowid and its columns, in the order of the table."""


class Vital:
    """Hold the rows as they were when last they could be read; for the writer's thread."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def look(self, connection: sqlite3.Connection) -> None:
        """Read the rows again; where that fails, those from before are kept."""
        for name in KEPT:
            with contextlib.suppress(sqlite3.Error):
                self.rows[name] = connection.execute(f'SELECT rowid, {_columns(name)} FROM "{name}"').fetchall()  # noqa: S608 - our names


def put(target: sqlite3.Connection, rows: Rows) -> None:
    """Write the rows, whatever stands in their place; raises sqlite3.Error."""
    for name, kept in rows.items():
        if kept:
            marks = ", ".join("?" * len(kept[0]))
            sql = f'INSERT OR REPLACE INTO "{name}" (rowid, {_columns(name)}) VALUES ({marks})'  # noqa: S608
            target.execute("BEGIN IMMEDIATE")
            target.executemany(sql, kept)
            target.execute("COMMIT")


def _columns(name: str) -> str:
    return ", ".join(f'"{column.name}"' for column in tables.metadata.tables[name].columns)
