from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.store import tables
from tests.store.stored import START, call
from tests.web.operator_stage import Stage, stage

SECOND = 1_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.key = opened.make_key("admin")
        yield opened


def deed(number: int, **values: object) -> dict[str, object]:
    at = START + number * SECOND
    return {
        "audit_id": f"aud_{at:014x}{number:08x}",
        "at": at,
        "actor": "",
        "action": "calls.get",
        "object": f"rtc_{number}",
        "status": 200,
        "address": "127.0.0.1",
        "request_id": "req",
        "count": 1,
    } | values


async def test_what_was_read_is_in_it_newest_first(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    await api.get("/api/v1/calls/rtc_1")
    await api.get("/api/v1/calls", key="")
    rows = (await api.get("/api/v1/audit")).json["data"]
    assert [row["action"] for row in rows][:3] == ["audit.list", "refused", "calls.get"]
    assert rows[2]["object"] == "rtc_1"
    assert rows[2]["actor"] == api.key[4:14]
    assert (rows[1]["actor"], rows[1]["status"]) == (None, 401)


async def test_it_comes_in_pages(api: Stage) -> None:
    api.insert(tables.audit, *[deed(number) for number in range(10)])
    found = [row["object"] for row in await api.all_pages("/api/v1/audit?action=calls.get&limit=3")]
    assert found == [f"rtc_{number}" for number in reversed(range(10))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("object=rtc_2", [2]),
        ("actor=someone", [3]),
        ("action=calls.list", [3]),
        ("since=2026-01-01T00:00:02Z&until=2026-01-01T00:00:04Z", [3, 2]),
        ("until=2026-01-01T00:00:01.000001Z", [1, 0]),
    ],
)
async def test_it_is_filtered(api: Stage, query: str, found: list[int]) -> None:
    api.insert(tables.audit, *[deed(number) for number in range(3)])
    api.insert(tables.audit, deed(3, actor="someone", action="calls.list"), deed(4))
    rows = (await api.get(f"/api/v1/audit?{query}")).json["data"]
    assert [int(row["object"][4:]) for row in rows if row["object"].startswith("rtc_")] == found


@pytest.mark.parametrize("scopes", [("read",), ("read", "export", "metrics", "control", "erase")])
async def test_only_an_admin_reads_it(api: Stage, scopes: tuple[str, ...]) -> None:
    assert (await api.get("/api/v1/audit", key=api.make_key(*scopes))).status == 403  # type: ignore[arg-type]


@pytest.mark.parametrize("cursor", ["x", "YXVkXw", "cDE6MQ", "%C3%BC"])
async def test_only_its_own_cursors_are_taken(api: Stage, cursor: str) -> None:
    assert (await api.get(f"/api/v1/audit?cursor={cursor}")).code == "invalid_cursor"
