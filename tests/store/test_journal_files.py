"""Whatever somebody does to a journal's files under a running daemon: it is noticed, and nothing is lost silently."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rtobserver.errors import StoreBusy
from rtobserver.store import registration
from rtobserver.store.identity import CallRef
from rtobserver.store.journal import Journal
from rtobserver.store.places import Server
from tests.store.test_journal import PATIENCE, Ground, entry, new, until

AWAY = Server("postgresql://127.0.0.1:1/away")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


async def record(journal: Journal, ref: CallRef, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        journal.entry(entry(ref, seq, b"%d:" % seq + b"x" * 300))
        if seq % 20 == 0:
            await journal.kept()
    await journal.kept()


def newest(folder: Path) -> Path:
    return max(folder.glob("*.journal"))


def wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def write_over(path: Path, text: bytes) -> None:
    """Do what `cp` does: the file stays the same one."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(text)


def garbage(path: Path) -> None:
    write_over(path, os.urandom(200_000))


def another_journal(path: Path) -> None:
    """Write a journal file over it that can be read, and that is of somebody else."""
    other = path.with_name("other")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other, isolation_level=None)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        target.execute("UPDATE entry SET payload = 'not ours'")
        target.execute("PRAGMA user_version = 7")
        target.execute("PRAGMA journal_mode = WAL")
    write_over(path, other.read_bytes())


def emptied(path: Path) -> None:
    write_over(path, b"")


def log_cut(path: Path) -> None:
    os.truncate(wal_of(path), 0)


def log_written_over(path: Path) -> None:
    write_over(wal_of(path), os.urandom(300_000))


def log_taken_away(path: Path) -> None:
    wal_of(path).unlink()


def replaced(path: Path) -> None:
    made = path.with_name("made")
    shutil.copy(path, made)
    made.rename(path)


HARM = [garbage, another_journal, emptied, log_cut, log_written_over, log_taken_away, replaced]


@pytest.mark.parametrize("harm", HARM)
async def test_harm_to_the_newest_file_is_noticed_and_costs_nothing_that_is_in_memory(
    ground: Ground, harm: Callable[[Path], None]
) -> None:
    call = new("rtc_1")
    ref = call.ref()
    async with ground.journal(AWAY) as journal:
        journal.note(registration.register(ref, call))
        await record(journal, ref, 1, 200)
        harm(newest(ground.folder))
        await until(lambda: journal.files.written_again == 1)
        await record(journal, ref, 201, 300)
        journal.hurry()
    async with ground.journal() as journal:
        await journal.readable(PATIENCE)
    assert [(seq, int(payload.partition(b":")[0])) for seq, payload in ground.entries(ref)] == [
        (seq, seq) for seq in range(1, 301)
    ]
    assert ground.rows("SELECT status FROM call") == [("live",)]


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("harm", [garbage, another_journal, log_cut])
async def test_what_of_the_newest_file_is_neither_in_memory_nor_to_be_read_is_declared(
    ground: Ground, harm: Callable[[Path], None], is_live: bool
) -> None:
    call = new("rtc_1")
    ref = call.ref()
    told: list[Any] = []
    async with ground.journal() as journal:
        journal.note(registration.register(ref, call))
        await record(journal, ref, 1, 100)
        await journal.readable(PATIENCE)
    async with ground.journal(AWAY, most_memory=70_000) as journal:
        await record(journal, ref, 101, 400)
        harm(newest(ground.folder))
        await until(lambda: journal.files.written_again == 1)
        await record(journal, ref, 401, 500)
        journal.hurry()
        there = journal.files.last
    async with ground.journal() as journal:
        journal.live = lambda: [ref] if is_live else []
        journal.begun_anew = told.append
        assert journal.files.last == there
        journal.entry(entry(ref, 501))
        await journal.readable(PATIENCE)
        found = [seq for seq, _ in ground.entries(ref)]
        lost = 501 - len(found)
        counted = "SELECT coalesce(sum(lost), 0)::int FROM gap WHERE reason = 'corrupt'"

        def declared() -> int:
            if is_live:
                return sum(loss.lost for losses in told for each in losses.values() for loss in each)
            return int(ground.rows(counted)[0][0])

        await until(lambda: declared() == lost)
    assert found[-1] == 501
    assert not [payload for _, payload in ground.entries(ref) if b"not ours" in payload]


async def test_a_file_that_the_disk_never_reads_again_is_given_up_and_declared(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    async with ground.journal(AWAY, file_bytes=1) as journal:
        journal.note(registration.register(ref, call))
        for seq in (1, 2, 3):
            journal.entry(entry(ref, seq))
            await journal.kept()
        journal.hurry()
    path = sorted(ground.folder.glob("*.journal"))[1]
    path.unlink()
    # nothing that is not a file can be read, and it is there all the same
    path.mkdir()
    told: list[Any] = []
    async with ground.journal(unreadable_seconds=0.3) as journal:
        journal.live, journal.begun_anew = (lambda: [ref]), told.append
        journal.entry(entry(ref, 4))
        await journal.readable(PATIENCE)
        await until(lambda: bool(told and journal.files.damaged_files))
    assert [seq for seq, _ in ground.entries(ref)] == [1, 3, 4]
    assert [(loss.lost, loss.after) for losses in told[0].values() for loss in losses] == [(1, "1:1")]


async def test_a_file_that_cannot_be_read_while_it_is_written_is_shipped_from_memory(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    async with ground.journal() as journal:
        journal.note(registration.register(ref, call))
        await record(journal, ref, 1, 20)
        await journal.readable(PATIENCE)
        garbage(newest(ground.folder))
        await record(journal, ref, 21, 200)
        await journal.readable(PATIENCE)
        assert journal.files.written_again == 1
        assert journal.files.damaged_files
    assert [seq for seq, _ in ground.entries(ref)] == list(range(1, 201))


async def test_a_folder_has_one_daemon_and_the_other_does_it_no_harm(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    async with ground.journal() as journal:
        journal.note(registration.register(ref, call))
        await record(journal, ref, 1, 20)
        with pytest.raises(StoreBusy):
            async with ground.journal():
                pass
        await record(journal, ref, 21, 40)
        await journal.readable(PATIENCE)
        assert journal.files.written_again == 0
    assert [seq for seq, _ in ground.entries(ref)] == list(range(1, 41))
