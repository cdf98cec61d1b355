from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web

from rtobserver.client import Client, Filters, payload_of
from rtobserver.errors import ApiRefused, ApiUnreachable
from rtobserver.store import tables
from rtobserver.web.listener import listening
from tests.store.stored import START, call, entry, ref
from tests.web.operator_stage import Stage, stage
from tests.web.test_api_erasure import item

DOCUMENT = Path(__file__).parents[1] / "docs" / "client.md"
PATIENCE = 15.0


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.key = opened.make_key("admin")
        yield opened


@pytest.fixture
async def client(api: Stage) -> AsyncIterator[Client]:
    async with Client(f"{api.url}/", api.key) as opened:
        yield opened


async def test_lists_are_followed_to_their_ends(api: Stage, client: Client) -> None:
    api.insert(tables.call, *[call(f"rtc_{n}", started_at=START + n) for n in range(450)])
    found = [row.call_id async for row in client.calls()]
    assert found == [f"rtc_{n}" for n in reversed(range(450))]
    assert len([row async for row in client.calls(limit=250)]) == 250


async def test_every_filter_reaches_the_api(api: Stage, client: Client) -> None:
    api.insert(
        tables.call,
        call(
            "rtc_1",
            status="ended",
            outcome="expired",
            profile="p",
            model="m",
            user="a&b=ü",
            labels={"x": "1+1"},
            tags=["t", "u"],
            gap_count=1,
            error_count=1,
            ended_at=START + 5_000_000,
        ),
        call("rtc_2"),
    )
    api.insert(tables.item, item("rtc_1", 1, "a refund"))
    wanted = Filters(
        status="ended",
        outcome="expired",
        profile="p",
        model="m",
        user="a&b=ü",
        labels={"x": "1+1"},
        tags=("t", "u"),
        since="2026-01-01",
        until="2026-01-02T00:00:00+02:00",
        min_duration="5s",
        has=("gap", "error"),
        q="refund",
    )
    assert [row.call_id async for row in client.calls(wanted)] == ["rtc_1"]
    assert [hit.call_id async for hit in client.search("refund", wanted)] == ["rtc_1"]
    assert [row async for row in client.calls(Filters(policy="p"))] == []


async def test_entries_come_with_their_exact_bytes(api: Stage, client: Client) -> None:
    frames = [b'{"a":  "\\ud83d"}', b"\xff\n\x00", b'{"b":"' + b"x" * 300_000 + b'"}']
    rows = [
        entry("rtc_1", seq, frame, flags=0 if seq == 2 else tables.FLAG_JSON)
        for seq, frame in enumerate(frames, start=1)
    ]
    api.insert(tables.call, call("rtc_1"))
    api.insert(tables.entry, *rows)
    assert [payload_of(found) async for found in client.entries("rtc_1")] == frames
    assert [found.seq async for found in client.entries("rtc_1", after="1:1", kind="event", type_="resp*")] == [2, 3]
    assert [found async for found in client.entries("rtc_1", type_="none", overlap=True)] == []


async def test_a_transcript_is_read_by_lines(api: Stage, client: Client) -> None:
    api.insert(tables.call, call("rtc_1"))
    api.insert(tables.item, *[item("rtc_1", number, f"line {number}") for number in range(3)])
    assert [line.text async for line in client.transcript("rtc_1")] == ["line 0", "line 1", "line 2"]


async def test_a_call_over_time_is_read_as_one_value(api: Stage, client: Client) -> None:
    api.insert(tables.call, call("rtc_1"))
    began = b'{"type":"input_audio_buffer.speech_started","item_id":"item_1"}'
    api.insert(tables.entry, entry("rtc_1", 1, began, type="input_audio_buffer.speech_started"))
    found = await client.timeline("rtc_1")
    assert [(span.lane, span.from_ms, span.to_ms, span.item_id) for span in found.spans] == [
        ("user", 1, None, "item_1")
    ]
    assert (found.live, found.after, [mark.kind for mark in found.marks]) == (True, "1:1", ["began"])


async def test_exports_come_as_they_are_written(api: Stage, client: Client) -> None:
    api.insert(tables.call, call("rtc_1", user="=x"))
    written = b"".join([piece async for piece in client.export("calls", "csv", Filters(profile="default"))])
    assert b"rtc_1" in written
    assert b"'=x" in written


async def test_an_erased_call_is_refused_with_the_words_of_the_api(api: Stage, client: Client) -> None:
    api.insert(tables.call, call("rtc_1", status="ended"))
    assert (await client.call("rtc_1")).status == "ended"
    assert (await client.verdict("rtc_1")).checks is None
    await client.delete("rtc_1")
    with pytest.raises(ApiRefused, match="was erased") as caught:
        await client.call("rtc_1")
    assert (caught.value.status, caught.value.code) == (410, "call_erased")
    assert caught.value.request_id.startswith("req_")


async def test_an_id_is_one_part_of_the_path_whatever_is_in_it(client: Client) -> None:
    for call_id in ("../audit", "a/b", "a?b=c", "ü"):
        with pytest.raises(ApiRefused) as caught:
            await client.call(call_id)
        assert caught.value.status == 404


async def test_a_tail_goes_on_behind_what_it_gave_when_the_daemon_comes_back(tmp_path: Path) -> None:
    asked: list[str | None] = []

    async def tail(request: web.Request) -> web.StreamResponse:
        asked.append(request.query.get("after"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        number = len(asked)
        await response.write(b':\n\nid: 1:%d\nevent: entry\ndata: {"n":\ndata: %d}\n\nevent: cut' % (number, number))
        return response

    app = web.Application()
    app.router.add_get("/api/v1/calls/rtc_1/tail", tail)
    async with (
        asyncio.timeout(PATIENCE),
        listening(app, host="127.0.0.1", port=0) as listener,
        Client(listener.url, "key") as client,
        aclosing(client.tail("rtc_1", after="0:0")) as events,
    ):
        found = [await anext(events) for _ in range(2)]
    assert [(event.event, event.id, event.data) for event in found] == [
        ("entry", "1:1", b'{"n":\n1}'),
        ("entry", "1:2", b'{"n":\n2}'),
    ]
    assert asked == ["0:0", "1:1"]


async def test_a_tail_gives_what_is_recorded(api: Stage, client: Client) -> None:
    api.insert(tables.call, call("rtc_1"))
    row = entry("rtc_1", 1)
    async with asyncio.timeout(PATIENCE), aclosing(client.tail("rtc_1", after="0:0")) as events:
        api.writer.entry((ref("rtc_1"), *[row[name] for name in list(row)[2:]]))
        async for event in events:
            if event.event == "entry":
                assert event.id == "1:1"
                assert b'"call_id":"rtc_1"' in event.data
                return


async def test_the_examples_of_the_document_run(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended", interruption_count=1, started_at=api.clock.now_us()))
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 2
    environ = os.environ | {"RTOBSERVER_URL": api.url, "RTOBSERVER_KEY": api.key}
    for block in blocks:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", block, env=environ, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert out.startswith(b"rtc_1")


async def test_what_is_no_daemon_is_told_apart(tmp_path: Path) -> None:
    async def odd(_request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway")

    app = web.Application()
    app.router.add_get("/api/v1/calls/{id}", odd)
    async with listening(app, host="127.0.0.1", port=0) as listener:
        async with Client(listener.url, "key") as client:
            with pytest.raises(ApiRefused, match="the daemon answered 502"):
                await client.call("rtc_1")
        url = listener.url
    async with Client(url, "key") as client:
        with pytest.raises(ApiUnreachable, match="does not answer"):
            await client.call("rtc_1")
