"""Files of the database are unlinked or replaced under the running daemon (reliability 4.2; ours, case C14)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
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


FAULTS = {
    "the WAL": unlink("-wal"),
    "the WAL and its index": unlink("-wal", "-shm"),
    "the index of the WAL": unlink("-shm"),
    "the file": unlink(""),
    "all of them": unlink("", "-wal", "-shm"),
    "the file, by an older one": exchange,
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
            await here.end(first, ended)
            whole = await here.figures_of(first, ended)
            await asyncio.to_thread(FAULTS[fault], here.store)
            away = await first.command.logged("database_away")
            await first.command.logged("wal_begun_anew" if fault == "the WAL" else "database_written_again")
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
    assert len(foreign) == ("older" in fault), "a file of somebody else's is moved aside, not destroyed"
