import asyncio
from dataclasses import replace

import pytest
import uvloop
from aiohttp import web
from structlog.testing import capture_logs

from rtobserver.web.connection import Patience
from rtobserver.web.operator import OPERATOR_PATIENCE
from tests.web.sites import Site, serving
from tests.web.wire import connected, drip, exchange, parse, request, rest, until

HASTY_HEAD = Patience(head=0.2)
"""One deadline is short, the one that a test is about: a busy machine must not miss the others."""


def test_the_private_parts_of_aiohttp_that_we_lean_on_are_still_there() -> None:
    for name in ("_handle_request", "finish_response", "handle_error", "start", "force_close", "log_exception"):
        assert callable(getattr(web.RequestHandler, name)), name
    for name in ("_request_count", "_messages", "_lingering_time", "_loop", "_paused"):
        assert hasattr(web.RequestHandler, name), name


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(Site(), HASTY_HEAD) as listener:
        assert (await exchange(listener.port, b"")).raw == b""


async def test_half_a_head_is_answered_408_and_closed() -> None:
    async with serving(Site(), HASTY_HEAD) as listener:
        reply = await exchange(listener.port, b"GET /hi HTTP/1.1\r\nHost: localh")
        assert (reply.status, reply.code) == (408, "too_slow")


async def test_a_head_that_drips_is_cut_at_its_deadline() -> None:
    async with serving(Site(), HASTY_HEAD) as listener:
        reply = await drip(listener.port, request("GET", "/hi", Filler="x" * 500), every=0.02)
        assert reply.status == 408


async def test_a_body_that_drips_is_answered_408() -> None:
    async with serving(Site(), Patience(body=0.4)) as listener:
        head = request("POST", "/echo", Content_Length="500")
        async with connected(listener.port) as (reader, writer):
            writer.write(head)
            async with asyncio.TaskGroup() as group:
                answer = group.create_task(rest(reader), name="read the answer")
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
    async with serving(Site(), Patience(head=0.5, idle=1.2)) as listener, connected(listener.port) as (reader, writer):
        loop = asyncio.get_running_loop()
        writer.write(request("GET", "/hi", Connection="keep-alive"))
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        began = loop.time()
        assert await reader.read() == b""
        assert loop.time() - began > 0.8


async def test_the_next_request_on_a_connection_has_the_same_deadline() -> None:
    async with serving(Site(), Patience(head=0.5)) as listener, connected(listener.port) as (reader, writer):
        writer.write(request("GET", "/hi", Connection="keep-alive"))
        await reader.readuntil(b"hi")
        writer.write(b"GET /h")
        assert parse(await rest(reader)).status == 408


async def test_pipelined_requests_are_all_answered() -> None:
    async with serving(Site()) as listener:
        kept = request("POST", "/echo", b"one", Connection="keep-alive")
        reply = await exchange(listener.port, kept + kept + request("POST", "/echo", b"two"))
        assert reply.raw.count(b"HTTP/1.1 200") == 3
        assert reply.raw.endswith(b"two")


async def test_a_peer_that_does_not_read_its_answer_is_cut_off() -> None:
    site = Site()
    with capture_logs() as logs:
        async with serving(site, Patience(write=0.3)) as listener, connected(listener.port) as (_, writer):
            writer.write(request("GET", "/flood", X_Request_Id="slow-1"))
            await until(lambda: site.finished == 1)
    [cut] = [line for line in logs if line["event"] == "slow_reader_cut_off"]
    assert (cut["request_id"], cut["seconds"]) == ("slow-1", 0.3)


def test_a_download_by_an_operator_may_pause_for_longer_than_an_answer_to_the_public() -> None:
    assert OPERATOR_PATIENCE.write >= 60 > Patience().write
    assert replace(OPERATOR_PATIENCE, write=Patience().write) == Patience()


async def test_a_handler_goes_on_when_its_caller_has_left() -> None:
    site = Site()
    async with serving(site) as listener:
        async with connected(listener.port) as (_, writer):
            writer.write(request("GET", "/wait"))
            await site.started.wait()
        assert (await exchange(listener.port, request("GET", "/hi"))).status == 200
        site.go_on.set()
        await until(lambda: site.finished == 1)


async def test_what_is_not_http_is_a_problem_document_without_a_word_of_the_software() -> None:
    async with serving(Site()) as listener:
        for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET /hi HTTP/1.1\r\nA b: c\r\n\r\n"):
            reply = await exchange(listener.port, garbage)
            assert (reply.status, reply.code) == (400, "bad_request")
            assert reply.headers["server"] == "rtobserver"


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


def test_the_deadlines_hold_on_uvloop_too() -> None:
    async def try_them() -> None:
        async with serving(Site(), HASTY_HEAD) as listener:
            assert (await exchange(listener.port, b"")).raw == b""
            assert (await exchange(listener.port, b"GET /hi HTTP/1.1\r\n")).status == 408
        async with serving(Site(), Patience(body=0.4)) as listener:
            assert (await drip(listener.port, request("POST", "/echo", b"x" * 500), every=0.02)).status == 408
            assert (await exchange(listener.port, request("POST", "/refuse", b"x" * 500_000))).status == 403
        site = Site()
        async with serving(site, Patience(write=0.3)) as listener, connected(listener.port) as (_, writer):
            writer.write(request("GET", "/flood"))
            await until(lambda: site.finished == 1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(try_them())
