"""The writer goes on when the file is moved, damaged, full or held by somebody else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.realtime.holes import Loss
from rtobserver.store import commits, damage, keys, schema, sqlite, tables
from rtobserver.store.audit import Audit
from rtobserver.store.identity import CallRef
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.trouble import WORDS, trouble_of
from rtobserver.store.writer import EntryRow, Transaction, Writer
from tests.store import stored


@asynccontextmanager
async def writing(path: Path) -> AsyncIterator[Writer]:
    writer = Writer(
        lambda: sqlite.open_writer(path),
        flushes=stored.Deaf(),
        refused=lambda _: None,
        flush_interval=0.01,
        path=path,
    )
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


def row(ref: CallRef, seq: int, payload: bytes = b"{}") -> EntryRow:
    return (ref, 1, seq, 1, stored.START + seq, seq, "t", None, payload, 4)


def seqs(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [found[0] for found in connection.execute("SELECT seq FROM entry ORDER BY rowid")]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)


async def test_what_was_reported_committed_is_there_for_another_connection(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with writing(path) as writer:
        for seq in range(1, 50):
            writer.entry(row(ref, seq))
            await writer.run(lambda _: None)
            assert seqs(path) == list(range(1, seq + 1))
    assert ref.stored == 49


async def test_a_large_batch_is_several_transactions_and_its_last_work_comes_last(path: Path) -> None:
    ref = stored.ref("rtc_a")
    counts: list[int] = []

    def count(transaction: Transaction) -> None:
        [(found,)] = transaction.execute(sa.select(sa.func.count()).select_from(tables.entry))
        counts.append(found)

    async with writing(path) as writer:
        big = bytes(commits.PIECE_BYTES // 3)
        for seq in range(1, 11):
            writer.entry(row(ref, seq, big))
        first, last = writer.post(count), writer.post(count, last=True)
        await first
        await last
    assert counts == [0, 10]
    assert seqs(path) == list(range(1, 11))
    assert writer.queued_bytes == 0


async def test_a_file_that_was_removed_is_written_again_with_all_that_it_held(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with writing(path) as writer:
        writer.entry(row(ref, 1))
        await writer.run(lambda _: None)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        await until(path.exists)
        await until(lambda: writer.recovery.care is not None and not writer.recovery.care.is_away)
        writer.entry(row(ref, 2))
        await writer.run(lambda _: None)
        assert seqs(path) == [1, 2]
    assert seqs(path) == [1, 2]
    assert (await asyncio.to_thread(path.stat)).st_mode & 0o077 == 0


async def test_readers_go_over_to_the_file_that_was_begun_anew(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a"))
    ref = stored.ref("rtc_a")
    told: list[dict[CallRef, list[Loss]]] = []
    async with writing(path) as writer, SqliteDatabase(path, clock=SystemClock()) as reads:
        writer.recovery.live, writer.begun_anew = lambda: {ref: lambda _: None}, told.append
        for seq in range(1, 2001):
            writer.entry(row(ref, seq, b"x" * 200))
        await writer.run(lambda _: None)
        await writer.between(lambda raw: raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        async with reads.reading() as connection:
            await connection.execute(sa.select(tables.call.c.call_id))
        _destroy_a_leaf(path, "entry")
        writer.recovery.look_over()
        await until(lambda: bool(writer.recovery.damaged_files))
        await writer.run(lambda _: None)
        async with reads.reading() as connection:
            count = (await connection.execute(sa.select(sa.func.count()).select_from(tables.entry))).scalar()
    [losses] = told
    [loss] = losses[ref]
    assert 0 < loss.lost < 100, "one page of rows"
    assert count == 2000 - loss.lost
    assert ref.stored == count
    # from the last that is there to the next that is
    first = int(str(loss.after).partition(":")[2])
    assert (loss.from_at, loss.to_at) == (stored.START + first, stored.START + first + loss.lost + 1)
    [aside] = writer.recovery.damaged_files
    assert path.with_name(aside).exists()


def _destroy_a_leaf(path: Path, name: str) -> None:
    # not by `open`: closing it would take away the locks that this process has on the file
    code = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "leaves = \"SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'\"\n"
        "pages = [row[0] for row in connection.execute(leaves, (sys.argv[2],))]\n"
        "handle = os.open(sys.argv[1], os.O_WRONLY)\n"
        "os.pwrite(handle, b'\\xff' * 4096, (pages[len(pages) // 2] - 1) * 4096)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), name], check=True)


async def test_a_disk_that_spoils_each_file_is_not_filled_with_them(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with writing(path) as writer:
        writer.recovery.anew_seconds = 3.0
        for turn in (1, 2):
            for seq in range(1, 1001):
                writer.entry(row(ref, turn * 10_000 + seq, b"x" * 200))
            await writer.run(lambda _: None)
            await writer.between(lambda raw: raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
            _destroy_a_leaf(path, "entry")
            writer.recovery.look_over()
            if turn == 1:
                await until(lambda: len(writer.recovery.damaged_files) == 1)
                first = time.monotonic()
        await until(lambda: len(writer.recovery.damaged_files) == 2)
        # nothing that was handed over meanwhile is lost
        assert time.monotonic() - first >= 2.0
        writer.entry(row(ref, 99_999))
        await writer.run(lambda _: None)
    assert 99_999 in seqs(path)


async def test_a_folder_that_is_gone_is_waited_for(path: Path) -> None:
    """With the connection given up, too: nothing is made in its place."""
    ref, home = stored.ref("rtc_a"), path.parent
    away = home.with_name(f"{home.name}-away")
    async with writing(path) as writer:
        home.rename(away)
        writer.recovery.failed(sqlite3.OperationalError("disk I/O error"))
        writer.entry(row(ref, 1))
        waiting = writer.post(lambda _: None)
        await until(lambda: writer.recovery.care is not None and writer.queued_bytes > 0)
        assert not home.exists()
        away.rename(home)
        await waiting
    assert seqs(path) == [1]


def test_keys_and_calls_are_brought_over_and_lost_entries_stand_in_a_gap(path: Path) -> None:
    key = keys.create(path, name="mine", now_us=1)
    stored.insert(path, tables.call, stored.call("rtc_a", entry_count=2000, status="ended", completeness="complete"))
    stored.insert(path, tables.call, stored.call("rtc_b", entry_count=0, status="ended", completeness="complete"))
    stored.insert(path, tables.entry, *[stored.entry("rtc_a", seq, b"x" * 200) for seq in range(1, 2001)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _destroy_a_leaf(path, "entry")
    assert damage.prepare(path, suspected=True) is not None
    with closing(sqlite3.connect(path)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM entry").fetchall()
        [(reason, lost, state)] = connection.execute("SELECT reason, lost, state FROM gap").fetchall()
        verdicts = dict(connection.execute("SELECT call_id, completeness FROM call").fetchall())
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert (reason, count + lost, state) == ("corrupt", 2000, "final")
    assert verdicts == {"rtc_a": "complete_with_gaps", "rtc_b": "complete"}

    async def verified() -> bool:
        async with SqliteDatabase(path, clock=SystemClock()) as reads:
            return await keys.verify(reads, key, now_us=2) is not None

    assert asyncio.run(verified())


@pytest.mark.parametrize("content", [b"just some notes of mine\n" * 400, b"PK\x03\x04" * 2000])
def test_a_file_that_was_never_ours_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        damage.prepare(path)
    assert path.read_bytes() == content


def test_a_file_of_which_the_head_is_gone_is_begun_anew(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(100))
    aside = damage.prepare(path)
    assert aside is not None
    schema.check(path)


def test_a_sound_file_is_left_as_it_is(path: Path) -> None:
    assert damage.prepare(path) is None
    assert damage.prepare(path, suspected=True) is None


async def test_a_read_and_then_a_write_never_meet_a_snapshot_that_is_too_old(path: Path) -> None:
    """C09: in a deferred transaction the second of two would fail at once, whatever its timeout."""

    def visit(number: int) -> None:
        for turn in range(20):
            with sqlite.transaction(path) as connection:
                connection.execute(sa.select(tables.secret)).all()
                connection.execute(tables.secret.insert().values(name=f"{number}.{turn}", value=b"x"))

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(asyncio.to_thread(visit, number), name=f"visit {number}")
    with sqlite.transaction(path) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.secret)).scalar() == 60


async def test_a_write_that_nobody_waits_for_any_more_is_done_once_and_leaves_nothing_open(path: Path) -> None:
    """C21: what was given up while the database was held is neither doubled nor mixed into another's commit."""
    async with writing(path) as writer:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            audit = Audit(writer, clock=SystemClock(), patience=0.2)
            with pytest.raises(StoreUnavailable):
                await audit.record(action="a", object_="o", status=200)
            other.execute("ROLLBACK")
        await writer.run(lambda _: None)
        with pytest.raises(ValueError, match="no"):
            await writer.run(_refuse)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert other.execute("SELECT count(*) FROM audit WHERE action = 'a'").fetchall() == [(1,)]
            other.execute("ROLLBACK")


def _refuse(transaction: Transaction) -> None:
    transaction.execute(tables.secret.insert().values(name="half", value=b"x"))
    raise ValueError("no")


def test_closing_a_file_elsewhere_in_the_process_takes_no_lock_away(path: Path) -> None:
    """Opening the database again must not open and close it outside of SQLite: that drops every lock on it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        sqlite.create(path)
        code = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "locked" in tried.stderr


def test_every_trouble_has_its_words() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("SELECT * FROM nothing")
        assert trouble_of(caught.value) == "other"
    assert trouble_of(ValueError("no")) is None
    assert trouble_of(OSError("no")) is None
    assert all(WORDS.values())


def test_a_refusal_that_a_killed_run_did_not_declare_is_declared_by_the_next_start(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a", ended_at=stored.START + 9_000, completeness="complete"))
    stored.insert(path, tables.call, stored.call("rtc_live"))
    for call_id in ("rtc_a", "rtc_live"):
        rows = [stored.entry(call_id, seq) for seq in (1, 2, 4)]
        stored.insert(path, tables.entry, *rows)
        refused = {name: rows[0][name] for name in ("call_key", "day", "epoch", "at", "payload")}
        stored.insert(path, tables.quarantine, {**refused, "seq": 3, "problem": "odd"})
    with closing(sqlite.open_writer(path)) as connection:
        assert damage.admit_refused(connection) == 1, "what goes on is for its observer"
        assert damage.admit_refused(connection) == 0
        [gap] = connection.execute('SELECT from_at, to_at, reason, "after", state, lost FROM gap').fetchall()
        [told] = connection.execute("SELECT gap_count, completeness FROM call WHERE call_id = 'rtc_a'").fetchall()
    assert gap == (stored.START + 2_000, stored.START + 4_000, "corrupt", "1:2", "final", 1)
    assert told == (1, "complete_with_gaps")


def test_damage_of_a_call_that_ended_is_declared_where_it_was_and_once(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a", ended_at=stored.START + 99_000, entry_count=20))
    stored.insert(path, tables.entry, *[stored.entry("rtc_a", seq) for seq in (*range(1, 8), *range(11, 19))])
    for _ in range(2):
        with closing(sqlite.open_writer(path)) as connection:
            damage._admit(connection, {})
            found = connection.execute('SELECT from_at, to_at, "after", lost FROM gap ORDER BY seq').fetchall()
        assert found == [
            (stored.START + 7_000, stored.START + 11_000, "1:7", 3),
            (stored.START + 18_000, stored.START + 99_000, "1:18", 2),
        ]
