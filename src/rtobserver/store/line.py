"""Keep one connection to PostgreSQL for what must not wait behind anything else: beats, claims, wake-ups.

It belongs to no pool, takes one statement at a time, and is thrown away whenever it fails for a
reason of its own or is not answered in time: what became of a statement that nobody waits for is
not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.store import postgres, postgres_driver
from rtobserver.store.away import is_away, sentence
from rtobserver.store.places import Server

AGAIN_SECONDS = 1.0
"""Between two tries to be woken by the server again."""
PROOF_SECONDS = 30.0
"""How long a quiet connection is taken to be alive."""

log = structlog.get_logger()

# the driver calls it an internal error when a connection was cut while nobody looked
_FAILURES: tuple[type[Exception], ...] = (
    *postgres_driver.REFUSED,
    *postgres_driver.BROKEN,
    *postgres_driver.CONFUSED,
    OSError,
    EOFError,
)


class Line:
    """Be a connection that is made when it is needed, and again when it is broken."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: postgres_driver.Connection | None = None
        self._turn = asyncio.Lock()

    async def rows(self, statement: str, *values: Any) -> list[postgres_driver.Record]:
        """Run one statement, a transaction of its own; gives its rows.

        Raises:
            StoreUnavailable: the server cannot be reached, does not answer in time, or refuses for now.
            StoreError: it refuses the statement.

        """
        async with self._lent() as connection:
            return list(await connection.fetch(statement, *values))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[postgres_driver.Connection]:
        """Run several statements in one transaction; raises what `rows` raises."""
        async with self._lent() as connection, connection.transaction():
            yield connection

    def close(self) -> None:
        """Let go of the connection, waiting for nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[postgres_driver.Connection]:
        async with self._turn:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await postgres.connect(self._server, "beat")
                yield self._connection
            except TimeoutError as exc:
                self.close()
                raise StoreUnavailable("the database does not answer") from exc
            except postgres_driver.CONFUSED as exc:
                self.close()
                raise StoreUnavailable("the connection to the database was lost") from exc
            except _FAILURES as exc:
                if not is_away(exc):
                    raise StoreError(sentence(exc)) from exc
                self.close()
                raise StoreUnavailable(sentence(exc)) from exc
            except BaseException:
                self.close()
                raise


async def listen(server: Server, channels: Mapping[str, Callable[[], None]]) -> None:
    """Be woken by the server's notices, until cancelled; whoever is woken must read all the same.

    A connection that breaks is made again, and then everybody is woken: a notice may have been missed.
    """
    while True:
        try:
            connection = await postgres.connect(server, "beat")
            try:
                await _listen(connection, channels)
            finally:
                connection.terminate()
        except _FAILURES as exc:
            log.info("not_listening", problem=str(exc) or type(exc).__name__)
        await asyncio.sleep(AGAIN_SECONDS)


async def _listen(connection: postgres_driver.Connection, channels: Mapping[str, Callable[[], None]]) -> None:
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _: ended.set())

    def hear(_connection: Any, _pid: int, channel: str, _payload: object) -> None:
        channels[channel]()

    for channel in channels:
        await connection.add_listener(channel, hear)
    for wake in channels.values():
        wake()
    while not ended.is_set():
        try:
            async with asyncio.timeout(PROOF_SECONDS):
                await ended.wait()
        except TimeoutError:
            # a server that vanished says nothing
            await connection.execute("SELECT 1")
