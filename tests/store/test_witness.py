"""What was committed and is no longer in the file is known, and declared."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rtobserver.store import sqlite, tables
from rtobserver.store.identity import CallRef
from rtobserver.store.witness import Missing, Witness
from rtobserver.store.writer import Writer
from tests.store import stored
from tests.store.test_recovery import row, writing

COUNT = 60


def witness_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.witness")


async def killed(path: Path) -> tuple[CallRef, Path]:
    """Leave what a run leaves that is killed when it has committed entries of two calls; gives its WAL."""
    stored.insert(path, tables.call, stored.call("rtc_a"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    first, second = stored.ref("rtc_a"), stored.ref("rtc_b")
    wal = sqlite.wal_of(path)
    async with writing(path) as writer:
        await writer.run(lambda raw: raw.execute(tables.call.insert().values(stored.call("rtc_b"))))
        for seq in range(1, COUNT + 1):
            for ref in (first, second):
                writer.entry(row(ref, seq, b"x" * 1000))
            if seq % 10 == 0:
                await writer.run(lambda _: None)
        kept = {each: each.read_bytes() for each in (path, wal, witness_of(path))}
    assert not witness_of(path).exists(), "an end that moves all into the database leaves nothing to compare"
    assert not wal.exists()
    for each, content in kept.items():
        each.write_bytes(content)
    return first, wal


async def compared(path: Path) -> Missing:
    async with writing(path) as writer:
        return await _compare(writer)


async def _compare(writer: Writer) -> Missing:
    assert writer.recovery.witness is not None
    return await writer.between(writer.recovery.witness.check)


def gaps(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT reason, lost FROM gap ORDER BY call_key").fetchall()


def exchange(path: Path) -> None:
    """Put a copy of the file in its place, as who brings back a backup does."""
    other = path.with_name("backup")
    shutil.copy(path, other)
    other.rename(path)


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        [(found,)] = connection.execute("SELECT count(*) FROM entry").fetchall()
    return int(found)


async def test_after_a_kill_all_that_was_committed_is_there(path: Path) -> None:
    await killed(path)
    assert await compared(path) == Missing()
    assert count(path) == 2 * COUNT


@pytest.mark.parametrize("how", ["cut", "spoilt"])
async def test_what_a_harmed_wal_has_lost_is_declared_once(path: Path, how: str) -> None:
    _, wal = await killed(path)
    content = wal.read_bytes()
    middle = len(content) * 2 // 3
    wal.write_bytes(content[:middle] + (b"" if how == "cut" else b"\xff" * 64 + content[middle + 64 :]))
    found = await compared(path)
    assert 0 < found.entries == 2 * COUNT - count(path)
    assert found.calls == 0
    assert [reason for reason, _ in gaps(path)] == ["corrupt", "corrupt"]
    assert sum(lost for _, lost in gaps(path)) == found.entries
    assert await compared(path) == Missing()


async def test_a_call_of_which_nothing_is_left_is_counted(path: Path) -> None:
    _, wal = await killed(path)
    wal.unlink()
    found = await compared(path)
    assert (found.calls, found.entries) == (1, COUNT)
    assert gaps(path) == [("corrupt", COUNT)]


async def test_what_was_taken_away_on_purpose_is_not_missed(path: Path) -> None:
    first, _ = await killed(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE call SET purged_at = 1 WHERE call_key = ?", (first.key,))
        connection.execute("DELETE FROM call WHERE call_key != ?", (first.key,))
        connection.execute(
            "INSERT INTO tombstone (call_key, erased_at, actor) VALUES (?, 1, 'a')", (stored.ref("rtc_b").key,)
        )
        connection.execute("DELETE FROM entry")
        connection.commit()
    assert await compared(path) == Missing()


async def test_another_file_in_the_place_is_not_compared_with_what_was_committed_to_the_last(path: Path) -> None:
    _, wal = await killed(path)
    wal.unlink()
    exchange(path)
    assert await compared(path) == Missing()


async def test_a_witness_that_cannot_be_read_says_nothing(path: Path) -> None:
    _, wal = await killed(path)
    wal.unlink()
    content = bytearray(witness_of(path).read_bytes())
    for place in range(30, len(content), 7):
        content[place] ^= 0xFF
    witness_of(path).write_bytes(content)
    assert await compared(path) == Missing()


async def test_more_calls_than_it_knows_put_the_oldest_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtobserver.store.witness.CALLS", 1)
    _, wal = await killed(path)
    wal.unlink()
    found = await compared(path)
    assert found.calls + bool(found.entries) == 1


async def test_a_call_that_is_put_out_is_not_taken_for_the_one_in_its_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtobserver.store.witness.CALLS", 2)
    names = ("rtc_a", "rtc_b", "rtc_c")
    stored.insert(path, tables.call, *map(stored.call, names))
    first, second, third = map(stored.ref, names)
    witness = Witness(path)
    witness.opened()
    witness.note([row(first, 5), row(second, 5)], [], set())
    witness.note([], [], {second.key})
    witness.note([row(third, 5)], [], {second.key})
    async with writing(path) as writer:
        assert (await writer.between(witness.check)).entries == 5
    witness.close()
    assert gaps(path) == [("corrupt", 5)]


async def test_what_is_committed_when_another_file_is_in_the_place_is_not_missed_in_that(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a"))
    witness = Witness(path)
    witness.opened()
    exchange(path)
    witness.note([row(stored.ref("rtc_a"), 5)], [], set())
    witness.close()
    assert await compared(path) == Missing()
