"""Recorded calls played as if they were live."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
import yaml

from rtobserver.errors import ConfigError
from rtobserver.simulator.recording import load_recording
from tests.simulator.caller import calling

EVENTS = ['{"type":"a", "n":1.0}', '{"event_id":"e2","type":"b","text":"\\u00e9\\/"}', '{"type":"c","n":"payload"}']


def entry(position: int, **fields: object) -> str:
    head = {"position": f"1:{position}", "at": f"2026-11-01T10:00:0{position}.000000Z", "offset_ms": position * 40.0}
    return json.dumps({**head, "kind": "event", **fields})


async def play(path: Path) -> list[str | bytes]:
    async with calling(recording=path) as caller, caller.attach(await caller.call()) as observer:
        frames: list[str | bytes] = [frame async for frame in observer.socket]
        assert observer.socket.close_code == 1000
        return frames


async def test_raw_events_are_played_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "raw.ndjson"
    path.write_text("\n".join(EVENTS) + "\n\n")
    assert await play(path) == EVENTS


async def test_the_ids_of_played_events_are_known(tmp_path: Path) -> None:
    path = tmp_path / "raw.ndjson"
    path.write_text("\n".join(EVENTS))
    async with calling(recording=path) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            await observer.rest()
        produced = caller.simulator.calls[call_id].produced
        assert [one.event_id for one in produced] == [None, "e2", None]


async def test_exported_entries_are_played_byte_for_byte_without_commands_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "export.ndjson"
    lines = [entry(n, payload=0).replace('"payload": 0', f'"payload": {event}') for n, event in enumerate(EVENTS, 1)]
    lines.insert(1, entry(7, kind="command", payload={"type": "response.create"}))
    lines.insert(1, entry(8, kind="gap"))
    lines.append(entry(4, payload_base64=base64.b64encode(b"\xff\x00").decode()))
    lines.append(entry(5, payload_base64=base64.b64encode(b"not json").decode()))
    path.write_text("\n".join(lines))
    assert await play(path) == [*EVENTS, b"\xff\x00", "not json"]


async def test_yaml_recordings_are_played_as_compact_json(tmp_path: Path) -> None:
    path = tmp_path / "recorded.yaml"
    turns = [
        {"kind": "message", "direction": "sent", "data": {"type": "x"}},
        {"kind": "message", "direction": "received", "data": {"type": "y", "text": "é"}},
        {"kind": "close", "direction": "received"},
    ]
    path.write_text(yaml.safe_dump({"version": 1, "interactions": turns}, sort_keys=False))
    assert await play(path) == ['{"type":"y","text":"é"}']


async def test_a_recording_keeps_its_pace(tmp_path: Path) -> None:
    path = tmp_path / "timed.ndjson"
    path.write_text("\n".join(entry(n, payload={"type": "x"}) for n in (1, 2, 6)))
    assert [frame.offset_seconds for frame in load_recording(path)] == pytest.approx([0.0, 0.04, 0.2])
    loop = asyncio.get_running_loop()
    async with calling(recording=path, pace=0.5) as caller, caller.attach(await caller.call()) as observer:
        began = loop.time()
        await observer.rest()
        assert loop.time() - began > 0.09


def test_times_come_from_the_wall_clock_where_there_is_no_offset(tmp_path: Path) -> None:
    path = tmp_path / "at.ndjson"
    path.write_text("\n".join(entry(n, payload={"type": "x"}, offset_ms=None) for n in (1, 3)))
    assert [frame.offset_seconds for frame in load_recording(path)] == [0.0, 2.0]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.ndjson", '{"type":"x"}\nnonsense', "line 2: is neither"),
        ("a.ndjson", '{"n":1}', "line 1: is neither an event nor an exported entry: the line has no type"),
        ("a.ndjson", '{"kind":"event"}', "the entry has no payload"),
        ("a.ndjson", "[1]", "the line is not a JSON object"),
        ("a.yaml", "interactions: [1]", "is not a recording"),
        ("a.yaml", "{", "is not a recording"),
    ],
)
def test_a_damaged_recording_is_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recording(path)
    assert problem in str(caught.value)


async def test_client_events_are_acknowledged_beside_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "raw.ndjson"
    path.write_text("\n".join(['{"type":"x"}'] * 3))
    async with calling(recording=path, pace=30.0) as caller, caller.attach(await caller.call()) as observer:
        await observer.send(type="session.update", session={"type": "realtime"})
        assert (await observer.next())["type"] == "session.updated"
