from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rtobserver.web import problems
from rtobserver.web.access import Access
from rtobserver.web.listener import listening
from tests.web.wire import exchange, request

FRIEND = "https://app.example.com"


@asynccontextmanager
async def guarded(access: Access) -> AsyncIterator[int]:
    async def hi(request: web.Request) -> web.Response:
        return web.Response(text=access.own_origin(request))

    app = web.Application()
    problems.install(app)
    access.install(app)
    for path in ("/hi", "/livez", "/readyz", "/metrics"):
        app.router.add_get(path, hi)
    async with listening(app, host="127.0.0.1", port=0) as listener:
        yield listener.port


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "voice.example.com", "voice.example.com:443"],
)
async def test_a_host_from_the_list_is_heard_on_any_port(host: str) -> None:
    async with guarded(Access(base_url="https://voice.example.com")) as port:
        assert (await exchange(port, request("GET", "/hi", host=host))).status == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test:80", "", "localhost:x", "::1"]
)
@pytest.mark.parametrize("path", ["/hi", "/nowhere"])
async def test_a_host_outside_the_list_is_misdirected_on_every_path(host: str, path: str) -> None:
    async with guarded(Access(base_url="https://voice.example.com")) as port:
        reply = await exchange(port, request("GET", path, host=host))
        assert reply.status in {400, 421}
        assert b"voice.example.com" not in reply.raw


async def test_an_allowed_host_with_a_port_is_allowed_on_that_port_only() -> None:
    async with guarded(Access(allowed_hosts=["box.lan:8080", "any.lan"])) as port:
        for host, status in {"box.lan:8080": 200, "box.lan:8081": 421, "box.lan": 421, "any.lan:9": 200}.items():
            assert (await exchange(port, request("GET", "/hi", host=host))).status == status


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_are_heard_under_any_host(path: str) -> None:
    async with guarded(Access()) as port:
        assert (await exchange(port, request("GET", path, host="10.1.2.3:8080"))).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /hi HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n",
        b"GET /hi HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
        b"GET /hi HTTP/1.1\r\n",
        b"GET http://localhost/hi HTTP/1.1\r\nHost: localhost\r\n",
        b"GET http://evil.test/livez HTTP/1.1\r\nHost: localhost\r\n",
        b"GET http://evil.test/hi HTTP/1.1\r\nHost: evil.test\r\n",
        b"OPTIONS http://evil.test/hi HTTP/1.1\r\nHost: localhost\r\n",
        b"CONNECT evil.test:80 HTTP/1.1\r\nHost: localhost\r\n",
    ],
)
async def test_a_request_that_names_its_host_otherwise_than_once_is_a_400(head: bytes) -> None:
    async with guarded(Access()) as port:
        reply = await exchange(port, head + b"Connection: close\r\n\r\n")
        assert (reply.status, reply.problem["status"]) == (400, 400)


async def test_no_origin_is_fine_and_gets_no_grants() -> None:
    async with guarded(Access(allowed_origins=[FRIEND])) as port:
        reply = await exchange(port, request("GET", "/hi"))
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["vary"] == "Origin"


async def test_the_listeners_own_origin_is_its_host_where_there_is_no_base_url() -> None:
    async with guarded(Access()) as port:
        own = request("GET", "/hi", host="localhost:8080", Origin="http://localhost:8080")
        assert (await exchange(port, own)).body == b"http://localhost:8080"
        for other in ("http://127.0.0.1:8080", "http://localhost:9", "https://localhost:8080", "http://localhost"):
            reply = await exchange(port, request("GET", "/hi", host="localhost:8080", Origin=other))
            assert reply.code == "origin_not_allowed"


async def test_the_listeners_own_origin_is_its_base_url_where_there_is_one() -> None:
    async with guarded(Access(base_url="https://voice.example.com")) as port:
        assert (await exchange(port, request("GET", "/hi", Origin="https://voice.example.com"))).status == 200
        assert (await exchange(port, request("GET", "/hi", Origin="http://localhost"))).status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.test",
        "https://app.example.com.evil.test",
        "https://sub.app.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.comx",
        "https://APP.example.com",
        "",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/hi"), ("GET", "/livez"), ("OPTIONS", "/hi"), ("POST", "/no")])
async def test_a_foreign_origin_is_forbidden_everywhere_and_granted_nothing(
    method: str, path: str, origin: str
) -> None:
    async with guarded(Access(allowed_origins=[FRIEND])) as port:
        reply = await exchange(port, request(method, path, Origin=origin))
        assert (reply.status, reply.code) == (403, "origin_not_allowed")
        assert not any(name.startswith("access-control") for name in reply.headers)


async def test_two_origins_are_forbidden() -> None:
    async with guarded(Access(allowed_origins=[FRIEND])) as port:
        twice = request("GET", "/hi", Origin=FRIEND).replace(b"\r\n\r\n", f"\r\nOrigin: {FRIEND}\r\n\r\n".encode())
        assert (await exchange(port, twice)).status in {400, 403}


@pytest.mark.parametrize(("path", "status"), [("/hi", 200), ("/nowhere", 404)])
async def test_an_allowed_origin_may_read_answers_and_errors(path: str, status: int) -> None:
    async with guarded(Access(allowed_origins=[FRIEND])) as port:
        reply = await exchange(port, request("GET", path, Origin=FRIEND))
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == FRIEND
        assert {"Location", "X-Request-Id"} <= set(reply.headers["access-control-expose-headers"].split(", "))
        assert reply.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in reply.headers


async def test_a_preflight_grants_the_headers_that_sdks_send_one_by_one() -> None:
    asked = "Authorization, content-type,x-openai-agents-sdk, x-stainless-os, x-stainless-retry-count, idempotency-key"
    async with guarded(Access(allowed_origins=[FRIEND])) as port:
        headers = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": asked}
        reply = await exchange(port, request("OPTIONS", "/hi", Origin=FRIEND, **headers))
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == FRIEND
        assert "POST" in reply.headers["access-control-allow-methods"]
        granted = reply.headers["access-control-allow-headers"].split(", ")
        assert granted == [name.strip().lower() for name in asked.split(",")]


async def test_a_preflight_does_not_grant_other_headers() -> None:
    async with guarded(Access(allowed_origins=[FRIEND])) as port:
        asked = "x-evil, *, x-stainless-, x-stainless-a b, authorization"
        reply = await exchange(port, request("OPTIONS", "/hi", Origin=FRIEND, Access_Control_Request_Headers=asked))
        assert reply.headers["access-control-allow-headers"] == "authorization"
