"""What policies decided in all calls, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.store import tables
from tests.store.stored import START, call
from tests.store.test_tallies import decision
from tests.web.operator_stage import Stage, stage

HOUR = 3_600_000_000
DAY = "since=2026-01-01&until=2026-01-02"


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.insert(tables.call, call("rtc_1"), call("rtc_2"))
        rows = [
            decision("rtc_1", 1, "a", received_at=START, match="refund"),
            decision("rtc_1", 7, "b", received_at=START + 2 * HOUR, mode="enforce", acted=True, outcome="done"),
            decision("rtc_2", 3, "a", received_at=START + HOUR, outcome="fault", detail="no such field"),
        ]
        for row in rows:
            opened.insert(tables.decision, row)
        yield opened


async def test_decisions_of_all_calls_come_newest_first_and_by_pages(api: Stage) -> None:
    everything = (await api.get("/api/v1/decisions")).json["data"]
    assert [(each["call_id"], each["position"], each["policy"]) for each in everything] == [
        ("rtc_1", "1:7", "b"),
        ("rtc_2", "1:3", "a"),
        ("rtc_1", "1:1", "a"),
    ]
    assert (everything[1]["outcome"], everything[1]["detail"], everything[2]["match"]) == (
        "fault",
        "no such field",
        "refund",
    )
    assert await api.all_pages("/api/v1/decisions?limit=1") == everything


async def test_decisions_are_narrowed_by_policy_mode_outcome_and_time(api: Stage) -> None:
    for query, found in (
        ("policy=a", 2),
        ("policy=a&outcome=fault", 1),
        ("mode=enforce", 1),
        (DAY, 3),
        ("since=2026-01-02", 0),
        ("policy=gone", 0),
    ):
        assert len((await api.get(f"/api/v1/decisions?{query}")).json["data"]) == found, query
    assert (await api.get("/api/v1/decisions?mode=loud")).code == "invalid_parameter"
    assert (await api.get("/api/v1/decisions?cursor=bGFiYw")).code == "invalid_cursor"
    assert (await api.get("/api/v1/decisions", key="")).status == 401


async def test_decisions_of_a_policy_are_counted_by_hour(api: Stage) -> None:
    found = (await api.get(f"/api/v1/decisions/counts?policy=a&per=hour&{DAY}")).json
    assert (found["policy"], found["per"], found["next_cursor"]) == ("a", "hour", None)
    assert found["data"] == [
        {"begins_at": "2026-01-01T00:00:00.000000Z", "mode": "observe", "outcome": "observed", "decisions": 1},
        {"begins_at": "2026-01-01T01:00:00.000000Z", "mode": "observe", "outcome": "fault", "decisions": 1},
    ]
    [day] = (await api.get(f"/api/v1/decisions/counts?policy=b&{DAY}")).json["data"]
    assert (day["begins_at"], day["mode"], day["decisions"]) == ("2026-01-01T00:00:00.000000Z", "enforce", 1)


async def test_counts_are_of_one_policy_and_of_a_bounded_time(api: Stage) -> None:
    assert (await api.get("/api/v1/decisions/counts")).code == "missing_parameter"
    assert (await api.get("/api/v1/decisions/counts?policy=a&since=1m&until=1h")).code == "invalid_parameter"
    assert (await api.get("/api/v1/decisions/counts?policy=a&per=hour&since=60d")).code == "invalid_parameter"


async def test_a_reader_of_decisions_is_audited(api: Stage) -> None:
    await api.get("/api/v1/decisions?policy=a")
    await api.get("/api/v1/decisions/counts?policy=a")
    audited = [tuple(row[3:5]) for row in api.select(tables.audit.select())]
    assert ("decisions.newest", "policy") in audited
    assert ("decisions.count", "a") in audited
