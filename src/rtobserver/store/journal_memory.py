"""Hold in memory what stands in the newest file of a journal and is not in the database yet.

A file that somebody writes over, or that cannot be read, costs nothing of this: it is written again, into another one.
Usually that is what came within the last second. For the writer's thread.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from dataclasses import dataclass
from typing import Any

from rtobserver.store.identity import CallRef
from rtobserver.store.immediate import immediately
from rtobserver.store.journal_lines import INSERT_CALL, INSERT_ENTRY, INSERT_FACT

MOST_BYTES = 16 * 1024 * 1024
"""Held at most; what is older is in the file alone while the database is away."""
ROW_BYTES = 400
"""What a row takes beside its payload, about."""

Row = tuple[Any, ...]


@dataclass(slots=True)
class Piece:
    """Be what one transaction has brought."""

    until: int
    """Its last line."""
    size: int
    entries: list[Row]
    facts: list[Row]


class Memory:
    """Hold the newest lines of one file, which begins behind the line `after`."""

    def __init__(self, after: int, most_bytes: int = MOST_BYTES) -> None:
        self.after = after
        """All lines behind this one are held."""
        self.calls: list[Row] = []
        """Of the whole file."""
        self._most_bytes = most_bytes
        self._pieces: deque[Piece] = deque()
        self._size = 0

    def add(self, calls: list[Row], entries: list[Row], facts: list[Row], until: int) -> None:
        """Hold what was committed, up to the line `until`; the oldest gives way where it is too much."""
        self.calls += calls
        size = sum(len(row[9]) for row in entries) + sum(len(row[3]) for row in facts)
        size += ROW_BYTES * (len(entries) + len(facts))
        self._pieces.append(Piece(until, size, entries, facts))
        self._size += size
        while self._size > self._most_bytes:
            self._drop()

    def shipped(self, until: int) -> None:
        """Hold nothing that is in the database."""
        while self._pieces and self._pieces[0].until <= until:
            self._drop()

    def refs(self) -> list[CallRef]:
        """List the calls of the file; their keys are guesses."""
        found = []
        for _, call_id, day, epoch, origin in self.calls:
            ref = CallRef(call_id, day)
            ref.epoch, ref.origin = epoch, origin
            found.append(ref)
        return found

    def write(self, raw: sqlite3.Connection) -> None:
        """Write it all to another file, under the same numbers; raises sqlite3.Error."""
        with immediately(raw):
            raw.executemany(INSERT_CALL, self.calls)
            for piece in self._pieces:
                raw.executemany(INSERT_ENTRY, piece.entries)
                raw.executemany(INSERT_FACT, piece.facts)

    def _drop(self) -> None:
        piece = self._pieces.popleft()
        self._size -= piece.size
        self.after = piece.until
