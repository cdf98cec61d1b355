"""Write to PostgreSQL without a journal, for commands: they observe nothing, and may be run again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sa

from rtobserver.errors import StoreError
from rtobserver.store import tables
from rtobserver.store.commits import EntryRow
from rtobserver.store.derived import Fact, shipped
from rtobserver.store.identity import CallRef
from rtobserver.store.notes import Note
from rtobserver.store.postgres import Postgres
from rtobserver.store.signal import Signal
from rtobserver.store.transaction import Transaction

T = TypeVar("T")


class Direct:
    """Be what a command writes through; facts wait for the next `run`, and are part of its transaction."""

    queued_rows = queued_bytes = 0
    short_of_room = False

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._facts: list[Fact] = []
        self.commits, self.ordered = Signal(), Signal()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def entry(self, row: EntryRow) -> NoReturn:
        """Refuse: whoever observes calls needs a journal."""
        raise StoreError("a command records no entries")

    def note(self, note: Note) -> NoReturn:
        """Refuse, as `entry` does."""
        raise StoreError("a command records nothing of live calls")

    def fact(self, table: sa.Table, call: CallRef, values: dict[str, Any]) -> None:
        """Keep a row for the next `run`."""
        self._facts.append((table, call, values))

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Do work and write the facts that wait, in one transaction.

        Raises:
            StoreUnavailable: the server cannot be reached, or something it needs is locked.

        """
        facts, self._facts = self._facts, []

        def work(transaction: Transaction) -> T:
            result = function(transaction)
            keys = {call.key for _, call, _ in facts}
            tombstone = tables.tombstone.c.call_key
            erased = {key for (key,) in transaction.execute(sa.select(tombstone).where(tombstone.in_(keys)))}
            for statement in shipped(facts, lambda call: call.key not in erased, lambda _: False):
                transaction.execute_many(statement.sql, statement.rows)
            return result

        return await self._database.run(work)

    async def kept(self) -> None:
        """Write what waits."""
        await self.run(lambda _: None)

    async def readable(self) -> None:
        """Write what waits."""
        await self.kept()

    async def close(self) -> None:
        """Write what waits."""
        await self.kept()

    def hurry(self) -> None:
        """Do nothing: nothing is waited for."""
