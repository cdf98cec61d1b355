"""Two replicas with 200 live calls: what it takes until all are heard again when one is killed, or stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.replicas import heard, live, placed, replicas
from tests.process.test_replicas import check_answered, check_frozen, check_record, killed

pytestmark = [pytest.mark.faults, pytest.mark.soak, pytest.mark.timeout(600)]

Told = Callable[[str, object], None]
CALLS = 200
TAKEN_OVER = 15.0
"""Seconds within which 99 of 100 calls of a replica that was killed are heard again; its lease lasts 10."""


async def test_200_calls_of_a_replica_that_is_killed_are_heard_again_in_time(
    tmp_path: Path, record_property: Told
) -> None:
    async with replicas(tmp_path) as them, them.serving("a") as a, them.serving("b") as b:
        call_ids = await placed(a, CALLS)
        await live(them, b, call_ids)
        seconds = await killed(them, a, call_ids)
        record_property("p50_s", round(seconds[CALLS // 2], 1))
        record_property("p99_s", round(seconds[int(CALLS * 0.99) - 1], 1))
        assert seconds[int(CALLS * 0.99) - 1] <= TAKEN_OVER
        for call_id in call_ids:
            [gap] = await check_record(them, b, call_id)
            assert (gap["reason"], gap["epoch"]) == ("takeover", 2)


async def test_200_calls_of_a_replica_that_is_stopped_are_handed_over_without_a_gap(
    tmp_path: Path, record_property: Told
) -> None:
    async with replicas(tmp_path) as them, them.serving("a") as a, them.serving("b") as b:
        call_ids = await placed(a, CALLS)
        await live(them, b, call_ids)
        seconds = await a.command.stopped()
        record_property("stopped_s", round(seconds, 1))
        assert seconds <= 30.0
        await heard(them.simulator, call_ids)
        for call_id in call_ids:
            assert await check_record(them, b, call_id) == []


async def test_no_call_out_of_200_is_forgotten_that_was_answered_right_before_its_replica_was_killed(
    tmp_path: Path,
) -> None:
    await check_answered(tmp_path, rounds=20, answers=10)


async def test_a_replica_that_was_frozen_sends_nothing_into_200_calls_that_are_somebody_elses(tmp_path: Path) -> None:
    await check_frozen(tmp_path, CALLS)
