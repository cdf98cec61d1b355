"""The way from the journal to PostgreSQL goes nowhere, the server has no room, the journal's own disk fails.

Cases C04, C06, C11 and C16 where calls are recorded to PostgreSQL.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.acts import place, still
from tests.faults.disks import Disk, fill, small_disk
from tests.faults.ground import record, stream
from tests.faults.proxy import between
from tests.faults.servers import ServerSite, server_site
from tests.faults.table import Case
from tests.faults.test_database_away import caught_up
from tests.faults.test_load import metric
from tests.process.stage import Daemon, until
from tests.process.test_killed import further

pytestmark = [pytest.mark.timeout(240)]

NOTICED = 12.0
"""Seconds within which a database that answers nothing is known to be away."""
PATIENCE = 120.0


PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entry'::regclass"
LOOK = 0.05
"""Seconds between two looks at what the daemon says of itself, which costs it something."""


async def says_away(daemon: Daemon, here: ServerSite) -> bool | None:
    await still(LOOK, here)
    status, said = await here.readiness(daemon)
    assert status == 200, "a daemon that records without its database is of use"
    return True if any("away" in str(reason) for reason in said["reasons"]) else None


async def is_well(daemon: Daemon, here: ServerSite) -> bool | None:
    await still(LOOK, here)
    _, said = await here.readiness(daemon)
    return True if said["status"] == "ok" else None


def owner_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


@pytest.mark.parametrize("how", [pytest.param("swallow", marks=pytest.mark.quarter), "stall"])
@pytest.mark.case("C04")
async def test_a_database_that_nothing_comes_back_from_is_found_out_and_costs_nothing(
    case: Case, tmp_path: Path, how: str
) -> None:
    async with server_site(tmp_path, scenario=stream(50)) as here:
        assert here.cluster is not None
        async with between(f"http://127.0.0.1:{here.cluster.port}") as proxy:
            here.url = here.server.url.replace(f":{here.cluster.port}/", f":{proxy.port}/")
            here.configure()
            async with here.serving() as daemon:
                call_ids = await place(daemon, here, 10)
                # whose key was known before is answered while the database is away
                assert await metric(daemon, "rtobserver_database_away") == 0
                began = time.monotonic()
                # nothing is refused and nothing is closed: whoever waits has only its own patience
                for way in (proxy.up, proxy.down):
                    setattr(way, how, True)
                await until(lambda: says_away(daemon, here), PATIENCE)
                noticed = time.monotonic() - began
                call_ids += await place(daemon, here, 1)
                await still(5.0, here)
                waiting = await metric(daemon, "rtobserver_journal_rows")
                for way in (proxy.up, proxy.down):
                    way.heal()
                proxy.switched()
                await until(lambda: is_well(daemon, here), PATIENCE)
                await until(lambda: caught_up(daemon), PATIENCE)
                await here.end(daemon, call_ids)
                figures = await here.figures(daemon, call_ids)
                case.show(figures, most={"t_detect_s": NOTICED}, t_detect_s=round(noticed, 1), waiting=waiting)
                assert waiting > 1_000
                assert (figures.missing, figures.closes_by_us, figures.gap_s) == (0, 0, 0)
                await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("C06")
async def test_a_database_without_room_for_entries_gets_them_once_it_has(case: Case, tmp_path: Path) -> None:
    async with server_site(tmp_path, scenario=stream(50)) as here:
        here.configure()
        assert here.cluster is not None
        run = here.cluster.execute
        [(data,)] = await asyncio.to_thread(run, "SHOW data_directory")
        with small_disk(Path(data).parent, 8) as disk:
            shutil.chown(disk, *owner_of(Path(data)))
            await asyncio.to_thread(run, f"CREATE TABLESPACE small LOCATION '{disk}'")
            async with here.serving() as daemon:
                call_ids = await place(daemon, here, 10)
                assert await metric(daemon, "rtobserver_database_away") == 0
                for name in await asyncio.to_thread(run, PARTITIONS, url=here.server.url):
                    await asyncio.to_thread(run, f"ALTER TABLE {name[0]} SET TABLESPACE small", url=here.server.url)
                filler = await asyncio.to_thread(fill, disk)
                await until(lambda: says_away(daemon, here), PATIENCE)
                call_ids += await place(daemon, here, 1)
                await still(3.0, here)
                waiting = await metric(daemon, "rtobserver_journal_rows")
                filler.unlink()
                await until(lambda: is_well(daemon, here), PATIENCE)
                await until(lambda: caught_up(daemon), PATIENCE)
                await here.end(daemon, call_ids)
                figures = await here.figures(daemon, call_ids)
                case.show(figures, waiting=waiting)
                assert waiting > 500
                assert (figures.missing, figures.closes_by_us, figures.gap_s) == (0, 0, 0)
                await daemon.command.stopped()


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        pytest.param("write", errno.EIO, id="journal write EIO"),
        pytest.param("write", errno.ENOSPC, id="journal write ENOSPC"),
        pytest.param("sync", errno.EIO, id="journal sync EIO", marks=pytest.mark.quarter),
        pytest.param("sync", errno.ENOSPC, id="journal sync ENOSPC"),
    ],
)
@pytest.mark.case("C11")
async def test_a_journal_s_disk_that_fails_at_random_costs_nothing(
    case: Case, tmp_path: Path, operation: str, number: int
) -> None:
    disk = Disk(tmp_path)
    async with server_site(tmp_path, scenario=stream(50)) as here:
        here.configure()
        async with here.serving(**disk.environ) as daemon:
            call_ids = await place(daemon, here)
            disk.fail(operation, ".journal", number, percent=5)
            await further(here.simulator, call_ids, 500)
            disk.heal()
            await until(lambda: is_well(daemon, here), PATIENCE)
            tried = len(daemon.command.events("store_failing"))  # type: ignore[attr-defined]
            await further(here.simulator, call_ids, 50)
            await until(lambda: caught_up(daemon), PATIENCE)
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            reasons = {gap["reason"] for call_id in call_ids for gap in (await record(daemon, call_id)).gaps}
            await daemon.command.stopped()
            case.show(figures, failures=tried)
            assert tried > 0, "the disk was to fail"
            if (operation, number) == ("write", errno.ENOSPC):
                # a commit is several writes: this disk says all but always that it is full
                assert reasons <= {"before_attach", "disk"}
            else:
                assert reasons <= {"before_attach"}
                assert figures.missing == 0
            assert not list((tmp_path / "journal").glob("*.damaged"))


@pytest.mark.quarter
@pytest.mark.case("C16")
async def test_a_journal_that_may_not_be_written_keeps_a_daemon_from_starting(case: Case, tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    async with server_site(tmp_path, scenario=stream(20)) as here:
        here.configure()
        async with here.serving() as daemon:
            call_ids = await place(daemon, here)
            await here.end(daemon, call_ids)
            await daemon.command.stopped()
        disk.fail("open", ".journal", errno.EROFS)
        async with here.starting(**disk.environ) as begun:
            code, _, log = await begun.ended()
        assert code == 1, log
        assert "rtobserver: " in log
        assert "Traceback" not in log
        disk.heal()
        async with here.serving(**disk.environ) as daemon:
            case.show(await here.figures(daemon, call_ids), exit_code=code)
            await daemon.command.stopped()


@pytest.mark.parametrize("what", ["the files", "the folder for a while", "written over", "its log cut"])
@pytest.mark.case("C16")
async def test_a_journal_that_somebody_takes_away_or_harms_costs_nothing(case: Case, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "journal"
    async with server_site(tmp_path, scenario=stream(20)) as here:
        here.configure()
        assert here.cluster is not None
        async with here.serving() as daemon:
            call_ids = await place(daemon, here, 3, events=40)
            # nothing of it is elsewhere
            await asyncio.to_thread(here.cluster.stop, "fast")
            await further(here.simulator, call_ids, 40)
            if what == "the files":
                for path in folder.glob("*.journal*"):
                    path.unlink()
            elif what == "written over":
                newest = max(folder.glob("*.journal"))
                newest.write_bytes(b"\xff" * newest.stat().st_size)
            elif what == "its log cut":
                os.truncate(max(folder.glob("*.journal-wal")), 0)
            else:
                await asyncio.to_thread(shutil.rmtree, folder)
                await further(here.simulator, call_ids, 40)
                folder.mkdir(mode=0o700)
            await daemon.command.logged("journal_written_again")
            _, said = await here.readiness(daemon)
            assert any("was saved" in str(reason) or "was damaged" in str(reason) for reason in said["reasons"]), said
            await further(here.simulator, call_ids, 40)
            await asyncio.to_thread(here.cluster.start)
            await until(lambda: caught_up(daemon), PATIENCE)
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            case.show(figures)
            assert (figures.missing, figures.closes_by_us) == (0, 0)
            await daemon.command.stopped()
