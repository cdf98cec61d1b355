"""Calls of the real service, played through the sideband, are stored byte for byte."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import yaml

from rtobserver.config.sections import Recording
from tests.support.outside import recording
from tests.support.stage import Setting
from tests.system.conftest import Play

NAMES = (
    "azure_history_seeding",
    "azure_sideband_text_turn",
    "azure_spoken_turn_with_tool",
    "openai_sideband_audio_turn",
    "openai_three_spoken_turns",
)


@functools.cache
def frames_of(path: Path) -> list[bytes]:
    """Write each received frame once as compact JSON."""
    turns = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
    return [
        json.dumps(turn["data"], separators=(",", ":"), ensure_ascii=False).encode()
        for turn in turns
        if turn.get("kind") == "message" and turn["direction"] == "received"
    ]


@pytest.mark.parametrize("name", NAMES)
async def test_a_recorded_call_is_stored_byte_for_byte(play: Play, name: str) -> None:
    path = recording(name)
    frames = frames_of(path)
    assert len(frames) > 10
    async with play(Setting(recording=Recording(audio="keep")), recording=path) as stage:
        call_id = await stage.call()
        row = await stage.ended(call_id)
        assert await stage.events(call_id) == frames
        entries = await stage.entries(call_id)
        assert [entry.position for entry in entries] == [(1, seq) for seq in range(1, len(frames) + 2)]
        assert [entry.fields["event_id"] for entry in entries[1:]] == [
            json.loads(frame)["event_id"] for frame in frames
        ]
        assert not any(entry.fields["stripped"] for entry in entries)
        assert (row["completeness"], row["gap_count"]) == ("complete", 0)


@pytest.mark.parametrize("name", NAMES)
async def test_only_the_sound_of_a_recorded_call_is_left_out_by_default(play: Play, name: str) -> None:
    path = recording(name)
    frames = frames_of(path)
    async with play(recording=path) as stage:
        call_id = await stage.call()
        await stage.ended(call_id)
        entries = await stage.entries(call_id, "?kind=event")
        assert len(entries) == len(frames)
        for entry, frame in zip(entries, frames, strict=True):
            is_sound = entry.type == "response.output_audio.delta"
            assert entry.fields["stripped"] is is_sound
            if not is_sound:
                assert entry.payload == frame
                continue
            before, after = json.loads(frame), entry.body
            before.pop("delta")
            assert set(after.pop("delta")) == {"bytes", "hmac_sha256"}
            assert after == before


@pytest.mark.parametrize(
    ("name", "turns", "responses"),
    [("azure_spoken_turn_with_tool", 1, 2), ("openai_three_spoken_turns", 3, 3), ("azure_sideband_text_turn", 1, 1)],
)
async def test_the_turns_of_a_recorded_call_are_counted_as_a_person_would(
    play: Play, name: str, turns: int, responses: int
) -> None:
    path = recording(name)
    done = [event for frame in frames_of(path) if (event := json.loads(frame))["type"] == "response.done"]
    tokens = sum(event["response"]["usage"]["total_tokens"] for event in done)
    # the recorded page chose its instructions itself, so none are expected
    chosen = Setting(profile={"session": {"type": "realtime", "model": "gpt-realtime"}})
    async with play(chosen, recording=path) as stage:
        row = await stage.ended(await stage.call())
        assert row["turn_count"] == turns
        assert len(done) == responses
        assert row["usage"]["total_tokens"] == tokens
        assert row["usage"]["responses_without_usage"] == 0
        assert (row["interruption_count"], row["error_count"], row["tampered"]) == (0, 0, False)
