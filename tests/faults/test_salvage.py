"""The daemon is killed while it puts a new database in the place of a damaged one (cases C14 and D02)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from pathlib import Path

import aiohttp
import pytest

from tests.faults.acts import place
from tests.faults.disks import Disk
from tests.faults.failpoints import REPLACING
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.faults.test_kills import killed
from tests.faults.test_storage_damaged import aside, destroy, destroy_while_open, root_of
from tests.faults.test_storage_full import is_sound, readiness
from tests.process.stage import Daemon
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(180)]

PAGE_OF_ENTRIES = 40
"""Entries, at most, that stood on the page that was destroyed."""
WAITING = 6.0
"""Seconds for which frames may have waited in memory until the kill: in upstream's eyes they were heard."""


async def read_all(daemon: Daemon, call_ids: list[str]) -> None:
    """Read every entry until the daemon dies of what it finds; a page that it remembers is not read."""
    with contextlib.suppress(aiohttp.ClientError):
        while daemon.process.returncode is None:
            for call_id in call_ids:
                await daemon.status(f"/api/v1/calls/{call_id}/entries?limit=1000")


async def stored(daemon: Daemon, call_id: str) -> set[bytes]:
    """Give the payloads of a call's entries."""
    return {entry.payload for entry in (await record(daemon, call_id)).entries}


def left_over(folder: Path) -> list[str]:
    """List what only an unfinished replacement leaves."""
    return [path.name for path in folder.iterdir() if ".unfinished" in path.name or ".whole-" in path.name]


def unfinished_bytes(folder: Path) -> int:
    """Count what unfinished replacements take of the disk."""
    return sum(path.stat().st_size for path in folder.glob("*.unfinished*"))


async def go_on(case: Case, here: Site, first: Daemon, live: list[str], before: dict[str, set[bytes]]) -> None:
    """Start again after the kill, and look what is left of the calls."""
    async with here.serving() as second:
        await observed(here.simulator, live)
        await further(here.simulator, live, 10)
        told = await readiness(second)
        # the keys were brought over, as was the one that was made in between
        assert (await second.get("/calls?limit=10", key=first.key))["data"]
        await here.end(second, live)
        figures = await here.figures(second, list(before))
        lost = sum([len(before[call_id] - await stored(second, call_id)) for call_id in before])
        gaps = [gap for call_id in before for gap in (await record(second, call_id)).gaps]
        verdicts = {(await second.get(f"/calls/{call_id}"))["completeness"] for call_id in before}
        await second.command.stopped()
    corrupt = sum(gap["lost"] for gap in gaps if gap["reason"] == "corrupt")
    case.show(figures, overhang=WAITING, lost_behind_a_commit=lost, declared=corrupt, readyz=told["status"])
    assert told["status"] == "degraded"
    assert verdicts <= {"complete", "complete_with_gaps"}
    assert lost <= PAGE_OF_ENTRIES, "what could be read was brought over"
    assert corrupt > 0
    assert corrupt >= lost
    assert left_over(here.folder) == []
    assert len(aside(here.folder)) == 1
    assert is_sound(here.store)


@pytest.mark.parametrize(
    "point",
    [pytest.param(name, marks=pytest.mark.quarter) if name == "salvage.entries" else name for name in REPLACING],
)
@pytest.mark.case("C14")
async def test_a_kill_while_a_damaged_file_is_replaced_loses_nothing_that_can_be_read(
    case: Case, tmp_path: Path, point: str
) -> None:
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving(f"{point}=kill") as first:
            ended = await place(first, here, 1, events=80)
            live = await place(first, here, 2, events=40)
            await here.end(first, ended)
            before = {call_id: await stored(first, call_id) for call_id in (*ended, *live)}
            await asyncio.to_thread(destroy_while_open, here.store, "entry")
            await read_all(first, [*ended, *live])
            await killed(first)
        await go_on(case, here, first, live, before)


@pytest.mark.parametrize(
    ("first_point", "second_point"),
    [
        pytest.param("salvage.entries", "salvage.entries", marks=pytest.mark.quarter),
        ("salvage.whole", "salvage.admitting"),
        ("salvage.admitting", "replacement.whole"),
        ("replacement.whole", "replacement.half_aside"),
        ("replacement.half_aside", "replacement.aside"),
        ("replacement.aside", "replacement.done"),
    ],
)
@pytest.mark.case("C14")
async def test_a_second_kill_in_the_start_that_completes_a_replacement_loses_nothing_either(
    case: Case, tmp_path: Path, first_point: str, second_point: str
) -> None:
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving(f"{first_point}=kill") as first:
            ended = await place(first, here, 1, events=80)
            live = await place(first, here, 2, events=40)
            await here.end(first, ended)
            before = {call_id: await stored(first, call_id) for call_id in (*ended, *live)}
            await asyncio.to_thread(destroy_while_open, here.store, "entry")
            await read_all(first, [*ended, *live])
            await killed(first)
        async with here.starting(f"{second_point}=kill") as again:
            await killed(again)
        await go_on(case, here, first, live, before)


@pytest.mark.parametrize("when", [pytest.param("running", marks=pytest.mark.quarter), "starting"])
@pytest.mark.case("C14")
async def test_a_disk_that_fills_while_a_damaged_file_is_copied_costs_time_and_no_more(
    case: Case, tmp_path: Path, when: str
) -> None:
    disk = Disk(tmp_path)
    async with site(tmp_path, scenario=stream(50)) as here:
        async with here.serving(**disk.environ) as first:
            ended = await place(first, here, 1, events=80)
            live = await place(first, here, 2, events=40)
            await here.end(first, ended)
            before = {call_id: await stored(first, call_id) for call_id in (*ended, *live)}
            disk.fail("write", "calls.db.unfinished", errno.ENOSPC, after=20)
            if when == "running":
                await asyncio.to_thread(destroy_while_open, here.store, "entry")
                for call_id in (*ended, *live):
                    await first.status(f"/api/v1/calls/{call_id}/entries?limit=1000")
                await first.command.logged("store_failing", trouble="full")
                room = unfinished_bytes(tmp_path)
                disk.heal()
                await first.command.logged("database_damaged")
            await first.command.stopped()
        if when == "starting":
            await asyncio.to_thread(lambda: destroy(here.store, root_of(here.store, "gap")))
            async with here.starting(**disk.environ) as begun:
                await begun.logged("store_waited_for")
                # the third try: an operator reads once what is in the way, and nothing of an earlier run
                await begun.logged("still_starting")
                room = unfinished_bytes(tmp_path)
                disk.heal()
                await begun.logged("database_damaged")
                await begun.logged("listening")
                said = [len(begun.events(event)) for event in ("store_waited_for", "replacement_cut_off")]
                await begun.stopped()
            assert said == [1, 0]
        async with here.serving() as second:
            await observed(here.simulator, live)
            await further(here.simulator, live, 10)
            await here.end(second, live)
            figures = await here.figures(second, [*ended, *live])
            lost = sum([len(before[call_id] - await stored(second, call_id)) for call_id in before])
            await second.command.stopped()
    case.show(figures, overhang=WAITING, lost_behind_a_commit=lost)
    assert room == 0, "what was copied in vain has given its room back"
    assert lost <= (PAGE_OF_ENTRIES if when == "running" else 0)
    assert left_over(tmp_path) == []
    assert len(aside(tmp_path)) == 1
    assert is_sound(here.store)
