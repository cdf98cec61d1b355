"""The machine's wall clock is set, or runs wrong, in the middle of calls (case C17)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.acts import FIRST, place
from tests.faults.clocks import WallClock
from tests.faults.ground import record, site, stream
from tests.faults.oracle import Told
from tests.faults.table import Case
from tests.process.test_killed import further
from tests.support.stage import Entry

pytestmark = [pytest.mark.timeout(120)]

WRONG = 0.5
"""Seconds by which a duration may differ from upstream's word, besides what a loop that stood still missed at either
end; a machine on which that adds up to as much as the clock was set by can tell nothing, and fails the case."""


def span(told: Told, entries: Sequence[Entry]) -> float:
    """Give the seconds between the first and the last of these entries by upstream's clock, which nobody set."""
    at = {sent.event_id: sent.at for sent in told.events}
    known = [at[entry.fields["event_id"]] for entry in entries if entry.fields["event_id"] in at]
    return known[-1] - known[0]


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param("-3600s", id="back"),
        pytest.param("+3600s", id="forward"),
        pytest.param("+0 x1.5", id="fast"),
    ],
)
@pytest.mark.case("C17")
async def test_a_clock_that_is_set_changes_neither_order_nor_durations(case: Case, tmp_path: Path, offset: str) -> None:
    clock = WallClock(tmp_path)
    async with site(tmp_path, scenario=stream(20)) as here, here.serving(prefix=FIRST, **clock.environ) as daemon:
        call_ids = await place(daemon, here, 3, events=20)
        clock.set(offset)
        began = time.monotonic()
        await further(here.simulator, call_ids, 60)
        await here.end(daemon, call_ids)
        took = time.monotonic() - began
        figures = await here.figures(daemon, call_ids)
        told = oracle.read_ledger(here.ledger)
        inverted, jump, wrong, drift = 0, 0.0, 0.0, 0.0
        for call_id in call_ids:
            call = await daemon.get(f"/calls/{call_id}")
            assert call["completeness"] == "complete"
            upstreams = told[call_id]
            wrong = max(wrong, abs(call["duration_seconds"] - (upstreams.over_at - upstreams.answered_at)))
            entries = [each for each in (await record(daemon, call_id)).entries if each.kind == "event"]
            offsets = [entry.fields["offset_ms"] for entry in entries]
            inverted += offsets != sorted(offsets)
            drift = max(drift, abs((offsets[-1] - offsets[0]) / 1000 - span(upstreams, entries)))
            jump = oracle.seconds(entries[-1].fields["at"]) - oracle.seconds(entries[0].fields["at"])
        allowed = WRONG + 2 * figures.loop_gap / 1000
        case.show(
            figures,
            offsets_inverted=inverted,
            wall_clock_moved_s=round(jump, 1),
            lasted_s=round(took, 1),
            allowed_s=round(allowed, 2),
            duration_wrong_by_s=round(wrong, 2),
            offsets_wrong_by_s=round(drift, 2),
        )
        # or the clock was never set
        assert abs(jump) > (took + allowed if "x" in offset else 3_000)
        assert inverted == 0
        assert figures.missing == 0
        assert wrong <= allowed
        assert drift <= allowed
        await daemon.command.stopped()
