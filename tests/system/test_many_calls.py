"""Everything that upstream produced is stored, in its order and without holes, however many calls run at once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.stage import Entry, Stage
from tests.system.conftest import Play

CALLS = 50
RUNS = 20


async def place_all(stage: Stage) -> list[str]:
    return await asyncio.gather(*(stage.call() for _ in range(CALLS)))


def check(entries: list[Entry], produced: list[bytes]) -> None:
    assert [entry.position for entry in entries] == [(1, seq) for seq in range(1, len(entries) + 1)]
    assert [entry.payload for entry in entries if entry.kind == "event"] == produced
    offsets = [entry.fields["offset_ms"] for entry in entries]
    assert offsets == sorted(offsets)
    assert all(entry.embedded for entry in entries)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("run", range(RUNS))
async def test_50_calls_with_a_barge_in_and_a_tool_are_stored_byte_for_byte(play: Play, run: int) -> None:
    async with play(scenario="three_turns") as stage:
        call_ids = await place_all(stage)
        assert len(set(call_ids)) == CALLS
        rows = await asyncio.gather(*(stage.ended(call_id, patience=90) for call_id in call_ids))
        stored = await asyncio.gather(*(stage.entries(call_id) for call_id in call_ids))
        total = 0
        for call_id, row, entries in zip(call_ids, rows, stored, strict=True):
            produced = stage.produced(call_id)
            total += len(produced)
            check(entries, produced)
            assert row["completeness"] == "complete"
            assert (row["turn_count"], row["interruption_count"], row["error_count"]) == (3, 1, 0)
            assert row["gap_count"] == 0
            assert row["entry_count"] == len(produced) + 1
        assert stage.select("SELECT count(*) FROM entry WHERE kind = 1") == [(total,)]
        assert stage.select("SELECT count(*) FROM item WHERE kind = 'tool_call'") == [(CALLS,)]
        assert stage.select("SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.timeout(120)
async def test_50_calls_whose_sidebands_all_drop_say_so_and_lose_nothing_else(play: Play) -> None:
    async with play(scenario="quiet") as stage:
        call_ids = await place_all(stage)
        await asyncio.gather(*(stage.until(call_id, status="live") for call_id in call_ids))
        for call_id in call_ids:
            stage.simulator.produce(call_id, {"type": "before.drop"})
        await asyncio.gather(*(stage.simulator.drop_sidebands(call_id) for call_id in call_ids))
        calls = stage.simulator.calls
        await stage.wait(lambda: all(len(calls[call_id].open_sidebands) == 1 for call_id in call_ids))
        for call_id in call_ids:
            stage.simulator.produce(call_id, {"type": "after.drop"})
        await asyncio.gather(*(stage.simulator.end_call(call_id) for call_id in call_ids))
        rows = await asyncio.gather(*(stage.ended(call_id) for call_id in call_ids))
        stored = await asyncio.gather(*(stage.entries(call_id) for call_id in call_ids))
        for row, entries in zip(rows, stored, strict=True):
            assert row["completeness"] == "complete_with_gaps"
            assert row["gap_count"] == 1
            assert [entry.position for entry in entries] == [(1, seq) for seq in range(1, len(entries) + 1)]
            assert entries[-1].type == "after.drop"
