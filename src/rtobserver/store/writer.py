"""The one thread that writes: it gathers rows, and commits them on a strict cadence.

The loop hands rows over without waiting. The thread takes what has come every `FLUSH_INTERVAL`,
earlier only when `FLUSH_ROWS` or `FLUSH_BYTES` wait, and commits it (`commits.py`). When the
database refuses for a while, the batch is kept and tried again, on a new connection where the disk
failed, in a new file where the old one is damaged (`recovery.py`); how much may wait meanwhile is
the recorder's business (`recorder.py`). When one row is refused for what it holds, the batch is
bisected until that row stands alone; it goes to the table `quarantine` and its observer is told.
Every other write of the daemon goes through `run`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Table

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.realtime.holes import Loss
from rtobserver.store.care import LOOK_SECONDS
from rtobserver.store.commits import Batch, EntryRow, Work
from rtobserver.store.derived import Fact
from rtobserver.store.identity import CallRef
from rtobserver.store.notes import Note
from rtobserver.store.recovery import Recovery
from rtobserver.store.signal import Signal
from rtobserver.store.transaction import Transaction
from rtobserver.store.trouble import Trouble

__all__ = ["EntryRow", "Flusher", "Flushes", "Keeper", "Transaction", "Writer"]

FLUSH_INTERVAL = 0.05
FLUSH_ROWS = 5_000
FLUSH_BYTES = 4 * 1024 * 1024
ROW_BYTES = 352
"""What an entry that waits takes beside its payload, as measured (CPython 3.11): many small ones are much, too."""
RETRY_FIRST, RETRY_CEILING = 0.05, 2.0
"""Seconds between tries while the database refuses."""
CLOSING_SECONDS = 10.0
"""How long the last flush is tried again while the database refuses; what it holds is lost after that."""

log = structlog.get_logger()

T = TypeVar("T")


class Flushes(Protocol):
    """Hear of what the thread does; called on that thread, must be quick and never raise."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None:
        """Hear of a commit: its rows, how long it took, and the receipt time of its oldest entry."""

    def failing(self, problem: str, tries: int, trouble: Trouble) -> None:
        """Hear that the database refuses, and why; called at each try."""

    def recovered(self) -> None:
        """Hear that a commit succeeded after `failing`."""


class Keeper(Protocol):
    """Keep a file to write to, whatever becomes of the disk; for the writer's thread."""

    @property
    def short(self) -> bool:
        """Say whether room is short; any thread may ask."""

    def open(self) -> None:
        """Open the file; raises what that raises."""

    def close(self) -> None:
        """Let go of the file."""

    def write(self, batch: Batch, committed: Callable[[list[EntryRow]], None]) -> None:
        """Commit what is left of a batch; raises what keeps it from that, after which `failed` must be told."""

    def do_alone(self, work: Work) -> None:
        """Do a piece of work that is part of no flush."""

    def failed(self, problem: Exception) -> Trouble | None:
        """Take note of what kept a batch from being written; gives the trouble, None where there is no help."""

    def tend(self) -> None:
        """Look after the file, between two flushes; never raises."""


class Flusher:
    """Hand everything that is to be stored to a keeper of files, batch by batch.

    Methods are for the loop's thread. After `close` nothing may be handed over.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        flushes: Flushes,
        refused: Callable[[list[EntryRow]], None],
        flush_interval: float = FLUSH_INTERVAL,
    ) -> None:
        self._keeper = keeper
        self._flushes = flushes
        self._refused = refused
        self._flush_interval = flush_interval
        self._loop = asyncio.get_running_loop()
        self._entries: deque[EntryRow] = deque()
        self._facts: deque[Fact] = deque()
        self._work: deque[Work] = deque()
        self._alone: deque[Work] = deque()
        self._bytes_in = self._bytes_out = 0
        self._idle = True
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = self._hurried = False
        self._closing_until = 0.0
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.commits = Signal()
        """Announced after each commit."""
        self.ordered = Signal()
        """Announced by whoever has handed over an order."""
        self._thread = threading.Thread(target=self._main, name="store-writer", daemon=True)

    async def open(self) -> None:
        """Start the thread; raises what opening the database raises."""
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Write what waits, then end the thread."""
        self._closing_until = time.monotonic() + CLOSING_SECONDS
        self._closing = True
        self._hurry.set()
        self._wake.set()
        await self._closed

    def hurry(self) -> None:
        """Have `close` try only once what the database refuses."""
        self._hurried = True

    @property
    def done(self) -> asyncio.Future[None]:
        """Be done when the thread has ended; carries the exception that ended it, if any."""
        return self._closed

    @property
    def queued_rows(self) -> int:
        """Count entries that are not yet taken by the thread."""
        return len(self._entries)

    @property
    def queued_bytes(self) -> int:
        """Count what entries that are not yet committed take in memory."""
        return self._bytes_in - self._bytes_out

    def entry(self, row: EntryRow) -> None:
        """Hand over an entry."""
        size = len(row[8]) + ROW_BYTES
        row[0].queued_in += size
        self._bytes_in += size
        self._entries.append(row)
        if self._idle:
            self._idle = False
            self._wake.set()
        elif len(self._entries) >= FLUSH_ROWS or self._bytes_in - self._bytes_out >= FLUSH_BYTES:
            self._hurry.set()

    def fact(self, table: Table, call: CallRef, values: dict[str, Any]) -> None:
        """Hand over a row of a call: whole for `item`, `response`, `gap` and `command`, any columns for `call`."""
        self._facts.append((table, call, values))
        if self._idle:
            self._idle = False
            self._wake.set()

    @property
    def short_of_room(self) -> bool:
        """Say whether the disk is full, or was a moment ago."""
        return self._keeper.short

    def note(self, note: Note) -> asyncio.Future[None]:
        """Hand over a note: it is done in the next flush."""
        return self.post(note, last=note.is_last)

    async def kept(self) -> None:
        """Wait until all that was handed over before is committed."""
        await self.post(_nothing)

    async def readable(self) -> None:
        """Wait until all that was handed over before is committed."""
        await self.post(_nothing)

    def post(self, function: Callable[[Transaction], Any], *, last: bool = False) -> asyncio.Future[Any]:
        """Have work done in the next flush, before its rows, or behind them if it is `last`.

        Gives the future of its result, which is there when the whole flush is committed. The work may be
        done more than once if a commit fails. What it raises rolls back that work alone and reaches the future.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreUnavailable("the store is closing"))
            return future
        self._work.append(Work(function, future, last))
        if self._idle:
            self._idle = False
            self._wake.set()
        return future

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Have work done as `post` does, and wait until it is committed."""
        result: T = await self.post(function)
        return result

    # --- the thread -----------------------------------------------------------------------------

    def _main(self) -> None:
        keeper = self._keeper
        try:
            keeper.open()
        except Exception as exc:  # noqa: BLE001 - whatever it is belongs to whoever opens
            self._tell(self._opened.set_exception, exc)
            self._tell(self._closed.set_result, None)
            return
        self._tell(self._opened.set_result, None)
        try:
            try:
                self._rest()
                while self._take():
                    pass
            finally:
                keeper.close()
        except BaseException as exc:  # an essential thread: whatever it is, the daemon must stop
            self._closing = True
            self._fail([queue.popleft() for queue in (self._work, self._alone) for _ in range(len(queue))], exc)
            if not isinstance(exc, sqlite3.Error | StoreError):
                log.exception("writer_failed")
            self._tell(
                self._closed.set_exception, StoreError(f"the database can be written no more: {str(exc) or repr(exc)}")
            )
        else:
            self._tell(self._closed.set_result, None)

    def _take(self) -> bool:
        began = time.monotonic()
        if batch := self._next_batch():
            self._write(batch)
        while self._alone:
            work = self._alone.popleft()
            self._keeper.do_alone(work)
            self._tell(_settle, [work])
        self._keeper.tend()
        if self._waiting():
            if not self._closing:
                self._hurry.wait(max(0.0, began + self._flush_interval - time.monotonic()))
            self._hurry.clear()
            return True
        if self._closing:
            return False
        self._rest()
        return True

    def _rest(self) -> None:
        """Wait for the first thing to write, and for its companions, so that the cadence is strict from there on."""
        self._idle = True
        while not (self._waiting() or self._closing):
            if self._wake.wait(LOOK_SECONDS):
                break
            self._keeper.tend()
        self._wake.clear()
        self._idle = False
        if not self._closing:
            self._hurry.wait(self._flush_interval)
        self._hurry.clear()

    def _waiting(self) -> bool:
        return bool(self._entries or self._facts or self._work or self._alone)

    def _next_batch(self) -> Batch | None:
        # work first: what was handed over before it is then in this batch or an earlier one
        work = [self._work.popleft() for _ in range(len(self._work))]
        facts = [self._facts.popleft() for _ in range(len(self._facts))]
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        if not (work or facts or entries):
            return None
        return Batch(entries, facts, work)

    def _write(self, batch: Batch) -> None:
        tries = 0
        while True:
            began = time.monotonic()
            try:
                self._keeper.write(batch, self._committed)
                break
            except Exception as exc:
                trouble = self._keeper.failed(exc)
                if trouble is None or (self._closing and (self._hurried or began > self._closing_until)):
                    self._lose(batch, exc)
                    raise
                tries += 1
                self._flushes.failing(str(exc), tries, trouble)
            except BaseException as exc:
                self._fail(batch.work, exc)
                raise
            self._pause(tries, trouble)
            self._keeper.tend()
        if tries:
            self._flushes.recovered()
        self.commits.announce()
        oldest = batch.entries[0][4] if batch.entries else None
        self._flushes.flushed(len(batch.entries), time.monotonic() - began, oldest)
        if batch.refused:
            for row in batch.refused:
                row[0].stored -= 1
            self._tell(self._refused, batch.refused)
        if batch.work:
            self._tell(_settle, batch.work)

    def _lose(self, batch: Batch, exc: Exception) -> None:
        # the next start declares them: the mark stands before them
        log.error("entries_lost", count=len(batch.entries) - batch.written, problem=str(exc))
        self._fail(batch.work, exc)

    def _pause(self, tries: int, trouble: Trouble) -> None:
        # who waits for another program has waited already
        quick = self._closing or trouble == "locked"
        time.sleep(RETRY_FIRST if quick else min(RETRY_CEILING, RETRY_FIRST * 2 ** min(tries, 10)))

    def _committed(self, entries: list[EntryRow]) -> None:
        size = 0
        for row in entries:
            ref, length = row[0], len(row[8]) + ROW_BYTES
            ref.queued_out += length
            ref.stored += 1
            size += length
        self._bytes_out += size

    def _fail(self, works: list[Work], exc: BaseException) -> None:
        for work in works:
            work.error = StoreUnavailable(str(exc))
        self._tell(_settle, works)

    def _tell(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            log.warning("writer_outlived_its_loop")


class Writer(Flusher):
    """Write everything that this process stores to an SQLite database."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        flushes: Flushes,
        refused: Callable[[list[EntryRow]], None],
        flush_interval: float = FLUSH_INTERVAL,
        path: Path | None = None,
    ) -> None:
        self.recovery = Recovery(connect, path)
        """Keeps the connection; looks after the file if it is told its path."""
        self.recovery.begun_anew = lambda losses: self._tell(self.begun_anew, losses)
        self.begun_anew: Callable[[dict[CallRef, list[Loss]]], None] = lambda losses: None
        """Hears, on the loop, that the file is another one, and what it lacks of the entries of each live call."""
        super().__init__(self.recovery, flushes=flushes, refused=refused, flush_interval=flush_interval)

    async def between(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Have something done between two flushes, outside of any transaction, once; it must be quick.

        Raises what it raises; StoreUnavailable where the database refuses.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            raise StoreUnavailable("the store is closing")
        self._alone.append(Work(function, future))
        if self._idle:
            self._idle = False
            self._wake.set()
        return await future


def _nothing(_transaction: Transaction) -> None:
    """Be work that only waits for its turn."""


def _settle(work: Sequence[Work]) -> None:
    for piece in work:
        if piece.future.cancelled():
            continue
        if piece.error is not None:
            piece.future.set_exception(piece.error)
        else:
            piece.future.set_result(piece.result)
