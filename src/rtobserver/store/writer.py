"""The one thread that writes: it gathers rows, and commits them on a strict cadence.

The loop hands rows over without waiting. The thread takes what has come every `FLUSH_INTERVAL`,
earlier only when `FLUSH_ROWS` or `FLUSH_BYTES` wait, and commits it in one transaction. When the
database refuses for a while (locked, full, failing disk), the batch is kept and tried again; how
much may wait meanwhile is the recorder's business (`recorder.py`). When one row is refused for
what it holds, the batch is bisected until that row stands alone; it goes to the table
`quarantine` and its observer is told. Every other write of the daemon goes through `run`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import structlog
from sqlalchemy import Connection, Executable, Table, create_engine
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import StaticPool

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.store import tables
from rtobserver.store.derived import DIALECT, Fact, statements
from rtobserver.store.identity import CallRef
from rtobserver.store.signal import Signal

FLUSH_INTERVAL = 0.05
FLUSH_ROWS = 5_000
FLUSH_BYTES = 4 * 1024 * 1024
RETRY_FIRST, RETRY_CEILING = 0.1, 5.0
"""Seconds between tries while the database refuses."""
CLOSING_TRIES = 3
"""Tries that the last flush gets beyond its first, some 20 s in all; what it holds is lost after that."""

log = structlog.get_logger()

T = TypeVar("T")

EntryRow = tuple[CallRef, int, int, int, int, int, str | None, str | None, bytes, int]
"""(call, epoch, seq, kind, at, offset_us, type, event_id, payload, flags)"""


class Transaction:
    """Be one flush's transaction, for work that joins it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._erased: set[int] = set()

    def refuse(self, call_key: int) -> None:
        """Let no row of this call be written any more, whoever hands it over: it is being erased."""
        self._erased.add(call_key)

    def takes(self, call: CallRef) -> bool:
        """Tell whether rows of the call may be written."""
        return call.key not in self._erased

    def without_erased(self, rows: list[EntryRow]) -> list[EntryRow]:
        """Leave out entries of calls that are being erased."""
        return [row for row in rows if row[0].key not in self._erased] if self._erased else rows

    def execute(self, statement: Executable) -> list[tuple[Any, ...]]:
        """Run a Core statement; gives its rows, or an empty list where it has none."""
        result = self._connection.execute(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


class Flushes(Protocol):
    """Hear of what the thread does; called on that thread, must be quick and never raise."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None:
        """Hear of a commit: its rows, how long it took, and the receipt time of its oldest entry."""

    def failing(self, problem: str, tries: int) -> None:
        """Hear that the database refuses; called at each try."""

    def recovered(self) -> None:
        """Hear that a commit succeeded after `failing`."""


@dataclass(slots=True)
class _Work:
    function: Callable[[Any], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class _Batch:
    entries: list[EntryRow]
    facts: list[Fact]
    work: list[_Work]
    size: int


class Writer:
    """Write everything that this process stores.

    Methods are for the loop's thread. After `close` nothing may be handed over.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        flushes: Flushes,
        refused: Callable[[list[EntryRow]], None],
        flush_interval: float = FLUSH_INTERVAL,
    ) -> None:
        self._connect = connect
        self._flushes = flushes
        self._refused = refused
        self._flush_interval = flush_interval
        self._loop = asyncio.get_running_loop()
        self._entries: deque[EntryRow] = deque()
        self._facts: deque[Fact] = deque()
        self._work: deque[_Work] = deque()
        self._alone: deque[_Work] = deque()
        self._bytes_in = self._bytes_out = 0
        self._idle = True
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
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
        self._closing = True
        self._hurry.set()
        self._wake.set()
        await self._closed

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
        """Count payload bytes that are not yet committed."""
        return self._bytes_in - self._bytes_out

    def entry(self, row: EntryRow) -> None:
        """Hand over an entry."""
        size = len(row[8])
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

    def post(self, function: Callable[[Transaction], Any]) -> asyncio.Future[Any]:
        """Have work done in the next flush's transaction, before its rows; gives the future of its result.

        The work may be done more than once if a commit fails. What it raises rolls back that work
        alone and reaches the future.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreUnavailable("the store is closing"))
            return future
        self._work.append(_Work(function, future))
        if self._idle:
            self._idle = False
            self._wake.set()
        return future

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Have work done as `post` does, and wait until it is committed."""
        result: T = await self.post(function)
        return result

    async def between(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Have something done between two flushes, outside of any transaction, once; it must be quick.

        Raises what it raises; StoreUnavailable where the database refuses.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            raise StoreUnavailable("the store is closing")
        self._alone.append(_Work(function, future))
        if self._idle:
            self._idle = False
            self._wake.set()
        return await future

    # --- the thread -----------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            raw = self._connect()
        except Exception as exc:  # noqa: BLE001 - whatever it is belongs to whoever opens
            self._tell(self._opened.set_exception, exc)
            self._tell(self._closed.set_result, None)
            return
        self._tell(self._opened.set_result, None)
        try:
            with _Database(raw) as database:
                self._rest()
                while self._take(database):
                    pass
        except BaseException as exc:  # an essential thread: whatever it is, the daemon must stop
            self._closing = True
            self._fail([queue.popleft() for queue in (self._work, self._alone) for _ in range(len(queue))], exc)
            if not isinstance(exc, sqlite3.Error):
                log.exception("writer_failed")
            self._tell(
                self._closed.set_exception, StoreError(f"the database can be written no more: {str(exc) or repr(exc)}")
            )
        else:
            self._tell(self._closed.set_result, None)

    def _take(self, database: _Database) -> bool:
        began = time.monotonic()
        if batch := self._next_batch():
            self._write(database, batch)
        while self._alone:
            work = self._alone.popleft()
            database.do_alone(work)
            self._tell(_settle, [work])
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
        if not self._waiting():
            self._wake.wait()
        self._wake.clear()
        self._idle = False
        if not self._closing:
            self._hurry.wait(self._flush_interval)
        self._hurry.clear()

    def _waiting(self) -> bool:
        return bool(self._entries or self._facts or self._work or self._alone)

    def _next_batch(self) -> _Batch | None:
        # work first: what was handed over before it is then in this batch or an earlier one
        work = [self._work.popleft() for _ in range(len(self._work))]
        facts = [self._facts.popleft() for _ in range(len(self._facts))]
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        if not (work or facts or entries):
            return None
        return _Batch(entries, facts, work, sum(len(row[8]) for row in entries))

    def _write(self, database: _Database, batch: _Batch) -> None:
        tries = 0
        while True:
            began = time.monotonic()
            try:
                refused = database.write(batch)
                break
            except sqlite3.OperationalError as exc:
                tries += 1
                self._flushes.failing(str(exc), tries)
                if self._closing and tries > CLOSING_TRIES:
                    self._fail(batch.work, exc)
                    raise
            except BaseException as exc:
                self._fail(batch.work, exc)
                raise
            time.sleep(min(RETRY_CEILING, RETRY_FIRST * 2 ** min(tries, 10)))
        if tries:
            self._flushes.recovered()
        for row in batch.entries:
            row[0].queued_out += len(row[8])
        self._bytes_out += batch.size
        self.commits.announce()
        oldest = batch.entries[0][4] if batch.entries else None
        self._flushes.flushed(len(batch.entries), time.monotonic() - began, oldest)
        if refused:
            self._tell(self._refused, refused)
        if batch.work:
            self._tell(_settle, batch.work)

    def _fail(self, works: list[_Work], exc: BaseException) -> None:
        for work in works:
            work.error = StoreUnavailable(str(exc))
        self._tell(_settle, works)

    def _tell(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            log.warning("writer_outlived_its_loop")


def _settle(work: Sequence[_Work]) -> None:
    for piece in work:
        if piece.future.cancelled():
            continue
        if piece.error is not None:
            piece.future.set_exception(piece.error)
        else:
            piece.future.set_result(piece.result)


# What a row itself can be to blame for; anything else is the database's trouble and worth another try.
_DATA_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    ValueError,
    TypeError,
)


class _Database:
    """Be the writer's connection with its compiled statements."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        # transactions are begun and ended by hand, so SQLAlchemy is told that there are none
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._transaction = Transaction(self._connection)
        self._entry_sql = _insert(tables.entry)
        self._quarantine_sql = _insert(tables.quarantine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # the pool would otherwise reset the connection when it is collected, long after it was closed
        self._connection.close()
        self._connection.engine.dispose()
        self._raw.close()

    def write(self, batch: _Batch) -> list[EntryRow]:
        """Commit a batch; gives the entries that the database refused for what they hold."""
        execute = self._raw.execute
        execute("BEGIN IMMEDIATE")
        try:
            for work in batch.work:
                self._do(work)
            refused = self._insert_entries(batch.entries)
            self._write_facts(batch.facts)
            execute("COMMIT")
        except BaseException:
            if self._raw.in_transaction:
                execute("ROLLBACK")
            raise
        return refused

    def do_alone(self, work: _Work) -> None:
        """Do a piece of work that is part of no flush."""
        try:
            work.result = work.function(self._raw)
        except sqlite3.OperationalError as exc:
            work.error = StoreUnavailable(str(exc))
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever asked for it
            work.error = exc
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")

    def _do(self, work: _Work) -> None:
        self._raw.execute("SAVEPOINT work")
        try:
            work.result, work.error = work.function(self._transaction), None
        except Exception as exc:
            cause = getattr(exc, "orig", exc)
            if isinstance(cause, sqlite3.OperationalError):
                raise cause from exc
            work.error = exc
            self._raw.execute("ROLLBACK TO work")
        self._raw.execute("RELEASE work")

    def _insert_entries(self, entries: list[EntryRow]) -> list[EntryRow]:
        entries = self._transaction.without_erased(entries)
        values = [(row[0].key, row[0].day, *row[1:]) for row in entries]
        refused: list[EntryRow] = []
        for index, exc in self._insert(self._entry_sql, values):
            self._quarantine(values[index], exc)
            refused.append(entries[index])
        return refused

    def _insert(self, sql: str, values: list[tuple[Any, ...]], first: int = 0) -> list[tuple[int, Exception]]:
        """Insert rows; gives the index and the error of each one that the database refused for what it holds."""
        if not values:
            return []
        self._raw.execute("SAVEPOINT rows")
        try:
            self._raw.executemany(sql, values)
        except _DATA_ERRORS as exc:
            self._raw.execute("ROLLBACK TO rows")
            if len(values) == 1:
                refused: list[tuple[int, Exception]] = [(first, exc)]
            else:
                middle = len(values) // 2
                refused = self._insert(sql, values[:middle], first)
                refused += self._insert(sql, values[middle:], first + middle)
        else:
            refused = []
        self._raw.execute("RELEASE rows")
        return refused

    def _quarantine(self, values: tuple[Any, ...], exc: Exception) -> None:
        key, day, epoch, seq, _, at, _, _, _, payload, _ = values
        log.error("entry_refused", seq=str(seq), problem=str(exc))
        for _, worse in self._insert(self._quarantine_sql, [(key, day, epoch, seq, at, str(exc), payload)]):
            # its numbers themselves cannot be stored; the gap that its observer writes still counts it
            log.error("quarantine_refused", seq=str(seq), problem=str(worse))

    def _write_facts(self, facts: list[Fact]) -> None:
        for statement in statements(facts, self._transaction.takes):
            for _, exc in self._insert(statement.sql, statement.rows):
                # derived rows: `rtobserver rebuild` makes them again from the entries
                log.error("row_refused", table=statement.table, problem=str(exc))


def _insert(table: Table) -> str:
    return str(insert(table).on_conflict_do_nothing().compile(dialect=DIALECT))
