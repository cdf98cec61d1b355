"""The writer commits everything it was given, in order, and one bad row costs itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.store import sqlite, tables
from rtobserver.store.identity import CallRef
from rtobserver.store.trouble import Trouble
from rtobserver.store.writer import EntryRow, Transaction, Writer
from tests.store import stored


class Heard:
    """Keep what the writer tells."""

    def __init__(self) -> None:
        self.flushes: list[int] = []
        self.moments: list[float] = []
        self.failures: list[str] = []
        self.recoveries = 0

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None:
        self.flushes.append(rows)
        self.moments.append(time.monotonic())

    def failing(self, problem: str, tries: int, trouble: Trouble) -> None:
        self.failures.append(problem)

    def recovered(self) -> None:
        self.recoveries += 1


@asynccontextmanager
async def _writing(
    path: Path,
    heard: Heard | None = None,
    refused: Callable[[list[EntryRow]], None] = lambda _: None,
    interval: float = 0.01,
) -> AsyncIterator[Writer]:
    writer = Writer(
        lambda: sqlite.open_writer(path), flushes=heard or Heard(), refused=refused, flush_interval=interval
    )
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


async def _until(condition: Callable[[], bool]) -> None:
    """Look again and again, for at most ten seconds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass in time")


def _row(ref: CallRef, seq: int, payload: bytes = b"{}", type_: str | None = "t") -> EntryRow:
    return (ref, 1, seq, 1, stored.START + seq, seq, type_, None, payload, 4)


def _seqs(path: Path, table: str = "entry") -> list[int]:
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute(f"SELECT seq FROM {table} ORDER BY rowid")]


async def test_small_entries_that_wait_are_counted_with_what_they_take_beside_their_payload(path: Path) -> None:
    ref = stored.ref("rtc_a")
    # not opened: everything waits
    writer = Writer(lambda: sqlite.open_writer(path), flushes=Heard(), refused=lambda _: None)
    tracemalloc.start()
    try:
        for seq in range(1000, 3000):
            writer.entry((ref, 1, seq, 1, stored.START + seq, 300 + seq, "t", f"event_{seq:021}", b'{"n":%d}' % seq, 4))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 * taken < writer.queued_bytes < 2 * taken
    assert ref.queued_bytes == writer.queued_bytes


async def test_what_was_handed_over_is_there_when_the_writer_has_closed(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with _writing(path) as writer:
        for seq in range(1, 12_001):
            writer.entry(_row(ref, seq))
    assert _seqs(path) == list(range(1, 12_001))
    assert ref.queued_bytes == 0
    assert writer.queued_bytes == 0


async def test_rows_are_gathered_into_few_transactions(path: Path) -> None:
    heard = Heard()
    ref = stored.ref("rtc_a")
    async with _writing(path, heard, interval=2.0) as writer:
        began = time.monotonic()
        for seq in range(1, 101):
            writer.entry(_row(ref, seq))
            await asyncio.sleep(0)
        took = time.monotonic() - began
        await writer.run(lambda _: None)
    assert sum(heard.flushes) == 100
    assert len([rows for rows in heard.flushes if rows]) <= 1 + took / 2.0


async def test_rows_that_came_while_the_database_was_being_opened_wait_for_their_companions(path: Path) -> None:
    heard, handed_over = Heard(), threading.Event()
    ref = stored.ref("rtc_a")

    def connect() -> sqlite3.Connection:
        assert handed_over.wait(10)
        return sqlite.open_writer(path)

    writer = Writer(connect, flushes=heard, refused=lambda _: None, flush_interval=0.5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.open(), name="open")
        await asyncio.sleep(0)
        writer.entry(_row(ref, 1))
        began = time.monotonic()
        handed_over.set()
    await writer.run(lambda _: None)
    assert heard.moments[0] - began >= 0.5
    await writer.close()


async def test_many_rows_do_not_wait_for_the_cadence(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with _writing(path, interval=30.0) as writer:
        for seq in range(1, 5_002):
            writer.entry(_row(ref, seq))
        await _until(lambda: bool(_seqs(path)))
        assert len(_seqs(path)) >= 5_000


async def test_work_is_done_before_the_rows_that_were_handed_over_after_it(path: Path) -> None:
    """A call's key is settled by its registration, even where its first entries wait in the same flush."""
    ref = stored.ref("rtc_a")

    def settle(_: Transaction) -> None:
        ref.key = 4711

    async with _writing(path) as writer:
        done = writer.post(settle)
        writer.entry(_row(ref, 1))
        await done
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT call_key FROM entry").fetchall() == [(4711,)]


async def test_a_read_after_work_sees_every_row_that_was_handed_over_before_it(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with _writing(path) as writer:
        for seq in range(1, 200):
            writer.entry(_row(ref, seq))
            if seq % 20 == 0:
                await writer.run(lambda _: None)
                assert _seqs(path) == list(range(1, seq + 1))


async def test_work_that_fails_reaches_whoever_asked_and_nobody_else(path: Path) -> None:
    def half(transaction: Transaction) -> None:
        transaction.execute(tables.secret.insert().values(name="half", value=b"x"))
        raise ValueError("no")

    async with _writing(path) as writer:
        failing = writer.post(half)
        fine = writer.post(lambda tx: tx.execute(tables.secret.insert().values(name="whole", value=b"y")))
        with pytest.raises(ValueError, match="no"):
            await failing
        await fine
        names = await writer.run(lambda tx: tx.execute(sa.select(tables.secret.c.name)))
    assert names == [("whole",)]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"type_": "\ud83d"}, id="text that is no text"),
        pytest.param({"seq": 1 << 70}, id="a number that is too big"),
    ],
)
async def test_one_bad_row_in_a_batch_costs_itself_and_is_told(path: Path, bad: dict[str, object]) -> None:
    ref, told = stored.ref("rtc_a"), []  # type: ignore[var-annotated]
    async with _writing(path, refused=told.extend) as writer:
        for seq in range(1, 501):
            row = _row(ref, seq)
            if seq == 250:
                row = _row(ref, int(str(bad.get("seq", seq))), b"bad", str(bad.get("type_", "t")))
            writer.entry(row)
        await writer.run(lambda _: None)
    assert _seqs(path) == [seq for seq in range(1, 501) if seq != 250]
    assert [row[8] for row in told] == [b"bad"]


async def test_the_bytes_of_a_refused_entry_are_kept_in_quarantine(path: Path) -> None:
    ref = stored.ref("rtc_a")
    async with _writing(path) as writer:
        writer.entry(_row(ref, 7, b"\x00odd", "\ud83d"))
    with sqlite3.connect(path) as connection:
        [(seq, payload, problem)] = connection.execute("SELECT seq, payload, problem FROM quarantine").fetchall()
    assert (seq, payload) == (7, b"\x00odd")
    assert "surrogates" in problem


async def test_a_bad_derived_row_does_not_hold_up_the_entries(path: Path) -> None:
    ref = stored.ref("rtc_a")
    gap = {
        "epoch": 1, "seq": 1, "from_at": 1, "to_at": None, "reason": "\ud83d", "after": None, "state": "open",
        "lost": None, "lost_by_type": "{}", "counted": True,
    }  # fmt: skip
    async with _writing(path) as writer:
        writer.fact(tables.gap, ref, gap)
        writer.fact(tables.gap, ref, {**gap, "seq": 2, "reason": "shed"})
        writer.entry(_row(ref, 1))
    assert _seqs(path) == [1]
    assert _seqs(path, "gap") == [2]


async def test_a_later_fact_replaces_an_earlier_one(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a"))
    ref = stored.ref("rtc_a")
    async with _writing(path) as writer:
        writer.fact(tables.call, ref, {"status": "live"})
        writer.fact(tables.call, ref, {"status": "ended", "outcome": "browser_left"})
        # work is done before the facts of its own flush
        await writer.run(lambda _: None)
        [row] = await writer.run(lambda tx: tx.execute(sa.select(tables.call.c.status, tables.call.c.outcome)))
    assert row == ("ended", "browser_left")


async def test_a_locked_database_is_waited_for_and_nothing_is_lost(path: Path) -> None:
    heard, ref = Heard(), stored.ref("rtc_a")

    def connect() -> sqlite3.Connection:
        connection = sqlite.open_writer(path)
        connection.execute("PRAGMA busy_timeout = 50")
        return connection

    writer = Writer(connect, flushes=heard, refused=lambda _: None, flush_interval=0.01)
    await writer.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for seq in range(1, 101):
        writer.entry(_row(ref, seq))
    await _until(lambda: bool(heard.failures))
    assert "locked" in heard.failures[0]
    assert writer.queued_bytes > 0
    other.execute("ROLLBACK")
    other.close()
    await writer.close()
    assert _seqs(path) == list(range(1, 101))
    assert heard.recoveries == 1


async def test_a_writer_that_cannot_go_on_says_so_to_everybody_who_waits(path: Path) -> None:
    def break_it(_: Transaction) -> None:
        raise SystemExit

    writer = Writer(lambda: sqlite.open_writer(path), flushes=Heard(), refused=lambda _: None)
    await writer.open()
    with pytest.raises(StoreUnavailable):
        await writer.run(break_it)
    with pytest.raises(StoreError, match="can be written no more"):
        await writer.done
    with pytest.raises(StoreUnavailable):
        await writer.run(lambda _: None)


async def test_a_database_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = Writer(lambda: sqlite.open_writer(folder), flushes=Heard(), refused=lambda _: None)
    with pytest.raises(StoreUnavailable):
        await writer.open()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 30), max_size=6), min_size=1, max_size=6))
def test_exactly_the_bad_rows_are_refused(batches: list[set[int]]) -> None:
    import tempfile

    async def play(path: Path) -> None:
        ref, told = stored.ref("rtc_a"), []  # type: ignore[var-annotated]
        good: list[int] = []
        bad: list[int] = []
        async with _writing(path, refused=told.extend) as writer:
            seq = 0
            for broken in batches:
                for place in range(31):
                    seq += 1
                    is_bad = place in broken
                    (bad if is_bad else good).append(seq)
                    writer.entry(_row(ref, seq, b"", "\ud83d" if is_bad else "t"))
                await writer.run(lambda _: None)
        assert _seqs(path) == good
        assert sorted(row[2] for row in told) == bad
        assert _seqs(path, "quarantine") == bad

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(stored.fresh(Path(folder))))
