"""What every reader of the database is lent, whichever database it is.

A SQLite file is `sqlite.SqliteDatabase`, a PostgreSQL server is `postgres.Postgres`. Readers hold a
connection for one visit, which is cut off after `READ_SECONDS`; when all connections are taken, a
reader waits as long for one and then gets `StoreUnavailable`. Streams have few connections of their
own and wait longer: however many there are, they take turns with each other and keep nobody else
waiting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal, NamedTuple, Self

from sqlalchemy.ext.asyncio import AsyncConnection

READ_SECONDS = 5.0
"""How long one visit of a reader may take."""
READERS = 4
"""Connections for reading."""
STREAMERS = 2
"""Connections for reading what is sent as a stream."""
STREAM_WAIT_SECONDS = 60.0
"""How long a stream waits for its turn; half a file is worth less than a late one."""

Dialect = Literal["sqlite", "postgresql"]


class Figures(NamedTuple):
    """Say what database it is, and how large it has become."""

    version: str
    size_bytes: int
    wal_bytes: int
    """Beside the database, and not yet part of it; 0 where that is the server's business."""


class Database(ABC):
    """Lend connections that only read; an async context manager closes them all."""

    dialect: ClassVar[Dialect]
    """Which SQL it speaks, for those few rooms whose statements differ."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Give up all connections."""

    @abstractmethod
    def for_streams(self) -> Database:
        """Open the same database with connections for streams; close it, too."""

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for at most `READ_SECONDS`; each statement sees the newest commit.

        Raises:
            StoreUnavailable: the database cannot be read now, or the time is over.

        """

    @abstractmethod
    async def figures(self) -> Figures:
        """Tell what database it is and how large.

        Raises:
            StoreUnavailable: the database cannot be read now.

        """
