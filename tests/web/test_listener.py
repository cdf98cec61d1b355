import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rtobserver.web import problems
from rtobserver.web.connection import Patience
from rtobserver.web.listener import CLOSING, Listener, listening
from tests.web.wire import connected, drip, exchange, is_closed, parse, request, until

HASTY = Patience(head=0.2, body=0.4, idle=0.6, write=0.3, linger=0.2, close=0.3)


class Site:
    """An application with an answer for every situation."""

    def __init__(self) -> None:
        self.app = web.Application()
        problems.install(self.app)
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.finished = 0
        self.app.router.add_get("/hi", self.hi)
        self.app.router.add_post("/echo", self.echo)
        self.app.router.add_post("/refuse", self.refuse)
        self.app.router.add_get("/wait", self.wait)
        self.app.router.add_get("/flood", self.flood)
        self.app.router.add_get("/stream", self.stream)

    async def hi(self, request: web.Request) -> web.Response:
        return web.Response(text="hi")

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def refuse(self, request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    async def wait(self, request: web.Request) -> web.Response:
        self.started.set()
        await self.go_on.wait()
        self.finished += 1
        return web.Response(text="done")

    async def flood(self, request: web.Request) -> web.StreamResponse:
        self.started.set()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            self.finished += 1

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        self.started.set()
        await request.app[CLOSING].wait()
        await response.write_eof(b"ended")
        return response


@asynccontextmanager
async def serving(
    site: Site,
    patience: Patience = HASTY,
    *,
    connection_cap: int | None = None,
    wire_cap: int = 1_000_000,
) -> AsyncIterator[Listener]:
    async with listening(
        site.app,
        host="127.0.0.1",
        port=0,
        patience=patience,
        connection_cap=connection_cap,
        wire_cap=wire_cap,
    ) as listener:
        yield listener


def test_the_private_parts_of_aiohttp_that_we_lean_on_are_still_there() -> None:
    for name in ("_handle_request", "finish_response", "handle_error", "start", "force_close", "log_exception"):
        assert callable(getattr(web.RequestHandler, name)), name
    for name in ("_request_count", "_messages", "_lingering_time", "_loop", "_paused"):
        assert hasattr(web.RequestHandler, name), name


async def test_port_0_picks_a_port_and_the_url_names_it() -> None:
    async with serving(Site()) as listener:
        assert listener.port > 0
        assert listener.url == f"http://127.0.0.1:{listener.port}"
        assert (await exchange(listener.port, request("GET", "/hi"))).body == b"hi"


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("localhost", "http://localhost:80")],
)
def test_the_url_of_a_wildcard_address_can_be_used(host: str, url: str) -> None:
    assert Listener(host, 80).url == url


async def test_a_taken_address_is_an_os_error() -> None:
    async with serving(Site()) as listener:
        with pytest.raises(OSError, match="address already in use"):
            async with listening(Site().app, host="127.0.0.1", port=listener.port):
                pass


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(Site()) as listener:
        assert (await exchange(listener.port, b"")).raw == b""


async def test_half_a_head_is_answered_408_and_closed() -> None:
    async with serving(Site()) as listener:
        reply = await exchange(listener.port, b"GET /hi HTTP/1.1\r\nHost: localh")
        assert (reply.status, reply.code) == (408, "too_slow")


async def test_a_head_that_drips_is_cut_at_its_deadline() -> None:
    async with serving(Site()) as listener:
        reply = await drip(listener.port, request("GET", "/hi", Filler="x" * 500), every=0.02)
        assert reply.status == 408


async def test_a_body_that_drips_is_answered_408() -> None:
    async with serving(Site()) as listener:
        head = request("POST", "/echo", Content_Length="500")
        async with connected(listener.port) as (reader, writer):
            writer.write(head)
            async with asyncio.TaskGroup() as group:
                answer = group.create_task(reader.read(), name="read the answer")
                while not (await asyncio.wait({answer}, timeout=0.02))[0]:
                    writer.write(b"x")
        reply = parse(answer.result())
        assert (reply.status, reply.code) == (408, "too_slow")


async def test_a_body_that_nobody_reads_holds_the_connection_only_for_a_moment() -> None:
    async with serving(Site(), Patience(linger=0.2)) as listener:
        reply = await exchange(listener.port, request("POST", "/refuse", b"part", Content_Length="1000000"))
        assert reply.code == "forbidden"
        assert reply.headers["connection"] == "close"


async def test_the_answer_to_a_large_unread_body_is_not_lost() -> None:
    async with serving(Site(), Patience(linger=2.0)) as listener:
        for _ in range(10):
            reply = await exchange(listener.port, request("POST", "/refuse", b"x" * 500_000))
            assert reply.code == "forbidden"


async def test_a_request_of_endless_bytes_is_cut() -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    endless = Patience(linger=60, body=60)
    async with serving(Site(), endless, wire_cap=300_000) as listener, connected(listener.port) as (_, writer):
        writer.write(request("POST", "/refuse", Content_Length="999999999"))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(pour(writer), 5)


async def test_an_idle_connection_may_outlive_the_patience_for_heads_but_not_its_own() -> None:
    async with serving(Site(), Patience(head=0.05, idle=0.4)) as listener, connected(listener.port) as (reader, writer):
        loop = asyncio.get_running_loop()
        writer.write(request("GET", "/hi", Connection="keep-alive"))
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        began = loop.time()
        assert await reader.read() == b""
        assert loop.time() - began > 0.3


async def test_the_next_request_on_a_connection_has_the_same_deadline() -> None:
    async with serving(Site(), Patience(head=0.1)) as listener, connected(listener.port) as (reader, writer):
        writer.write(request("GET", "/hi", Connection="keep-alive"))
        await reader.readuntil(b"hi")
        writer.write(b"GET /h")
        assert parse(await reader.read()).status == 408


async def test_pipelined_requests_are_all_answered() -> None:
    async with serving(Site()) as listener:
        kept = request("POST", "/echo", b"one", Connection="keep-alive")
        reply = await exchange(listener.port, kept + kept + request("POST", "/echo", b"two"))
        assert reply.raw.count(b"HTTP/1.1 200") == 3
        assert reply.raw.endswith(b"two")


async def test_good_requests_are_served_while_2000_heads_are_half_sent() -> None:
    async with serving(Site(), Patience(head=30)) as listener:
        flood: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        try:
            for _ in range(2000):
                peer = socket.socket()
                peer.setblocking(False)
                flood.append(peer)
                await loop.sock_connect(peer, ("127.0.0.1", listener.port))
                await loop.sock_sendall(peer, b"GET /hi HTTP/1.1\r\n")
            for _ in range(20):
                began = loop.time()
                assert (await exchange(listener.port, request("GET", "/hi"))).body == b"hi"
                assert loop.time() - began < 0.5
        finally:
            for peer in flood:
                peer.close()


async def test_at_the_cap_the_connection_that_waited_longest_makes_room() -> None:
    async with (
        serving(Site(), Patience(head=30), connection_cap=3) as listener,
        connected(listener.port) as (first, _),
        connected(listener.port) as (second, talker),
    ):
        talker.write(request("GET", "/hi", Connection="keep-alive"))
        await second.readuntil(b"hi")
        async with connected(listener.port):
            assert (await exchange(listener.port, request("GET", "/hi"))).body == b"hi"
            assert await is_closed(first)
        talker.write(request("GET", "/hi"))
        assert (await second.read()).endswith(b"hi")


async def test_beyond_the_cap_a_connection_is_refused_when_all_others_are_busy() -> None:
    site = Site()
    async with serving(site, connection_cap=1) as listener, connected(listener.port) as (reader, writer):
        writer.write(request("GET", "/wait"))
        await site.started.wait()
        async with connected(listener.port) as (other, _):
            assert await is_closed(other)
        site.go_on.set()
        assert (await reader.read()).endswith(b"done")


async def test_a_peer_that_does_not_read_its_answer_is_cut_off() -> None:
    site = Site()
    async with serving(site) as listener, connected(listener.port) as (_, writer):
        writer.write(request("GET", "/flood"))
        await until(lambda: site.finished == 1)


async def test_a_handler_goes_on_when_its_caller_has_left() -> None:
    site = Site()
    async with serving(site) as listener:
        async with connected(listener.port) as (_, writer):
            writer.write(request("GET", "/wait"))
            await site.started.wait()
        assert (await exchange(listener.port, request("GET", "/hi"))).status == 200
        site.go_on.set()
        await until(lambda: site.finished == 1)


async def test_closing_finishes_what_is_under_way_and_accepts_no_more() -> None:
    site = Site()
    async with connected_while_closing(site, Patience(close=10)) as (reader, port):
        with pytest.raises(ConnectionError):
            await exchange(port, request("GET", "/hi"))
        site.go_on.set()
        assert (await reader.read()).endswith(b"done")
    assert site.finished == 1


async def test_closing_waits_for_a_request_whose_caller_has_left() -> None:
    site = Site()
    async with asyncio.TaskGroup() as group, serving(site, Patience(close=10)) as listener:
        async with connected(listener.port) as (_, writer):
            writer.write(request("GET", "/wait"))
            await site.started.wait()
        group.create_task(_set_once_closing(site), name="go on")
    assert site.finished == 1


async def _set_once_closing(site: Site) -> None:
    await site.app[CLOSING].wait()
    site.go_on.set()


async def test_closing_has_a_deadline() -> None:
    site = Site()
    async with connected_while_closing(site, HASTY) as (reader, _):
        assert await is_closed(reader)
    assert site.finished == 0


async def test_an_endless_answer_can_end_by_itself_when_its_listener_closes() -> None:
    site = Site()
    async with asyncio.timeout(5):
        async with serving(site, Patience(close=60)) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(request("GET", "/stream"))
            await site.started.wait()
        assert b"ended" in await reader.read()
        writer.close()


@asynccontextmanager
async def connected_while_closing(site: Site, patience: Patience) -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """Give a connection with a request under way on a listener that has begun to close."""
    stop = asyncio.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with serving(site, patience) as listener:
            ports.append(listener.port)
            await stop.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(serve(), name="serve")
        await until(lambda: bool(ports))
        async with connected(ports[0]) as (reader, writer):
            writer.write(request("GET", "/wait"))
            await site.started.wait()
            stop.set()
            await until(site.app[CLOSING].is_set)
            yield reader, ports[0]


async def test_what_is_not_http_is_a_problem_document_without_a_word_of_the_software() -> None:
    async with serving(Site()) as listener:
        for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET /hi HTTP/1.1\r\nA b: c\r\n\r\n"):
            reply = await exchange(listener.port, garbage)
            assert (reply.status, reply.code) == (400, "bad_request")
            assert reply.headers["server"] == "rtobserver"


async def test_no_answer_names_versions() -> None:
    async with serving(Site()) as listener:
        for path in ("/hi", "/nowhere"):
            assert (await exchange(listener.port, request("GET", path))).headers["server"] == "rtobserver"


async def test_an_unknown_expectation_is_refused_as_a_problem_document() -> None:
    async with serving(Site()) as listener:
        reply = await exchange(listener.port, request("POST", "/echo", b"x", Expect="miracles"))
        assert (reply.status, reply.code) == (417, "expectation_failed")


async def test_a_compressed_body_is_handed_on_as_it_came() -> None:
    async with serving(Site()) as listener:
        reply = await exchange(listener.port, request("POST", "/echo", b"not gzip", Content_Encoding="gzip"))
        assert reply.body == b"not gzip"


async def test_a_chunk_that_is_framed_wrongly_is_a_400() -> None:
    async with serving(Site()) as listener:
        head = request("POST", "/echo", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")
        reply = await exchange(listener.port, head + b"zz\r\nxx\r\n")
        assert reply.status == 400
