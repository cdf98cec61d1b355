from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.web import follow
from tests.store.stored import call, entry, ref
from tests.support.watch import Watch
from tests.web.event_stream import Stream, streaming
from tests.web.operator_stage import Stage, stage


@pytest.fixture
async def on_file(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.insert(tables.call, call("rtc_1"), call("rtc_2"))
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.insert(tables.call, call("rtc_1"), call("rtc_2"))
        yield opened


def tail(
    api: Stage, path: str = "/calls/rtc_1/tail", *, key: str | None = None, last_event_id: str | None = None
) -> AbstractAsyncContextManager[Stream]:
    return streaming(api.client, f"{api.url}/api/v1{path}", key or api.key, last_event_id=last_event_id)


def record(api: Stage, call_id: str, seq: int, payload: bytes = b"{}", flags: int = tables.FLAG_JSON) -> None:
    """Hand an entry to the writer, as a recorder does."""
    row = entry(call_id, seq, payload, flags=flags)
    api.writer.entry(
        (
            ref(call_id),
            1,
            seq,
            row["kind"],
            row["at"],
            row["offset_us"],
            row["type"],
            row["event_id"],
            payload,
            flags,
        )
    )


async def begun(stream: Stream) -> None:
    """Wait until a viewer of a call is let in; that its row comes first says so."""
    await stream.next("call")


async def joined(api: Stage, stream: Stream, call_id: str = "rtc_1", seq: int = 900_000) -> None:
    """Wait until a viewer gets what is recorded now."""
    number = seq - 1
    async with asyncio.TaskGroup() as group:
        came = group.create_task(stream.next("entry"), name="what is recorded now")
        while not came.done():
            number += 1
            record(api, call_id, number)
            await asyncio.wait({came}, timeout=0.3)
    event = came.result()
    # on a busy machine more than one was under way
    while event.json["seq"] < number:
        event = await stream.next("entry")


async def test_the_tail_of_a_call_begins_with_its_row_and_goes_on_with_what_is_recorded(api: Stage) -> None:
    async with tail(api, "/calls/rtc_1/tail?after=0:0") as stream:
        row = await stream.next("call")
        assert row.json == (await api.get("/api/v1/calls/rtc_1")).json
        assert row.id == ""
        record(api, "rtc_1", 1, b'{"type": "x",  "n":1}')
        got = await stream.next("entry")
        assert got.id == "1:1"
        [listed] = (await api.get("/api/v1/calls/rtc_1/entries")).json["data"]
        assert got.json == {"call_id": "rtc_1"} | listed
        assert '"payload":{"type": "x",  "n":1}' in got.data


async def test_history_comes_before_what_is_live_and_each_entry_once(api: Stage) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(1, 1201)])
    async with tail(api, "/calls/rtc_1/tail?after=1:100") as stream:
        for seq in range(1201, 1301):
            record(api, "rtc_1", seq)
        got = await stream.take(1200)
        assert [event.id for event in got] == [f"1:{seq}" for seq in range(101, 1301)]


async def test_a_reader_goes_on_where_it_stopped(api: Stage) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(1, 11)])
    async with tail(api, "/calls/rtc_1/tail?after=0:0") as stream:
        await stream.take(4)
    async with tail(api, "/calls/rtc_1/tail?after=0:0", last_event_id=stream.last_id) as stream:
        assert [event.id for event in await stream.take(6)] == [f"1:{seq}" for seq in range(5, 11)]


async def test_the_tail_of_all_calls_goes_on_behind_its_cursor(api: Stage) -> None:
    api.insert(tables.entry, *[entry(f"rtc_{1 + seq % 2}", seq) for seq in range(1, 11)])
    async with tail(api, "/tail") as stream:
        await joined(api, stream)
        record(api, "rtc_2", 11)
        got = await stream.next("entry")
        assert (got.json["call_id"], got.json["seq"]) == ("rtc_2", 11)
    for seq in range(12, 20):
        record(api, f"rtc_{1 + seq % 2}", seq)
    async with tail(api, f"/tail?after={got.id}") as stream:
        later = await stream.take(8)
        # what is committed at once comes by calls where the database cannot tell more
        seqs = [event.json["seq"] for event in later]
        assert sorted(seqs) == list(range(12, 20))
        for odd in (0, 1):
            assert [seq for seq in seqs if seq % 2 == odd] == [seq for seq in range(12, 20) if seq % 2 == odd]
        assert later[-1].id != got.id


async def test_without_a_place_the_tail_is_of_what_is_recorded_from_now_on(api: Stage) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(1, 11)])
    async with tail(api) as stream:
        await joined(api, stream)
        record(api, "rtc_1", 1_000_000)
        assert (await stream.next("entry")).json["seq"] == 1_000_000


async def test_rows_whose_numbers_are_given_again_after_an_erasure_are_not_passed_over(on_file: Stage) -> None:
    api = on_file
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(1, 6)])
    api.insert(tables.entry, *[entry("rtc_2", seq) for seq in range(6, 11)])
    async with tail(api, "/tail") as stream:
        await joined(api, stream, seq=20)
        record(api, "rtc_1", 100)
        last = await stream.next("entry")
        async with api.database.reading() as connection:
            before = (await connection.execute(sa.text("select max(rowid) from entry"))).scalar()
        await api.writer.run(lambda work: work.execute(tables.entry.delete().where(tables.entry.c.seq > 5)))
        for seq in range(200, 203):
            record(api, "rtc_1", seq)
        await api.writer.readable()
        async with api.database.reading() as connection:
            after = (await connection.execute(sa.text("select max(rowid) from entry"))).scalar()
        assert after is not None
        assert before is not None
        assert after <= before
        assert [event.json["seq"] for event in await stream.take(3)] == [200, 201, 202]
    async with tail(api, "/tail", last_event_id=last.id) as stream:
        assert [event.json["seq"] for event in await stream.take(3)] == [200, 201, 202]


async def test_a_payload_with_line_ends_stays_within_its_event(api: Stage) -> None:
    odd = b'{"a":\r\n"event: call",\r"b":\n\n1}'
    async with tail(api, "/calls/rtc_1/tail?after=0:0") as stream:
        record(api, "rtc_1", 1, odd, flags=0)
        record(api, "rtc_1", 2, odd, flags=tables.FLAG_JSON)
        record(api, "rtc_1", 3)
        first, second, third = await stream.take(3)
        assert "payload_base64" in first.json
        assert second.json["payload"] == {"a": "event: call", "b": 1}
        assert third.id == "1:3"


async def test_changes_of_a_call_come_behind_the_entries_that_they_follow_from(api: Stage) -> None:
    async with tail(api, "/calls/rtc_1/tail?after=0:0") as stream, tail(api, "/tail") as every:
        await begun(stream)
        await joined(api, every, "rtc_2")
        record(api, "rtc_1", 1)
        api.writer.fact(tables.call, ref("rtc_1"), {"status": "ended", "outcome": "hung_up", "ended_at": 1})
        assert (await stream.next()).name == "entry"
        assert (await stream.next()).json["outcome"] == "hung_up"
        told = await every.next("call")
        assert (told.json["call_id"], told.json["status"]) == ("rtc_1", "ended")


async def test_the_row_that_says_that_a_call_has_ended_is_the_last_word(api: Stage) -> None:
    names = [f"rtc_{number}" for number in range(10, 40)]
    api.insert(tables.call, *[call(name) for name in names])
    async with tail(api, "/tail") as every:
        await joined(api, every, "rtc_2")
        for number, name in enumerate(names):
            for seq in range(1, 4):
                record(api, name, seq)
            api.writer.fact(tables.call, ref(name), {"status": "ended", "outcome": "hung_up", "ended_at": number})
            await api.writer.readable()
        left = dict.fromkeys(names, 3)
        over: set[str] = set()
        while len(over) < len(names):
            event = await every.next()
            name = event.json["call_id"]
            if event.name == "entry" and name in left:
                left[name] -= 1
            elif event.name == "call" and event.json["status"] == "ended":
                assert left[name] == 0, name
                over.add(name)


async def test_a_revoked_key_ends_its_streams_within_a_second(api: Stage) -> None:
    key = api.make_key("read")
    async with tail(api, key=key) as stream, tail(api, "/tail", key=key) as every, tail(api) as other:
        await begun(stream)
        await begun(other)
        watch = Watch()
        api.revoke_key(key)
        await stream.rest()
        await every.rest()
        assert watch.seconds() < 1
        record(api, "rtc_1", 1)
        assert (await other.next("entry")).id == "1:1"


async def test_an_expired_key_ends_its_streams(api: Stage) -> None:
    key = api.make_key("read", expires_at=api.clock.now_us() + 3_600_000_000)
    async with tail(api, key=key) as stream:
        await begun(stream)
        api.clock.ahead = 3700.0
        await stream.rest()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_streams_end_when_the_listener_closes(tmp_path: Path, kind: str) -> None:
    async with aiohttp.ClientSession() as client:
        async with stage(tmp_path, kind=kind) as api:
            api.insert(tables.call, call("rtc_1"))
            opened = streaming(client, f"{api.url}/api/v1/calls/rtc_1/tail", api.key)
            stream = await opened.__aenter__()
            await begun(stream)
        assert await stream.rest() == []
        await opened.__aexit__(None, None, None)


async def test_each_tail_is_audited_before_it_begins(api: Stage) -> None:
    async with tail(api) as stream, tail(api, "/tail") as every:
        await begun(stream)
        await joined(api, every)
    table = tables.audit
    rows = api.select(sa.select(table.c.action, table.c.object).where(table.c.action.startswith("tail")))
    assert set(rows) == {("tail.call", "rtc_1"), ("tail.all", "")}


@pytest.mark.parametrize(
    ("path", "headers", "status", "code", "named"),
    [
        ("/api/v1/calls/rtc_9/tail", {}, 404, "call_not_found", ""),
        ("/api/v1/calls/rtc_1/tail?after=soon", {}, 400, "invalid_parameter", "`after`"),
        ("/api/v1/calls/rtc_1/tail", {"Last_Event_ID": "soon"}, 400, "invalid_last_event_id", "`Last-Event-ID`"),
        ("/api/v1/tail?after=MToy", {}, 400, "invalid_cursor", "`after`"),
        ("/api/v1/tail", {"Last_Event_ID": "1:2"}, 400, "invalid_last_event_id", "`Last-Event-ID`"),
        ("/api/v1/tail", {"key": ""}, 401, "no_key", ""),
    ],
)
async def test_what_cannot_be_followed_is_refused(
    api: Stage, path: str, headers: dict[str, Any], status: int, code: str, named: str
) -> None:
    answer = await api.get(path, **headers)
    assert (answer.status, answer.code) == (status, code)
    assert answer.json["detail"].startswith(named)


def test_a_slow_viewer_is_told_how_much_it_missed() -> None:
    viewer = follow.Viewer(1)
    viewer.put_entries(b"a", follow.QUEUE_ENTRIES)
    viewer.put_entries(b"b", 3)
    viewer.put_entries(b"c", 4)
    viewer.put_call(1, b"old row")
    viewer.put_call(1, b"row")
    assert viewer.take() == [b"a", b'event: missed\ndata: {"count":7}\n\n', b"row"]
    viewer.put_entries(b"d", 1)
    assert viewer.take() == [b"d"]


def test_a_chunk_that_is_larger_than_the_queue_is_given_when_nothing_else_waits() -> None:
    viewer = follow.Viewer(1)
    block = bytes(follow.QUEUE_BYTES + 1)
    viewer.put_entries(block, 1)
    viewer.put_entries(b"b", 1)
    assert viewer.take() == [block, b'event: missed\ndata: {"count":1}\n\n']


async def test_a_reader_that_stands_still_loses_entries_and_is_told_so(api: Stage) -> None:
    payload = json.dumps({"type": "x", "filler": "x" * 8000}).encode()
    async with tail(api, "/calls/rtc_1/tail?after=0:0") as slow, tail(api, "/calls/rtc_1/tail?after=0:0") as quick:
        await begun(slow)
        sent = 0
        # far more than the buffers of both sockets and the queue hold together
        for _ in range(60):
            for _ in range(50):
                sent += 1
                record(api, "rtc_1", sent, payload)
            got = await quick.take(50)
        assert got[-1].id == f"1:{sent}", "one that reads loses nothing"
        record(api, "rtc_1", sent + 1)
        seen = missed = 0
        while seen + missed < sent + 1:
            event = await slow.next("entry", "missed")
            if event.name == "missed":
                missed += event.json["count"]
            else:
                seen += 1
        assert missed > 0
        assert seen + missed == sent + 1
