"""Have asyncpg where it is installed: PostgreSQL is an extra, and nothing but `connect` needs it to be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtobserver.errors import StoreError

try:
    import asyncpg
except ImportError:
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

if TYPE_CHECKING:
    from typing import TypeAlias

    Record: TypeAlias = asyncpg.Record
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

REFUSED: tuple[type[Exception], ...] = (asyncpg.PostgresError,) if IS_INSTALLED else ()
"""What the server says."""
BROKEN: tuple[type[Exception], ...] = (asyncpg.InterfaceError,) if IS_INSTALLED else ()
"""What the driver says of a connection that is not as it should be."""
CONFUSED: tuple[type[Exception], ...] = (asyncpg.InternalClientError,) if IS_INSTALLED else ()
"""What the driver says of answers that it did not expect, as from a connection that was cut."""


def required() -> None:
    """See that there is a driver.

    Raises:
        StoreError: asyncpg is not installed.

    """
    if not IS_INSTALLED:
        raise StoreError("PostgreSQL needs the package asyncpg: pip install 'rtobserver[postgres]'")


async def connect(url: str, **options: Any) -> Connection:
    """Open a connection.

    Raises:
        StoreError: asyncpg is not installed.
        OSError, and what `REFUSED` and `BROKEN` hold: it cannot be had.

    """
    required()
    connection: Connection = await asyncpg.connect(url, **options)
    return connection
