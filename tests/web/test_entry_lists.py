from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rtobserver.realtime import events
from rtobserver.store import tables
from tests.store.stored import START, call, entry, ref
from tests.web.operator_stage import Stage, stage

DEEP = 100
POISON: dict[str, tuple[bytes, bool]] = {
    # name: (frame, whether it is embedded as it stands)
    "an event": (b'{"type":"response.done","event_id":"e"}', True),
    "spaces and tabs": (b' {\t"type" : "a" } ', True),
    "keys twice": (b'{"a":1,"a":2}', True),
    "an empty object": (b"{}", True),
    "an array": (b"[1,2]", True),
    "a string": (b'"text"', True),
    "a number": (b"0", True),
    "null": (b"null", True),
    "true": (b"true", True),
    "NUL escaped": (b'{"a":"\\u0000"}', True),
    "half a surrogate pair escaped": (b'{"a":"\\ud83d"}', True),
    "half a pair as key": (b'{"\\udc00":1}', True),
    "CR LF escaped": (b'{"a":"\\r\\n"}', True),
    "huge integer": (b'{"a":' + b"9" * 5000 + b"}", True),
    "huge exponent": (b'{"a":1e999}', True),
    "minus zero": (b"-0.0", True),
    "deep as allowed": (b"[" * DEEP + b"]" * DEEP, True),
    "markup": ("</script><!-- \u202e \u2028 -->".join('""').encode(), True),
    "a proto key": (b'{"__proto__":{"x":1},"constructor":1}', True),
    "the names of our own": (b'{"position":"9:9","payload_base64":"x","kind":"gap"}', True),
    "brackets in a string": (b'{"a":"' + b"[{" * 300 + b'"}', True),
    "too deep": (b"[" * (DEEP + 1) + b"]" * (DEEP + 1), False),
    "far too deep": (b"[" * 50_000 + b"]" * 50_000, False),
    "NUL raw": (b'{"a":"\x00"}', False),
    "NUL behind": (b"{}\x00", False),
    "CR LF between": (b'{\r\n"a":1}', False),
    "LF at the end": (b"{}\n", False),
    "LF in a string": (b'{"a":"\n"}', False),
    "BOM": (b"\xef\xbb\xbf{}", False),
    "UTF-16": ('{"a":1}'.encode("utf-16"), False),
    "Latin-1": (b'{"a":"\xfc"}', False),
    "a surrogate in UTF-8": (b'{"a":"\xed\xa0\xbd"}', False),
    "an overlong form": (b'{"a":"\xc0\x80"}', False),
    "binary": (bytes(range(256)), False),
    "nothing": (b"", False),
    "spaces only": (b"   ", False),
    "NaN": (b'{"a":NaN}', False),
    "Infinity": (b"-Infinity", False),
    "a comma too many": (b'{"a":1,}', False),
    "text behind": (b"{} {}", False),
    "cut off": (b'{"a":', False),
    "single quotes": (b"{'a':1}", False),
    "a control character": (b'{"a":"\x1f"}', False),
    "leading zero": (b"[01]", False),
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.insert(tables.call, call("rtc_1"))
        yield opened


def record(api: Stage, frames: list[bytes]) -> None:
    """Record frames as the observer would: their bytes, and what can be read of them."""
    rows = []
    for seq, frame in enumerate(frames, start=1):
        event, embeddable = events.read(frame)
        flags = tables.FLAG_JSON if embeddable else 0
        rows.append(entry("rtc_1", seq, frame, type=event.type, event_id=event.event_id, flags=flags))
    api.insert(tables.entry, *rows)


def frame_of(line: bytes) -> bytes:
    """Take a frame's bytes out of an entry again, by cutting the text and not by decoding it."""
    marks = b'"overlap":false,"payload":', b'"overlap":false,"payload_base64":"'
    if marks[1] in line:
        return base64.b64decode(line.partition(marks[1])[2].removesuffix(b'"}'))
    return line.partition(marks[0])[2].removesuffix(b"}")


async def test_odd_frames_come_back_byte_for_byte_as_lines(api: Stage) -> None:
    record(api, [frame for frame, _ in POISON.values()])
    answer = await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.body.endswith(b"}\n")
    lines = answer.body[:-1].split(b"\n")
    for (name, (frame, embedded)), line in zip(POISON.items(), lines, strict=True):
        assert frame_of(line) == frame, name
        assert (b',"payload":' in line.replace(frame, b"")) == embedded, name
        # each line is JSON in UTF-8 for whoever can read its numbers
        decoded = json.loads(line.decode(), parse_int=str)
        assert ("payload" in decoded, "payload_base64" in decoded) == (embedded, not embedded), name


async def test_odd_frames_come_back_byte_for_byte_in_pages(api: Stage) -> None:
    record(api, [frame for frame, _ in POISON.values()])
    lines = (await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")).body
    page = (await api.get("/api/v1/calls/rtc_1/entries?limit=1000")).body
    assert page == b'{"data":[' + lines[:-1].replace(b"}\n{", b"},{") + b'],"next_cursor":null}'


async def test_an_entry_has_every_field(api: Stage) -> None:
    frame = b'{"type":"session.created","event_id":"event_1"}'
    record(api, [frame, b"\xff"])
    api.insert(
        tables.entry,
        entry(
            "rtc_1", 3, b'{"x":{"bytes":1}}', kind=tables.KIND_COMMAND, flags=tables.FLAG_JSON | tables.FLAG_STRIPPED
        ),
    )
    first, second, third = (await api.get("/api/v1/calls/rtc_1/entries")).json["data"]
    assert list(first.items()) == [
        ("position", "1:1"),
        ("epoch", 1),
        ("seq", 1),
        ("at", "2026-01-01T00:00:00.001000Z"),
        ("offset_ms", 1.0),
        ("kind", "event"),
        ("type", "session.created"),
        ("event_id", "event_1"),
        ("stripped", False),
        ("overlap", False),
        ("payload", json.loads(frame)),
    ]
    assert (second["type"], second["event_id"], second["payload_base64"]) == (None, None, "/w==")
    assert "payload" not in second
    assert (third["kind"], third["stripped"]) == ("command", True)


async def test_pages_follow_the_cursor_and_the_position(api: Stage) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq, epoch=epoch) for epoch in (1, 2) for seq in range(1, 8)])
    everything = [(row["epoch"], row["seq"]) for row in await api.all_pages("/api/v1/calls/rtc_1/entries?limit=3")]
    assert everything == [(epoch, seq) for epoch in (1, 2) for seq in range(1, 8)]
    behind = [row["position"] for row in await api.all_pages("/api/v1/calls/rtc_1/entries?limit=2&after=1:6")]
    assert behind == ["1:7", *[f"2:{seq}" for seq in range(1, 8)]]
    whole = await api.get("/api/v1/calls/rtc_1/entries?limit=14")
    assert whole.json["next_cursor"] is None


async def test_entries_recorded_between_two_pages_move_nothing(api: Stage) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(1, 11)])
    first = (await api.get("/api/v1/calls/rtc_1/entries?limit=6")).json
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(11, 14)])
    rest = (await api.get(f"/api/v1/calls/rtc_1/entries?limit=6&cursor={first['next_cursor']}")).json["data"]
    assert [row["seq"] for row in first["data"]] == list(range(1, 7))
    assert {row["seq"] for row in rest} >= set(range(7, 13))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [1, 2, 3]),
        ("?type=response.*", [1]),
        ("?type=rtobserver.gap", [3]),
        ("?kind=command", [2]),
        ("?kind=gap&type=*", [3]),
        ("?overlap=include", [1, 2, 3, 4]),
        ("?overlap=skip", [1, 2, 3]),
        ("?after=1:1&limit=1", [2]),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson;q=0.9, */*"])
async def test_entries_are_filtered_in_pages_and_lines_alike(
    api: Stage, query: str, found: list[int], accept: str
) -> None:
    api.insert(
        tables.entry,
        entry("rtc_1", 1),
        entry("rtc_1", 2, kind=tables.KIND_COMMAND, type="session.update"),
        entry("rtc_1", 3, kind=tables.KIND_GAP, type="rtobserver.gap"),
        entry("rtc_1", 4, type="late", flags=tables.FLAG_JSON | tables.FLAG_OVERLAP),
    )
    answer = await api.get(f"/api/v1/calls/rtc_1/entries{query}", Accept=accept)
    rows: list[Any] = (
        [json.loads(line) for line in answer.body.splitlines()] if "ndjson" in accept else answer.json["data"]
    )
    assert [row["seq"] for row in rows] == found


async def test_a_call_without_entries_is_an_empty_list(api: Stage) -> None:
    assert (await api.get("/api/v1/calls/rtc_1/entries")).body == b'{"data":[],"next_cursor":null}'
    assert (await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")).body == b""


async def test_large_payloads_come_whole(api: Stage) -> None:
    large = b'{"a":"' + b"x" * 3_000_000 + b'"}'
    api.insert(tables.entry, *[entry("rtc_1", seq, large) for seq in range(1, 6)])
    answer = await api.get("/api/v1/calls/rtc_1/entries?limit=4")
    assert [len(row["payload"]["a"]) for row in answer.json["data"]] == [3_000_000] * 4
    assert answer.json["next_cursor"] is not None
    lines = (await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")).body.splitlines()
    assert [frame_of(line) == large for line in lines] == [True] * 5


async def test_a_long_call_streams_in_order(api: Stage) -> None:
    payload = b'{"type":"response.output_audio_transcript.delta","delta":"' + b"x" * 200 + b'"}'
    api.insert(tables.entry, *[entry("rtc_1", seq, payload) for seq in range(1, 100_001)])
    count = 0
    headers = {"Authorization": f"Bearer {api.key}", "Accept": "application/x-ndjson"}
    async with api.client.get(f"{api.url}/api/v1/calls/rtc_1/entries", headers=headers) as response:
        async for line in response.content:
            count += 1
            assert line.startswith(b'{"position":"1:%d",' % count)
    assert count == 100_000


async def test_a_stream_is_cut_off_when_its_key_is_revoked(api: Stage) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq, b'"' + b"x" * 1_000_000 + b'"') for seq in range(1, 41)])
    key = api.make_key("read")
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    async with api.client.get(f"{api.url}/api/v1/calls/rtc_1/entries", headers=headers) as response:
        await response.content.readany()
        api.revoke_key(key, now_us=START)
        api.clock.ahead += 1.0
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert ref("rtc_1").day == 20454
