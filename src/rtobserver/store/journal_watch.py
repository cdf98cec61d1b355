"""Tell whether the newest file of a journal is still the one that is written; for the writer's thread."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from rtobserver.store.care import LOOK_SECONDS, PARTS, SURE_SECONDS
from rtobserver.store.imprint import Imprint
from rtobserver.store.sqlite import identity


class Watch:
    """Watch one file, which was just opened by this connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._paths = {part: path.with_name(path.name + part) for part in PARTS}
        # the WAL is made by the first read; from then on all files are there
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        self._files = {part: identity(found) for part, found in self._paths.items()}
        self._imprint = Imprint(path)
        self._imprint.opened(connection)
        self._due = 0.0
        self.written = self._imprint.written

    def is_due(self) -> bool:
        """Say whether it is time for another look."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + LOOK_SECONDS
        return True

    def is_away(self) -> bool:
        """Say whether one of the files is no longer where it was opened, or another one is there."""
        return any(identity(path) != self._files[part] for part, path in self._paths.items())

    def is_own(self) -> bool:
        """Say whether what has the file's name is the file that was opened."""
        return identity(self._paths[""]) == self._files[""]

    def overwritten(self, connection: sqlite3.Connection) -> tuple[str, ...]:
        """Give the endings of the files that somebody has written over, once that is sure."""
        return self._imprint.tend(connection)

    def overwritten_now(self, connection: sqlite3.Connection) -> tuple[str, ...]:
        """Look at once, and as often as it takes to be sure."""
        found = self._imprint.tend(connection)
        while not (found or self._imprint.is_right):
            time.sleep(SURE_SECONDS)
            found = self._imprint.tend(connection)
        return found
