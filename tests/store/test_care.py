"""The file is looked after while room on its disk is short."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import structlog

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.store import care, damage, imprint, replacement, schema, sqlite, tables
from rtobserver.store.imprint import Imprint
from rtobserver.store.trouble import trouble_of
from tests.store import stored
from tests.store.test_recovery import row, seqs, until, writing


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def grown(path: Path) -> sqlite3.Connection:
    """Have a file of which the newest pages are in its WAL, and which found no room when they were to be moved."""
    connection = sqlite.open_writer(path)
    care.cut(connection)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE more (blob)")
    connection.execute("INSERT INTO more VALUES (zeroblob(100000))")
    with no_file_longer_than(path.stat().st_size):
        assert not care.cut(connection)
    header = path.read_bytes()[28:32]
    assert int.from_bytes(header, "big") * 4096 > path.stat().st_size, "the first page was moved"
    return connection


def looks(marks: Imprint, connection: sqlite3.Connection) -> set[str]:
    return {part for _ in range(imprint.SURE_OF_LENGTH + 1) for part in marks.tend(connection)}


def test_a_file_that_could_not_grow_is_not_taken_for_one_that_was_written_over(path: Path) -> None:
    marks = Imprint(path)
    with closing(grown(path)) as connection:
        marks.opened(connection)
        assert looks(marks, connection) == set()
        assert marks.is_right
        assert care.cut(connection), "there is room again"
        assert looks(marks, connection) == set()


def test_a_file_that_was_cut_off_is_found_out_though_its_wal_still_holds_newer_pages(path: Path) -> None:
    marks = Imprint(path)
    with closing(grown(path)) as connection:
        marks.opened(connection)
        handle = marks._handle("")
        assert handle is not None
        os.ftruncate(handle, 8 * 4096)
        assert looks(marks, connection) == {""}


def test_no_copy_is_begun_for_which_there_is_no_room(path: Path) -> None:
    left = replacement.begin(path)
    left.write_bytes(b"half a copy")
    disk = os.statvfs(path.parent)
    os.truncate(path, disk.f_bavail * disk.f_frsize + (1 << 30))
    with pytest.raises(OSError, match="a copy needs") as caught:
        replacement.begin(path)
    assert trouble_of(caught.value) == "full"
    assert left.stat().st_size == 0, "what an earlier try left takes no room either"
    assert replacement.was_cut_off(path), "but is remembered"
    assert replacement.begin(path, 1 << 20) == left, "where no more than that is to be copied"


async def test_a_rescue_that_failed_is_tried_again_less_and_less_often_and_said_once(path: Path) -> None:
    ref = stored.ref("rtc_a")
    with structlog.testing.capture_logs() as said:
        async with writing(path) as writer:
            writer.entry(row(ref, 1))
            await writer.run(lambda _: None)
            blocked = path.with_name(f"{path.name}.unfinished")
            await asyncio.to_thread(blocked.joinpath("sub").mkdir, parents=True)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            await until(lambda: writer.recovery.tries > 2)
            assert [each["event"] for each in said].count("store_not_mended") == 1
            await asyncio.to_thread(shutil.rmtree, blocked)
            await until(path.exists)
    assert seqs(path) == [1]


def test_a_file_whose_version_cannot_be_read_is_known_by_its_tables(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a"))
    _destroy_the_root(path, "alembic_version")
    with pytest.raises(StoreError, match="malformed"):
        schema.check(path)
    assert damage.prepare(path) is not None
    schema.check(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT call_id FROM call").fetchall() == [("rtc_a",)]


def test_a_file_of_another_release_whose_version_cannot_be_read_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE call ADD COLUMN of_tomorrow TEXT")
    _destroy_the_root(path, "alembic_version")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="table call is not this release's"):
        damage.prepare(path)
    assert path.read_bytes() == before


def _destroy_the_root(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def test_a_file_that_has_two_names_is_not_opened(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "another.db"
    other.hardlink_to(path)
    for name in (path, other):
        with pytest.raises(StoreUnavailable, match="2 names"), sqlite.hold(name):
            pass
    other.unlink()
    with sqlite.hold(path):
        pass
