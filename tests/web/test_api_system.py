from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver import __version__
from rtobserver.outbound import HookState
from rtobserver.store import schema, tables
from tests.store.stored import call, ref
from tests.web.operator_stage import Stage, stage


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        yield opened


def gap(call_id: str, began: int, seq: int, reason: str, lost: int | None) -> dict[str, object]:
    return {
        "call_key": ref(call_id).key,
        "day": ref(call_id, began).day,
        "epoch": 1,
        "seq": seq,
        "from_at": began,
        "reason": reason,
        "state": "final",
        "lost": lost,
        "lost_by_type": "{}",
        "counted": True,
    }


async def test_the_system_says_how_it_is_doing(api: Stage) -> None:
    now = api.clock.now_us()
    old = now - 2 * 86_400_000_000
    api.insert(
        tables.call,
        call("rtc_1", started_at=now),
        call("rtc_2", started_at=now, status="ended"),
        call("rtc_old", started_at=old, status="ended"),
    )
    api.insert(
        tables.gap,
        gap("rtc_1", now, 1, "shed", 7),
        gap("rtc_2", now, 1, "shed", 5),
        gap("rtc_2", now, 2, "reattach", None),
        gap("rtc_old", old, 1, "shed", 100),
    )
    runs = [
        {"replica_id": f"rep_{n}", "started_at": n, "beat_at": n + 1, "number": n, "version": "0.1"} for n in (1, 2, 3)
    ]
    # the one that answers, another one that beats, and one that was declared dead
    runs[1] |= {"lease_until": 5}
    runs[2] |= {"lease_until": 5, "fenced_at": 6}
    api.insert(tables.replica, *({"lease_until": None, "fenced_at": None} | run for run in runs))
    found = (await api.get("/api/v1/system")).json
    assert found["versions"].keys() == {"rtobserver", "python", api.database.dialect}
    assert found["versions"]["rtobserver"] == __version__
    assert [replica["replica_id"] for replica in found["replicas"]] == ["rep_3", "rep_2", "rep_1"]
    assert [replica["runs"] for replica in found["replicas"]] == [False, True, True]
    assert found["replicas"][2] == {
        "replica_id": "rep_1",
        "version": "0.1",
        "started_at": "1970-01-01T00:00:00.000001Z",
        "beat_at": "1970-01-01T00:00:00.000002Z",
        "stopped_at": None,
        "runs": True,
    }
    assert found["calls"] == {"live": 1, "ended": 1}
    assert found["gaps"] == [
        {"reason": "reattach", "count": 1, "lost": 0},
        {"reason": "shed", "count": 2, "lost": 12},
    ]
    assert found["shed"] == 12
    assert (found["queue"]["rows"], found["queue"]["bytes"]) == (0, 0)
    assert (found["store"]["kind"], found["store"]["schema"]) == (api.database.dialect, schema.head())
    assert found["store"]["size_bytes"] > 0
    assert (found["journal"], found["leases"]) == (None, None)
    assert found["config"] == {"public": {"port": 8080}}
    assert (await api.get("/api/v1/system?since=7d")).json["shed"] == 112


async def test_gaps_that_are_open_come_first_and_name_their_call(api: Stage) -> None:
    now = api.clock.now_us()
    api.insert(tables.call, call("rtc_1", started_at=now), call("rtc_2", started_at=now))
    api.insert(
        tables.gap,
        gap("rtc_1", now, 1, "reattach", None) | {"to_at": None, "state": "open", "after": "1:7"},
        gap("rtc_2", now, 1, "shed", 5) | {"from_at": now + 10, "to_at": now + 20, "after": None},
        gap("rtc_2", now, 2, "paused", 0) | {"to_at": None, "state": "open", "after": None, "counted": False},
    )
    first, second = (await api.get("/api/v1/system")).json["recent_gaps"]
    assert (first["call_id"], first["state"], first["to"], first["after"]) == ("rtc_1", "open", None, "1:7")
    assert (second["call_id"], second["reason"], second["lost"]) == ("rtc_2", "shed", 5)


async def test_the_verdict_is_that_of_readyz_and_says_since_when(api: Stage) -> None:
    found = (await api.get("/api/v1/system")).json
    assert (found["status"], found["reasons"]) == ("ok", [])
    api.facts.degraded, api.facts.since = ["the disk is full"], 1_000_000
    found = (await api.get("/api/v1/system")).json
    assert found["status"] == (await api.get("/readyz", key="")).json["status"] == "degraded"
    assert found["reasons"] == [{"reason": "the disk is full", "since": "1970-01-01T00:00:01.000000Z"}]


async def test_counts_are_those_of_the_figures_for_machines(api: Stage) -> None:
    api.metrics.upstream_requests.labels("calls", "429").inc(3)
    api.metrics.frames_shed.labels("delta").inc(7)
    api.metrics.webhook_notifications.labels("alerts", "delivered").inc(2)
    api.metrics.webhook_notifications.labels("other", "dropped").inc()
    api.metrics.webhook_failures.labels("alerts").inc()
    api.metrics.loop_stalls.inc()
    api.facts.webhooks = [HookState("alerts", 4, 1_000_000, False)]
    found = (await api.get("/api/v1/system")).json
    assert found["since_start"]["upstream"] == [{"step": "calls", "status": "429", "count": 3}]
    assert found["since_start"]["shed"] == {"delta": 7}
    assert found["loop"]["stalls"] == 1
    assert found["webhooks"] == [
        {
            "id": "alerts",
            "waiting": 4,
            "failing_since": "1970-01-01T00:00:01.000000Z",
            "full": False,
            "failed_tries": 1,
            "outcomes": {"delivered": 2},
        }
    ]


async def test_keys_are_listed_for_those_who_may_and_never_shown(api: Stage) -> None:
    admin = api.make_key("admin")
    assert (await api.get("/api/v1/keys")).status == 403
    assert (await api.get("/api/v1/system")).status == 200
    answer = await api.get("/api/v1/keys", key=admin)
    reader, mine = answer.json["data"]
    assert (reader["name"], reader["scopes"], reader["good"]) == ("reader", ["read"], True)
    assert reader["last_used_at"] is not None
    # the row of this very request is in the audit before the answer
    assert mine["scopes"] == ["admin"]
    assert mine["last_used_at"] is not None
    assert admin.encode() not in answer.body
    assert b"digest" not in answer.body
