"""Do something to a SQLite file in one transaction, on a connection that begins none by itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def immediately(connection: sqlite3.Connection) -> Iterator[None]:
    """Have the block be one transaction, which takes the write lock at its begin; an exception rolls it back.

    Raises:
        sqlite3.Error: the file cannot be written.

    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
