"""Tell apart why SQLite refuses, since each reason wants something else to be done about it."""

from __future__ import annotations

import errno
import sqlite3
from typing import Literal

Trouble = Literal["locked", "full", "failing", "closed", "damaged", "other"]
"""`locked`: another program holds the file. `full`: no room on the disk. `failing`: the disk does not read,
write or sync. `closed`: it may not be opened, or not be written. `damaged`: what stands in it is no database."""

WORDS: dict[Trouble, str] = {
    "locked": "another program holds the database",
    "full": "the disk is full",
    "failing": "the disk under the database fails",
    "closed": "the database may not be written",
    "damaged": "the database is damaged",
    "other": "the database refuses to write",
}
"""What people are told; names no file and no call."""

_PRIMARY: dict[int, Trouble] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_PROTOCOL: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_IOERR: "failing",
    sqlite3.SQLITE_READONLY: "closed",
    sqlite3.SQLITE_CANTOPEN: "closed",
    sqlite3.SQLITE_PERM: "closed",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


def trouble_of(problem: BaseException) -> Trouble | None:
    """Name the trouble behind an error; None where the database is not to blame."""
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = getattr(cause, "orig", None) or cause.__cause__
    if cause is None:
        return "full" if _lacks_room(problem) else None
    code = getattr(cause, "sqlite_errorcode", None)
    known = _PRIMARY.get(code & 0xFF) if isinstance(code, int) else None
    if known is not None:
        return known
    return "other" if isinstance(cause, sqlite3.OperationalError) else None


def _lacks_room(problem: BaseException) -> bool:
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    return cause is not None and cause.errno in (errno.ENOSPC, errno.EDQUOT)
