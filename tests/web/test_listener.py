import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rtobserver.web.connection import Patience
from rtobserver.web.listener import CLOSING, Listener, listening
from tests.support.watch import Watch
from tests.web.sites import Site, serving
from tests.web.wire import connected, exchange, is_closed, request, until


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
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            async with listening(Site().app, host="127.0.0.1", port=listener.port):
                pass


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
                watch = Watch()
                assert (await exchange(listener.port, request("GET", "/hi"))).body == b"hi"
                assert watch.seconds() < 0.5
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
    async with connected_while_closing(site, Patience(close=0.3)) as (reader, _):
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


async def test_no_answer_names_versions() -> None:
    async with serving(Site()) as listener:
        for path in ("/hi", "/nowhere"):
            assert (await exchange(listener.port, request("GET", path))).headers["server"] == "rtobserver"
