"""Keep a connection that writes, whatever becomes of the disk and of the file.

For the writer's thread. A connection on which a write or a sync failed is trusted no more: what the
kernel still has of it may never reach the disk, however often it is asked again. It is closed, the
file is opened anew and looked over, and the writer writes again what was not committed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import quote

import structlog

from rtobserver.errors import StoreError
from rtobserver.realtime.holes import Loss
from rtobserver.store import damage, holes, replacement
from rtobserver.store.care import PARTS, Care, cut
from rtobserver.store.commits import Batch, Commits, EntryRow, Work
from rtobserver.store.identity import CallRef
from rtobserver.store.trouble import Trouble, trouble_of
from rtobserver.store.witness import Witness

BUSY_MS = 1_000
"""How long one try waits for another program; the writer makes the next one at once."""
BELIEVED_DAMAGED = 3
"""Times that SQLite must speak of damage, where a look over the file finds none, until it is believed."""
ANEW_SECONDS = 60.0
"""Between two new files in the place of damaged ones: a disk that spoils each must not be filled with them."""
LONG_LOOK_SECONDS = 3600.0
"""How long a look over the file may take that nobody waits for."""
BACK_SECONDS, BACK_CEILING = 1.0, 16.0
"""Between two tries to begin a file anew, or to write files again that were taken away: twice as long each time."""

log = structlog.get_logger()


class Recovery:
    """Keep the connection; without a `path` it is opened again where the disk failed, and no more."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], path: Path | None) -> None:
        self._connect = connect
        self._path = path
        self.care = Care(path) if path is not None else None
        self.witness = Witness(path) if path is not None else None
        self.live: Callable[[], damage.Live] = dict
        """Gives the calls under observation; settable."""
        self.begun_anew: Callable[[dict[CallRef, list[Loss]]], None] = lambda losses: None
        """Hears that the file is another one, and what it lacks of the entries of each live call; settable."""
        self.damaged_files: list[str] = []
        """Names of damaged files that lie beside the database, those of earlier runs included."""
        self.written_again = 0
        """How often files were taken away and what they held was saved."""
        self._commits: Commits | None = None
        self._erased: set[int] = set()
        self._must_look = False
        self._damage_heard = self._full_heard = 0
        self._damage: Exception | None = None
        """Why the file must be begun anew, if it must."""
        self.anew_seconds = ANEW_SECONDS
        self._anew_at: float | None = None
        self.tries = 0
        """Those to mend the file, one after the other, that failed or are under way."""
        self._back_due, self._not_mended = 0.0, ""
        """When to try again, and why the last try failed."""
        self._looking = self._is_cleared = False
        self._opened = 0
        """How often a file was opened: what a look has found is of the file that it began with."""
        self._written_at: int | None = None
        """When something was last committed, in microseconds since 1970: what was lost with a file came before."""

    @property
    def short(self) -> bool:
        """Say whether room on the disk is short; any thread may ask."""
        return self.care is not None and self.care.short

    def open(self) -> None:
        """Open the file; raises what that raises."""
        self._opened += 1
        raw = self._connect()
        raw.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        self._commits = Commits(raw, self._erased)
        if self.care is not None:
            # the WAL is made by the first read; from then on all files are there
            raw.execute("SELECT count(*) FROM sqlite_master").fetchall()
            self.care.opened(raw)
        if self.witness is not None:
            self.witness.opened()
        if self._path is not None:
            self.damaged_files = replacement.left(self._path, "damaged")
            if replacement.was_cut_off(self._path):
                self.look_over()

    def close(self) -> None:
        """Let go of the file for good: all that was committed is moved out of the WAL, where nobody is in the way."""
        is_whole = False
        if self._commits is not None and self.care is not None and self.witness is not None:
            if not (self._must_look or self.care.is_away or self._damage):
                self.care.imprint.left(self._commits.raw)
                is_whole = cut(self._commits.raw)
            if not is_whole:
                log.warning("wal_left", path=str(self._path))
        self._close()
        if self.witness is not None:
            self.witness.close(is_whole=is_whole)

    def write(self, batch: Batch, committed: Callable[[list[EntryRow]], None]) -> None:
        """Commit what is left of a batch; raises what keeps it from that, after which `failed` must be told."""
        small = self.care is not None and self.care.short
        if (witness := self.witness) is None:
            self._ready().write(batch, committed, small=small)
        else:
            self._ready().write(batch, self._witnessed(batch, committed, witness), small=small)
        self._damage_heard = self._full_heard = 0
        self._written_at = time.time_ns() // 1000
        if self.care is not None:
            self.care.imprint.written()

    def _witnessed(
        self, batch: Batch, committed: Callable[[list[EntryRow]], None], witness: Witness
    ) -> Callable[[list[EntryRow]], None]:
        def hear(entries: list[EntryRow]) -> None:
            witness.note(entries, batch.refused, self._erased)
            committed(entries)

        return hear

    def do_alone(self, work: Work) -> None:
        """Do a piece of work that is part of no flush."""
        try:
            commits = self._ready()
        except Exception as exc:  # noqa: BLE001 - whoever asked is told; the next flush meets it again
            work.error = exc
            return
        commits.do_alone(work)

    def failed(self, problem: Exception) -> Trouble | None:
        """Take note of what kept a batch from being written; gives the trouble, None where there is no help."""
        trouble = self.care.judge(problem) if self.care is not None else trouble_of(problem)
        if trouble is None and isinstance(problem, OSError | StoreError):
            # not of SQLite's making: it was not even opened
            trouble = "closed" if self._damage is None else "damaged"
        if trouble == "full" and self.care is not None:
            self._full_heard += 1
            self.care.out_of_room(self._commits.raw if self._commits is not None else None, self._full_heard)
        elif trouble == "damaged":
            if self._path is None:
                return None
            self._damage_heard += 1
            if self._damage_heard >= BELIEVED_DAMAGED or self._commits is None:
                self._damage = problem
        if trouble in ("failing", "damaged", "other") and self._is_overwritten():
            # what this connection still has in its memory goes with it
            return trouble
        if trouble in ("failing", "closed", "damaged", "other"):
            self._must_look = True
            self._close()
        return trouble

    def tend(self) -> None:
        """Look after the file, between two flushes; never raises."""
        if self.care is None or self._commits is None:
            return
        self.care.tend(self._commits.raw)
        if self.damaged_files and self._path is not None:
            self.damaged_files = [name for name in self.damaged_files if self._path.with_name(name).exists()]
        try:
            if self.care.overwritten:
                self._bring_back()
            elif self._damage is not None:
                if not self._may_begin_anew():
                    return
                self._close()
                self._ready()
            elif self.care.is_away:
                self._bring_back()
            elif self._is_cleared and self._path is not None:
                # here, since nothing is being replaced now
                self._is_cleared = False
                replacement.forget(self._path)
        except Exception as exc:  # noqa: BLE001 - it is tried again
            if (problem := getattr(exc, "strerror", None) or str(exc)) != self._not_mended:
                log.warning("store_not_mended", problem=problem)
            self._not_mended = problem

    def look_over(self) -> None:
        """Have the whole file looked over in the background, because a reader found damage; any thread may ask."""
        if self._path is None or self._looking:
            return
        self._looking = True
        log.error("damage_suspected")
        threading.Thread(target=self._look, args=(self._path, self._opened), name="store-look", daemon=True).start()

    # --- mending --------------------------------------------------------------------------------

    def _close(self) -> None:
        commits, self._commits = self._commits, None
        if commits is not None:
            if self.care is not None and not (self._must_look or self.care.is_away or self._damage):
                self.care.imprint.left(commits.raw)
            commits.close()

    def _ready(self) -> Commits:
        """Give the connection, opened again if it was given up."""
        if self._commits is not None and self._damage is None:
            return self._commits
        if self._path is not None and not self._path.parent.is_dir():
            # not made anew: it may be the place where a disk belongs that is missing
            raise FileNotFoundError(f"{self._path.parent} is not there")
        if self._damage is None:
            try:
                self.open()
                if self._must_look and self._commits is not None and not damage.is_sound(self._commits.raw):
                    self._damage = StoreError("quick_check finds damage")
            except (StoreError, sqlite3.Error) as exc:
                if self._path is None or trouble_of(exc) != "damaged":
                    self._close()
                    raise
                self._damage = exc
        if self._damage is not None:
            self._begin_anew(self._damage)
        self._must_look = False
        if self._commits is None:
            raise StoreError("the database is not open")
        return self._commits

    def _begin_anew(self, problem: Exception) -> None:
        if self._path is None:
            raise problem
        # before the new file has its name: closing may delete the WAL, and does it by the name
        self._close()
        if not self._may_begin_anew():
            raise problem
        live = self.live()
        kept = None
        if self.care is not None:
            self.care.vital.forget(self._erased)
            kept = self.care.vital.kept
        self._try_later()
        damage.replace(self._path, problem=str(problem), live=live, kept=kept)
        self._mended()
        self._anew_at = time.monotonic()
        if self.witness is not None:
            self.witness.clear()
        self._damage = None
        self._damage_heard = 0
        self.open()
        self._tell_losses(live.keys())

    def _may_begin_anew(self) -> bool:
        now = time.monotonic()
        return now >= self._back_due and (self._anew_at is None or now - self._anew_at >= self.anew_seconds)

    def _try_later(self) -> None:
        self._back_due = time.monotonic() + min(BACK_CEILING, BACK_SECONDS * 2 ** min(self.tries, 10))
        self.tries += 1

    def _mended(self) -> None:
        self._back_due, self.tries, self._not_mended = 0.0, 0, ""

    def _bring_back(self) -> None:
        """Save what only this process still has open, because files of the database were taken away or replaced."""
        path, care, commits = self._path, self.care, self._commits
        if path is None or care is None or commits is None or time.monotonic() < self._back_due:
            return
        if not path.parent.is_dir():
            return
        self._try_later()
        if care.overwritten:
            self._save(path, care, commits)
            self._mended()
            return
        # what is in a WAL that was unlinked goes into the database that is still there
        is_safe = "" not in care.away and cut(commits.raw)
        if is_safe and care.away == ("-wal",) and not _has_bytes(care.file("-wal")):
            self._close()
            self.open()
            log.warning("wal_begun_anew", path=str(path))
        else:
            self._write_again(path, care, commits)
        self._mended()
        self.written_again += 1

    def _is_overwritten(self) -> bool:
        return self._commits is not None and self.care is not None and self.care.is_overwritten(self._commits.raw)

    def _save(self, path: Path, care: Care, commits: Commits) -> None:
        """Begin a new file with what can be read of files that somebody has written over.

        Of what they held, this connection has in its memory what it has read or written of late; of the rest, pages
        of two states lie side by side.
        """
        live = self.live()
        care.vital.forget(self._erased)
        word = "foreign" if "" in care.overwritten else "damaged"
        damage.replace_overwritten(path, commits.raw, live=live, kept=care.vital.kept, word=word, done=self._let_go)
        self._damage, self._damage_heard = None, 0
        if self.witness is not None:
            self.witness.clear()
        # before the file counts as right again: there is always a reason to be given
        self.written_again += 1
        self.open()
        self._tell_losses(live.keys())

    def _let_go(self) -> None:
        commits, self._commits = self._commits, None
        if commits is not None:
            commits.close()

    def _write_again(self, path: Path, care: Care, commits: Commits) -> None:
        """Put a copy of all that is open in the place of whatever is there; what is somebody else's is moved aside."""
        made = replacement.begin(path)
        try:
            with contextlib.closing(sqlite3.connect(made)) as target:
                commits.raw.backup(target)
            aside = replacement.complete(path, "foreign")
        except BaseException:
            replacement.forget(path)
            raise
        # before the new file has its name: closing may delete the WAL, and does it by the name
        self._close()
        own = [part for part in PARTS if care.is_own(care.file(part), part)]
        replacement.finish(path)
        for part in own:
            aside.with_name(aside.name + part).unlink(missing_ok=True)
        self.open()
        foreign = aside.name if aside.exists() else None
        log.warning("database_written_again", path=str(path), bytes=path.stat().st_size, moved_aside=foreign)

    def _tell_losses(self, live: Collection[CallRef]) -> None:
        if self._commits is None:
            return
        raw, until = self._commits.raw, self._written_at or time.time_ns() // 1000
        losses = {}
        for ref in live:
            [(there,)] = raw.execute(
                "SELECT count(*) FROM entry WHERE call_key = ? AND day = ?", (ref.key, ref.day)
            ).fetchall()
            losses[ref] = holes.of_damage(raw, ref.key, ref.day, max(0, ref.stored - there), until)
            ref.stored = there
        self.begun_anew(losses)

    def _look(self, path: Path, opened: int) -> None:
        problem: Exception | None = None
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(os.fspath(path))}?mode=ro", uri=True)) as raw:
                if damage.is_sound(raw, LONG_LOOK_SECONDS):
                    log.warning("no_damage_found")
                    self._is_cleared = True
                else:
                    problem = StoreError("a reader found damage, and quick_check finds it too")
        except sqlite3.Error as exc:
            if trouble_of(exc) == "damaged":
                problem = exc
        finally:
            if problem is not None and opened == self._opened:
                self._damage = problem
            self._looking = False


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
