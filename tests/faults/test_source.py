"""Upstream closes, keeps silent, refuses, delays (cases A01 to A10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.process.stage import Daemon
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(180)]

SOON = {"RTOBSERVER_OBSERVER__ATTACH_TIMEOUT": "3s", "RTOBSERVER_OBSERVER__IDLE_PROBE": "1s"}


async def place(daemon: Daemon, here: Site, count: int = 1, events: int = 5) -> list[str]:
    """Place calls and wait until something of each was produced."""
    call_ids = [await daemon.place() for _ in range(count)]
    await observed(here.simulator, call_ids)
    if events:
        await further(here.simulator, call_ids, events)
    return call_ids


def recovery(here: Site, call_id: str) -> float:
    """Give the longest time in which a call had no sideband and later had one again."""
    told = oracle.read_ledger(here.ledger)[call_id]
    return max((end - begin for begin, end in told.away if end != float("inf")), default=0.0)


@pytest.mark.quarter
@pytest.mark.case("A01")
async def test_a_clean_close_in_the_middle_of_an_answer_is_no_end(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 4)
        for _ in range(3):
            for call_id in call_ids:
                await here.simulator.close_sidebands(call_id, 1000)
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 5)
        for call_id in call_ids:
            assert (await daemon.get(f"/calls/{call_id}"))["status"] == "live"
        await here.end(daemon, call_ids)
        longest = max(recovery(here, call_id) for call_id in call_ids)
        gaps = [len((await record(daemon, call_id)).gaps) for call_id in call_ids]
        case.show(await here.figures(daemon, call_ids), t_recover_s=round(longest, 3), gaps=gaps)
        # a second on a machine of its own; it is shared here
        assert longest < 3
        assert gaps == [4] * len(call_ids)
        await daemon.command.stopped()
