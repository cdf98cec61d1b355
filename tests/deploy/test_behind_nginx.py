"""The public listener behind nginx as compose.yaml runs it: who may call, as whom, and what a caller cannot claim."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rtobserver.config.sections import Public, PublicAuth
from tests.deploy import proxy
from tests.deploy.test_deploying import DEPLOY
from tests.web.browsers import OFFER, Site, json_of, serving
from tests.web.wire import Reply, exchange, request

NGINX = "127.0.0.83"
ANN = "Basic " + base64.b64encode(b"ann:open sesame").decode()


@dataclass
class Front:
    site: Site
    port: int
    log: Path

    async def ask(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> Reply:
        return await exchange(
            self.port, request(method, path, body, host="localhost:8080", Connection="close", **headers)
        )

    async def call(self, path: str = "/v1/realtime/calls", **headers: str) -> Reply:
        return await self.ask("POST", path, OFFER, Content_Type="application/sdp", **headers)


@asynccontextmanager
async def fronted(folder: Path) -> AsyncIterator[Front]:
    """Run the listener, and nginx before it: the one peer that the listener believes, in a network of others."""
    auth = PublicAuth(mode="forwarded", trusted_proxies=(f"{NGINX}/32",), user_header="X-Forwarded-User")
    async with serving(Public(auth=auth, base_url="http://localhost:8080")) as site:
        port, other = proxy.free_port(), proxy.free_port()
        proxy.admit(folder / "callers", "ann", "open sesame")
        changes = {
            "replica-1:8080": f"127.0.0.1:{site.port}",
            "server replica-2:8080;": "",
            "replica-1": "127.0.0.1",
            "replica-2": "127.0.0.2",
            "listen 8080": f"listen 127.0.0.1:{port}",
            "listen 8081": f"listen 127.0.0.1:{other}",
            "/etc/nginx/callers": f"{folder}/callers",
            "/dev/stdout": f"{folder}/access.log",
            "proxy_http_version 1.1;": f"proxy_http_version 1.1; proxy_bind {NGINX};",
        }
        config = proxy.prepare(folder, DEPLOY / "compose" / "nginx.conf", changes)
        async with proxy.running(folder, config, port):
            yield Front(site, port, folder / "access.log")


async def test_the_proxy_says_who_calls_and_the_password_goes_no_further(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        assert (await front.call("/connect", Authorization=ANN)).status == 201
        assert [caller.user for caller in front.site.ledger.callers] == ["ann"]


async def test_without_the_password_there_is_nothing(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        wrong = "Basic " + base64.b64encode(b"ann:wrong").decode()
        for headers in ({}, {"Authorization": wrong}, {"X_Forwarded_User": "ann"}):
            assert (await front.call("/connect", **headers)).status == 401
            assert (await front.ask("GET", "/token", **headers)).status == 401
            assert (await front.call(**headers)).status == 401
        assert front.site.ledger.offers == []


@pytest.mark.parametrize("name", ["X-Forwarded-User", "x-forwarded-user", "X_Forwarded_User"])
@pytest.mark.parametrize("times", [1, 2])
async def test_nobody_calls_himself_another(name: str, times: int, tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        sent = {"Content-Type": "application/sdp", "Authorization": ANN}
        asked = request("POST", "/connect", OFFER, host="localhost:8080", **sent)
        claim = f"{name}: bob\r\n".encode() * times
        assert (await exchange(front.port, asked.replace(b"\r\n", b"\r\n" + claim, 1))).status == 201
        assert [caller.user for caller in front.site.ledger.callers] == ["ann"]


async def test_a_neighbour_of_the_proxy_calls_himself_nothing(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        for method, path in (("POST", "/connect"), ("GET", "/token"), ("POST", "/v1/realtime/calls")):
            sent = {"Content-Type": "application/sdp", "X-Forwarded-User": "ann"}
            around = request(method, path, OFFER, host="localhost:8080", **sent)
            assert (await exchange(front.site.port, around)).status == 401
        assert front.site.ledger.offers == []


async def test_a_token_that_was_made_for_somebody_opens_calls_without_the_password(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        answer = json_of(await front.ask("GET", "/token", Authorization=ANN))
        assert answer["endpoint"] == "http://localhost:8080"
        for path in ("/v1/realtime/calls", "/openai/v1/realtime/calls"):
            reply = await front.call(path, Authorization=f"Bearer {answer['token']}", X_Forwarded_User="bob")
            assert (reply.status, reply.headers["location"]) == (201, f"{path}/rtc_1")
        assert [caller.user for caller in front.site.ledger.callers] == ["ann", "ann"]
        hung_up = await front.ask("POST", "/v1/realtime/calls/rtc_1/hangup", Authorization=f"Bearer {answer['token']}")
        assert hung_up.status == 200


async def test_labels_stay_out_of_the_proxys_log(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        assert (
            await front.ask("GET", "/token?labels=%7B%22patient%22%3A%22canary%22%7D", Authorization=ANN)
        ).status == 200
    logged = front.log.read_text()
    assert "/token" in logged
    assert "canary" not in logged
