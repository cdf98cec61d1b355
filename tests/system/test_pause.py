"""A pause of the recording: what is said in it is found nowhere afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtobserver.simulator.scenario import Scenario, Spoken
from rtobserver.simulator.server import Simulator
from tests.support.stage import Stage, serving, simulating
from tests.system.conftest import Play
from tests.system.ordering import done, live

CANARY = "canaryfourtytwo"
SILENCE = Scenario(name="silence", steps=(), ending="stay", transcription="gpt-4o-transcribe")


def traces(folder: Path, needle: str = CANARY) -> list[str]:
    """Name the files below a folder that hold a text."""
    return [path.name for path in folder.rglob("*") if path.is_file() and needle.encode() in path.read_bytes()]


async def settle(stage: Stage, call_id: str) -> None:
    """Wait until everything that upstream produced so far is stored."""
    count = len(stage.produced(call_id))
    await stage.until_stored(call_id, lambda entries: sum(entry.kind == "event" for entry in entries) >= count)


async def has_idled(simulator: Simulator, call_id: str, count: int) -> None:
    """Wait until so many responses were made and nothing goes on."""
    call = simulator.calls[call_id]
    await simulator.until(
        lambda: (
            call.conversation.active is None
            and sum(b'"response.done"' in each.frame for each in call.produced) >= count
        )
    )


def user_item(stage: Stage, call_id: str, words: str) -> str:
    for frame in reversed(stage.produced(call_id)):
        event = json.loads(frame)
        if event["type"].endswith("input_audio_transcription.completed") and words in event["transcript"]:
            return str(event["item_id"])
    raise AssertionError("nobody said it")


async def everything(stage: Stage, call_id: str) -> str:
    """Read all that the API says of a call."""
    found = b""
    for path in ("", "/entries?limit=1000", "/transcript", "/turns", "/gaps", "/commands", "/usage"):
        found += (await stage.get(f"/api/v1/calls/{call_id}{path}"))[1]
    found += (await stage.get(f"/api/v1/search?q={CANARY}"))[1].replace(CANARY.encode(), b"", 1)
    return found.decode()


async def test_what_is_said_in_a_pause_is_found_nowhere_afterwards(
    play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with play(scenario=SILENCE) as stage:
        call_id = await live(stage)
        simulator = stage.simulator
        simulator.perform(call_id, Spoken(user="Before it.", assistant="Yes, go on."))
        await has_idled(simulator, call_id, 1)
        await done(stage, call_id, "pause")
        simulator.perform(call_id, Spoken(user=f"My number is {CANARY}.", assistant=f"I noted {CANARY}."))
        await has_idled(simulator, call_id, 2)
        await settle(stage, call_id)
        await done(stage, call_id, "resume")
        simulator.perform(call_id, Spoken(user="After it.", assistant="Thank you."))
        await has_idled(simulator, call_id, 3)
        # upstream repeats it whenever it is asked
        item_id = user_item(stage, call_id, CANARY)
        await done(stage, call_id, "commands", {"type": "conversation.item.retrieve", "item_id": item_id})
        await settle(stage, call_id)
        entries = await stage.entries(call_id)
        text = await everything(stage, call_id)
        assert CANARY not in text
        assert "Before it." in text
        assert "After it." in text
        assert len([entry for entry in entries if entry.kind == "event"]) == len(stage.produced(call_id))
        placeholders = [entry for entry in entries if entry.kind == "event" and entry.body.get("paused")]
        assert {"response.done", "conversation.item.retrieved"} <= {entry.type for entry in placeholders}
        assert set(placeholders[0].body) == {"paused", "size_class", "ids"}
        [gap] = [gap for gap in await stage.gaps(call_id) if gap["reason"] == "paused"]
        assert gap["from"] < gap["to"]
        assert CANARY in str(stage.produced(call_id)), "it was said"
        assert not traces(tmp_path)
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert row["completeness"] == "complete_with_gaps"
        assert not traces(tmp_path)
    captured = capsys.readouterr()
    assert CANARY not in captured.out + captured.err
    assert not traces(tmp_path)


async def test_speech_that_goes_on_beyond_the_pause_is_not_recorded(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        call_id = await live(stage)
        await done(stage, call_id, "pause")
        stage.simulator.produce(call_id, _event("input_audio_buffer.speech_started", item_id="item_a"))
        await settle(stage, call_id)
        await done(stage, call_id, "resume")
        for event in _transcribed("item_a", CANARY):
            stage.simulator.produce(call_id, event)
        # without voice detection nothing says when the user began
        for event in _transcribed("item_b", "all of this is recorded"):
            stage.simulator.produce(call_id, event)
        await settle(stage, call_id)
        text = await everything(stage, call_id)
        assert CANARY not in text
        assert "all of this is recorded" in text
        assert not traces(tmp_path)


async def test_sound_of_a_pause_that_is_committed_after_it_is_not_recorded(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        call_id = await live(stage)
        await done(stage, call_id, "pause")
        await done(stage, call_id, "resume")
        for event in _transcribed("item_a", CANARY):
            stage.simulator.produce(call_id, event)
        for event in _transcribed("item_b", "all of this is recorded"):
            stage.simulator.produce(call_id, event)
        await settle(stage, call_id)
        text = await everything(stage, call_id)
        assert CANARY not in text
        assert "all of this is recorded" in text
        assert not traces(tmp_path)


async def test_a_pause_survives_a_restart_and_so_does_what_belongs_to_it(tmp_path: Path) -> None:
    async with simulating(scenario=SILENCE) as simulator:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            call_id = await live(stage)
            await done(stage, call_id, "pause")
            simulator.perform(call_id, Spoken(user=f"One {CANARY}.", assistant="Yes."))
            await has_idled(simulator, call_id, 1)
            await settle(stage, call_id)
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await simulator.until(lambda: bool(simulator.calls[call_id].open_sidebands))
            simulator.perform(call_id, Spoken(user=f"Two {CANARY}.", assistant=f"Two {CANARY}."))
            await has_idled(simulator, call_id, 2)
            await stage.until_stored(
                call_id,
                lambda entries: any(entry.position[0] == 2 and entry.type == "response.done" for entry in entries),
            )
            await done(stage, call_id, "resume")
            [gap] = [gap for gap in await stage.gaps(call_id) if gap["reason"] == "paused"]
            assert gap["to"] is not None
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await simulator.until(lambda: bool(simulator.calls[call_id].open_sidebands))
            for words in ("One", "Two"):
                item_id = user_item(stage, call_id, words)
                await done(stage, call_id, "commands", {"type": "conversation.item.retrieve", "item_id": item_id})
            simulator.perform(call_id, Spoken(user="After it.", assistant="Thank you."))
            await has_idled(simulator, call_id, 3)
            await stage.until_stored(call_id, lambda entries: any(b"After it." in each.payload for each in entries))
            assert CANARY not in await everything(stage, call_id)
            assert not traces(tmp_path)


async def test_pausing_twice_is_one_pause(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        for what in ("pause", "pause", "resume", "resume"):
            await done(stage, call_id, what)
        assert len([gap for gap in await stage.gaps(call_id) if gap["reason"] == "paused"]) == 1
        assert [command["type"] for command in await stage.commands(call_id)] == ["pause", "pause", "resume", "resume"]


def _event(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "event_id": "event_x", **fields}


def _transcribed(item_id: str, words: str) -> list[dict[str, Any]]:
    content = [{"type": "input_audio", "transcript": None}]
    item = {"id": item_id, "type": "message", "role": "user", "content": content}
    heard = "conversation.item.input_audio_transcription"
    return [
        _event("input_audio_buffer.committed", item_id=item_id, previous_item_id=None),
        _event("conversation.item.added", item=item, previous_item_id=None),
        _event(f"{heard}.delta", item_id=item_id, content_index=0, delta=words),
        _event(f"{heard}.completed", item_id=item_id, content_index=0, transcript=words),
        _event("conversation.item.done", item={**item, "content": [{"type": "input_audio", "transcript": words}]}),
    ]
