"""Commit batches on one connection: the work of others, entries, then the rows that follow from them.

A batch is one transaction, or several where it is large or room is short: then its work comes with
the first, and the rows that follow from entries, and work that must come after them, with the last.
Whatever fails, each transaction is whole or not there, and `write` goes on behind the last whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import structlog
from sqlalchemy import Table
from sqlalchemy.dialects.sqlite import insert

from rtobserver.errors import StoreUnavailable
from rtobserver.store import tables, visiting
from rtobserver.store.derived import DIALECT, Fact, statements
from rtobserver.store.identity import CallRef
from rtobserver.store.transaction import Transaction
from rtobserver.store.trouble import trouble_of

PIECE_BYTES = 16 * 1024 * 1024
"""Payload that one transaction holds at most, but for one entry that is larger."""
SMALL_PIECE_BYTES = 128 * 1024
"""The same while room on the disk is short, so that what little there is can be used."""

log = structlog.get_logger()

_PAYLOAD = itemgetter(8)

EntryRow = tuple[CallRef, int, int, int, int, int, str | None, str | None, bytes, int]
"""(call, epoch, seq, kind, at, offset_us, type, event_id, payload, flags)"""


@dataclass(slots=True)
class Work:
    """Be a piece of somebody's work, and what came of it."""

    function: Callable[[Any], Any]
    future: asyncio.Future[Any]
    last: bool = False
    """Whether it must come after the entries that were handed over before it."""
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class Batch:
    """Be what one flush writes, and how far that has come."""

    entries: list[EntryRow]
    facts: list[Fact]
    work: list[Work]
    written: int = 0
    """Entries that are committed or refused, from the first on."""
    begun: bool = False
    """Whether its first transaction is committed."""
    refused: list[EntryRow] = field(default_factory=list)
    """Entries that the database would not take for what they hold."""


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


class Committing:
    """Commit batches on one connection; what of them is written where is a subclass's."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw

    def write(self, batch: Batch, committed: Callable[[list[EntryRow]], None], *, small: bool = False) -> None:
        """Commit what is left of a batch; `committed` hears of the entries of each transaction."""
        execute = self.raw.execute
        limit = SMALL_PIECE_BYTES if small else PIECE_BYTES
        while True:
            end = _end_of_piece(batch.entries, batch.written, limit)
            piece = batch.entries[batch.written : end] if (batch.written, end) != (0, len(batch.entries)) else None
            entries = batch.entries if piece is None else piece
            is_last = end == len(batch.entries)
            execute("BEGIN IMMEDIATE")
            try:
                if not batch.begun:
                    self._do_all(batch.work, last=False)
                refused = self._insert_entries(entries)
                if is_last:
                    self._write_facts(batch.facts)
                    self._do_all(batch.work, last=True)
                execute("COMMIT")
            except BaseException:
                if self.raw.in_transaction:
                    # where even this fails, the connection is given up
                    with contextlib.suppress(sqlite3.Error):
                        execute("ROLLBACK")
                self._undone()
                raise
            self._committed()
            batch.begun, batch.written = True, end
            batch.refused += refused
            committed(entries)
            if is_last:
                return

    def do_alone(self, work: Work) -> None:
        """Do a piece of work that is part of no flush."""
        try:
            work.result = work.function(self.raw)
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever asked for it
            work.error = exc if trouble_of(exc) is None else StoreUnavailable(str(exc))
        if self.raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.raw.execute("ROLLBACK")

    def _do_all(self, works: list[Work], *, last: bool) -> None:
        for work in works:
            if work.last is last:
                self._do(work)

    def _do(self, work: Work) -> None:
        raise NotImplementedError

    def _insert_entries(self, entries: list[EntryRow]) -> list[EntryRow]:
        """Insert entries; gives those that were refused for what they hold."""
        raise NotImplementedError

    def _write_facts(self, facts: list[Fact]) -> None:
        raise NotImplementedError

    def _committed(self) -> None:
        """Take note that what was written is there to stay."""

    def _undone(self) -> None:
        """Take note that what was written since the last commit is not there."""

    def _insert(self, sql: str, values: list[tuple[Any, ...]], first: int = 0) -> list[tuple[int, Exception]]:
        """Insert rows; gives the index and the error of each one that the database refused for what it holds."""
        if not values:
            return []
        self.raw.execute("SAVEPOINT rows")
        try:
            self.raw.executemany(sql, values)
        except _DATA_ERRORS as exc:
            self.raw.execute("ROLLBACK TO rows")
            if len(values) == 1:
                refused: list[tuple[int, Exception]] = [(first, exc)]
            else:
                middle = len(values) // 2
                refused = self._insert(sql, values[:middle], first)
                refused += self._insert(sql, values[middle:], first + middle)
        else:
            refused = []
        self.raw.execute("RELEASE rows")
        return refused


class Commits(Committing):
    """Be the writer's connection with its compiled statements; `erased` outlives it."""

    def __init__(self, raw: sqlite3.Connection, erased: set[int]) -> None:
        super().__init__(raw)
        # transactions are begun and ended by hand, so SQLAlchemy is told that there are none
        self._connection = visiting.lent(lambda: raw).execution_options(isolation_level="AUTOCOMMIT")
        self._erased = erased
        self._transaction = Transaction(self._connection, erased)
        self._entry_sql = _insert(tables.entry)
        self._quarantine_sql = _insert(tables.quarantine)

    def close(self) -> None:
        """Let go of the file."""
        # it would otherwise be reset when it is collected, long after it was closed
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        with contextlib.suppress(sqlite3.Error):
            self.raw.close()

    def _do(self, work: Work) -> None:
        self.raw.execute("SAVEPOINT work")
        try:
            work.result, work.error = work.function(self._transaction), None
        except Exception as exc:
            if trouble_of(exc) is not None:
                cause = getattr(exc, "orig", exc)
                raise cause from exc
            work.error = exc
            self.raw.execute("ROLLBACK TO work")
        self.raw.execute("RELEASE work")

    def _insert_entries(self, entries: list[EntryRow]) -> list[EntryRow]:
        if erased := self._erased:
            entries = [row for row in entries if row[0].key not in erased]
        values = [(row[0].key, row[0].day, *row[1:]) for row in entries]
        refused: list[EntryRow] = []
        for index, exc in self._insert(self._entry_sql, values):
            self._quarantine(values[index], exc)
            refused.append(entries[index])
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


def _end_of_piece(entries: list[EntryRow], begin: int, limit: int) -> int:
    if sum(map(len, map(_PAYLOAD, entries))) <= limit:
        return len(entries)
    size = 0
    for index in range(begin, len(entries)):
        size += len(entries[index][8])
        if size > limit and index > begin:
            return index
    return len(entries)


def _insert(table: Table) -> str:
    return str(insert(table).on_conflict_do_nothing().compile(dialect=DIALECT))
