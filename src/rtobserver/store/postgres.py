"""Speak with a PostgreSQL server: lend connections for reading, do work in transactions.

Every connection is made in one place, with a bound on each thing that it may wait for, so that a
server which hangs is the same as one that is away. A pool belongs to one purpose: reads that take
long never keep anything from being written, and neither keeps a heart from beating.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.store import postgres_driver
from rtobserver.store.away import is_away, sentence, was_rolled_back
from rtobserver.store.database import READ_SECONDS, READERS, STREAM_WAIT_SECONDS, STREAMERS, Database, Figures
from rtobserver.store.places import Server
from rtobserver.store.transaction import Transaction

Purpose = Literal["read", "write", "ship", "beat", "migrate"]

CONNECT_SECONDS = 5.0
WRITERS = 4
"""Connections for work that people ask for."""
TRIES = 5
"""How often work is done over that met another transaction."""
_TIMEOUTS_MS: Mapping[Purpose, tuple[int, int, int]] = MappingProxyType(
    {
        # for a lock, for a statement, idle in a transaction
        "read": (2_000, round(READ_SECONDS * 1000), 5_000),
        "write": (3_000, 9_000, 9_000),
        # so short that a server which says nothing more is known to be away within twelve seconds, roll-back included
        "ship": (5_000, 7_000, 9_000),
        # shorter than what a lease leaves until it is over
        "beat": (500, 2_000, 2_000),
        "migrate": (60_000, 0, 0),
    }
)
_COMMAND_SECONDS: Mapping[Purpose, float | None] = MappingProxyType(
    # a little more than the server's own, which says what it was
    {"read": READ_SECONDS + 1, "write": 10.0, "ship": 8.0, "beat": 2.5, "migrate": None}
)
_KEEPALIVES: Mapping[Purpose, tuple[int, int, int]] = MappingProxyType(
    # seconds of silence, then between probes, and how many of these: no time-out of the server's holds in a COPY
    {"ship": (5, 5, 2)}
)
_SETTINGS = {
    "timezone": "UTC",
    # limits are counted under a lock, and must see what was committed before it was had
    "default_transaction_isolation": "read committed",
    "jit": "off",
}

_FAILURES: tuple[type[Exception], ...] = (DBAPIError, *postgres_driver.REFUSED, *postgres_driver.BROKEN, OSError)

T = TypeVar("T")


async def connect(server: Server, purpose: Purpose) -> postgres_driver.Connection:
    """Open a connection of its own, as the pools do; for who listens, or copies.

    The address may name `sslmode`, `sslrootcert` and the like; the standard `PG…` variables hold as well.

    Raises:
        OSError, or one of `postgres_driver.REFUSED`: it cannot be had (`away.is_away` tells them apart).
        StoreError: the driver is not installed.

    """
    lock, statement, idle = _TIMEOUTS_MS[purpose]
    # a peer that vanished is found in a minute at most, and what it held is free again
    silence, between, count = _KEEPALIVES.get(purpose, (30, 10, 3))
    settings = _SETTINGS | {
        "application_name": f"rtobserver {purpose}",
        "lock_timeout": str(lock),
        "statement_timeout": str(statement),
        "idle_in_transaction_session_timeout": str(idle),
        "tcp_keepalives_idle": str(silence),
        "tcp_keepalives_interval": str(between),
        "tcp_keepalives_count": str(count),
        "default_transaction_read_only": "on" if purpose == "read" else "off",
    }
    return await postgres_driver.connect(
        server.url,
        timeout=CONNECT_SECONDS,
        command_timeout=_COMMAND_SECONDS[purpose],
        server_settings=settings,
    )


def engine(
    server: Server, purpose: Purpose, *, connections: int, wait_seconds: float = READ_SECONDS, **options: Any
) -> AsyncEngine:
    """Make a pool for one purpose, for the loop that uses it first; nothing is connected yet.

    Raises:
        StoreError: the driver is not installed.

    """
    postgres_driver.required()
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=functools.partial(connect, server, purpose),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        # a connection that was lost meanwhile is replaced, and nobody notices; the shipper sees to that itself,
        # since a look before each transaction is one more thing that a silent server keeps waiting for
        pool_pre_ping=purpose != "ship",
        **options,
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Lend a connection for one transaction, which is committed at the end and rolled back at an exception.

    Where something took too long, the connection is cut instead: a server that says nothing would not say either that
    it has rolled back, and the driver would wait for that as long again. The server undoes it by itself.
    """
    async with engine.connect() as connection:
        driver = await driver_of(connection)
        begun = await connection.begin()
        try:
            yield connection
            await begun.commit()
        except TimeoutError:
            driver.terminate()
            if not connection.invalidated:
                await connection.invalidate()
            raise
        except BaseException:
            if begun.is_active:
                await begun.rollback()
            raise


async def driver_of(connection: AsyncConnection) -> postgres_driver.Connection:
    """Give the driver's own connection.

    Raises:
        StoreError: there is none any more.

    """
    driver: postgres_driver.Connection | None = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise StoreError("the connection is closed")
    return driver


class Postgres(Database):
    """Lend connections to a PostgreSQL database that only read, and do work in transactions of their own."""

    dialect = "postgresql"

    def __init__(
        self, server: Server, *, connections: int = READERS, wait_seconds: float = READ_SECONDS, writers: int = WRITERS
    ) -> None:
        self.server = server
        # each statement is its own transaction: it sees the newest commit, and a reader that dawdles holds nothing back
        self._reads = engine(
            server, "read", connections=connections, wait_seconds=wait_seconds, isolation_level="AUTOCOMMIT"
        )
        self._writes = engine(server, "write", connections=max(writers, 1))

    async def close(self) -> None:
        """Close all connections."""
        await self._reads.dispose()
        await self._writes.dispose()

    def for_streams(self) -> Postgres:
        """Open the same database with connections for streams; close it, too."""
        return Postgres(self.server, connections=STREAMERS, wait_seconds=STREAM_WAIT_SECONDS, writers=0)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for at most `READ_SECONDS`; each statement sees the newest commit.

        Raises:
            StoreUnavailable: the server cannot be reached now, or the time is over.

        """
        async with _translated(), self._reads.connect() as connection, asyncio.timeout(READ_SECONDS):
            yield connection

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Do work in one transaction and commit it; it is begun again where it only met another transaction.

        What it raises undoes it. Whoever is told StoreUnavailable cannot know whether it was done, if the
        connection was lost just while the commit was confirmed.

        Raises:
            StoreUnavailable: the server cannot be reached, or something it needs is locked.
            StoreError: the server refuses the statement.

        """
        async with _translated():
            for tries in range(1, TRIES + 1):
                try:
                    async with transaction(self._writes) as connection:
                        return await connection.run_sync(lambda lent: function(Transaction(lent, set())))
                except DBAPIError as exc:
                    if tries == TRIES or not was_rolled_back(exc):
                        raise
        raise AssertionError  # the last try has returned or raised

    async def figures(self) -> Figures:
        """Ask the server for its version and the size of the database."""
        statement = sa.text("SELECT current_setting('server_version'), pg_database_size(current_database())")
        async with self.reading() as connection:
            version, size = (await connection.execute(statement)).one()
        return Figures(str(version).partition(" ")[0], int(size), 0)


async def visit(server: Server, function: Callable[[sa.Connection], T], purpose: Purpose = "migrate") -> T:
    """Do something in one transaction on a connection of its own, for a command that needs no more.

    Raises:
        StoreUnavailable: the server cannot be reached, or something is locked.
        StoreError: the server refuses a statement.

    """
    postgres_driver.required()
    visiting = create_async_engine(
        "postgresql+asyncpg://", async_creator=functools.partial(connect, server, purpose), poolclass=NullPool
    )
    async with _translated():
        try:
            async with visiting.begin() as connection:
                return await connection.run_sync(function)
        finally:
            await visiting.dispose()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Raise what the driver raises as errors of ours."""
    try:
        yield
    except PoolTimeoutError as exc:
        raise StoreUnavailable("too many at once ask the database") from exc
    except TimeoutError as exc:
        raise StoreUnavailable("the database took too long") from exc
    except _FAILURES as exc:
        raise (StoreUnavailable if is_away(exc) else StoreError)(sentence(exc)) from exc
