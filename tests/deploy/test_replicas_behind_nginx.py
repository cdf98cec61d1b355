"""Two daemons on one PostgreSQL behind nginx, as compose.yaml has them, but for the containers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from rtobserver.config.sections import Public, PublicAuth
from tests.deploy import proxy
from tests.deploy.test_deploying import DEPLOY
from tests.support.replicas import Replica, database, replica
from tests.support.stage import OFFER, Setting, simulating

pytestmark = pytest.mark.timeout(120)

ANN = ("ann", "open sesame")
BASIC = {"Authorization": aiohttp.encode_basic_auth(*ANN)}
AS_ANN, AS_BOB = {"X-Forwarded-User": "ann"}, {"X-Forwarded-User": "bob"}
CALLS = 6


@dataclass
class Site:
    public: str
    operator: str
    http: aiohttp.ClientSession
    key: str
    replicas: tuple[Replica, Replica]
    stop_first: AsyncExitStack

    async def token(self) -> str:
        async with self.http.get(f"{self.public}/token", headers=BASIC) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["token"])

    async def call(self, token: str) -> str:
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
        async with self.http.post(f"{self.public}/v1/realtime/calls", data=OFFER.encode(), headers=sent) as answer:
            assert answer.status == 201, await answer.text()
            return answer.headers["Location"].rpartition("/")[2]

    async def calls(self, query: str) -> list[dict[str, Any]]:
        sent = {"Authorization": f"Bearer {self.key}"}
        async with self.http.get(f"{self.operator}/api/v1/calls?{query}", headers=sent) as answer:
            assert answer.status == 200, await answer.text()
            found: list[dict[str, Any]] = (await answer.json())["data"]
            return found

    async def until(self, query: str, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(30):
            while len(found := await self.calls(query)) != count:
                pass
        return found


@asynccontextmanager
async def deployed(folder: Path) -> AsyncIterator[Site]:
    auth = PublicAuth(mode="forwarded", trusted_proxies=("127.0.0.0/8",), user_header="X-Forwarded-User")
    setting = Setting(public=Public(auth=auth))
    server, key = await database()
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulating())
        second = await stack.enter_async_context(replica(simulator, server, key, folder / "journal-2", setting))
        stop_first = await stack.enter_async_context(AsyncExitStack())
        first = await stop_first.enter_async_context(replica(simulator, server, key, folder / "journal-1", setting))
        front, back = proxy.free_port(), proxy.free_port()
        proxy.admit(folder / "callers", *ANN)
        changes = {
            "listen 8080": f"listen 127.0.0.1:{front}",
            "listen 8081": f"listen 127.0.0.1:{back}",
            "/etc/nginx/callers": f"{folder}/callers",
            "/dev/stdout": f"{folder}/access.log",
        }
        for name, each in (("replica-1", first), ("replica-2", second)):
            changes[f"{name}:8080"] = urlsplit(each.daemon.public_url).netloc
            changes[f"{name}:8081"] = urlsplit(each.daemon.operator_url).netloc
        config = proxy.prepare(folder, DEPLOY / "compose" / "nginx.conf", changes)
        await stack.enter_async_context(proxy.running(folder, config, front))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(f"http://127.0.0.1:{front}", f"http://127.0.0.1:{back}", http, key, (first, second), stop_first)


async def test_calls_are_spread_over_replicas_and_read_from_any(tmp_path: Path) -> None:
    async with deployed(tmp_path) as site:
        token = await site.token()
        ids = {await site.call(token) for _ in range(CALLS)}
        rows = await site.until("status=live", CALLS)
        assert {row["call_id"] for row in rows} == ids
        assert {row["user"] for row in rows} == {"ann"}
        # whichever replica answers says the same
        for _ in range(4):
            assert {row["call_id"] for row in await site.calls("user=ann")} == ids
        owners = site.replicas[0].select("SELECT owner, count(*) FROM lease GROUP BY owner")
        assert len(owners) == 2


async def test_whoever_opened_a_call_ends_it_by_way_of_a_replica_that_does_not_hear_it(tmp_path: Path) -> None:
    async with deployed(tmp_path) as site:
        first, second = site.replicas
        by_token, by_user = await first.call(Authorization=f"Bearer {await site.token()}"), await first.call(**AS_ANN)
        by_proxy = [await site.call(await site.token()) for _ in range(CALLS - 2)]
        await site.until("status=live", CALLS)
        assert await second.hang_up(by_token) == 404
        assert await second.hang_up(by_token, **AS_BOB) == 404
        assert await second.hang_up(by_user, **AS_ANN) == 200
        assert await second.hang_up(by_user, **AS_ANN) == 404
        for call_id in (by_token, *by_proxy):
            assert await second.hang_up(call_id, **AS_ANN) == 200
        rows = await site.until("status=ended", CALLS)
        assert {row["outcome"] for row in rows} == {"hung_up"}
        for each in site.replicas:
            assert await each.hang_up(by_user, **AS_ANN) == 404


async def test_a_replica_that_stops_is_missed_by_nobody(tmp_path: Path) -> None:
    async with deployed(tmp_path) as site:
        token = await site.token()
        ids = {await site.call(token) for _ in range(CALLS)}
        await site.until("status=live", CALLS)
        await site.stop_first.aclose()
        assert {row["call_id"] for row in await site.until("status=live", CALLS)} == ids
        # an offer that one replica never took goes to the other, and makes one call
        more = {await site.call(token) for _ in range(4)}
        assert len(more - ids) == 4
        assert {row["call_id"] for row in await site.until("status=live", CALLS + 4)} == ids | more
