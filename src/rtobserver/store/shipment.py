"""Bring a stretch of a journal into PostgreSQL: within one transaction, in the order of its lines.

How far a journal has come stands in the database itself and moves in the same transaction. Whatever
became of a commit's reply, the next look says from where to go on: nothing is left out, nothing is
done twice.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rtobserver.errors import StoreError
from rtobserver.store import journal_lines, postgres, postgres_driver, registration, tables
from rtobserver.store.derived import Fact, shipped
from rtobserver.store.identity import CallRef
from rtobserver.store.journal_lines import NOTE, EntryLine, FactLine, Stretch
from rtobserver.store.notes import Note
from rtobserver.store.transaction import Transaction

log = structlog.get_logger()

COLUMNS = (
    *("call_key", "day", "epoch", "seq", "kind", "at", "offset_us", "type", "event_id", "payload", "flags"),
    "landed",
)
"""Of `entry`, as they are shipped."""
COPY_SECONDS = 8.0
"""Longer than what the server allows a statement: for one that takes nothing and says nothing."""
ENTRIES = """
INSERT INTO entry (call_key, day, epoch, seq, kind, at, offset_us, type, event_id, payload, flags, landed)
SELECT told.*, $12::bigint FROM unnest(
    $1::bigint[], $2::integer[], $3::integer[], $4::integer[], $5::smallint[], $6::bigint[], $7::bigint[],
    $8::text[], $9::text[], $10::bytea[], $11::smallint[]
) AS told ON CONFLICT DO NOTHING
"""
_EPOCHS = "SELECT call_key, epoch FROM call WHERE call_key = ANY($1::bigint[])"
_ERASED = "SELECT call_key FROM tombstone WHERE call_key = ANY($1::bigint[])"
_CHANGE_CALLS = frozenset({"register", "again"})

_BLANK: dict[str, dict[str, Any]] = {
    # what an earlier release has written down may lack a column
    table.name: dict.fromkeys((column.name for column in table.columns), None)
    for table in tables.PER_CALL
    if table is not tables.call
}

_journal = tables.journal


class Moved(StoreError):
    """Report that the journal's position in the database is another one than was thought."""


@dataclass(slots=True)
class State:
    """Be what the database is told of a journal with each stretch."""

    journal_id: str
    replica_id: str
    oldest_at: int | None
    rows: int
    size: int
    at: int


@dataclass(slots=True)
class Outcome:
    """Say what a stretch has come to, once it is committed."""

    entries: int = 0
    there: int = 0
    """Entries that were there already; only known where that was reckoned with."""
    unregistered: list[tuple[CallRef, str]] = field(default_factory=list)
    """Calls that could not have a row of their own, and why."""


class Calls:
    """Know the calls of one file by their numbers, and under which key each is on record."""

    def __init__(self, read: Callable[[int], CallRef], earlier: Calls | None = None) -> None:
        self._read = read
        self._refs: dict[int, CallRef] = {}
        self._found: dict[tuple[str, str | None], int] = {}
        self._earlier = earlier._found if earlier is not None else {}

    def of(self, numbers: str) -> list[CallRef | None]:
        """Give the calls of a line."""
        return [self.ref(int(number)) if number else None for number in numbers.split(",")] if numbers else []

    def ref(self, number: int) -> CallRef:
        """Give a call; its key is a guess until `find` or its registration has found it."""
        ref = self._refs.get(number)
        if ref is None:
            ref = self._refs[number] = self._read(number)
            key = self._earlier.get((ref.call_id, ref.origin))
            if key is not None:
                self.found(ref, key)
        return ref

    def found(self, ref: CallRef, key: int) -> None:
        """Take note of a key."""
        ref.key = key
        self._found[ref.call_id, ref.origin] = key

    def unknown(self, refs: Iterable[CallRef]) -> list[CallRef]:
        """List those whose keys are guesses."""
        return [ref for ref in refs if (ref.call_id, ref.origin) not in self._found]

    def forget(self) -> None:
        """Take all keys for guesses again: what found them was undone."""
        self._found.clear()
        self._earlier = {}


async def nothing() -> None:
    """Do nothing meanwhile."""


async def position(connection: AsyncConnection, journal_id: str) -> int:
    """Read up to which line a journal is in the database."""
    found = await connection.execute(sa.select(_journal.c.position).where(_journal.c.journal_id == journal_id))
    return int(found.scalar() or 0)


async def move(connection: AsyncConnection, state: State, before: int, after: int) -> int:
    """Move a journal's position, and give the transaction's number; others who would do the same wait.

    Raises:
        Moved: it is not where it was thought to be.

    """
    told = {
        "replica_id": state.replica_id,
        "oldest_at": state.oldest_at,
        "rows": state.rows,
        "bytes": state.size,
        "shipped_at": state.at,
        "position": after,
    }
    moving = (
        insert(_journal)
        .values(journal_id=state.journal_id, **told)
        .on_conflict_do_update(index_elements=["journal_id"], set_=told, where=_journal.c.position == before)
        # not left to the column's default: where entries are spread, that would be a number of another server's
        .returning(sa.cast(sa.cast(sa.func.pg_current_xact_id(), sa.Text), sa.BigInteger))
    )
    moved = (await connection.execute(moving)).first()
    if moved is None:
        raise Moved("the journal has come to another place")
    return int(moved[0])


async def bring(
    connection: AsyncConnection,
    stretch: Stretch,
    calls: Calls,
    landed: int,
    meanwhile: Callable[[], Awaitable[None]] = nothing,
    *,
    wary: bool = False,
) -> Outcome:
    """Do what a stretch says, in a transaction that has begun and has the number `landed`.

    `meanwhile` is done while the server is at work. Unless `wary`, the server is trusted to take everything, and to
    have nothing of it yet: it has half the work then, and what it does not take fails the whole.
    """
    shipment = _Shipment(connection, await postgres.driver_of(connection), calls, landed, wary=wary)
    facts: list[tuple[FactLine, CallRef]] = []
    for line in stretch.facts:
        refs = calls.of(line.calls)
        if line.what.startswith(NOTE):
            await shipment.facts(facts)
            facts = []
            await shipment.note(line, refs)
        elif refs and refs[0] is not None:
            facts.append((line, refs[0]))
    await shipment.facts(facts)
    await shipment.entries(stretch.entries, meanwhile)
    return shipment.outcome


async def quarantine(connection: AsyncConnection, line: EntryLine, call: CallRef, problem: str) -> None:
    """Keep an entry that its table would not take."""
    _, _, epoch, seq, _, at, _, _, _, payload, _ = line
    values = {"call_key": call.key, "day": call.day, "epoch": epoch, "seq": seq, "at": at}
    statement = insert(tables.quarantine).values(**values, problem=journal_lines.storable(problem), payload=payload)
    await connection.execute(statement.on_conflict_do_nothing())


async def find(connection: AsyncConnection, calls: Calls, refs: Collection[CallRef]) -> None:
    """Find the keys of calls that were registered before."""
    if unknown := calls.unknown(refs):

        def look(lent: sa.Connection) -> None:
            transaction = Transaction(lent, set())
            for ref in unknown:
                # its negotiation's row is still there: the id was on record, and it has none of its own
                key = registration.key_of(transaction, ref.origin) if ref.origin else None
                if key is None:
                    key = registration.key_of(transaction, ref.call_id)
                calls.found(ref, ref.key if key is None else key)

        await connection.run_sync(look)


class _Shipment:
    """Be on its way."""

    def __init__(
        self,
        connection: AsyncConnection,
        driver: postgres_driver.Connection,
        calls: Calls,
        landed: int,
        *,
        wary: bool,
    ) -> None:
        self._connection, self._driver, self._calls = connection, driver, calls
        self._landed, self._is_wary = landed, wary
        self._epochs: dict[int, int] = {}
        """Of calls as the database has them; of those that are not here none is known."""
        self._erased: set[int] = set()
        self._looked: set[int] = set()
        self.outcome = Outcome()

    async def note(self, line: FactLine, refs: list[CallRef | None]) -> None:
        name = line.what.removeprefix(NOTE)
        note = journal_lines.read_note(name, refs, line.told)
        known = [ref for ref in refs if ref is not None]
        if name not in _CHANGE_CALLS:
            await find(self._connection, self._calls, known)
        elif len(known) > 1:
            # what it stands in place of
            await find(self._connection, self._calls, known[1:])
        if not self._is_wary:
            await self._do(note)
        else:
            try:
                async with self._connection.begin_nested():
                    await self._do(note)
            except StoreError as exc:
                self.outcome.unregistered += [(ref, str(exc)) for ref in known[:1]]
        if name in _CHANGE_CALLS:
            call = known[0]
            self._calls.found(call, call.key)
            self._looked.discard(call.key)
        elif name == "close":
            self._looked.discard(known[0].key)

    async def _do(self, note: Note) -> None:
        await self._connection.run_sync(lambda lent: note(Transaction(lent, self._erased)))

    async def facts(self, lines: list[tuple[FactLine, CallRef]]) -> None:
        if not lines:
            return
        await self._look({ref for _, ref in lines})
        facts: list[Fact] = []
        for line, ref in lines:
            values = journal_lines.read(line.told)
            if line.what == tables.quarantine.name:
                values["payload"] = base64.b64decode(values["payload"])
            facts.append((tables.metadata.tables[line.what], ref, _BLANK.get(line.what, {}) | values))
        for statement in shipped(facts, self._takes, self._is_stale):
            await self._driver.executemany(statement.sql, statement.rows)

    async def entries(self, lines: list[EntryLine], meanwhile: Callable[[], Awaitable[None]]) -> None:
        if not lines:
            return
        refs = {number: self._calls.ref(number) for number in {line[1] for line in lines}}
        await self._look(refs.values())
        if self._erased:
            lines = [line for line in lines if refs[line[1]].key not in self._erased]
        if not lines:
            return
        send = self._insert if self._is_wary else self._copy
        self.outcome.there, _ = await asyncio.gather(send(lines, refs), meanwhile())
        if self.outcome.there:
            # nothing is shipped twice, so this is a database that was set back, or two writers of one epoch
            log.warning("entries_there_already", count=self.outcome.there)
        self.outcome.entries += len(lines)

    async def _copy(self, lines: list[EntryLine], refs: Mapping[int, CallRef]) -> int:
        rows = _rows(lines, refs, self._landed)
        try:
            # the driver's own bound does not hold while the server takes nothing
            async with asyncio.timeout(COPY_SECONDS):
                await self._driver.copy_records_to_table("entry", records=rows, columns=COLUMNS)
        except OverflowError as exc:
            raise ValueError(str(exc)) from exc
        return 0

    async def _insert(self, lines: list[EntryLine], refs: Mapping[int, CallRef]) -> int:
        *columns, _ = zip(*_rows(lines, refs, self._landed), strict=True)
        done = await self._driver.execute(ENTRIES, *columns, self._landed)
        return len(lines) - int(done.rpartition(" ")[2])

    async def _look(self, refs: Collection[CallRef]) -> None:
        """Learn of calls whether they are erased, and which epoch is their newest."""
        await find(self._connection, self._calls, refs)
        keys = {ref.key for ref in refs} - self._looked
        if not keys:
            return
        self._epochs.update(await self._driver.fetch(_EPOCHS, keys))
        self._erased.update(row[0] for row in await self._driver.fetch(_ERASED, keys))
        self._looked |= keys

    def _takes(self, call: CallRef) -> bool:
        return call.key not in self._erased

    def _is_stale(self, call: CallRef) -> bool:
        return self._epochs.get(call.key, 0) > call.epoch


def _rows(lines: Iterable[EntryLine], refs: Mapping[int, CallRef], landed: int) -> Iterator[tuple[Any, ...]]:
    for _, number, epoch, seq, kind, at, offset, type_, event_id, payload, flags in lines:
        ref = refs[number]
        if type_ is not None and "\0" in type_:
            type_ = journal_lines.storable(type_)
        if event_id is not None and "\0" in event_id:
            event_id = journal_lines.storable(event_id)
        yield ref.key, ref.day, epoch, seq, kind, at, offset, type_, event_id, payload, flags, landed
