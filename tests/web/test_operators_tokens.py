"""Operators who come with an access token in a key's place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Operator, OperatorAuth
from rtobserver.store import keys, tables
from rtobserver.web.vigil import Vigil
from tests.store.stored import call
from tests.web.issuer import AUDIENCE, ISSUER, Issuer, issuing, token
from tests.web.operator_stage import Stage, stage
from tests.web.wire import until


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Name the kind of database, each in its turn."""
    return str(request.param)


@asynccontextmanager
async def trusting(folder: Path, kind: str, **changes: Any) -> AsyncIterator[tuple[Stage, Issuer]]:
    """Run the operator listener with an issuer."""
    async with issuing() as issuer:
        settings: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": f"{issuer.url}/keys"}
        auth = OperatorAuth(mode="jwt", **(settings | changes))
        async with stage(folder, section=Operator(auth=auth), kind=kind) as api:
            api.insert(tables.call, call("rtc_1"))
            yield api, issuer


def of(**said: Any) -> str:
    """Sign a token that is good for ten minutes."""
    now = int(time.time())
    return token(**({"iat": now, "nbf": now, "exp": now + 600} | said))


@pytest.mark.parametrize("scope", keys.SCOPES)
async def test_a_scope_of_a_token_opens_what_that_of_a_key_does(tmp_path: Path, scope: keys.Scope, kind: str) -> None:
    async with trusting(tmp_path, kind) as (api, _):
        shown = of(scope=f"openid {scope} calendar.write")
        for path in ("/api/v1/calls", "/api/v1/export", "/metrics", "/api/v1/audit"):
            answer = await api.get(path, key=shown)
            assert answer.status == (await api.get(path, key=api.make_key(scope))).status
            assert answer.status in {200, 403}


@pytest.mark.parametrize(
    ("claim", "value", "status"),
    [
        ("scp", "read control", 200),
        ("roles", ["other", "read"], 200),
        ("roles", ["reader", "read control"], 403),
        ("scope", "Read", 403),
        ("scope", "", 403),
        ("scope", None, 403),
        ("scope", {"read": True}, 403),
        ("scope", [["read"]], 403),
        ("scope", 1, 403),
    ],
)
async def test_scopes_are_a_text_or_a_list_in_the_claim_of_the_configuration(
    tmp_path: Path,
    claim: str,
    value: Any,
    status: int,
    kind: str,
) -> None:
    async with trusting(tmp_path, kind, scope_claim=claim) as (api, _):
        assert (await api.get("/api/v1/calls", key=of(**{claim: value}))).status == status
        if claim != "scope":
            assert (await api.get("/api/v1/calls", key=of(scope="read"))).status == 403


@pytest.mark.parametrize("said", [{"aud": "x"}, {"iss": "x"}, {"exp": 1}, {"sub": None}, {"nonce": "n"}])
async def test_a_token_that_is_not_good_is_no_key(tmp_path: Path, said: dict[str, Any], kind: str) -> None:
    async with trusting(tmp_path, kind) as (api, _):
        for path in ("/api/v1/calls", "/api/v1/calls/rtc_1", "/metrics"):
            answer = await api.get(path, key=of(scope="admin", **said))
            assert (answer.status, answer.code) == (401, "no_key")
        assert api.select(sa.select(tables.audit.c.actor).where(tables.audit.c.status == 401)) == [("",)] * 3


async def test_the_audit_names_the_user_of_a_token(tmp_path: Path, kind: str) -> None:
    async with trusting(tmp_path, kind, user_claim="oid") as (api, _):
        assert (await api.get("/api/v1/calls/rtc_1", key=of(scope="read", oid="7c1e"))).status == 200
        assert (await api.get("/api/v1/audit", key=of(scope="read", oid="7c1e"))).status == 403
        audit = tables.audit.c
        wanted = sa.select(audit.actor, audit.status).where(audit.actor != "").order_by(audit.audit_id)
        assert api.select(wanted) == [("jwt:7c1e", 200), ("jwt:7c1e", 403)]
        listed = (await api.get("/api/v1/audit?actor=jwt:7c1e", key=of(scope="admin", oid="root"))).json["data"]
        assert [row["actor"] for row in listed] == ["jwt:7c1e"] * 2


async def test_keys_go_on_to_be_good_beside_tokens(tmp_path: Path, kind: str) -> None:
    async with trusting(tmp_path, kind) as (api, issuer):
        issuer.status = 500
        assert (await api.get("/api/v1/calls")).status == 200
        assert (await api.get("/api/v1/calls", key=f"{api.key[:-1]}x")).status == 401
        cookie = await api.sign_in()
        assert (await api.get("/api/v1/calls", key="", Cookie=cookie)).status == 200


async def test_where_keys_are_the_mode_a_token_says_nothing(tmp_path: Path, kind: str) -> None:
    async with stage(tmp_path, kind=kind) as api:
        assert (await api.get("/api/v1/calls", key=of(scope="admin"))).status == 401


async def test_an_issuer_that_does_not_answer_is_no_fault_of_the_token(tmp_path: Path, kind: str) -> None:
    async with issuing() as issuer:
        issuer.status = 500
        auth = OperatorAuth(mode="jwt", issuer=ISSUER, audience=AUDIENCE, jwks_url=f"{issuer.url}/keys")
        async with stage(tmp_path, kind=kind, section=Operator(auth=auth)) as api:
            answer = await api.get("/api/v1/calls", key=of(scope="read"))
            assert (answer.status, answer.code) == (503, "issuer_unavailable")
            assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize("path", ["/api/v1/tail", "/api/v1/calls/rtc_1/tail", "/live/stream"])
async def test_a_stream_ends_with_the_token_that_opened_it(tmp_path: Path, path: str, kind: str) -> None:
    async with trusting(tmp_path, kind) as (api, _):
        headers = {"Authorization": f"Bearer {of(scope='read')}"}
        async with api.client.get(f"{api.url}{path}", headers=headers) as response:
            assert response.status == 200
            await response.content.readany()
            api.clock.ahead += 600 + 61
            while await response.content.readany():
                pass


class Watched(SystemClock):
    """Sleep for no time and count how often."""

    sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await super().sleep(0)


async def test_nothing_but_time_ends_the_stream_of_a_token(tmp_path: Path, kind: str) -> None:
    async with stage(tmp_path, kind=kind) as api, asyncio.TaskGroup() as tasks:
        clock, ended = Watched(), list[str]()
        vigil = Vigil(database=api.database, clock=clock)
        watch = tasks.create_task(vigil.keep(), name="watch")
        later = clock.now_us() + 3_600_000_000
        with (
            vigil.watching("jwt:ann", lambda: ended.append("ann"), until=later),
            vigil.watching("jwt:bob", lambda: ended.append("bob"), until=1),
            vigil.watching("nokey", lambda: ended.append("nokey")),
            vigil.watching(api.key[4:14], lambda: ended.append("key")),
        ):
            await until(lambda: clock.sleeps >= 3)
        assert set(ended) == {"bob", "nokey"}
        watch.cancel()


async def test_a_page_is_shown_to_who_comes_with_a_token_by_way_of_a_proxy(tmp_path: Path, kind: str) -> None:
    async with trusting(tmp_path, kind) as (api, _):
        answer = await api.get("/calls", key=of(scope="read"), Accept="text/html")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


async def test_a_foreign_page_changes_nothing_though_a_proxy_adds_a_token(tmp_path: Path, kind: str) -> None:
    async with trusting(tmp_path, kind) as (api, _):
        sent = {"Authorization": f"Bearer {of(scope='admin')}", "Origin": "https://evil.example"}
        answer = await api.send("DELETE", "/api/v1/calls/rtc_1", **sent)
        assert (answer.status, answer.code) == (403, "origin_not_allowed")
        assert (await api.get("/api/v1/calls/rtc_1")).status == 200
