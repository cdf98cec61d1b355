"""Ends and beginnings while the database refuses, and two of them on one file (cases C19, D04, D18)."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from rtobserver.store import schema, tables
from tests.faults.acts import place
from tests.faults.disks import Disk, held
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.faults.test_storage_full import is_sound
from tests.process.stage import PATIENCE
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(180)]


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.case("D04")
async def test_a_database_that_refuses_does_not_keep_a_daemon_from_ending(
    case: Case, tmp_path: Path, signals: int
) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as first:
            call_ids = await place(first, here, 3, events=10)
            async with held(here.store):
                await first.command.logged("store_failing", trouble="locked")
                began = time.monotonic()
                first.process.send_signal(signal.SIGTERM)
                await first.command.logged("draining")
                if signals == 2:
                    began = time.monotonic()
                    first.process.send_signal(signal.SIGTERM)
                code, _, log = await first.command.ended()
                took = time.monotonic() - began
        async with here.serving() as second:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 5)
            await here.end(second, call_ids)
            figures = await here.figures(second, call_ids)
            await second.command.stopped()
        case.show(figures, exit_s=round(took, 1), code=code)
    assert code == 1
    assert "entries_lost" in log
    assert "Traceback" not in log
    # asked once it tries for a while, since what waits would be lost (design 6: 30 s at most); asked twice it goes
    assert took <= (30 if signals == 1 else 5)


@pytest.mark.parametrize("where", ["moving", "cutting", pytest.param("emptied", marks=pytest.mark.quarter)])
@pytest.mark.case("D04")
async def test_a_kill_while_an_end_empties_the_wal_loses_nothing(case: Case, tmp_path: Path, where: str) -> None:
    disk = Disk(tmp_path)
    failpoints = ["wal.emptied=kill"] if where == "emptied" else []
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving(*failpoints, **disk.environ) as first:
            ended = await place(first, here, 1, events=80)
            live = await place(first, here, 2, events=80)
            await here.end(first, ended)
            before = {call_id: len((await record(first, call_id)).entries) for call_id in (*ended, *live)}
            if where == "moving":
                # the file itself, which only a checkpoint syncs; by then its pages are half written
                disk.kill("write", "calls.db", after=0)
            elif where == "cutting":
                disk.kill("cut", "calls.db-wal", after=0)
            first.process.send_signal(signal.SIGTERM)
            code, _, _ = await first.command.ended()
        async with here.serving() as second:
            await observed(here.simulator, live)
            await further(here.simulator, live, 10)
            missing = second.command.events("commits_missing")  # type: ignore[attr-defined]
            await here.end(second, live)
            figures = await here.figures(second, [*ended, *live])
            lost = sum([max(0, before[each] - len((await record(second, each)).entries)) for each in before])
            gaps = [gap["reason"] for each in before for gap in (await record(second, each)).gaps]
            await second.command.stopped()
        case.show(figures, code=code, lost_behind_a_commit=lost)
    assert code == -signal.SIGKILL
    assert (lost, missing) == (0, [])
    assert "corrupt" not in gaps
    assert is_sound(here.store)


@pytest.mark.case("D04")
async def test_a_start_that_waits_for_the_database_can_be_broken_off(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as daemon:
            call_ids = await place(daemon, here)
            await here.end(daemon, call_ids)
            await daemon.command.stopped()
        disk = Disk(tmp_path)
        disk.fail("write", "calls.db-wal")
        async with here.starting(**disk.environ) as begun:
            await begun.logged("store_failing", trouble="failing")
            began = time.monotonic()
            begun.process.send_signal(signal.SIGTERM)
            code, _, log = await begun.ended()
            took = time.monotonic() - began
        async with here.serving() as daemon:
            case.show(await here.figures(daemon, call_ids), exit_s=round(took, 2), code=code)
            await daemon.command.stopped()
    assert "Traceback" not in log
    assert took <= 5


@pytest.mark.case("C19")
async def test_a_migration_may_be_killed_at_any_write(case: Case, tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here:
        kills = step = 0
        while True:
            for path in tmp_path.glob("calls.db*"):  # noqa: ASYNC240 - nothing else runs here
                path.unlink()
            disk.kill("write", "calls.db", after=step)
            async with here.starting(words=("migrate",), **disk.environ) as begun:
                await asyncio.wait_for(begun.process.wait(), PATIENCE)
                killed = begun.process.returncode == -signal.SIGKILL
            if not killed:
                break
            kills, step = kills + 1, step * 2 + 1 if step > 20 else step + 3
            disk.heal()
            await asyncio.to_thread(schema.migrate, here.store)
            with closing(sqlite3.connect(here.store)) as connection:
                names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            assert set(tables.metadata.tables) <= names
            assert is_sound(here.store)
        disk.heal()
        async with here.serving() as daemon:
            call_ids = await place(daemon, here)
            await here.end(daemon, call_ids)
            case.show(await here.figures(daemon, call_ids), kills=kills)
            await daemon.command.stopped()
    assert kills >= 5


NEWER = """
from alembic import op
import sqlalchemy as sa

revision, down_revision = "9999", "{head}"
branch_labels = depends_on = None


def upgrade():
    op.add_column("call", sa.Column("mood", sa.Text))
    op.add_column("entry", sa.Column("weight", sa.Integer, nullable=False, server_default="1"))
    op.create_index("ix_call_mood", "call", ["mood"])
"""


def newer(folder: Path) -> Path:
    """Make the scripts of a release that comes after this one; nothing was released yet, so it is made up."""
    scripts = folder / "migrations"
    shutil.copytree(schema.scripts(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9999_a_mood.py").write_text(NEWER.format(head=schema.head()))
    return scripts


@pytest.mark.case("C19")
async def test_of_two_releases_on_one_file_the_older_writes_until_the_newer_has_brought_it_up_and_never_after(
    case: Case, tmp_path: Path
) -> None:
    scripts = newer(tmp_path)
    codes: dict[str, int] = {}

    async def refused(here: Site, words: str) -> str:
        async with here.starting(words=words.split()) as begun:
            code, _, log = await begun.ended()
        codes[words if here.migrations is None else f"newer {words}"] = code
        return log

    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as older:
            key = older.key
            call_ids = await place(older, here, 3)
            # while one release runs, the other changes nothing under its feet
            here.migrations = scripts
            assert "another rtobserver runs" in await refused(here, "migrate")
            assert "another rtobserver runs" in await refused(here, "serve")
            await further(here.simulator, call_ids, 10)
            await older.command.stopped()
        async with here.starting() as begun:
            later = await here.listening(begun, key)
            await observed(here.simulator, call_ids)
            call_ids += await place(later, here, 2)
            here.migrations = None
            assert "9999" in await refused(here, "keys create --name old")
            begun.process.kill()
            await begun.ended()
        assert "9999" in await refused(here, "serve")
        here.migrations = scripts
        async with here.starting() as begun:
            last = await here.listening(begun, key)
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 10)
            await here.end(last, call_ids)
            figures = await here.figures(last, call_ids)
            await last.command.stopped()
        case.show(figures, codes=codes, adopted=last.adopted)
    assert (later.adopted, last.adopted) == (3, 5)
    assert codes == {"newer migrate": 1, "newer serve": 1, "keys create --name old": 3, "serve": 3}
    assert is_sound(here.store)


@pytest.mark.parametrize("name", ["calls.db", pytest.param("other.db", marks=pytest.mark.quarter)])
@pytest.mark.case("D18")
async def test_a_second_daemon_on_the_same_file_is_refused_by_whatever_name(
    case: Case, tmp_path: Path, name: str
) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here)
        (tmp_path / "other.db").symlink_to(here.store)
        async with here.starting(RTOBSERVER_STORE__URL=f"sqlite:///{name}") as second:
            code, _, log = await second.ended()
        await here.end(daemon, call_ids)
        case.show(await here.figures(daemon, call_ids), code=code)
        assert "another rtobserver runs" in log
        assert code == 1
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("D18")
async def test_a_second_daemon_on_the_same_file_is_refused_by_a_name_that_has_a_lock_of_its_own(
    case: Case, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here)
        (other / "calls.db").hardlink_to(here.store)
        async with here.starting(RTOBSERVER_STORE__URL="sqlite:///other/calls.db") as second:
            code, _, log = await second.ended()
        (other / "calls.db").unlink()
        await further(here.simulator, call_ids, 10)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        case.show(figures, code=code)
        await daemon.command.stopped()
    assert "hard links" in log
    assert "Traceback" not in log
    assert code != 0
    assert figures.missing == 0
    assert is_sound(here.store)
