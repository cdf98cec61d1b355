from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver import __version__
from rtobserver.store import schema, tables
from tests.store.stored import call, ref
from tests.web.operator_stage import Stage, stage


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
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
    runs = [{"replica_id": f"rep_{n}", "started_at": n, "beat_at": n + 1, "version": "0.1"} for n in (1, 2)]
    api.insert(tables.replica, *runs)
    found = (await api.get("/api/v1/system")).json
    assert found["versions"].keys() == {"rtobserver", "python", "sqlite"}
    assert found["versions"]["rtobserver"] == __version__
    assert [replica["replica_id"] for replica in found["replicas"]] == ["rep_2", "rep_1"]
    assert found["replicas"][1] == {
        "replica_id": "rep_1",
        "version": "0.1",
        "started_at": "1970-01-01T00:00:00.000001Z",
        "beat_at": "1970-01-01T00:00:00.000002Z",
        "stopped_at": None,
    }
    assert found["calls"] == {"live": 1, "ended": 1}
    assert found["gaps"] == [
        {"reason": "reattach", "count": 1, "lost": 0},
        {"reason": "shed", "count": 2, "lost": 12},
    ]
    assert found["shed"] == 12
    assert found["queue"] == {"rows": 0, "bytes": 0}
    assert (found["store"]["kind"], found["store"]["schema"]) == ("sqlite", schema.head())
    assert found["store"]["size_bytes"] > 0
    assert found["journal"] is None
    assert found["config"] == {"public": {"port": 8080}}
    assert (await api.get("/api/v1/system?since=7d")).json["shed"] == 112
