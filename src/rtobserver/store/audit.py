"""Who did what: one row for each read, change and refusal on the operator listener.

A row is committed before what it tells of happens. Nothing of a recording's content is in it, and
no value of a filter: those can name people.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rtobserver.clock import Clock
from rtobserver.errors import StoreUnavailable
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.writing import Writing

AUDIT_SECONDS = 5.0
"""How long a request waits for its row."""
REFUSED_SECONDS = 0.3
"""How long it waits where it is known that the database refuses to write: who asks then is told so at once."""


def insertion(
    at: int,
    *,
    action: str,
    object_: str,
    status: int,
    actor: str = "",
    address: str = "",
    request_id: str = "",
    count: int = 1,
) -> sa.Insert:
    """Write the statement of an audit row."""
    return tables.audit.insert().values(
        audit_id=f"{_id_at(at)}{os.urandom(4).hex()}",
        at=at,
        actor=actor,
        action=action,
        object=object_,
        status=status,
        address=address,
        request_id=request_id,
        count=count,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Be one row of the audit; `at` is in microseconds since 1970."""

    audit_id: str
    at: int
    actor: str
    action: str
    object: str
    status: int
    address: str
    request_id: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Say which rows are wanted; all of it must hold."""

    action: str | None = None
    actor: str | None = None
    object: str | None = None
    since: int | None = None
    """Microseconds since 1970."""
    until: int | None = None


async def page(database: Database, wanted: Filter, *, before: str | None = None, limit: int) -> list[Deed]:
    """Read rows, newest first, older than the one of the id `before`.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    columns = tables.audit.c
    statement = sa.select(tables.audit).order_by(columns.audit_id.desc()).limit(limit)
    for name in ("action", "actor", "object"):
        if (value := getattr(wanted, name)) is not None:
            statement = statement.where(columns[name] == value)
    # ids sort by time, so that bounds of time are bounds of the primary key
    if wanted.since is not None:
        statement = statement.where(columns.audit_id >= _id_at(wanted.since))
    if wanted.until is not None:
        statement = statement.where(columns.audit_id < _id_at(wanted.until))
    if before is not None:
        statement = statement.where(columns.audit_id < before)
    async with database.reading() as connection:
        return [Deed(**row) for row in (await connection.execute(statement)).mappings()]


def _id_at(at: int) -> str:
    return f"aud_{at:014x}"


class Audit:
    """Write audit rows through the daemon's writer."""

    def __init__(
        self,
        writer: Writing,
        *,
        clock: Clock,
        patience: float = AUDIT_SECONDS,
        is_refused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._patience = patience
        self._is_refused = is_refused

    async def record(
        self,
        *,
        action: str,
        object_: str,
        status: int,
        actor: str = "",
        address: str = "",
        request_id: str = "",
        count: int = 1,
    ) -> None:
        """Write a row and wait for its commit; all that was recorded before it can then be read too.

        `status` is what access answered: 200 says that the request was let in. What was refused after that
        gets a second row.

        Raises:
            StoreUnavailable: it cannot be written; what it tells of must not happen.

        """
        statement = insertion(
            self._clock.now_us(),
            action=action,
            object_=object_,
            status=status,
            actor=actor,
            address=address,
            request_id=request_id,
            count=count,
        )

        def write(transaction: Any) -> None:
            transaction.execute(statement)

        patience = min(self._patience, REFUSED_SECONDS) if self._is_refused() else self._patience
        try:
            async with asyncio.timeout(patience):
                await self._writer.run(write)
        except TimeoutError as exc:
            raise StoreUnavailable("the audit row could not be written in time") from exc
