"""The disk fails or is slow, somebody else holds the file, the file's place is gone (cases C08, C11, C12, C16, C18)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.simulator.scenario import Flood, Scenario
from rtobserver.store import care, keys
from tests.faults.acts import FIRST, order, place
from tests.faults.disks import Disk, held
from tests.faults.ground import record, site, stream
from tests.faults.table import Case
from tests.faults.test_storage_full import figure, is_sound, readiness
from tests.process.stage import Daemon, until
from tests.process.test_killed import further

pytestmark = [pytest.mark.timeout(240)]

LOOP_GAP = 250.0
"""Milliseconds that the loop may stand still, whatever the disk does."""
SHARED = 250.0
"""Milliseconds more, because other cases run beside these."""


API_P99 = 0.5
"""Seconds within which the API answers 99 of 100 requests while it is known that the database refuses."""


async def answered(daemon: Daemon, path: str, took: list[float]) -> int:
    """Ask for something, and keep how long the answer took; gives its status."""
    began = time.monotonic()
    status = await daemon.status(path)
    took.append(time.monotonic() - began)
    return status


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


@pytest.mark.case("C08")
async def test_another_writer_may_hold_the_file_for_twenty_seconds(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving(prefix=FIRST) as daemon:
        call_ids = await place(daemon, here, 5)
        reads: list[float] = []
        health: list[float] = []
        async with held(here.store):
            began = time.monotonic()
            await daemon.command.logged("store_failing", trouble="locked")
            assert (await readiness(daemon))["status"] == "degraded"
            late = await daemon.place()
            # reading needs an audit row, so it is refused, and at once; what is public needs none
            refused = set()
            while time.monotonic() - began < 20:
                refused.add(await answered(daemon, "/api/v1/calls", reads))
                assert await answered(daemon, "/readyz", health) == 200
        freed = time.monotonic()
        await daemon.command.logged("store_recovered")
        recovery = time.monotonic() - freed
        await further(here.simulator, [*call_ids, late], 20)
        await here.end(daemon, [*call_ids, late])
        figures = await here.figures(daemon, [*call_ids, late])
        reasons = {gap["reason"] for call_id in [*call_ids, late] for gap in (await record(daemon, call_id)).gaps}
        case.show(
            figures,
            loop_gap=LOOP_GAP,
            allowance=SHARED,
            t_recover_s=round(recovery, 2),
            read_meanwhile=sorted(refused),
            requests=len(reads),
            api_p99_ms=round(p99(reads) * 1000),
            health_p99_ms=round(p99(health) * 1000),
        )
        assert refused == {503}
        assert max(p99(reads), p99(health)) <= API_P99
        assert figures.missing == 0
        assert reasons == {"before_attach"}
        assert recovery < 5
        await daemon.command.stopped()


def read_then_write(path: Path) -> tuple[str, float]:
    """Do what no writer of ours may: read in a transaction, and write in it behind another's commit.

    Gives the error's name, and how long it took to come although five seconds were allowed.
    """
    with (
        closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as one,
        closing(sqlite3.connect(path)) as other,
    ):
        one.execute("BEGIN")
        one.execute("SELECT count(*) FROM api_key").fetchall()
        [before] = other.execute("PRAGMA data_version").fetchone()
        while other.execute("PRAGMA data_version").fetchone()[0] == before:
            pass
        began = time.monotonic()
        try:
            one.execute("DELETE FROM api_key WHERE key_id = ''")
        except sqlite3.OperationalError as exc:
            return exc.sqlite_errorname, time.monotonic() - began
    return "", 0.0


@pytest.mark.quarter
@pytest.mark.case("C09")
async def test_a_writer_beside_the_daemon_makes_neither_fail(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(50)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 5)
        name, took = await asyncio.to_thread(read_then_write, here.store)

        def make_key(number: int) -> str:
            # the one writer beside the daemon that there is
            return keys.create(here.store, name=f"{number}", now_us=SystemClock().now_us())

        made: set[str] = set()
        statuses: set[int] = set()
        for number in range(20):
            async with asyncio.TaskGroup() as tasks:
                making = tasks.create_task(asyncio.to_thread(make_key, number), name="make a key")
                await order(daemon, call_ids[number % 5], "tags", {"add": [f"tag_{number}"]})
                statuses.add(await daemon.status("/api/v1/calls"))
            made.add(making.result())
        await further(here.simulator, call_ids, 20)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        failures = len(daemon.command.events("store_failing"))  # type: ignore[attr-defined]
        after = round(took, 3)
        case.show(figures, error_of_the_other_way=name, after_s=after, keys=len(made), failures=failures)
        # who does it the other way is refused, and at once: so it would show
        assert name == "SQLITE_BUSY_SNAPSHOT"
        assert took < 1
        assert (len(made), failures, figures.missing) == (20, 0, 0)
        assert statuses == {200}
        await daemon.command.stopped()


@pytest.mark.parametrize(
    ("operation", "part", "number"),
    [
        pytest.param("write", "calls.db", errno.EIO, id="write EIO"),
        pytest.param("write", "calls.db", errno.ENOSPC, id="write ENOSPC"),
        pytest.param("sync", "calls.db", errno.EIO, id="sync EIO", marks=pytest.mark.quarter),
        pytest.param("sync", "calls.db", errno.ENOSPC, id="sync ENOSPC"),
    ],
)
@pytest.mark.case("C11")
async def test_writes_and_syncs_that_fail_at_random_cost_nothing(
    case: Case, tmp_path: Path, operation: str, part: str, number: int
) -> None:
    disk = Disk(tmp_path)
    async with site(tmp_path, scenario=stream(50)) as here, here.serving(**disk.environ) as daemon:
        call_ids = await place(daemon, here, 5)
        disk.fail(operation, part, number, percent=5)
        await further(here.simulator, call_ids, 500)
        disk.heal()

        async def well() -> bool | None:
            return True if (await readiness(daemon))["status"] == "ok" else None

        await until(well)
        tried = len(daemon.command.events("store_failing"))  # type: ignore[attr-defined]
        await further(here.simulator, call_ids, 50)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        reasons = {gap["reason"] for call_id in call_ids for gap in (await record(daemon, call_id)).gaps}
        await daemon.command.stopped()
        case.show(figures, failures=tried)
        assert tried > 0, "the disk was to fail"
        if (operation, number) == ("write", errno.ENOSPC):
            # a commit is dozens of writes: this disk says all but always that it is full
            assert reasons == {"before_attach", "disk"}
        else:
            assert reasons == {"before_attach"}
            assert figures.missing == 0
        assert is_sound(here.store)
        assert not any("damaged" in name for name in os.listdir(tmp_path))  # noqa: PTH208 - a look, off no loop's path


@pytest.mark.parametrize("delay_ms", [pytest.param(200, marks=pytest.mark.quarter), 5000])
@pytest.mark.case("C12")
async def test_a_slow_disk_holds_up_nobody(case: Case, tmp_path: Path, delay_ms: int) -> None:
    disk = Disk(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here, here.serving(prefix=FIRST, **disk.environ) as daemon:
        call_ids = await place(daemon, here, 5)
        disk.slow("sync", "calls.db", delay_ms)
        began = time.monotonic()
        await here.simulator.until(lambda: time.monotonic() - began >= 20, 60)
        late = await daemon.place()
        disk.heal()
        await further(here.simulator, [*call_ids, late], 50)
        await here.end(daemon, [*call_ids, late])
        figures = await here.figures(daemon, [*call_ids, late])
        case.show(figures, loop_gap=LOOP_GAP, allowance=SHARED)
        assert figures.missing == 0
        assert figures.rss < 200
        await daemon.command.stopped()


@pytest.mark.case("C16")
async def test_a_folder_that_may_not_be_written_keeps_a_daemon_from_starting(case: Case, tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as daemon:
            call_ids = await place(daemon, here)
            await here.end(daemon, call_ids)
            await daemon.command.stopped()
        disk.fail("open", "calls.db", errno.EROFS)
        async with here.starting(**disk.environ) as begun:
            code, _, log = await begun.ended()
        assert code == 1, log
        assert "rtobserver: " in log
        assert "Traceback" not in log
        disk.heal()
        async with here.serving(**disk.environ) as daemon:
            case.show(await here.figures(daemon, call_ids), exit_code=code)
            await daemon.command.stopped()


@pytest.mark.parametrize("what", [pytest.param("the file", marks=pytest.mark.quarter), "the folder for a while"])
@pytest.mark.case("C16")
async def test_a_file_that_is_taken_away_is_written_again(case: Case, tmp_path: Path, what: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "calls.db").symlink_to(home / "calls.db")
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 3, events=40)
        if what == "the file":
            for path in home.glob("calls.db*"):
                path.unlink()
        else:
            await asyncio.to_thread(shutil.rmtree, home)
        await daemon.command.logged("database_away")
        if what != "the file":
            assert "the database file was taken away" in (await readiness(daemon))["reasons"]
            await further(here.simulator, call_ids, 40)
            home.mkdir()
        await daemon.command.logged("database_written_again")
        await further(here.simulator, call_ids, 40)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        assert (await readiness(daemon))["status"] == "ok"
        await daemon.command.stopped()
        case.show(figures)
        assert figures.missing == 0
        assert is_sound(home / "calls.db")


@pytest.mark.case("C18")
async def test_a_reader_that_holds_the_wal_back_is_told_of(case: Case, tmp_path: Path) -> None:
    heavy = Scenario(name="heavy", steps=(Flood(rate=200, seconds=0, text="word " * 1000),))
    async with site(tmp_path, scenario=heavy) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 5)
        async with held(here.store, "BEGIN;SELECT count(*) FROM entry"):
            told = await daemon.command.logged("wal_held")
            assert any("write-ahead log" in reason for reason in (await readiness(daemon))["reasons"])
        await daemon.command.logged("wal_free_again")
        after = await figure(daemon, "rtobserver_wal_bytes")
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        case.show(figures, wal_held_bytes=told["bytes"], wal_after_bytes=after)
        assert figures.missing == 0
        assert after < care.WAL_BYTES
        await daemon.command.stopped()
