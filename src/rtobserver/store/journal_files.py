"""Keep the files of a journal: begin them, look after the room that they take, forget what was shipped.

A file is begun at each start, when the newest has grown large or old, and when the disk has failed
under it: what was not committed is then written again, into a file of its own. Where the newest was
written over, or cannot be read, what is in memory of it is written again, too. Names carry the line
behind which a file begins, and when that was. The newest is never deleted, so the numbers go on for ever.

For the writer's thread, but for what says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.store import sqlite
from rtobserver.store.care import Care
from rtobserver.store.commits import Batch, EntryRow, Work
from rtobserver.store.identity import CallRef
from rtobserver.store.journal_commits import JournalCommits
from rtobserver.store.journal_lines import Reader
from rtobserver.store.journal_memory import MOST_BYTES
from rtobserver.store.journal_watch import Watch
from rtobserver.store.trouble import Trouble, trouble_of

FILE_BYTES = 64 * 1024 * 1024
"""Payload after which another file is begun."""
FILE_SECONDS = 30.0
"""Age at which another file is begun, if anything stands in this one: what was shipped is forgotten so much later."""
BUSY_MS = 1_000
LEAP = 1 << 32
"""Lines that are left out where nobody can tell how many a damaged file had."""
LOOK_SECONDS = 1.0
UNREADABLE_SECONDS = 30.0
"""After which a file is given up that the disk does not read: a disk that fails for a while must cost nothing."""
ENOUGH = 0.9
"""Room is short until the files take no more than this part of what they may."""
SUFFIX = ".journal"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class File:
    """Be a file of the journal."""

    path: Path
    after: int
    """The line behind which it begins."""
    begun_at: int
    """No line in it was handed over before; microseconds since 1970."""


class Files:
    """Keep one folder of files; the writer's keeper on PostgreSQL."""

    def __init__(
        self,
        folder: Path,
        *,
        durability: Literal["full", "normal"] = "full",
        most_bytes: int = 0,
        least_free: int = 0,
        file_bytes: int = FILE_BYTES,
        file_seconds: float = FILE_SECONDS,
        most_memory: int = MOST_BYTES,
        unreadable_seconds: float = UNREADABLE_SECONDS,
    ) -> None:
        self.folder = folder
        self._durability: Literal["full", "normal"] = durability
        self._most_bytes, self._least_free = most_bytes, least_free
        self._file_bytes, self._file_seconds = file_bytes, file_seconds
        self._most_memory, self.unreadable_seconds = most_memory, unreadable_seconds
        self.care = Care(folder / "room")
        self.journal_id = ""
        self.committed: Callable[[], None] = lambda: None
        """Hears, on the writer's thread, that there are new lines."""
        self.damaged_files: list[str] = []
        self.written_again = 0
        self._commits: JournalCommits | None = None
        self._watch: Watch | None = None
        self._held: JournalCommits | None = None
        """What was open on a file that can no longer be relied on: its memory is to be written again."""
        self._suspected: tuple[File, str] | None = None
        self._given_up: dict[File, list[CallRef]] = {}
        """Files that were moved aside though not all of them is in memory, with their calls."""
        self._lock = threading.Lock()
        self._files: list[File] = []
        self._last = self._shipped = 0
        self._begun = self._look_due = 0.0
        self._is_spoilt = False
        """Whether the newest file must be the newest no more."""
        self.over_since: int | None = None
        """Since when the files take more room than they may, in microseconds since 1970."""
        self.size_bytes = 0
        """Of all files, as of the last look."""

    # --- any thread -----------------------------------------------------------------------------

    @property
    def short(self) -> bool:
        """Say whether the files take more than they may, or the disk has less free than it must."""
        return self.over_since is not None or self.care.short

    @property
    def last(self) -> int:
        """Give the last line that is committed."""
        return self._last

    def standing(self) -> list[File]:
        """List the files, oldest first."""
        with self._lock:
            return list(self._files)

    def holding(self, line: int) -> tuple[File, int]:
        """Find the file that holds the line, or what follows it; gives the last line that may be read there, too."""
        with self._lock:
            found = self._files[0]
            until = self._last
            for file in self._files:
                if file.after < line:
                    found, until = file, self._last
                elif file.after >= line:
                    until = min(until, file.after)
                    break
            return found, until

    def shipped(self, until: int) -> None:
        """Forget files of which all is shipped, but for the newest."""
        self._shipped = until
        with self._lock:
            gone = []
            while len(self._files) > 1 and self._files[1].after <= until:
                gone.append(self._files.pop(0))
        for file in gone:
            _remove(file.path)

    def is_lost(self, file: File) -> bool:
        """Say whether a file is gone for good: the newest is written again by whoever has it open."""
        with self._lock:
            return file in self._files[:-1] and not file.path.exists()

    def suspect(self, file: File, problem: str) -> bool:
        """Have the newest file written again, as far as it is in memory; False where it is not the newest."""
        with self._lock:
            if file != self._files[-1]:
                return False
            self._suspected = file, problem
            return True

    def is_given_up(self, file: File) -> bool:
        """Say whether a file must not be read, since what stands in it is somebody else's."""
        return file in self._given_up

    def calls_of(self, file: File) -> list[CallRef]:
        """List the calls of a file that was given up."""
        return list(self._given_up.get(file, ()))

    def set_aside(self, file: File, problem: str) -> bool:
        """Keep a file from being read again that cannot be read; False where it is the newest, for a moment yet."""
        with self._lock:
            if file == self._files[-1]:
                self._is_spoilt = True
                return False
            if file not in self._files:
                return True
            self._files.remove(file)
        if file not in self._given_up:
            self._move_aside(file, problem)
        return True

    def _move_aside(self, file: File, problem: str) -> None:
        aside = file.path.with_name(f"{file.path.stem}.damaged")
        for each, renamed in zip(_all(file.path), _all(aside), strict=True):
            with contextlib.suppress(OSError):
                each.rename(renamed)
        self.damaged_files.append(aside.name)
        log.error("journal_set_aside", file=aside.name, problem=problem)

    def rename(self) -> None:
        """Take another id: what the database knows of this one is of files that are not here."""
        self.journal_id = secrets.token_hex(8)
        _write(self._id_path, self.journal_id)

    # --- the writer's thread ----------------------------------------------------------------------

    def open(self) -> None:
        """Find what an earlier run left, and begin a file behind it.

        Raises:
            StoreUnavailable: the folder or its newest file cannot be read, or no file be made.
            StoreError: a file is there that is none of a journal.

        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.journal_id = self._id_path.read_text().strip() if self._id_path.exists() else ""
            if not self.journal_id:
                self.rename()
            found = sorted(path for path in self.folder.iterdir() if path.suffix == SUFFIX)
        except OSError as exc:
            raise StoreUnavailable(f"{self.folder} cannot be opened: {exc.strerror}") from exc
        self._files = [_named(path) for path in found]
        try:
            while self._files:
                last = self._last_of(self._files[-1])
                if last is not None:
                    self._last = last
                    break
                _remove(self._files.pop().path)
            self._begin()
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailable(f"{self.folder} cannot be used: {exc}") from exc
        self.care.opened()

    def close(self) -> None:
        """Let go of the newest file."""
        commits, self._commits, self._watch = self._commits, None, None
        if commits is not None:
            commits.close()

    def write(self, batch: Batch, committed: Callable[[list[EntryRow]], None]) -> None:
        """Commit what is left of a batch; raises what keeps it from that, after which `failed` must be told."""
        commits = self._ready()
        try:
            commits.write(batch, committed, small=self.care.short)
        finally:
            if commits.last != self._last:
                self._last = commits.last
                if self._watch is not None:
                    self._watch.written()
                self.committed()
        if commits.size >= self._file_bytes:
            self._rotate()

    def do_alone(self, work: Work) -> None:
        """Refuse: nothing is done in a journal."""
        work.error = StoreError("a journal does no work")

    def failed(self, problem: Exception) -> Trouble | None:
        """Take note of what kept a batch from being written; gives the trouble, None where there is no help."""
        trouble = self.care.judge(problem)
        if trouble is None and isinstance(problem, OSError | StoreError):
            trouble = "closed"
        if trouble == "full":
            self.care.out_of_room(self._commits.raw if self._commits is not None else None, 4)
        elif self._is_spoilt_by_others(trouble):
            self._doubt(str(problem))
        elif trouble in ("failing", "closed", "other"):
            # what the disk failed to take may be lost from memory too: nothing more is written behind it
            self.close()
        return trouble

    def tend(self) -> None:
        """Look after the files if it is time to; never raises."""
        self._look_at_newest()
        now = time.monotonic()
        if now < self._look_due:
            return
        self._look_due = now + LOOK_SECONDS
        self.size_bytes = sum(_size(path) for file in self.standing() for path in _all(file.path))
        if self._most_bytes or self._least_free:
            self._weigh()
        if self._commits is None:
            return
        self.care.tend(self._commits.raw)
        newest = self._files[-1]
        is_old = now - self._begun >= self._file_seconds
        # what was shipped of the newest can only be forgotten with all of it
        is_in_the_way = self.over_since is not None and self._shipped > newest.after
        if self._commits.last > newest.after and (is_old or is_in_the_way or self._is_spoilt):
            try:
                self._rotate()
            except (StoreError, sqlite3.Error, OSError) as exc:
                log.warning("journal_not_rotated", problem=str(exc))

    def _look_at_newest(self) -> None:
        commits, watch = self._commits, self._watch
        try:
            if commits is not None and watch is not None:
                suspected, self._suspected = self._suspected, None
                if suspected is not None and suspected[0] == self._files[-1]:
                    self._doubt(suspected[1])
                elif watch.is_due():
                    if watch.is_away():
                        self._bring_back(self._files[-1], commits, watch)
                    elif parts := watch.overwritten(commits.raw):
                        self._doubt("it was written over", is_foreign="" in parts)
            if self._held is not None and self.folder.is_dir():
                self._go_on(self._held)
        except (StoreError, sqlite3.Error, OSError) as exc:
            log.warning("journal_not_written_again", problem=str(exc))

    def _is_spoilt_by_others(self, trouble: Trouble | None) -> bool:
        if self._commits is None or self._watch is None or trouble not in ("failing", "damaged", "other"):
            return False
        return trouble == "damaged" or bool(self._watch.overwritten_now(self._commits.raw))

    def _doubt(self, problem: str, *, is_foreign: bool = False) -> None:
        """Give the newest file up: what is in memory of it is written again, of the rest the shipper reads what it can.

        Nothing is read any more where the file itself is somebody else's.
        """
        commits = self._commits
        if commits is None:
            return
        newest, memory = self._files[-1], commits.memory
        memory.shipped(self._shipped)
        log.error("journal_doubted", file=newest.path.name, problem=problem)
        is_whole = memory.after <= max(newest.after, self._shipped)
        if not is_whole and is_foreign:
            self._given_up[newest] = memory.refs()
        if is_whole or is_foreign:
            # before it is closed: what is in the WAL would be written to it, and by its name
            self._move_aside(newest, problem)
        self._held = commits
        self.close()

    def _go_on(self, held: JournalCommits) -> None:
        """Begin a file with what was in memory of another one."""
        held.memory.shipped(self._shipped)
        after, begun_at = held.memory.after, self._files[-1].begun_at
        commits, path = self._made(after)
        try:
            commits.go_on(held)
        except BaseException:
            commits.close()
            _remove(path)
            raise
        self._open(commits, path)
        with self._lock:
            newest = self._files[-1]
            if after <= max(newest.after, self._shipped):
                self._files.pop()
            # nothing in it is younger than what was there
            self._files.append(File(path, after, begun_at))
        self._held = None
        self.written_again += 1
        log.error("journal_written_again", file=path.name)
        self.committed()

    def _bring_back(self, newest: File, commits: JournalCommits, watch: Watch) -> None:
        """Write the newest file again, which somebody took away or replaced while it was open."""
        if not self.folder.is_dir():
            return
        copy = newest.path.with_suffix(".restoring")
        try:
            copy.unlink(missing_ok=True)
            sqlite.create(copy)
            with contextlib.closing(sqlite3.connect(copy)) as target:
                commits.raw.backup(target)
        except sqlite3.Error as exc:
            if trouble_of(exc) != "damaged":
                raise
            self._doubt(str(exc), is_foreign=not watch.is_own())
            return
        if not watch.is_own():
            with contextlib.suppress(FileNotFoundError):
                newest.path.rename(newest.path.with_suffix(".foreign"))
        copy.rename(newest.path)
        self._rotate()
        self.written_again += 1
        log.error("journal_written_again", file=newest.path.name)

    def _weigh(self) -> None:
        was_over = self.over_since is not None
        part = ENOUGH if was_over else 1.0
        free = self.care.free_bytes
        is_over = bool(self._most_bytes) and self.size_bytes > self._most_bytes * part
        is_low = bool(self._least_free) and free is not None and free < self._least_free / part
        if (is_over or is_low) and not was_over:
            self.over_since = time.time_ns() // 1000
            log.error("journal_short_of_room", bytes=self.size_bytes, free_bytes=free)
        elif was_over and not (is_over or is_low):
            self.over_since = None
            log.warning("journal_has_room", bytes=self.size_bytes, free_bytes=free)

    def _ready(self) -> JournalCommits:
        if self._commits is None:
            if not self.folder.is_dir():
                # not made anew: it may be the place where a disk belongs that is missing
                raise FileNotFoundError(f"{self.folder} is not there")
            if self._held is not None:
                self._go_on(self._held)
            else:
                self._begin()
        if self._commits is None:
            raise StoreError("the journal is not open")
        return self._commits

    def _rotate(self) -> None:
        self.close()
        self._begin()

    def _begin(self) -> None:
        commits, path = self._made(self._last)
        self._open(commits, path)
        empty = None
        with self._lock:
            if self._files and self._files[-1].after == self._last:
                # nothing is committed in it: whatever else stands there was never told to anybody
                empty = self._files.pop()
            self._files.append(_named(path))
        if empty is not None:
            _remove(empty.path)

    def _made(self, after: int) -> tuple[JournalCommits, Path]:
        """Make an empty file."""
        path = self.folder / f"{after:020}-{time.time_ns() // 1000:020}{SUFFIX}"
        raw = sqlite.open_writer(path, durability=self._durability)
        try:
            raw.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            commits = JournalCommits(raw, after, self._most_memory)
            _sync(self.folder)
        except BaseException:
            raw.close()
            raise
        return commits, path

    def _open(self, commits: JournalCommits, path: Path) -> None:
        try:
            self._watch = Watch(path, commits.raw)
        except BaseException:
            commits.close()
            raise
        self._commits = commits
        self._is_spoilt = False
        self._begun = time.monotonic()

    def _last_of(self, file: File) -> int | None:
        """Give the last line of a file, None where it was not even begun."""
        try:
            with contextlib.closing(Reader(str(file.path))) as reader:
                if not reader.is_begun():
                    return None
                return max(file.after, reader.last())
        except sqlite3.Error as exc:
            if trouble_of(exc) not in ("damaged", "other"):
                raise
            log.error("journal_unreadable", file=file.path.name, problem=str(exc))  # noqa: TRY400 - it says enough
            return file.after + LEAP

    @property
    def _id_path(self) -> Path:
        return self.folder / "id"


def _named(path: Path) -> File:
    after, _, begun_at = path.stem.partition("-")
    try:
        return File(path, int(after), int(begun_at))
    except ValueError:
        raise StoreError(f"{path} is no file of a journal") from None


def _all(path: Path) -> tuple[Path, ...]:
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _remove(path: Path) -> None:
    for each in _all(path):
        with contextlib.suppress(OSError):
            each.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write(path: Path, text: str) -> None:
    made = path.with_name(f"{path.name}.new")
    handle = os.open(made, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    made.rename(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
