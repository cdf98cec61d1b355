from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.realtime.rows import ResponseRow
from rtobserver.store import folds, stats, tables
from rtobserver.store import sqlite as store
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from tests.store import stored

DAY = 86_400_000_000
ALL = stats.Wanted(since=0, until=stored.START + 100 * DAY)


def response(call_id: str, number: int, heard: int | None, started_at: int = stored.START) -> dict[str, Any]:
    ref = stored.ref(call_id, started_at)
    row = ResponseRow(
        response_id=f"r{number}", epoch=1, seq=number, heard_latency_ms=heard,
        generation_latency_ms=None if heard is None else heard - 100,
    )  # fmt: skip
    return {"call_key": ref.key, "day": ref.day, **folds.response_values(row)}


def decision(call_id: str, seq: int, policy: str) -> dict[str, Any]:
    ref = stored.ref(call_id)
    return {
        "call_key": ref.key, "day": ref.day, "epoch": 1, "seq": seq, "policy": policy, "policy_set": "s",
        "trigger": "phrase", "mode": "observe", "acted": False, "actions": "[]", "received_at": 1, "matched_at": 1,
    }  # fmt: skip


@pytest.fixture
def recorded(place: Place) -> Place:
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cached_tokens": 4}
    stored.insert(
        place,
        tables.call,
        stored.call(
            "rtc_1", ended_at=stored.START + 90_000_000, usage=json.dumps(usage), cost_usd="0.1000000001",
            turn_count=2, interruption_count=1, error_count=3,
        ),
        stored.call("rtc_2", profile="support", model="mini", cost_usd="0.2", usage=json.dumps(usage), turn_count=1),
        stored.call("rtc_3", started_at=stored.START + DAY),
    )  # fmt: skip
    stored.insert(place, tables.response, *[response("rtc_1", n, heard) for n, heard in enumerate([900, None, 300])])
    stored.insert(place, tables.response, *[response("rtc_2", n, 1000 + n) for n in range(100)])
    stored.insert(
        place, tables.decision, decision("rtc_1", 4, "a"), decision("rtc_1", 5, "a"), decision("rtc_1", 5, "b"),
        decision("rtc_2", 1, "b"),
    )  # fmt: skip
    return place


async def test_calls_are_summed_up_by_day(recorded: Place, reads: Database) -> None:
    first, second = await stats.groups(reads, "day", ALL)
    assert (first.group, first.call_count, first.duration_us) == ("2026-01-01", 2, 90_000_000)
    assert (first.turn_count, first.interruption_count, first.error_count) == (3, 1, 3)
    assert (first.input_tokens, first.output_tokens, first.total_tokens, first.cached_tokens) == (20, 10, 30, 8)
    assert (first.cost_usd, first.unpriced_call_count) == (Decimal("0.3000000001"), 0)
    # 102 values: 300, 900, 1000 ... 1099; the 51st and the 97th
    assert (first.first_audio_ms, first.generation_ms) == ((1048, 1094), (948, 994))
    assert (second.group, second.call_count, second.cost_usd) == ("2026-01-02", 1, None)
    assert (second.unpriced_call_count, second.first_audio_ms) == (1, (None, None))


async def test_calls_are_summed_up_by_profile_and_model(recorded: Place, reads: Database) -> None:
    default, support = await stats.groups(reads, "profile", ALL)
    assert (default.group, default.call_count, default.first_audio_ms) == ("default", 2, (300, 900))
    assert (support.group, support.call_count, support.cost_usd) == ("support", 1, Decimal("0.2"))
    assert [each.group for each in await stats.groups(reads, "model", ALL)] == ["gpt-realtime", "mini"]


async def test_a_call_counts_once_for_each_policy_that_decided_in_it(recorded: Place, reads: Database) -> None:
    a, b = await stats.groups(reads, "policy", ALL)
    assert (a.group, a.call_count, a.turn_count, a.first_audio_ms) == ("a", 1, 2, (300, 900))
    assert (b.group, b.call_count, b.turn_count) == ("b", 2, 3)


async def test_only_calls_that_began_in_the_range_count(recorded: Place, reads: Database) -> None:
    within = stats.Wanted(since=stored.START + 1, until=stored.START + DAY + 1)
    [day] = await stats.groups(reads, "day", within)
    assert day.group == "2026-01-02"
    later = stats.Wanted(since=stored.START + DAY + 1, until=stored.START + 2 * DAY)
    assert await stats.groups(reads, "day", later) == []
    assert await stats.groups(reads, "all", later) == []


async def test_all_calls_are_one_group_whose_percentiles_are_over_all_turns(recorded: Place, reads: Database) -> None:
    [every] = await stats.groups(reads, "all", ALL)
    assert (every.group, every.call_count, every.turn_count, every.error_count) == ("all", 3, 3, 3)
    assert (every.cost_usd, every.unpriced_call_count) == (Decimal("0.3000000001"), 1)
    assert (every.first_audio_ms, every.generation_ms) == ((1048, 1094), (948, 994))


async def test_calls_are_summed_up_by_the_hour_that_they_began_in(recorded: Place, reads: Database) -> None:
    stored.insert(recorded, tables.call, stored.call("rtc_4", started_at=stored.START + DAY + 3_599_999_999))
    stored.insert(recorded, tables.call, stored.call("rtc_5", started_at=stored.START + DAY + 3_600_000_000))
    found = [(each.group, each.call_count) for each in await stats.groups(reads, "hour", ALL)]
    assert found == [("2026-01-01T00:00:00Z", 2), ("2026-01-02T00:00:00Z", 2), ("2026-01-02T01:00:00Z", 1)]


async def test_calls_of_one_profile_or_model_are_summed_up_alone(recorded: Place, reads: Database) -> None:
    [support] = await stats.groups(reads, "day", replace(ALL, profile="support"))
    assert (support.call_count, support.first_audio_ms) == (1, (1049, 1094))
    [other] = await stats.groups(reads, "all", replace(ALL, model="gpt-realtime"))
    assert (other.call_count, other.first_audio_ms) == (2, (300, 900))
    assert await stats.groups(reads, "all", replace(ALL, profile="support", model="gpt-realtime")) == []


@pytest.mark.parametrize("by", stats.GROUPS)
def test_sums_follow_the_index_of_beginnings(path: Path, by: stats.GroupBy) -> None:
    statements: list[sa.Select[Any]] = [
        stats.sums_statement(by, stats.Wanted(since=1, until=2)),
        stats.latency_statement(by, "heard_latency_ms", stats.Wanted(since=1, until=2)),
    ]
    for statement in statements:
        with store.transaction(path) as connection:
            text = statement.compile(connection, compile_kwargs={"literal_binds": True})
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        steps = [step for step in plan if step.startswith(("SCAN", "SEARCH"))]
        assert any("ix_call_started (started_at>? AND started_at<?)" in step for step in steps)
        assert not [step for step in steps if step.startswith("SCAN") and step.split()[1] in tables.metadata.tables]
