"""The database is damaged: before the start, while it runs, over and over (reliability 4.2; ours, case C14)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.acts import place
from tests.faults.ground import record, site, stream
from tests.faults.table import Case
from tests.faults.test_storage_full import is_sound, readiness
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(180)]

PAGE = 4096


def root_of(path: Path, name: str) -> int:
    """Give the first page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(page)


def destroy(path: Path, page: int) -> None:
    """Write noise over a page, counted from 1."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(os.urandom(PAGE))
        file.flush()
        os.fsync(file.fileno())


def destroy_leaf(path: Path, name: str) -> None:
    """Write noise over one page of a table's rows, if it has several; the others can still be read."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        # what is still in the WAL would heal the page
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass
        leaves = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno"
        pages = [int(row[0]) for row in connection.execute(leaves, (name,))]
    destroy(path, pages[len(pages) // 2])


def aside(folder: Path) -> list[Path]:
    """List what was moved aside."""
    return sorted(path for path in folder.glob("calls.db.damaged-*") if not path.name.endswith(("-wal", "-shm")))


@pytest.mark.parametrize("what", ["a page of entries", "the first page", "the keys", "the version"])
@pytest.mark.case("C14")
async def test_a_file_that_is_damaged_at_a_start_is_moved_aside_and_what_can_be_read_is_kept(
    case: Case, tmp_path: Path, what: str
) -> None:
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving() as daemon:
            ended = await place(daemon, here, 2, events=100)
            live = await place(daemon, here, 2, events=100)
            await here.end(daemon, ended)
            whole = await here.figures(daemon, ended)
            await daemon.command.stopped()
        match what:
            case "a page of entries":
                await asyncio.to_thread(destroy_leaf, here.store, "entry")
            case "the first page":
                await asyncio.to_thread(root_of, here.store, "call")
                await asyncio.to_thread(destroy, here.store, 1)
            case "the keys":
                await asyncio.to_thread(lambda: destroy(here.store, root_of(here.store, "api_key")))
            case "the version":
                await asyncio.to_thread(lambda: destroy(here.store, root_of(here.store, "alembic_version")))
        if what != "a page of entries":
            async with here.starting() as begun:
                await begun.logged("database_damaged")
                if what != "the version":
                    await begun.logged("keys_lost")
                await begun.logged("listening")
                await begun.stopped()
        async with here.serving() as daemon:
            if what == "a page of entries":
                # found by whoever reads it first
                for call_id in (*ended, *live):
                    await daemon.status(f"/api/v1/calls/{call_id}/entries?limit=1000")
                await daemon.command.logged("database_damaged")
                await observed(here.simulator, live)
                await further(here.simulator, live, 30)
            if what == "the first page":
                figures = await here.figures(daemon, [], excuse="the first page is destroyed")
            else:
                await observed(here.simulator, live)
                await here.end(daemon, live)
                figures = await here.figures(daemon, [*ended, *live])
                gaps = [gap for call_id in (*ended, *live) for gap in (await record(daemon, call_id)).gaps]
                calls = [await daemon.get(f"/calls/{call_id}") for call_id in ended]
            # not `stopped`: the log may tell of what could not be read, with where that was
            daemon.process.terminate()
            assert (await daemon.command.ended())[0] == 0
    assert len(aside(tmp_path)) == 1
    assert is_sound(here.store)
    if what != "the first page":
        corrupt = [gap for gap in gaps if gap["reason"] == "corrupt"]
        if what in ("the keys", "the version"):
            assert not corrupt, "nothing of the calls is lost"
            assert figures.stored >= whole.stored
        else:
            assert corrupt
            assert sum(gap["lost"] for gap in corrupt) > 0
            assert {call["completeness"] for call in calls} <= {"complete", "complete_with_gaps"}
    forgotten = len(ended) + len(live) if what == "the first page" else 0
    case.show(figures, forgotten=forgotten, aside=len(aside(tmp_path)))


@pytest.mark.parametrize("how", [pytest.param("cut", marks=pytest.mark.quarter), "spoilt"])
@pytest.mark.case("C14")
async def test_what_was_committed_to_a_wal_that_is_harmed_before_the_next_start_is_declared(
    case: Case, tmp_path: Path, how: str
) -> None:
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving() as first:
            live = await place(first, here, 2, events=50)
            await first.command.stopped()
        wal = here.store.with_name("calls.db-wal")
        assert not wal.exists() or wal.stat().st_size == 0, "an end moves all of it into the database"
        async with here.serving() as second:
            await observed(here.simulator, live)
            ended = await place(second, here, 1, events=50)
            early = (await asyncio.to_thread(wal.stat)).st_size
            await further(here.simulator, live, 100)
            await here.end(second, ended)
            before = {call_id: len((await record(second, call_id)).entries) for call_id in (*live, *ended)}
            second.process.kill()
            await second.command.ended()
        await asyncio.to_thread(harm, wal, (early + wal.stat().st_size) // 2, how)
        async with here.starting() as begun:
            said = await begun.logged("commits_missing")
            daemon = await here.listening(begun, second.key)
            await observed(here.simulator, live)
            await further(here.simulator, live, 20)
            told = await readiness(daemon)
            await here.end(daemon, live)
            figures = await here.figures(daemon, [*live, *ended])
            gaps = [gap for call_id in before for gap in (await record(daemon, call_id)).gaps]
            begun.process.terminate()
            assert (await begun.ended())[0] == 0
    corrupt = sum(gap["lost"] for gap in gaps if gap["reason"] == "corrupt")
    case.show(figures, declared=corrupt, forgotten_calls=said["calls_forgotten"], readyz=told["status"])
    assert said["calls_forgotten"] == 0
    assert said["entries"] == corrupt > 0
    assert "what an earlier run had committed is missing" in " ".join(told["reasons"])
    assert is_sound(here.store)


def harm(wal: Path, place: int, how: str) -> None:
    """Cut a file off, or write noise over a little of it."""
    with wal.open("r+b") as file:
        if how == "cut":
            file.truncate(place)
        else:
            file.seek(place)
            file.write(os.urandom(64))


@pytest.mark.parametrize("name", ["entry", "call"])
@pytest.mark.case("C14")
async def test_a_file_that_is_damaged_while_it_runs_is_begun_anew(case: Case, tmp_path: Path, name: str) -> None:
    async with site(tmp_path, scenario=stream(100)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 4, events=200)
        # as a program would that does not belong there: into the file, past SQLite
        await asyncio.to_thread(destroy_while_open, here.store, name)
        for call_id in call_ids:
            await daemon.status(f"/api/v1/calls/{call_id}/entries?limit=1000")
        await daemon.command.logged("database_damaged")
        told = await readiness(daemon)
        await further(here.simulator, call_ids, 100)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        await daemon.command.stopped()
        case.show(figures, aside=len(aside(tmp_path)))
        assert told["status"] == "degraded"
        assert is_sound(here.store)


def destroy_while_open(path: Path, name: str) -> None:
    import subprocess
    import sys

    # in a process of its own: closing the file here would give away nobody's locks but the test's
    code = (
        "import sys; from pathlib import Path; from tests.faults import test_storage_damaged as t\n"
        "t.destroy_leaf(Path(sys.argv[1]), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(path), name], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("gap", marks=pytest.mark.quarter),
        "call",
        pytest.param("item", marks=pytest.mark.quarter),
        "replica",
        pytest.param("decision", marks=pytest.mark.quarter),
        "search_index_data",
        "ix_call_started",
        "sqlite_autoindex_entry_1",
    ],
)
@pytest.mark.case("C14")
async def test_what_a_lost_page_held_is_made_anew_of_what_others_tell(case: Case, tmp_path: Path, name: str) -> None:
    """Nothing that was declared is unsaid, and no call is forgotten, whichever page is destroyed."""
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving() as daemon:
            call_ids = await place(daemon, here, 2, events=50)
            daemon.process.kill()
            await daemon.command.ended()
        async with here.serving() as daemon:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 50)
            ended, live = call_ids[:1], call_ids[1:]
            await here.end(daemon, ended)
            before = await record(daemon, ended[0])
            await daemon.command.stopped()
        await asyncio.to_thread(lambda: destroy(here.store, root_of(here.store, name)))
        async with here.serving() as daemon:
            await observed(here.simulator, live)
            await further(here.simulator, live, 50)
            await here.end(daemon, live)
            figures = await here.figures(daemon, call_ids)
            after = await record(daemon, ended[0])
            verdict = (await daemon.get(f"/calls/{ended[0]}"))["completeness"]
            daemon.process.terminate()
            assert (await daemon.command.ended())[0] == 0
        async with here.starting(words=("rebuild",)) as rebuilding:
            assert await rebuilding.process.wait() == 0
        async with here.serving() as daemon:
            again = await here.figures(daemon, call_ids)
            judged = {call_id: await daemon.get(f"/calls/{call_id}") for call_id in call_ids}
            await daemon.command.stopped()
    case.show(figures, aside=len(aside(tmp_path)))
    assert again.is_lawful
    assert [entry.payload for entry in after.entries] == [entry.payload for entry in before.entries]
    assert [(gap["reason"], gap["from"]) for gap in after.gaps] == [(gap["reason"], gap["from"]) for gap in before.gaps]
    # the row itself was lost: until somebody has looked at the entries again nobody knows how whole they are
    assert verdict == ("incomplete" if name == "call" else "complete_with_gaps")
    assert {call["completeness"] for call in judged.values()} == {"complete_with_gaps"}
    assert judged[ended[0]]["gap_count"] == sum(gap["reason"] != "before_attach" for gap in after.gaps)
    assert is_sound(here.store)
