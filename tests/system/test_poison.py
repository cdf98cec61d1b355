"""A frame that nobody can read costs nothing but itself, and not even that: its bytes are the record."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest

from rtobserver.config.sections import Recording
from tests.support.poison import CORPUS, Poison
from tests.support.stage import Entry, Setting, Stage
from tests.system.conftest import Play


def good(number: int) -> bytes:
    return b'{"type":"good.frame","event_id":"event_%d"}' % number


async def played(stage: Stage, *frames: tuple[bytes, bool]) -> str:
    """Place a call in which upstream sends these frames, and wait for its end."""
    call_id = await stage.call()
    await stage.until(call_id, status="live")
    for frame, text in frames:
        stage.simulator.emit(call_id, frame, text=text)
    await stage.simulator.end_call(call_id)
    await stage.ended(call_id)
    return call_id


def check(entry: Entry, poison: Poison) -> None:
    assert entry.payload == poison.frame
    assert entry.embedded is poison.verbatim
    assert entry.fields["stripped"] is False


async def test_poison_is_stored_exactly_and_so_are_its_neighbours(play: Play) -> None:
    frames: list[tuple[bytes, bool]] = [(good(0), True)]
    for number, poison in enumerate(CORPUS, 1):
        frames += [(poison.frame, poison.text), (good(number), True)]
    async with play() as stage:
        call_id = await played(stage, *frames)
        entries = await stage.entries(call_id)
        assert [entry.position for entry in entries] == [(1, seq) for seq in range(1, len(entries) + 1)]
        events = [entry for entry in entries if entry.kind == "event"]
        assert [entry.payload for entry in events] == [frame for frame, _ in frames]
        for entry, poison in zip(events[1::2], CORPUS, strict=True):
            check(entry, poison)
        assert {entry.type for entry in events[::2]} == {"good.frame"}
        row = await stage.row(call_id)
        assert row["entry_count"] == len(entries)
        assert row["gap_count"] == 0


async def test_every_read_of_a_poisoned_call_succeeds(play: Play) -> None:
    async with play() as stage:
        call_id = await played(stage, *((poison.frame, poison.text) for poison in CORPUS))
        entries = await stage.entries(call_id)
        for path in ("", "/entries?limit=1000", "/entries?kind=event", "/gaps", "/commands"):
            status, body = await stage.get(f"/api/v1/calls/{call_id}{path}")
            assert status == 200, (path, body[:500])
            json.loads(body, parse_int=float)
        for query in ("", "?has=error", "?has=gap", "?limit=1&status=ended"):
            assert (await stage.get(f"/api/v1/calls{query}"))[0] == 200
        path = f"/api/v1/calls/{call_id}/entries?limit=1&after="
        answers = await asyncio.gather(*(stage.get(f"{path}{entry.fields['position']}") for entry in entries))
        for status, body in answers:
            assert status == 200
            json.loads(body, parse_int=float)
        assert (await stage.get("/metrics"))[0] == 200
        assert len(stage.select("SELECT * FROM entries")) == len(entries)
        assert len(stage.select("SELECT * FROM calls")) == 1


async def test_pages_and_lines_show_a_poisoned_entry_alike(play: Play) -> None:
    async with play() as stage:
        call_id = await played(stage, *((poison.frame, poison.text) for poison in CORPUS if len(poison.frame) < 10_000))
        lines = await stage.lines(call_id)
        status, page = await stage.get(f"/api/v1/calls/{call_id}/entries?limit=1000")
        assert status == 200
        assert page == b'{"data":[' + b",".join(lines) + b'],"next_cursor":null}'


@pytest.mark.parametrize("poison", [poison for poison in CORPUS if not poison.text], ids=lambda poison: poison.name)
async def test_a_binary_frame_opens_a_call_as_well_as_any(play: Play, poison: Poison) -> None:
    async with play() as stage:
        call_id = await played(stage, (poison.frame, False))
        [gap, event] = await stage.entries(call_id)
        assert (gap.kind, gap.body["reason"]) == ("gap", "before_attach")
        check(event, poison)


SOUND = bytes(range(256)) * 9_000
RETRIEVED = (
    b'{"type":"conversation.item.retrieved","event_id":"event_r","item":{"id":"item_1","object":"realtime.item",'
    b'"type":"message","status":"completed","role":"user","content":[{"type":"input_audio","transcript":"hello",'
    b'"audio":"' + base64.b64encode(SOUND) + b'","format":"pcm16"}]}}'
)


async def test_the_sound_of_a_retrieved_item_of_3_mb_is_not_stored(play: Play) -> None:
    assert len(RETRIEVED) > 3_000_000
    async with play() as stage:
        call_id = await played(stage, (good(1), True), (RETRIEVED, True), (good(2), True))
        [_, first, entry, last] = await stage.entries(call_id)
        assert (first.payload, last.payload) == (good(1), good(2))
        assert entry.fields["stripped"] is True
        assert entry.embedded
        [content] = entry.body["item"]["content"]
        summary = content.pop("audio")
        assert content == {"type": "input_audio", "transcript": "hello", "format": "pcm16"}
        assert set(summary) == {"bytes", "hmac_sha256"}
        assert summary["bytes"] == len(SOUND)
        assert summary["hmac_sha256"] != hashlib.sha256(SOUND).hexdigest()
        assert len(entry.payload) < 500
        assert stage.path.stat().st_size < 1_000_000
        row = await stage.row(call_id)
        assert (row["gap_count"], row["completeness"]) == (0, "complete")


async def test_the_same_sound_has_the_same_hash_in_one_store(play: Play) -> None:
    async with play() as stage:
        call_id = await played(stage, (RETRIEVED, True), (RETRIEVED, True))
        [_, first, second] = await stage.entries(call_id)
        assert first.payload == second.payload


async def test_sound_is_kept_where_the_operator_wants_it(play: Play) -> None:
    delta = (
        b'{"type":"response.output_audio.delta","item_id":"item_1","delta":"' + base64.b64encode(SOUND[:600]) + b'"}'
    )
    async with play(Setting(recording=Recording(audio="keep"))) as stage:
        call_id = await played(stage, (RETRIEVED, True), (delta, True))
        [_, item, part] = await stage.entries(call_id)
        assert (item.payload, part.payload) == (RETRIEVED, delta)
        assert not item.fields["stripped"]
        assert not part.fields["stripped"]


async def test_every_delta_of_sound_is_stripped_however_short(play: Play) -> None:
    frame = b'{"type":"response.output_audio.delta","event_id":"e","item_id":"item_1","delta":"AAAA"}'
    async with play() as stage:
        call_id = await played(stage, (frame, True))
        [_, entry] = await stage.entries(call_id)
        assert entry.fields["stripped"] is True
        assert entry.body["delta"]["bytes"] == 3
        assert entry.body["event_id"] == "e"
