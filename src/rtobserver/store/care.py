"""Look after the file while it is written: its room on the disk, its WAL, whether it is still there.

Beside the database lies a ballast file. When the disk is full it is released, and what may be shed
is shed, so that the rest finds room for a good while; when there is room again it is rebuilt. A WAL
that grows because somebody reads for long is cut off as soon as that is possible, and told of once.

For the writer's thread; the plain attributes may be read from any other.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import structlog

from rtobserver.store.imprint import Imprint
from rtobserver.store.sqlite import identity
from rtobserver.store.trouble import Trouble, trouble_of
from rtobserver.store.vital import Vital

BALLAST_BYTES, FIRST_BALLAST_BYTES = 64 * 1024 * 1024, 4 * 1024 * 1024
"""Of the ballast at most, and beside a new file; it grows to a quarter of the file, but to no more than a
sixteenth of a small disk."""
LEAST_BALLAST_BYTES = 256 * 1024
WAL_PAGES, TIGHT_WAL_PAGES = 4_000, 250
"""After so many pages the WAL is moved into the database: 16 MiB, and 1 MiB while there is no ballast."""
TEND_SECONDS = 1.0
"""Between two looks at the disk."""
LOOK_SECONDS = 0.2
"""Between two looks whether the files are where they were opened: what is committed to one that was unlinked goes with
the process."""
SURE_SECONDS = 0.05
"""Between two looks where the writer waits for them."""
PARTS = ("", "-wal", "-shm")
"""Endings of the files that are open."""
WAL_BYTES = 128 * 1024 * 1024
"""Above this the WAL is held back by somebody; usually it has 16 MiB."""
WAL_SECONDS = 5.0
"""Between two tries to cut off a WAL that is too large."""
BELIEVED_FULL = 4
NO_ROOM_BYTES = 64 * 1024
"""With less than this free, an error of the disk is one of its room."""

log = structlog.get_logger()


class Care:
    """Look after one database file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path.with_name(f"{path.name}.ballast")
        self._wal = path.with_name(f"{path.name}-wal")
        self.short = False
        """Whether room on the disk is short: what may be shed is to be shed."""
        self.has_ballast = False
        self.wal_bytes = 0
        self.wal_held = False
        """Whether somebody keeps the WAL from being cut off."""
        self.free_bytes: int | None = None
        """Free on the disk; None where that cannot be told."""
        self.away: tuple[str, ...] = ()
        """Endings of the files that are no longer where they were opened, or no longer what was written to them."""
        self.overwritten: tuple[str, ...] = ()
        """Endings of those that are still there and were written over by somebody."""
        self.since: dict[str, int] = {}
        """When each of `short`, `is_away` and `wal_held` that holds now was found, in microseconds since 1970."""
        self._files: dict[str, tuple[int, int] | None] = {}
        self.imprint = Imprint(path)
        self.vital = Vital()
        self._keeps_keys = False
        self._due = self._wal_due = self._look_due = 0.0
        self._ballast_bytes = 0
        self._said_no_ballast = False

    def opened(self, connection: sqlite3.Connection | None = None) -> None:
        """Take note that the files at the path are those that are written from now on, through this connection."""
        self._files, self.away = {part: identity(self.file(part)) for part in PARTS}, ()
        self.overwritten, self._keeps_keys = (), connection is not None
        if connection is not None:
            self.imprint.opened(connection)
            self.vital.look(connection)
        self._due = self._look_due = 0.0

    @property
    def is_away(self) -> bool:
        """Say whether a file is no longer where it was opened."""
        return bool(self.away)

    def file(self, part: str) -> Path:
        """Name one of the database's files by its ending."""
        return self.path.with_name(self.path.name + part)

    def is_own(self, found: Path, part: str) -> bool:
        """Tell whether what has this name now is the file that was opened."""
        return identity(found) == self._files.get(part) is not None

    def tend(self, connection: sqlite3.Connection) -> None:
        """Look at the disk, the WAL and the files if it is time to; never raises."""
        now = time.monotonic()
        if now >= self._look_due:
            self._look_due = now + LOOK_SECONDS
            self._look_at_files(connection)
        if now < self._due:
            return
        self._due = now + TEND_SECONDS
        self._look_at_room(connection)
        self._look_at_wal(connection, now)
        if self._keeps_keys and not self.away and self.imprint.is_right:
            self.vital.look(connection)
        self._note()

    def is_overwritten(self, connection: sqlite3.Connection) -> bool:
        """Look at once, and as often as it takes to be sure, whether somebody has written over the open files."""
        self._look_at_files(connection)
        while not (self.away or self.imprint.is_right):
            time.sleep(SURE_SECONDS)
            self._look_at_files(connection)
        return bool(self.overwritten)

    def judge(self, problem: BaseException) -> Trouble | None:
        """Name the trouble behind an error; a disk without any room has failed for want of it."""
        trouble = trouble_of(problem)
        if trouble in ("failing", "closed"):
            free = self._free()
            if free is not None and free < NO_ROOM_BYTES:
                return "full"
        return trouble

    def out_of_room(self, connection: sqlite3.Connection | None, times: int) -> None:
        """Do what can be done about a full disk: release the ballast, and what the WAL has beyond need.

        A disk that has room all the same, in sum or for others, must say so several `times` on end to be believed.
        """
        self._due = 0.0
        free = self._free()
        if not self.short and free is not None and free > 2 * self._wanted() and times < BELIEVED_FULL:
            return
        if not self.short:
            self.short = True
            self._note()
            log.error("disk_full", free_bytes=free, ballast=self.has_ballast)
        if self.has_ballast or self.ballast.exists():
            with contextlib.suppress(OSError):
                self.ballast.unlink()
                log.warning("ballast_released", bytes=self._ballast_bytes)
            self.has_ballast = False
        if connection is not None:
            cut(connection)
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f"PRAGMA wal_autocheckpoint = {TIGHT_WAL_PAGES}")

    def _note(self) -> None:
        now = time.time_ns() // 1000
        for name in ("short", "is_away", "wal_held"):
            if not getattr(self, name):
                self.since.pop(name, None)
            else:
                self.since.setdefault(name, now)

    def _look_at_files(self, connection: sqlite3.Connection) -> None:
        there = {part: identity(self.file(part)) for part in PARTS}
        away = tuple(part for part in PARTS if there[part] != self._files.get(part))
        if not away:
            away = self.overwritten = self.imprint.tend(connection)
        if away and not self.away:
            names = [self.file(part).name for part in away]
            replaced = any(there[part] for part in away)
            log.error("database_away", path=str(self.path), files=names, replaced=replaced)
        if away != self.away:
            self.away = away
            self._note()

    def _look_at_room(self, connection: sqlite3.Connection) -> None:
        free = self.free_bytes = self._free()
        wanted = self._wanted()
        if free is None or (self.has_ballast and not self.short and wanted < 2 * self._ballast_bytes):
            return
        enough = 2 * wanted
        if self.short:
            # pages that retention has freed within the file are room too
            if free < enough and free + _free_within(connection) < 2 * enough:
                return
            self.short = False
            log.warning("disk_has_room", free_bytes=free)
        if free >= enough:
            self._build(wanted)
        # without a ballast the disk may be all but full: then a WAL of the usual size finds no room
        pages = WAL_PAGES if self.has_ballast else TIGHT_WAL_PAGES
        with contextlib.suppress(sqlite3.Error):
            connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        if not self.has_ballast and not self._said_no_ballast:
            self._said_no_ballast = True
            log.warning("no_room_for_ballast", free_bytes=free, wanted_bytes=enough)

    def _build(self, size: int) -> None:
        try:
            handle = os.open(self.ballast, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                # a smaller one grows, a larger one that an earlier run left stays
                os.posix_fallocate(handle, 0, size)
            finally:
                os.close(handle)
        except OSError as exc:
            with contextlib.suppress(OSError):
                self.ballast.unlink(missing_ok=True)
            self.has_ballast = False
            if not self._said_no_ballast:
                self._said_no_ballast = True
                log.warning("no_ballast", problem=str(exc.strerror))
            return
        self._ballast_bytes, self.has_ballast, self._said_no_ballast = size, True, False

    def _look_at_wal(self, connection: sqlite3.Connection, now: float) -> None:
        try:
            self.wal_bytes = self._wal.stat().st_size
        except OSError:
            self.wal_bytes = 0
        if self.wal_bytes < WAL_BYTES:
            if self.wal_held:
                self.wal_held = False
                log.warning("wal_free_again", bytes=self.wal_bytes)
            return
        if now < self._wal_due:
            return
        self._wal_due = now + WAL_SECONDS
        if not cut(connection) and not self.wal_held:
            self.wal_held = True
            log.error("wal_held", bytes=self.wal_bytes, path=str(self.path))

    def _free(self) -> int | None:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize

    def _wanted(self) -> int:
        try:
            disk, size = os.statvfs(self.path.parent), self.path.stat().st_size
        except OSError:
            return self._ballast_bytes or FIRST_BALLAST_BYTES
        grown = min(BALLAST_BYTES, max(FIRST_BALLAST_BYTES, size // 4))
        return max(LEAST_BALLAST_BYTES, min(grown, disk.f_blocks * disk.f_frsize // 16))


def _free_within(connection: sqlite3.Connection) -> int:
    try:
        [(pages,)] = connection.execute("PRAGMA freelist_count").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    except sqlite3.Error:
        return 0
    return int(pages) * int(size)


def cut(connection: sqlite3.Connection) -> bool:
    """Move all of the WAL into the database and cut it off; False where a reader, or the disk, is in the way."""
    try:
        [(waited,)] = connection.execute("PRAGMA busy_timeout").fetchall()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {waited}")
    except sqlite3.Error:
        return False
    return not busy
