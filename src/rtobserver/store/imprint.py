"""Tell whether the open files of a database still hold what was written, though nobody has replaced them.

A program that writes over a file keeps its inode, and SQLite, which locks the file and not its name,
goes on with pages of two states. So each file is told by what stands in it:

    the file      its `user_version` is a number that only we have given it, a new one every few seconds
                  in which something is written; and it is as long as it says itself, but for what still
                  waits in the `-wal`: a disk that is full lets its first page be moved and no other
    the `-wal`    is as long as the index says that it is, and has the salts that stand there

All is read through the descriptors that SQLite has open: to open and close the file again would take
away every lock that this process has on it. For the writer's thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import struct
import time
from pathlib import Path

from rtobserver.store.immediate import immediately

STAMP_SECONDS = 10.0
"""Between two numbers, if anything was written: an older copy is told from the file if it is older than that."""
SURE, SURE_OF_LENGTH = 2, 10
"""Looks on end that must find the same: another program may be writing, and the first page is written first."""
_HEADER, _INDEX, _LOG_HEADER, _FRAME_HEADER = 100, 48, 32, 24
_MOVED = 96
"""Offset in the index of how many frames of the `-wal` are in the file already."""
_VERSION = 60
"""Offset of `user_version` in the header."""
_COUNTER_BITS = 11
_SHORT = "short"


class Imprint:
    """Know the numbers of one open database."""

    def __init__(self, path: Path) -> None:
        self._files = {part: path.with_name(path.name + part) for part in ("", "-wal", "-shm")}
        self._handles: dict[str, int] = {}
        self._known: list[int] = []
        """What the file may have for its number: the one that it had last, and those that wait in the WAL."""
        self._suspected: dict[str, int] = {}
        self._stamp_due = 0.0
        self._is_written = False
        self._first = 0

    def opened(self, connection: sqlite3.Connection) -> None:
        """Take the files as they are now for right, and give them a number."""
        self._handles, self._suspected = {}, {}
        header = self._read("", _HEADER)
        self._known = [_number(header, _VERSION)] if len(header) == _HEADER else []
        self._first = secrets.randbits(31 - _COUNTER_BITS) << _COUNTER_BITS
        self.stamp(connection)

    def written(self) -> None:
        """Take note that something was committed."""
        self._is_written = True

    def stamp(self, connection: sqlite3.Connection) -> None:
        """Give the database another number; where it takes none now, it keeps the one that it has."""
        self._stamp_due = time.monotonic() + STAMP_SECONDS
        self._is_written = False
        if not self._known or connection.in_transaction:
            return
        number = self._known[-1] + 1
        if number >> _COUNTER_BITS != self._first >> _COUNTER_BITS:
            number = self._first = self._first or 1 << _COUNTER_BITS
        with contextlib.suppress(sqlite3.Error):
            with immediately(connection):
                # what the file itself has meanwhile: by that a start knows which file a WAL belongs to
                connection.execute(f"PRAGMA application_id = {self._known[0]}")
                connection.execute(f"PRAGMA user_version = {number}")
            self._known.append(number)

    def tend(self, connection: sqlite3.Connection) -> tuple[str, ...]:
        """Give the endings of the files that somebody has written over; the next number if it is time for that."""
        found = self._look()
        self._suspected = {part: self._suspected.get(part, 0) + 1 for part in found}
        if not found and self._is_written and time.monotonic() >= self._stamp_due:
            self.stamp(connection)
        sure = {"" if part == _SHORT else part for part, times in self._suspected.items() if times >= _looks(part)}
        return tuple(sorted(sure))

    @property
    def is_right(self) -> bool:
        """Say whether nothing was odd at the last look."""
        return not self._suspected

    def left(self, connection: sqlite3.Connection) -> None:
        """Give the last number before the connection is closed, unless nothing was written since the last."""
        if self._is_written and not self._look():
            self.stamp(connection)

    def _look(self) -> list[str]:
        if not self._known:
            return []
        found = []
        header = self._read("", _HEADER)
        number = _number(header, _VERSION) if len(header) == _HEADER else None
        if number in self._known:
            del self._known[: self._known.index(number)]
        if number not in self._known:
            found.append("")
        elif self._size_of("") < _length(header) and not self._waits(self._size_of(""), header):
            found.append(_SHORT)
        if self._log_is_other():
            found.append("-wal")
        return found

    def _log_is_other(self) -> bool:
        # the log first: who empties it says so in the index before
        size, header = self._size_of("-wal"), self._read("-wal", _LOG_HEADER)
        index = self._read("-shm", _INDEX)
        if len(index) < _INDEX or not index[12]:
            return False
        page_size, frames = struct.unpack_from("=HI", index, 14)
        page_size = 65536 if page_size == 1 else page_size
        if not frames:
            return False
        return size < _LOG_HEADER + frames * (_FRAME_HEADER + page_size) or header[16:24] != index[32:40]

    def _waits(self, size: int, header: bytes) -> bool:
        """Tell whether all pages that a file lacks at its end stand in its `-wal` and wait to be moved."""
        page_size = _page_size(header)
        index = self._read("-shm", _MOVED + 4)
        if len(index) < _MOVED + 4 or not index[12]:
            return False
        [frames], [moved] = struct.unpack_from("=I", index, 16), struct.unpack_from("=I", index, _MOVED)
        if _length(header) - size > (frames - moved) * page_size:
            return False
        lacking = set(range(size // page_size + 1, _length(header) // page_size + 1))
        for number in range(moved, frames):
            place = _LOG_HEADER + number * (_FRAME_HEADER + page_size)
            frame = self._read("-wal", _FRAME_HEADER, place)
            if len(frame) == _FRAME_HEADER and frame[8:16] == index[32:40]:
                lacking.discard(int.from_bytes(frame[:4], "big"))
        return not lacking

    def _read(self, part: str, count: int, place: int = 0) -> bytes:
        handle = self._handle(part)
        if handle is None:
            return b""
        try:
            return os.pread(handle, count, place)
        except OSError:
            return b""

    def _size_of(self, part: str) -> int:
        handle = self._handle(part)
        try:
            return 0 if handle is None else os.fstat(handle).st_size
        except OSError:
            return 0

    def _handle(self, part: str) -> int | None:
        """Find the descriptor under which SQLite has a file open."""
        try:
            wanted = self._files[part].stat()
        except OSError:
            # it was taken away: that is found out by its name
            return None
        known = self._handles.get(part)
        if known is not None and _is(known, wanted):
            return known
        with contextlib.suppress(OSError), os.scandir("/proc/self/fd") as entries:
            for entry in entries:
                if _is(int(entry.name), wanted):
                    self._handles[part] = int(entry.name)
                    return int(entry.name)
        return None


def number_of(path: Path) -> int | None:
    """Read a file's number, while nobody in this process has it open; None where none can be read."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return None
    return _number(header, _VERSION) if len(header) == _HEADER else None


def is_mixed(own: int | None, connection: sqlite3.Connection) -> bool:
    """Tell whether a file, which has a number of its `own`, is not the one that its WAL was written for.

    It must have the number that it has together with its WAL, or the one that it had when that was given.
    Raises sqlite3.Error.
    """
    [(number,)] = connection.execute("PRAGMA user_version").fetchall()
    [(before,)] = connection.execute("PRAGMA application_id").fetchall()
    return bool(number) and own not in (number, before)


def _is(handle: int, wanted: os.stat_result) -> bool:
    try:
        found = os.fstat(handle)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def _number(header: bytes, offset: int) -> int:
    return int(struct.unpack_from(">i", header, offset)[0])


def _length(header: bytes) -> int:
    """Give how long a file says that it is."""
    return int.from_bytes(header[28:32], "big") * _page_size(header)


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 65536 if size == 1 else size


def _looks(part: str) -> int:
    return SURE_OF_LENGTH if part == _SHORT else SURE
