"""The machine's wall clock is set, or runs wrong, in the middle of calls (case C17)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.acts import place
from tests.faults.clocks import WallClock
from tests.faults.ground import record, site, stream
from tests.faults.table import Case
from tests.process.test_killed import further

pytestmark = [pytest.mark.timeout(120)]


@pytest.mark.parametrize("offset", ["-3600s", "+3600s", "+0 x1.5"], ids=["back", "forward", "fast"])
@pytest.mark.case("C17")
async def test_a_clock_that_is_set_changes_neither_order_nor_durations(case: Case, tmp_path: Path, offset: str) -> None:
    clock = WallClock(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here, here.serving(**clock.environ) as daemon:
        call_ids = await place(daemon, here, 3, events=20)
        clock.set(offset)
        began = time.monotonic()
        await further(here.simulator, call_ids, 40)
        await here.end(daemon, call_ids)
        took = time.monotonic() - began
        figures = await here.figures(daemon, call_ids)
        seconds, inverted, jump = 0.0, 0, 0.0
        for call_id in call_ids:
            call = await daemon.get(f"/calls/{call_id}")
            assert call["completeness"] == "complete"
            seconds = max(seconds, call["duration_seconds"])
            entries = (await record(daemon, call_id)).entries
            offsets = [entry.fields["offset_ms"] for entry in entries]
            inverted += offsets != sorted(offsets)
            jump = oracle.seconds(entries[-1].fields["at"]) - oracle.seconds(entries[0].fields["at"])
        case.show(figures, longest_call_s=round(seconds, 2), offsets_inverted=inverted, wall_clock_moved_s=round(jump))
        # or the clock was never set
        assert abs(jump) > (seconds * 1.1 if "x" in offset else 3_000)
        assert inverted == 0
        assert figures.missing == 0
        assert seconds < took + 30
        await daemon.command.stopped()
