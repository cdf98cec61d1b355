"""Real calls through the daemon: an aiortc caller, the simulator with media, everything in the database."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rtobserver.simulator.call import Call
from rtobserver.simulator.caller import Caller
from rtobserver.simulator.scenario import BargeIn, Scenario, Spoken, Typed
from tests.support.stage import Setting, Stage, staged
from tests.support.watch import Watch

pytestmark = pytest.mark.system

LONG = "One two three. " * 20
TALK = Scenario(
    name="test",
    steps=(Spoken(user="Is it cold?", assistant=LONG), Spoken(user="Stop.", assistant="All right.")),
    voice="caller",
    transcription="gpt-4o-transcribe",
    ending="stay",
)


@asynccontextmanager
async def playing(folder: Path, setting: Setting | None = None, **options: Any) -> AsyncIterator[Stage]:
    async with staged(folder, setting, **{"media": True, "pace": 0.2, **options}) as stage:
        yield stage


def call_of(stage: Stage, caller: Caller) -> Call:
    return stage.simulator.calls[caller.call_id]


async def assert_recorded_whole(stage: Stage, caller: Caller) -> int:
    """Hold a call's record, and what its page saw, against what upstream produced; give the number of events."""
    produced = call_of(stage, caller).produced
    sent = [each.frame for each in produced if "sb1" in each.sidebands]
    assert len(sent) == len(produced) - 1, "all but session.created went to the sideband"
    assert await stage.events(caller.call_id) == sent
    assert [str(message.frame).encode() for message in caller.messages] == [
        each.frame for each in produced if each.on_channel
    ]
    return len(sent)


async def converse(caller: Caller) -> None:
    """Ask, listen, interrupt, and listen to the end."""
    caller.say("question")
    await caller.until_event("output_audio_buffer.started", patience=30)
    heard = caller.heard_count
    await caller.until(lambda: caller.heard_count > heard + 20, 30)
    caller.say("interruption")
    await caller.until_event("conversation.item.truncated", patience=30)
    await caller.until_event("output_audio_buffer.stopped", patience=30)


@pytest.mark.parametrize("path", ["/connect", "/openai/v1/realtime/calls", "/v1/realtime/calls"])
async def test_a_conversation_with_an_interruption_is_recorded_byte_for_byte(tmp_path: Path, path: str) -> None:
    async with playing(tmp_path, scenario=TALK) as stage:
        async with Caller(stage.daemon.public_url + path, http=stage.http) as caller:
            await converse(caller)
            call = call_of(stage, caller)
            assert call.browser is not None
            assert caller.spoken_count > 200
            assert caller.heard_count > 25
        watch = Watch()
        row = await stage.ended(caller.call_id)
        assert watch.seconds() < 2
        await assert_recorded_whole(stage, caller)
        assert (row["turn_count"], row["interruption_count"], row["completeness"]) == (2, 1, "complete")


async def test_the_filter_shows_the_page_eleven_types_and_the_record_everything(tmp_path: Path) -> None:
    steps = (Spoken(assistant_seconds=0.5), BargeIn(), Typed())
    scenario = Scenario(name="test", steps=steps, transcription="gpt-4o-transcribe", ending="stay")
    async with playing(tmp_path, Setting(profile={"webrtcfilter": "on"}), scenario=scenario) as stage:
        async with Caller(f"{stage.daemon.public_url}/connect", http=stage.http) as caller:
            await caller.until_event("output_audio_buffer.stopped", 3, patience=30)
        await stage.ended(caller.call_id)
        shown = {event["type"] for event in caller.events}
        recorded = {json.loads(frame)["type"] for frame in await stage.events(caller.call_id)}
        assert shown == {
            "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "output_audio_buffer.started",
            "output_audio_buffer.stopped", "conversation.item.added", "response.output_audio_transcript.delta",
            "conversation.item.input_audio_transcription.completed", "response.output_audio_transcript.done",
        }  # fmt: skip
        assert shown < recorded
        assert {"session.updated", "response.created", "response.done", "output_audio_buffer.cleared"} <= recorded
        sent = [each.frame for each in call_of(stage, caller).produced if "sb1" in each.sidebands]
        assert await stage.events(caller.call_id) == sent


async def test_what_the_page_sends_has_its_effect_in_the_record_but_is_not_itself_in_it(tmp_path: Path) -> None:
    async with playing(tmp_path, scenario="quiet") as stage:
        async with Caller(f"{stage.daemon.public_url}/connect", audio=False, http=stage.http) as caller:
            await stage.until(caller.call_id, status="live")
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
            caller.send({"type": "conversation.item.create", "item": item})
            caller.send({"type": "response.create"})
            await caller.until_event("response.done")
        await stage.ended(caller.call_id)
        assert await assert_recorded_whole(stage, caller) > 5
        assert not await stage.commands(caller.call_id)


async def test_an_operators_hangup_ends_the_callers_connection(tmp_path: Path) -> None:
    async with playing(tmp_path, Setting(profile={"max_duration": 1.0}), scenario="quiet") as stage:
        async with Caller(f"{stage.daemon.public_url}/connect", http=stage.http) as caller:
            await caller.until(lambda: caller.is_over, 10)
        await stage.ended(caller.call_id, "max_duration")


async def test_a_caller_that_vanishes_is_recorded_as_gone(tmp_path: Path) -> None:
    async with (
        playing(tmp_path, scenario="quiet", consent_seconds=3) as stage,
        Caller(f"{stage.daemon.public_url}/connect", http=stage.http) as caller,
    ):
        await stage.until(caller.call_id, status="live")
        watch = Watch()
        await caller.vanish()
        await stage.ended(caller.call_id)
        assert watch.seconds() < 10


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("count", "audio"), [(10, True), (100, False)], ids=["10-with-sound", "100-without"])
async def test_many_calls_at_once_connect_and_are_recorded_whole(
    tmp_path: Path, count: int, audio: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    connected: list[float] = []

    async def place(stage: Stage) -> Caller:
        began = time.monotonic()
        url = f"{stage.daemon.public_url}/v1/realtime/calls"
        async with Caller(url, audio=audio, http=stage.http) as caller:
            connected.append(time.monotonic() - began)
            if audio:
                await converse(caller)
            else:
                await caller.until_event("response.done", patience=60)
        return caller

    scenario = TALK if audio else Scenario(name="test", steps=(Typed(),), ending="stay")
    async with playing(tmp_path, scenario=scenario) as stage:
        began, cpu = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            placed = [tasks.create_task(place(stage), name=f"caller {number}") for number in range(count)]
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        callers = [task.result() for task in placed]
        for caller in callers:
            await stage.ended(caller.call_id)
        events = sum([await assert_recorded_whole(stage, caller) for caller in callers])
    connected.sort()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{count} calls {'with' if audio else 'without'} sound: all connected, {events} events recorded; "
            f"offer to open channel p50 {connected[count // 2] * 1000:.0f} ms, slowest {connected[-1] * 1000:.0f} ms; "
            f"{cpu / wall:.0%} of a core for caller, simulator and daemon together in {wall:.1f} s; "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB at most\n"
        )
