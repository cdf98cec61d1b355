from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.store import keys, tables
from rtobserver.web import bearer
from tests.store.stored import call
from tests.web.operator_stage import Stage, stage

ROUTES = ["/api/v1/calls", "/api/v1/calls/rtc_1", "/api/v1/calls/rtc_1/entries", "/api/v1/calls/rtc_1/gaps"]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.insert(tables.call, call("rtc_1"))
        yield opened


def refusals(api: Stage) -> list[tuple[str, int]]:
    audit = tables.audit.c
    return api.select(sa.select(audit.object, audit.count).where(audit.status == 401).order_by(audit.audit_id))


@pytest.mark.parametrize("path", [*ROUTES, "/api/v1/calls/rtc_1/commands", "/metrics"])
async def test_without_a_key_there_is_nothing(api: Stage, path: str) -> None:
    for answer in [
        await api.get(path, key=""),
        await api.get(path, key="rto_wrong"),
        await api.get(path, key="", Authorization=f"Basic {api.key}"),
        await api.get(path, key="", Authorization=api.key),
        await api.get(path, key="", Cookie=f"key={api.key}"),
        await api.get(f"{path}?key={api.key}&access_token={api.key}", key=""),
    ]:
        assert (answer.status, answer.code) == (401, "no_key")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert b"rtc_1" not in answer.body


async def test_two_keys_at_once_are_refused(api: Stage) -> None:
    both = [("Authorization", f"Bearer {api.key}"), ("Authorization", f"Bearer {api.key}")]
    async with api.client.get(f"{api.url}/api/v1/calls", headers=both) as response:
        assert response.status == 401


@pytest.mark.parametrize("scope", keys.SCOPES)
async def test_a_scope_opens_its_own_routes_only(api: Stage, scope: keys.Scope) -> None:
    key = api.make_key(scope)
    for path in [*ROUTES, "/api/v1/calls/rtc_1/commands"]:
        assert (await api.get(path, key=key)).status == (200 if scope in {"read", "admin"} else 403)
    answer = await api.get("/metrics", key=key)
    assert answer.status == (200 if scope in {"metrics", "admin"} else 403)
    if answer.status == 403:
        assert answer.code == "scope_missing"


async def test_a_refused_scope_is_audited_with_the_key(api: Stage) -> None:
    key = api.make_key("metrics")
    await api.get("/api/v1/calls/rtc_1", key=key)
    audit = tables.audit.c
    rows = api.select(sa.select(audit.action, audit.object, audit.actor).where(audit.status == 403))
    assert rows == [("refused read", "/api/v1/calls/{id}", key[4:14])]


async def test_a_revoked_key_is_refused_at_the_next_request(api: Stage) -> None:
    key = api.make_key("read")
    assert (await api.get("/api/v1/calls", key=key)).status == 200
    assert keys.revoke(api.path, key[4:14], now_us=api.clock.now_us())
    assert (await api.get("/api/v1/calls", key=key)).status == 401


async def test_an_expired_key_is_refused(api: Stage) -> None:
    key = api.make_key("read", expires_at=api.clock.now_us() + 60_000_000)
    assert (await api.get("/api/v1/calls", key=key)).status == 200
    api.clock.ahead += 61
    assert (await api.get("/api/v1/calls", key=key)).status == 401


async def test_a_flood_of_refusals_is_audited_ten_times_a_minute_and_counted(api: Stage) -> None:
    for _ in range(25):
        await api.get("/api/v1/calls", key="")
    assert refusals(api) == [("/api/v1/calls", 1)] * bearer.REFUSALS_PER_MINUTE
    api.clock.ahead += 61
    await api.get("/api/v1/calls")
    assert refusals(api)[bearer.REFUSALS_PER_MINUTE :] == [("", 15)]
    await api.get("/api/v1/calls", key="")
    assert len(refusals(api)) == bearer.REFUSALS_PER_MINUTE + 2


async def test_what_was_only_counted_is_written_at_the_end(tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        for _ in range(12):
            await api.get("/api/v1/calls", key="")
    # the stage is closed: its listener first, then its writer
    assert refusals(api)[bearer.REFUSALS_PER_MINUTE :] == [("", 2)]


async def test_a_foreign_host_and_a_foreign_origin_are_refused(api: Stage) -> None:
    assert (await api.get("/api/v1/calls", Host="evil.example")).status == 421
    assert (await api.get("/api/v1/calls", Origin="https://evil.example")).status == 403
    assert (await api.get("/livez", key="", Host="10.0.0.7:8081")).status == 200
    assert (await api.get("/metrics", key=api.make_key("metrics"), Host="10.0.0.7:8081")).status == 200


async def test_nothing_but_get_is_taken(api: Stage) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        async with api.client.request(method, f"{api.url}/api/v1/calls") as response:
            assert response.status == 405


async def test_figures_are_given_as_text(api: Stage) -> None:
    api.metrics.live_calls.set(3)
    answer = await api.get("/metrics", key=api.make_key("metrics"))
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert b"\nrtobserver_live_calls 3.0\n" in answer.body
    await api.get("/metrics", key="")
    assert b'rtobserver_audit_refusals_total{written="yes"} 1.0' in api.metrics.render()
