"""PostgreSQL stopped, broken off, held or out of reach while calls go on (C01 to C07, C15)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from rtobserver.simulator.scenario import Flood, Scenario
from rtobserver.simulator.scenario_file import load_scenario
from rtobserver.store.places import Server
from tests.faults.acts import place, still
from tests.faults.ground import record, stream
from tests.faults.servers import ServerSite, server_site
from tests.faults.table import Case
from tests.faults.test_kills import finished, killed
from tests.faults.test_load import metric
from tests.process.stage import Daemon, Watch, until
from tests.process.test_killed import observed

CAUGHT_UP = 500
"""Lines that may wait where the database takes what comes."""


async def run(server: Server, statement: str) -> int:
    """Run a statement beside the daemon; gives how many rows it has."""
    connection = await asyncpg.connect(server.url)
    try:
        return len(await connection.fetch(statement))
    finally:
        await connection.close()


async def caught_up(daemon: Daemon) -> bool | None:
    return await metric(daemon, "rtobserver_journal_rows") < CAUGHT_UP or None


async def outage(case: Case, here: ServerSite, *, calls: int, rate: float, seconds: float, drain_factor: float) -> None:
    """Stop the server for a while under load, and count what is there afterwards."""
    assert here.cluster is not None
    async with here.serving() as daemon:
        call_ids = await place(daemon, here, calls, events=5)
        before = here.measured.rss
        await asyncio.to_thread(here.cluster.stop, "fast")
        began = time.monotonic()
        # whoever calls now is served, too
        call_ids += await place(daemon, here, 1, events=5)
        status, said = await here.readiness(daemon)
        assert (status, said["status"]) == (200, "degraded")
        assert any("away" in str(reason) for reason in said["reasons"]), said
        await still(max(0.0, seconds - (time.monotonic() - began)), here)
        away = time.monotonic() - began
        await asyncio.to_thread(here.cluster.start)
        watch = Watch()
        await until(lambda: caught_up(daemon), 300)
        drained = watch.seconds()
        growth = here.measured.rss - before
        await here.end(daemon, call_ids)
        status, said = await here.readiness(daemon)
        figures = await here.figures(daemon, call_ids)
        # what waited, and what came meanwhile, over what comes in the same time of a machine of its own
        factor = (away + drained) / max(drained, 0.001)
        case.show(
            figures,
            calls=calls,
            events_per_s=round(calls * rate),
            away_s=round(away, 1),
            drained_s=round(drained, 2),
            drain_factor=round(factor, 1),
            rss_growth=round(growth, 1),
        )
        assert (figures.missing, figures.closes_by_us, figures.gap_s) == (0, 0, 0)
        assert growth <= 64
        assert factor >= drain_factor
        assert said["status"] == "ok"
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.timeout(240)
@pytest.mark.case("C01")
async def test_a_database_that_is_stopped_for_a_while_costs_nothing(case: Case, tmp_path: Path) -> None:
    async with server_site(tmp_path, scenario=stream(10)) as here:
        here.configure()
        await outage(case, here, calls=20, rate=10, seconds=8, drain_factor=2)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.case("C01")
async def test_a_database_that_is_stopped_for_a_minute_at_2000_events_a_second_costs_nothing(
    case: Case, tmp_path: Path
) -> None:
    async with server_site(tmp_path, scenario=stream(10), remember=False) as here:
        here.configure()
        await outage(case, here, calls=200, rate=10, seconds=60, drain_factor=5)


async def kill_connections(case: Case, here: ServerSite, *, calls: int, times: int, pause: float) -> None:
    async with here.serving() as daemon:
        call_ids = await place(daemon, here, calls, events=5)
        killed = 0
        for _ in range(times):
            killed += await run(
                here.server,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'rtobserver%' AND pid <> pg_backend_pid()",
            )
            await still(pause, here)
        await until(lambda: caught_up(daemon))
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        case.show(figures, killed=killed)
        assert killed >= times
        assert (figures.missing, figures.closes_by_us, figures.gap_s) == (0, 0, 0)


@pytest.mark.timeout(240)
@pytest.mark.case("C02")
async def test_connections_that_are_killed_each_half_second_cost_nothing(case: Case, tmp_path: Path) -> None:
    async with server_site(tmp_path, scenario=stream(10)) as here:
        here.configure()
        await kill_connections(case, here, calls=20, times=12, pause=0.5)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.case("C02")
async def test_connections_that_are_killed_every_two_seconds_for_a_minute_cost_nothing(
    case: Case, tmp_path: Path
) -> None:
    async with server_site(tmp_path, scenario=stream(10), remember=False) as here:
        here.configure()
        await kill_connections(case, here, calls=100, times=30, pause=2.0)


@pytest.mark.timeout(240)
@pytest.mark.case("C03")
async def test_a_server_that_crashes_and_comes_back_has_everything(case: Case, tmp_path: Path) -> None:
    async with server_site(tmp_path, scenario=stream(10)) as here:
        here.configure()
        assert here.cluster is not None
        async with here.serving() as daemon:
            call_ids = await place(daemon, here, 20, events=5)
            for _ in range(3):
                await asyncio.to_thread(here.cluster.restart, "immediate")
                await still(1.0, here)
            await until(lambda: caught_up(daemon))
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            case.show(figures)
            assert (figures.missing, figures.closes_by_us, figures.gap_s) == (0, 0, 0)


HELD = ("entry", "call", "item", "response", "command", "lease", "journal")
"""Tables that a batch writes."""
TALKING = Scenario(name="talking", steps=(*load_scenario("three_turns").steps, Flood(rate=10, seconds=0)))


async def hold_tables(case: Case, here: ServerSite, tables: Sequence[str], *, calls: int, seconds: float) -> None:
    async with here.serving() as daemon:
        call_ids = await place(daemon, here, calls, events=5)
        connection = await asyncpg.connect(here.server.url)
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
            call_ids += await place(daemon, here, 1)
            await still(seconds, here)
        await connection.close()
        await until(lambda: caught_up(daemon))
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        case.show(figures, held_s=seconds)
        assert (figures.missing, figures.closes_by_us, figures.gap_s) == (0, 0, 0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("table", HELD)
@pytest.mark.case("C07")
async def test_a_table_that_is_held_for_longer_than_the_lock_time_out_costs_nothing(
    case: Case, tmp_path: Path, table: str
) -> None:
    async with server_site(tmp_path, scenario=TALKING) as here:
        here.configure()
        await hold_tables(case, here, [table], calls=10, seconds=8)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tables", [HELD[:1], HELD[1:]], ids=["entry", "all others"])
@pytest.mark.case("C07")
async def test_tables_that_are_held_for_a_minute_cost_nothing(
    case: Case, tmp_path: Path, tables: Sequence[str]
) -> None:
    async with server_site(tmp_path, scenario=TALKING, remember=False) as here:
        here.configure()
        await hold_tables(case, here, tables, calls=100, seconds=60)


@pytest.mark.parametrize(
    "failpoint",
    [
        *("journal.line=kill@5", "journal.committed=kill@5", "journal.begun=kill@2", "journal.forgotten=kill"),
        *("ship.moved=kill@5", "ship.brought=kill@5", "ship.committed=kill@5"),
    ],
    ids=lambda text: text.partition("=")[0],
)
@pytest.mark.timeout(240)
@pytest.mark.case("D02")
async def test_a_kill_on_the_way_from_the_journal_costs_only_what_was_not_in_it(
    case: Case, tmp_path: Path, failpoint: str
) -> None:
    point = failpoint.partition("=")[0]
    async with server_site(tmp_path, scenario=stream(20)) as here:
        here.configure()
        async with here.serving(failpoint) as first:
            with contextlib.suppress(aiohttp.ClientError):
                await first.offer()
            await killed(first)
            died_at = time.time()
        [call_id] = here.simulator.calls
        async with here.serving() as second:
            await observed(here.simulator, [call_id])
            back = time.time()
            figures = await finished(case, here, second, [call_id], point)
        # what was received and not yet committed to the journal, and what came until somebody listened again
        assert figures.missing <= 20 * (back - died_at) + 20
        assert (figures.dup, figures.holes, figures.closes_by_us) == (0, 0, 0)


@pytest.mark.timeout(240)
@pytest.mark.case("C15")
async def test_a_journal_that_takes_all_its_room_gives_up_small_change_first(case: Case, tmp_path: Path) -> None:
    async with server_site(tmp_path, scenario=stream(100)) as here:
        here.configure(store='journal_max = "1MiB"')
        assert here.cluster is not None
        async with here.serving() as daemon:
            call_ids = await place(daemon, here, 10, events=5)
            await asyncio.to_thread(here.cluster.stop, "fast")
            await daemon.command.logged("journal_short_of_room")
            await still(2.0, here)
            await asyncio.to_thread(here.cluster.start)
            await daemon.command.logged("journal_has_room")
            await until(lambda: caught_up(daemon))
            await still(1.0, here)
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            found = [await record(daemon, call_id) for call_id in call_ids]
            lost = [gap for each in found for gap in each.gaps if gap["lost"]]
            case.show(figures, shed=sum(gap["lost"] for gap in lost))
            assert figures.missing == sum(gap["lost"] for gap in lost) > 0
            assert {gap["reason"] for gap in lost} == {"disk"}
            assert {name.rpartition(".")[2] for gap in lost for name in gap["lost_by_type"]} == {"delta"}
            # it records everything again, by itself
            assert all(each.entries[-1].fields["seq"] > max(gap_seq(gap) for gap in each.gaps) for each in found)


def gap_seq(gap: dict[str, str | None]) -> int:
    """Give the place of a gap in its epoch."""
    return int((gap["after"] or "0:0").partition(":")[2])
