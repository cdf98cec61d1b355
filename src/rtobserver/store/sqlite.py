"""Open the SQLite file: for the one writer, for readers, for a short visit beside a daemon.

One daemon holds `FILE.lock` for as long as it runs. Readers never write (the file is opened
`mode=ro` and `query_only`), and hold no transaction between two statements, so that they never keep
the WAL from being checkpointed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
import structlog
from filelock import FileLock, Timeout
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from rtobserver.clock import Clock
from rtobserver.errors import ConfigError, Mistake, StoreBusy, StoreError, StoreUnavailable
from rtobserver.store import replacement, visiting
from rtobserver.store.database import READ_SECONDS, READERS, STREAM_WAIT_SECONDS, STREAMERS, Database, Figures
from rtobserver.store.trouble import trouble_of

BUSY_MS = 5_000
"""How long any connection waits for a lock that another one holds."""
PRAGMAS = {
    "cache_size": "-65536",  # KiB: the upper levels of a big table's indexes stay in memory
    "wal_autocheckpoint": "4000",  # pages, 16 MiB: a checkpoint every few seconds at full load
    "journal_size_limit": str(64 * 1024 * 1024),  # what a long reader made the WAL grow to is given back
    "temp_store": "MEMORY",
    "secure_delete": "ON",  # an erased text leaves the file too
}
"""Set on every connection that may write, after `busy_timeout`, `journal_mode` and `synchronous`."""
READ_PRAGMAS = {"query_only": "ON", "cache_size": "-16384", "temp_store": "MEMORY"}

log = structlog.get_logger()

_DEADLINE_STEPS = 20_000  # virtual machine steps between two looks at the clock: about a millisecond


def sqlite_path(url: str, folder: Path = Path()) -> Path:
    """Give the file that `store.url` names, relative to `folder`.

    Raises:
        ConfigError: it is no `sqlite:///PATH`.

    """
    scheme, separator, rest = url.partition(":///")
    if scheme == "sqlite" and separator and rest and not rest.startswith(":") and "?" not in rest:
        return folder / rest
    if scheme.startswith("postgres"):
        problem, advice = "PostgreSQL is not supported by this release", 'use "sqlite:///PATH"'
    else:
        problem, advice = "not a database that can be kept", 'write "sqlite:///PATH"; PATH is a file'
    raise ConfigError([Mistake("store.url", problem, advice)])


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep every other daemon, `migrate`, `rebuild` and `purge` away from the file.

    Where an earlier run was cut off while it put a new file in the place of a damaged one, that is finished.

    Raises:
        StoreBusy: another process holds it.
        StoreUnavailable: the lock cannot be made, the file has another name that would have another lock, or what
            was begun cannot be finished.

    """
    # one file has one lock, by whatever name it is called
    path = path.resolve()
    _make_folder(path)
    # not tied to a thread: the daemon may stop in another one than it started in
    lock = FileLock(f"{path}.lock", mode=0o600, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as exc:
        raise StoreBusy(f"another rtobserver runs on {path}") from exc
    except OSError as exc:
        raise StoreUnavailable(f"{path}.lock cannot be made: {exc.strerror}") from exc
    try:
        try:
            for aside in replacement.finish(path):
                log.warning("replacement_finished", moved_to=str(aside))
        except OSError as exc:
            raise StoreUnavailable(f"a new {path} cannot be put in its place: {exc.strerror}") from exc
        if (names := _names(path)) > 1:
            raise StoreUnavailable(
                f"{path} is one of {names} names (hard links) of one file, and each has a lock and a WAL of its own:"
                " copy the file, and remove the other names"
            )
        yield
    finally:
        lock.release()


def create(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is one.

    SQLite gives the files beside it (WAL and its index) the same mode.
    """
    path = path.resolve()
    _make_folder(path)
    try:
        # exclusively: closing a file that is there would take away every lock that this process has on it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as exc:
        raise StoreUnavailable(f"{path} cannot be opened: {exc.strerror}") from exc


def open_writer(path: Path, *, durability: Literal["full", "normal"] = "full") -> sqlite3.Connection:
    """Open a connection that may write, from any thread; the file is made if it is not there.

    It starts no transactions by itself: say `BEGIN IMMEDIATE`.

    Raises:
        StoreUnavailable: it is locked, or cannot be opened.
        StoreError: it is no SQLite database.

    """
    create(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        _set_wal(connection)
        connection.execute(f"PRAGMA synchronous = {durability.upper()}")
        for name, value in PRAGMAS.items():
            connection.execute(f"PRAGMA {name} = {value}")
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        kind = StoreUnavailable if isinstance(exc, sqlite3.OperationalError) else StoreError
        raise kind(f"{path}: {exc}") from exc
    return connection


@contextmanager
def transaction(path: Path) -> Iterator[sa.Connection]:
    """Visit the file for one short transaction, on a connection of its own.

    Waits while the daemon's writer commits. Everything is rolled back if the block raises.

    Raises:
        StoreUnavailable: the file stayed locked, or another was put in its place meanwhile.
        StoreBusy: the daemon is about to put another in its place.

    """
    path = path.resolve()
    if replacement.pending(path):
        with hold(path):
            pass
    create(path)
    opened = identity(path)
    try:
        with visiting.lent(lambda: open_writer(path)) as connection, connection.begin():
            # the driver would commit before DDL, and take the write lock only at the first write
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            if identity(path) != opened:
                raise StoreUnavailable(f"another file was put in the place of {path}: try again")
    except OperationalError as exc:
        raise StoreUnavailable(f"{path}: {exc.orig}") from exc
    except DBAPIError as exc:
        if trouble_of(exc) == "damaged":
            raise StoreError(f"{path}: {exc.orig}") from exc
        raise


class SqliteDatabase(Database):
    """Lend connections to the file that only read."""

    dialect = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        connections: int = READERS,
        wait_seconds: float = READ_SECONDS,
        damaged: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._clock = clock
        self._damaged = damaged
        """Hears when a read finds the file damaged; must be quick."""
        self._engine = _read_engine(path, clock, connections, wait_seconds)

    async def close(self) -> None:
        """Let go of the file."""
        await self._engine.dispose()

    def for_streams(self) -> SqliteDatabase:
        """Open the same file with connections for streams; close it, too."""
        return SqliteDatabase(
            self.path,
            clock=self._clock,
            connections=STREAMERS,
            wait_seconds=STREAM_WAIT_SECONDS,
            damaged=self._damaged,
        )

    async def figures(self) -> Figures:
        """Look at the sizes of the files."""
        try:
            size, wal = await asyncio.to_thread(_sizes, self.path)
        except OSError as exc:
            raise StoreUnavailable(f"{self.path}: {exc.strerror}") from exc
        return Figures(sqlite3.sqlite_version, size, wal)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for at most `READ_SECONDS`; each statement sees the newest commit.

        Raises:
            StoreUnavailable: the file cannot be read now, or the time is over.

        """
        try:
            async with self._engine.connect() as connection:
                yield connection
        except PoolTimeoutError as exc:
            raise StoreUnavailable("too many reads at once") from exc
        except (OperationalError, InterfaceError) as exc:
            raise StoreUnavailable(str(exc.orig)) from exc
        except DBAPIError as exc:
            if trouble_of(exc) == "damaged":
                self._damaged()
                raise StoreUnavailable(str(exc.orig)) from exc
            raise StoreError(str(exc.orig)) from exc


class _Deadline:
    """Tell SQLite to stop, as its progress callback."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0

    def restart(self) -> None:
        self._until = self._clock.mono() + READ_SECONDS

    def __call__(self) -> int:
        return self._clock.mono() > self._until


def _read_engine(path: Path, clock: Clock, connections: int, wait_seconds: float) -> AsyncEngine:
    url = sa.URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        pool_reset_on_return=None,  # nothing is ever open: each statement is its own transaction
        connect_args={"timeout": BUSY_MS / 1000, "isolation_level": None},
    )

    def prepare(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for name, value in READ_PRAGMAS.items():
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()
        record.info["files"] = (identity(path), identity(wal_of(path)))
        deadline = record.info["deadline"] = _Deadline(clock)
        connection.run_async(lambda driver: driver.set_progress_handler(deadline, _DEADLINE_STEPS))

    def lend(_connection: Any, record: Any, _proxy: Any) -> None:
        for now, opened in zip((identity(path), identity(wal_of(path))), record.info["files"], strict=True):
            if now not in (opened, None):
                # the file was moved aside and another one begun, or its WAL was taken away
                raise DisconnectionError("the database is another file")
        record.info["deadline"].restart()

    sa.event.listen(engine.sync_engine, "connect", prepare)
    sa.event.listen(engine.sync_engine, "checkout", lend)
    return engine


def _sizes(path: Path) -> tuple[int, int]:
    wal = wal_of(path)
    return path.stat().st_size, wal.stat().st_size if wal.exists() else 0


def wal_of(path: Path) -> Path:
    """Name the write-ahead log of a file."""
    return path.with_name(f"{path.name}-wal")


def identity(path: Path) -> tuple[int, int] | None:
    """Tell one file from another that takes its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _names(path: Path) -> int:
    try:
        return path.stat().st_nlink
    except OSError:
        return 0


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreUnavailable(f"{path.parent} cannot be made: {exc.strerror}") from exc


def _set_wal(connection: sqlite3.Connection) -> None:
    # SQLite answers "locked" at once, whatever the busy timeout, when two connections switch a new file at a time
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
