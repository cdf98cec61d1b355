"""Files of the database are unlinked or replaced under the running daemon (reliability 4.2; ours, case C14)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from rtobserver.store import replacement
from tests.faults import oracle
from tests.faults.acts import place
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.faults.test_storage_full import figure, is_sound, readiness
from tests.process.stage import Daemon, until
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


async def not_declared(daemon: Daemon, here: Site, call_id: str) -> list[oracle.Sent]:
    """List the events of a call that are missing at a time at which no gap says so."""
    found = await record(daemon, call_id)
    there = {hashlib.sha256(entry.payload).hexdigest() for entry in found.entries}
    told = (await asyncio.to_thread(oracle.read_ledger, here.ledger))[call_id]
    spans = [(oracle.seconds(gap["from"]), oracle.seconds(gap["to"])) for gap in found.gaps]
    missing = [sent for sent in told.events if sent.digest not in there]
    return [sent for sent in missing if not any(begin - 1 <= sent.at <= end + 1 for begin, end in spans)]


FAULTS = {
    "the WAL": unlink("-wal"),
    "the WAL and its index": unlink("-wal", "-shm"),
    "the index of the WAL": unlink("-shm"),
    "the file": unlink(""),
    "all of them": unlink("", "-wal", "-shm"),
    "the file, by an older one": exchange,
    "what stands in the file": in_place(empty),
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
            saved = await until(lambda: figure(first, "rtobserver_files_saved"))
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
    assert len(foreign) == (fault in ("the file, by an older one", "what stands in the file")), (
        "a file of somebody else's is moved aside, not destroyed"
    )


@pytest.mark.parametrize("again", [False, True], ids=["in one run", "after a restart"])
@pytest.mark.case("C14")
async def test_a_backup_that_is_copied_over_the_open_file_makes_nobody_forget_a_call(
    case: Case, tmp_path: Path, again: bool
) -> None:
    """What the backup lacks, and nobody has any more, is declared lost, and the next start comes up at once."""
    async with site(tmp_path, scenario=stream(20)) as here:
        async with AsyncExitStack() as stack:
            second = await stack.enter_async_context(here.serving())
            old = await place(second, here, 1, events=20)
            await here.end(second, old)
            await asyncio.to_thread(in_place(keep_a_backup), here.store)
            ended = await place(second, here, 2, events=100)
            live = await place(second, here, 1, events=40)
            await here.end(second, ended)
            if again:
                await second.command.stopped()
                second = await stack.enter_async_context(here.serving())
                await observed(here.simulator, live)
            await further(here.simulator, live, 20)
            # from here on what was recorded is in the file, which the backup takes the place of
            await asyncio.to_thread(in_place(checkpoint), here.store)
            await asyncio.to_thread(in_place(overwrite), here.store)
            await second.command.logged("database_away")
            done = await second.command.logged("database_overwritten")
            told = await readiness(second)
            late = await place(second, here, 1, events=10)
            await here.end(second, late)
            key = second.key
            second.process.kill()
            await second.command.ended()
        async with here.serving() as third:
            await observed(here.simulator, live)
            await further(here.simulator, live, 5)
            await here.end(third, live)
            figures = await here.figures(third, [*old, *ended, *live, *late])
            whole = await here.figures_of(third, [*old, *late])
            gaps = {call_id: (await record(third, call_id)).gaps for call_id in ended}
            undeclared = [sent for call_id in (*ended, *live) for sent in await not_declared(third, here, call_id)]
            verdicts = {(await third.get(f"/calls/{call_id}"))["completeness"] for call_id in (*ended, *live)}
            assert (await third.get("/calls?limit=10", key=key))["data"]
            await third.command.stopped()
    case.show(
        # where a gap's own entry is lost, the oracle does not know its place: what is declared is found by the times
        replace(figures, missing_unexplained=len(undeclared)),
        # the entry of a gap is lost like any other, and behind the last one no number shows that upstream never sent it
        overcounted=2 * (len(ended) + len(live)),
        made_anew=done["made_anew"]["call"],
    )
    assert told["status"] == "degraded"
    assert whole.missing_unexplained == 0
    assert whole.stored >= 30, "what was in the backup, and what came after, is there"
    assert verdicts == {"complete_with_gaps"}
    assert all(gap["reason"] != "corrupt" or gap["lost"] for each in gaps.values() for gap in each)
    assert is_sound(here.store)
    [foreign] = replacement.left(here.store, "foreign")
    assert is_sound(here.store.with_name(foreign)), "the backup itself is as it was"
