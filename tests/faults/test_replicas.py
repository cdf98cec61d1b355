"""Two replicas with 200 live calls: what it takes until all are heard again when one is killed, or stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.figures import Figures
from tests.faults.ground import record
from tests.faults.oracle import TOLERANCE, Span
from tests.faults.table import Case
from tests.process import oracle
from tests.process.replicas import Replicas, heard, live, placed, replicas
from tests.process.stage import Daemon
from tests.process.test_replicas import check_answered, check_frozen, check_record, killed

pytestmark = [pytest.mark.faults, pytest.mark.soak, pytest.mark.timeout(600)]

CALLS = 200
TAKEN_OVER = 15.0
"""Seconds within which 99 of 100 calls of a replica that was killed are heard again; its lease lasts 10."""
STOPPED = 30.0
"""Seconds within which a replica has handed its calls over."""


def most_memory(daemon: Daemon) -> float:
    """Give the most that a daemon held so far, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def figures(them: Replicas, daemon: Daemon, call_ids: Sequence[str], deaths: Sequence[Span] = ()) -> Figures:
    """Compare what upstream produced in calls that have ended with what is on record."""
    records = [await record(daemon, call_id) for call_id in call_ids]
    pairs = list(zip(them.calls(call_ids), records, strict=True))
    return oracle.verify_all(pairs, rss=most_memory(daemon), deaths=deaths)


@pytest.mark.case("D10")
async def test_200_calls_of_a_replica_that_is_killed_are_heard_again_in_time(case: Case, tmp_path: Path) -> None:
    async with replicas(tmp_path) as them, them.serving("a") as a, them.serving("b") as b:
        call_ids = await placed(a, CALLS)
        await live(them, b, call_ids)
        died_at = time.time()
        seconds = await killed(them, a, call_ids)
        gaps = [await check_record(them, b, call_id) for call_id in call_ids]
        case.show(
            # what was not shipped by then is in the journal of the dead, where nobody can read it
            await figures(them, b, call_ids, [(died_at, died_at + TOLERANCE)]),
            most={"heard_again_p99_s": TAKEN_OVER},
            calls=CALLS,
            heard_again_p50_s=round(seconds[CALLS // 2], 1),
            heard_again_p99_s=round(seconds[int(CALLS * 0.99) - 1], 1),
        )
        assert {(gap["reason"], gap["epoch"]) for [gap] in gaps} == {("takeover", 2)}


@pytest.mark.case("D03")
async def test_200_calls_of_a_replica_that_is_stopped_are_handed_over_without_a_gap(case: Case, tmp_path: Path) -> None:
    async with replicas(tmp_path) as them, them.serving("a") as a, them.serving("b") as b:
        call_ids = await placed(a, CALLS)
        await live(them, b, call_ids)
        began = time.monotonic()
        await a.command.stopped()
        seconds = time.monotonic() - began
        await heard(them.simulator, call_ids)
        gaps = [await check_record(them, b, call_id) for call_id in call_ids]
        found = await figures(them, b, call_ids)
        case.show(found, most={"stopped_s": STOPPED}, calls=CALLS, stopped_s=round(seconds, 1))
        assert gaps == [[]] * CALLS
        assert found.missing == 0


async def test_no_call_out_of_200_is_forgotten_that_was_answered_right_before_its_replica_was_killed(
    tmp_path: Path,
) -> None:
    await check_answered(tmp_path, rounds=20, answers=10)


async def test_a_replica_that_was_frozen_sends_nothing_into_200_calls_that_are_somebody_elses(tmp_path: Path) -> None:
    await check_frozen(tmp_path, CALLS)
