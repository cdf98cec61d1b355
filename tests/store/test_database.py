from __future__ import annotations

import sqlite3
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.errors import ConfigError, StoreError, StoreUnavailable
from rtobserver.store import schema, tables
from rtobserver.store import sqlite as store
from rtobserver.store.database import STREAMERS, Database
from rtobserver.store.places import Place
from rtobserver.store.sqlite import SqliteDatabase
from tests.store import stored


class Leaping(SystemClock):
    """Be a clock on which each look is a second later."""

    def __init__(self) -> None:
        self._now = 0.0

    def mono(self) -> float:
        self._now += 1.0
        return self._now


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///x.db", "/etc/app/x.db"),
        ("sqlite:////var/x.db", "/var/x.db"),
        ("sqlite:///a b%20.db", "/etc/app/a b%20.db"),
    ],
)
def test_a_path_is_relative_to_the_folder(url: str, path: str) -> None:
    assert store.sqlite_path(url, Path("/etc/app")) == Path(path)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql:///x", "x.db", ""]
)
def test_an_address_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        store.sqlite_path(url)


def test_postgresql_is_said_to_be_missing() -> None:
    with pytest.raises(ConfigError, match="not supported by this release"):
        store.sqlite_path("postgresql://user@host/db")


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "rtobserver.db"
    connection = store.open_writer(path)
    connection.execute("CREATE TABLE x (y)")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    connection.close()
    assert modes == {"rtobserver.db": 0o600, "rtobserver.db-wal": 0o600, "rtobserver.db-shm": 0o600}


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
def test_the_writer_gets_its_pragmas(tmp_path: Path, durability: str, level: int) -> None:
    connection = store.open_writer(tmp_path / "x.db", durability="full" if durability == "full" else "normal")
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "busy_timeout", "secure_delete", "wal_autocheckpoint", "temp_store")
    }
    connection.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": level,
        "busy_timeout": 5000,
        "secure_delete": 1,
        "wal_autocheckpoint": 4000,
        "temp_store": 2,
    }


def test_a_visit_that_fails_leaves_nothing(place: Place) -> None:
    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE half (x integer)"))
        connection.execute(tables.call.insert().values(stored.call("rtc_1")))
        raise RuntimeError

    def look(connection: sa.Connection) -> None:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.call)).scalar() == 0
        assert not sa.inspect(connection).has_table("half")

    with pytest.raises(RuntimeError):
        schema.visit(place, fail)
    schema.visit(place, look)


async def test_a_reader_cannot_write(reads: Database) -> None:
    with pytest.raises(StoreError, match=r"read-?only"):
        async with reads.reading() as connection:
            await connection.execute(tables.call.insert().values(stored.call("rtc_1")))


async def test_a_reader_sees_each_commit_at_once_and_keeps_no_snapshot(place: Place, reads: Database) -> None:
    async with reads.reading() as connection:
        count = sa.select(sa.func.count()).select_from(tables.call)
        assert (await connection.execute(count)).scalar() == 0
        stored.insert(place, tables.call, stored.call("rtc_1"))
        assert (await connection.execute(count)).scalar() == 1


async def test_a_read_that_takes_too_long_is_cut_off_and_the_connection_is_good_again(path: Path) -> None:
    endless = sa.text("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t")
    async with SqliteDatabase(path, clock=Leaping()) as database:
        with pytest.raises(StoreUnavailable, match="interrupted"):
            async with database.reading() as connection:
                await connection.execute(endless)
        async with database.reading() as connection:
            assert (await connection.execute(sa.text("SELECT 1"))).scalar() == 1


async def test_streams_keep_nobody_else_waiting(database: Database) -> None:
    async with AsyncExitStack() as stack:
        streams = await stack.enter_async_context(database.for_streams())
        for _ in range(STREAMERS):
            await stack.enter_async_context(streams.reading())
        async with database.reading() as connection:
            assert (await connection.execute(sa.text("SELECT 1"))).scalar() == 1


async def test_a_missing_file_is_unavailable_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    before = set(threading.enumerate())
    async with SqliteDatabase(path, clock=SystemClock()) as database:
        with pytest.raises(StoreUnavailable):
            async with database.reading() as connection:
                await connection.execute(sa.text("SELECT 1"))
    assert not path.exists()
    for thread in set(threading.enumerate()) - before:
        # the driver's thread still reports to this loop, which must not be closed by then
        thread.join(5)


async def test_a_path_with_odd_characters_is_read(tmp_path: Path) -> None:
    path = stored.fresh(tmp_path / "a b%20?#ü")
    async with SqliteDatabase(path, clock=SystemClock()) as database, database.reading() as connection:
        assert (await connection.execute(sa.text("SELECT count(*) FROM calls"))).scalar() == 0


def test_a_writer_that_holds_the_lock_makes_others_wait_and_then_give_up(path: Path) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    visitor = store.open_writer(path)
    visitor.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        visitor.execute("BEGIN IMMEDIATE")
    visitor.close()
    holder.close()
