"""The machine's wall clock is set while nobody listens: gaps are as long as they are (case C17)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.acts import place
from tests.faults.clocks import WallClock
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.process.stage import Daemon
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(120)]

IDS = ("back", "forward", "back a little")


async def lengths(here: Site, daemon: Daemon, call_id: str, reason: str) -> tuple[float, float, bool]:
    """Give how long a call's gap is, how long nobody was attached, and whether offsets of entries only grow."""
    [gap] = [gap for gap in (await record(daemon, call_id)).gaps if gap["reason"] == reason]
    absences = [(begin, end) for begin, end in oracle.read_ledger(here.ledger)[call_id].absences]
    [(begin, end)] = absences
    offsets = [entry.fields["offset_ms"] for entry in (await record(daemon, call_id)).entries]
    return oracle.seconds(gap["to"]) - oracle.seconds(gap["from"]), end - begin, offsets == sorted(offsets)


@pytest.mark.parametrize("offset", [pytest.param("-3600s", marks=pytest.mark.quarter), "+3600s", "-1s"], ids=IDS)
@pytest.mark.case("C17")
async def test_a_clock_that_is_set_while_nobody_is_attached_changes_no_gap(
    case: Case, tmp_path: Path, offset: str
) -> None:
    clock = WallClock(tmp_path)
    async with site(tmp_path, scenario=stream(20), proxied=True) as here, here.serving(**clock.environ) as daemon:
        assert here.proxy is not None
        [call_id] = await place(daemon, here, 1, events=10)
        here.proxy.refuses = True
        await here.simulator.drop_sidebands(call_id)
        await further(here.simulator, [call_id], 20)
        clock.set(offset)
        await further(here.simulator, [call_id], 20)
        here.proxy.refuses = False
        await observed(here.simulator, [call_id])
        await further(here.simulator, [call_id], 10)
        await here.end(daemon, [call_id])
        figures = await here.figures(daemon, [call_id])
        long, away, grow = await lengths(here, daemon, call_id, "reattach")
        await daemon.command.stopped()
    case.show(figures, gap_s=round(long, 2), away_s=round(away, 2))
    assert away > 1.5
    assert abs(long - away) < 2
    assert grow


@pytest.mark.parametrize("offset", ["-3600s", "+3600s", "-1s"], ids=IDS)
@pytest.mark.case("C17")
async def test_a_clock_that_is_set_between_a_kill_and_the_next_start_changes_no_gap(
    case: Case, tmp_path: Path, offset: str
) -> None:
    clock = WallClock(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here:
        # age is no reason to hang up either, whatever the clock says
        here.configure(profile='max_duration = "30m"')
        async with here.serving(**clock.environ) as first:
            [call_id] = await place(first, here, 1, events=10)
            await first.get(f"/calls/{call_id}")
            await further(here.simulator, [call_id], 20)
            first.process.kill()
            await first.command.ended()
        await further(here.simulator, [call_id], 20)
        clock.set(offset)
        async with here.serving(**clock.environ) as second:
            await observed(here.simulator, [call_id])
            await further(here.simulator, [call_id], 10)
            await here.end(second, [call_id])
            figures = await here.figures(second, [call_id])
            long, away, grow = await lengths(here, second, call_id, "takeover")
            lasted = (await second.get(f"/calls/{call_id}"))["duration_seconds"]
            await second.command.stopped()
    told = oracle.read_ledger(here.ledger)[call_id]
    case.show(figures, gap_s=round(long, 2), away_s=round(away, 2), duration_s=round(lasted, 2))
    assert away > 0.5
    assert abs(long - away) < 2
    assert grow
    assert abs(lasted - (told.over_at - told.events[0].at)) < 5


@pytest.mark.case("C17")
async def test_a_clock_that_was_set_back_in_one_run_misleads_no_later_one(case: Case, tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here:
        [call_id] = [""]
        for offset in ("+3600s", "+0"):
            async with here.serving(**clock.environ) as daemon:
                if call_id:
                    await observed(here.simulator, [call_id])
                else:
                    [call_id] = await place(daemon, here, 1, events=10)
                    await daemon.get(f"/calls/{call_id}")
                clock.set(offset)
                await further(here.simulator, [call_id], 30)
                daemon.process.kill()
                await daemon.command.ended()
        async with here.serving(**clock.environ) as last:
            await observed(here.simulator, [call_id])
            await further(here.simulator, [call_id], 10)
            await here.end(last, [call_id])
            gaps = (await record(last, call_id)).gaps
            figures = await here.figures_of(last, [call_id])
            await last.command.stopped()
    taken = [oracle.seconds(gap["to"]) - oracle.seconds(gap["from"]) for gap in gaps if gap["reason"] == "takeover"]
    away = [end - begin for begin, end in oracle.read_ledger(here.ledger)[call_id].absences]
    # what was an hour ahead cannot be compared with upstream's times, the lengths can
    case.show(figures, overhang=max(taken) + 0.1, takeovers_s=taken, away_s=away)
    assert len(taken) == len(away) == 2
    assert all(abs(long - true) < 2 for long, true in zip(taken, away, strict=True))
