"""Put rows into a real database, as the writer would: a SQLite file, or one on a PostgreSQL server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from rtobserver.clock import Clock, SystemClock
from rtobserver.store import schema, sqlite, tables
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef, call_key, day_of
from rtobserver.store.journal import Journal
from rtobserver.store.journal_files import Files
from rtobserver.store.places import Place, Server
from rtobserver.store.postgres import Postgres, engine
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.trouble import Trouble
from rtobserver.store.writer import Writer
from tests.support import blank, postgres

T = TypeVar("T")

START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def fresh(folder: Path) -> Path:
    path = folder / "rtobserver.db"
    blank.migrated(path)
    return path


def fresh_server() -> Server:
    """Make a database of its own on the test's PostgreSQL server, with the schema of this release."""

    return Server(postgres.shared().prepared("migrated", lambda url: apart(lambda: schema.migrate(Server(url)))))


_free: list[Server] = []


@contextmanager
def lent(kind: str, folder: Path) -> Iterator[Place]:
    """Lend an empty database of one kind; a server's is used again when it is given back."""
    if kind == "sqlite":
        yield fresh(folder)
        return
    server = _free.pop() if _free else fresh_server()
    yield server
    visit(server, _empty)
    _free.append(server)


def _empty(connection: sa.Connection) -> None:
    names = ", ".join(f"'{table}'" for table in tables.metadata.tables)
    connection.exec_driver_sql(
        f"""DO $$ DECLARE name text; BEGIN
        FOREACH name IN ARRAY ARRAY[{names}] LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
        FOR name IN SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = 'entry'::regclass AND relname <> 'entry_rest'
        LOOP EXECUTE format('DROP TABLE %I', name); END LOOP; END $$"""
    )


def visit(place: Place, function: Callable[[sa.Connection], T]) -> T:
    """Do something in one transaction; a loop that runs in this thread waits."""
    if isinstance(place, Server):
        return postgres.apart(_visit(place, function))
    with sqlite.transaction(place) as connection:
        return function(connection)


async def _visit(server: Server, function: Callable[[sa.Connection], T]) -> T:
    async with _engine(server).begin() as connection:
        return await connection.run_sync(function)


@cache
def _engine(server: Server) -> AsyncEngine:
    # kept, since connecting is most of what a visit costs
    return engine(server, "write", connections=1)


def apart(function: Callable[[], T]) -> T:
    """Do something in a thread that runs no loop, while this one waits."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


def insert(place: Place, table: sa.Table, *rows: dict[str, Any]) -> None:
    visit(place, lambda connection: connection.execute(table.insert(), list(rows)))


def select(place: Place, statement: sa.Select[Any]) -> list[Any]:
    return visit(place, lambda connection: [tuple(row) for row in connection.execute(statement)])


def entomb(place: Place, *call_ids: str, at: int = START) -> None:
    """Say of calls that they were erased."""
    keys = [call_key(call_id) for call_id in call_ids]
    insert(place, tables.tombstone, *[{"call_key": key, "erased_at": at, "actor": "k"} for key in keys])
    there = tables.call.update().where(tables.call.c.call_key.in_(keys)).values(erased_at=at)
    visit(place, lambda connection: connection.execute(there))


def ref(call_id: str, started_at: int = START) -> CallRef:
    return CallRef(call_id, day_of(started_at))


def call(call_id: str, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "call_id": call_id,
        "call_key": call_key(call_id),
        "protocol": "ga",
        "status": "live",
        "outcome": None,
        "started_at": START,
        "ended_at": None,
        "profile": "default",
        "model": "gpt-realtime",
        "user": None,
        "labels": {},
        "tags": [],
        "token_id": None,
        "max_duration_us": 0,
        "epoch": 1,
        "entry_count": 0,
        "turn_count": 0,
        "interruption_count": 0,
        "error_count": 0,
        "tampered": False,
        "usage": "{}",
        "cost_usd": None,
        "latency": "{}",
        "metrics": "{}",
        "attach_latency_ms": None,
        "completeness": None,
        "checks": "{}",
        "gap_count": 0,
        "upstream_request_id": None,
        "purged_at": None,
    } | values
    row["day"] = day_of(row["started_at"])
    return row | {"labels": json.dumps(row["labels"]), "tags": json.dumps(row["tags"])}


def entry(call_id: str, seq: int, payload: bytes = b"{}", **values: Any) -> dict[str, Any]:
    at = START + seq * 1000
    return {
        "call_key": call_key(call_id),
        "day": day_of(START),
        "epoch": 1,
        "seq": seq,
        "kind": tables.KIND_EVENT,
        "at": at,
        "offset_us": seq * 1000,
        "type": "response.done",
        "event_id": f"event_{seq}",
        "payload": payload,
        "flags": tables.FLAG_JSON,
    } | values


class Deaf:
    """Hear nothing of the writer's flushes."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None: ...

    def failing(self, problem: str, tries: int, trouble: Trouble) -> None: ...

    def recovered(self) -> None: ...

    def shipped(self, rows: int) -> None: ...

    def away(self, problem: str) -> None: ...

    def back(self) -> None: ...


def writer_of(path: Path) -> Writer:
    return Writer(lambda: sqlite.open_writer(path), flushes=Deaf(), refused=lambda _: None, flush_interval=0.002)


@asynccontextmanager
async def writing_to(place: Place, folder: Path) -> AsyncIterator[Writer | Journal]:
    """Open what writes to a database; where that has a journal, its files are in the folder."""
    if isinstance(place, Server):
        database = Postgres(place)
        writer: Writer | Journal = Journal(
            database,
            Files(folder / "journal", file_seconds=0.1),
            replica_id="rep_1",
            flushes=Deaf(),
            ships=Deaf(),
            refused=lambda _: None,
        )
    else:
        database, writer = None, writer_of(place)
    await writer.open()
    try:
        yield writer
    finally:
        if not writer.done.done():
            await writer.close()
        if database is not None:
            await database.close()


def reads_of(place: Place, clock: Clock | None = None) -> Database:
    """Open what reads a database."""
    if isinstance(place, Server):
        return Postgres(place)
    return SqliteDatabase(place, clock=clock or SystemClock())
