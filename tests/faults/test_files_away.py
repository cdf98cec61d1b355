"""Files of the database are unlinked or replaced under the running daemon (reliability 4.2; ours, case C14)."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rtobserver.store import replacement
from tests.faults.acts import place
from tests.faults.ground import record, site, stream
from tests.faults.table import Case
from tests.faults.test_storage_full import figure, is_sound, readiness
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(180)]


def unlink(*parts: str) -> Callable[[Path], None]:
    """Give what takes some of the database's files away."""

    def act(store: Path) -> None:
        for part in parts:
            store.with_name(store.name + part).unlink()

    return act


def exchange(store: Path) -> None:
    """Put an older state in the place of the file, as a backup that is restored at the wrong time does."""
    older = store.with_name("older")
    shutil.copyfile(store, older)
    older.rename(store)


def in_place(act: Callable[[Path], None]) -> Callable[[Path], None]:
    """Give what does something to the open files in a process of its own: closing them here would do no harm there."""
    name = act.__name__

    def run(store: Path) -> None:
        code = f"import sys; from pathlib import Path; from tests.faults.test_files_away import {name} as act; act"
        code += "(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(store)], check=True, cwd=Path(__file__).parents[2])

    return run


def overwrite(store: Path) -> None:
    """Copy a backup over the file, as `cp` does: the name and the inode stay."""
    with store.with_name("backup").open("rb") as backup, store.open("wb") as file:
        shutil.copyfileobj(backup, file)


def empty(store: Path) -> None:
    os.truncate(store, 0)


def empty_the_wal(store: Path) -> None:
    os.truncate(store.with_name(f"{store.name}-wal"), 0)


def spoil_the_wal(store: Path) -> None:
    with store.with_name(f"{store.name}-wal").open("r+b") as file:
        file.write(os.urandom(8192))


def keep_a_backup(store: Path) -> None:
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(store.with_name("backup"))) as target:
        source.backup(target)


def checkpoint(store: Path) -> None:
    """Move the WAL into the file, as any program may that has it open."""
    with closing(sqlite3.connect(store, timeout=10)) as connection:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass


FAULTS = {
    "the WAL": unlink("-wal"),
    "the WAL and its index": unlink("-wal", "-shm"),
    "the index of the WAL": unlink("-shm"),
    "the file": unlink(""),
    "all of them": unlink("", "-wal", "-shm"),
    "the file, by an older one": exchange,
    "what stands in the file": in_place(empty),
    "what stands in the file, by an older one": in_place(overwrite),
    "what stands in the WAL": in_place(empty_the_wal),
    "what stands in the WAL, by noise": in_place(spoil_the_wal),
}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=pytest.mark.quarter) if name == "the WAL" else name for name in FAULTS]
)
@pytest.mark.case("C14")
async def test_files_that_are_taken_away_are_missed_and_what_they_held_outlives_a_kill(
    case: Case, tmp_path: Path, fault: str
) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as first:
            ended = await place(first, here, 1, events=20)
            live = await place(first, here, 1, events=20)
            await asyncio.to_thread(in_place(keep_a_backup), here.store)
            await here.end(first, ended)
            whole = await here.figures_of(first, ended)
            await asyncio.to_thread(FAULTS[fault], here.store)
            away = await first.command.logged("database_away")
            is_overwritten = fault.startswith("what")
            done = {"the WAL": "wal_begun_anew"}.get(fault, "database_written_again")
            await first.command.logged("database_overwritten" if is_overwritten else done)
            told = await readiness(first)
            saved = await figure(first, "rtobserver_files_saved")
            # what is placed and ends from here on is nowhere but in the files that are there now
            late = await place(first, here, 1, events=10)
            await here.end(first, late)
            await further(here.simulator, live, 20)
            before = [entry.payload for entry in (await record(first, live[0])).entries]
            first.process.kill()
            await first.command.ended()
        async with here.serving() as second:
            await observed(here.simulator, live)
            await further(here.simulator, live, 5)
            await here.end(second, live)
            figures = await here.figures(second, [*ended, *live, *late])
            after = [entry.payload for entry in (await record(second, live[0])).entries]
            again = await here.figures_of(second, ended)
            assert (await second.get("/calls?limit=10", key=first.key))["data"]
            await second.command.stopped()
    case.show(figures, files=len(away["files"]), lost_behind_a_commit=len(before) - len(set(before) & set(after)))
    assert told["status"] == "degraded"
    assert saved == 1
    assert before == after[: len(before)]
    assert (again.stored, again.missing) == (whole.stored, whole.missing)
    assert is_sound(here.store)
    foreign = replacement.left(here.store, "foreign")
    assert len(foreign) == ("older" in fault or fault == "what stands in the file"), (
        "a file of somebody else's is moved aside, not destroyed"
    )
