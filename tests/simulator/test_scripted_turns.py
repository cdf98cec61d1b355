"""What the steps of a scenario look like on a sideband."""

from __future__ import annotations

from typing import Any

import pytest

from rtobserver.simulator.scenario import BargeIn, Cap, Error, Failed, Scenario, SessionUpdate, Spoken, ToolCall, Wait
from tests.simulator.caller import SESSION, Json, calling, types
from tests.support.watch import Watch


async def play(*steps: Any, session: Json | None = None, **keys: Any) -> list[Json]:
    scenario = Scenario(name="test", steps=steps, **keys)
    async with calling(scenario=scenario) as caller, caller.attach(await caller.call(session)) as observer:
        return await observer.rest()


def only(events: list[Json], kind: str) -> list[Json]:
    return [event for event in events if event["type"] == kind]


async def test_speaking_over_a_response_cancels_it() -> None:
    events = await play(BargeIn(assistant="One two three four five six seven eight.", at=0.5))
    cut, answer = (event["response"] for event in only(events, "response.done"))
    assert (cut["status"], cut["status_details"]) == ("cancelled", {"type": "cancelled", "reason": "turn_detected"})
    assert cut["output"][0]["content"][0]["transcript"] == "One two three four five"
    assert cut["usage"]["total_tokens"] > 0
    assert answer["status"] == "completed"
    (truncated,) = only(events, "conversation.item.truncated")
    assert truncated["item_id"] == cut["output"][0]["id"]
    assert truncated["audio_end_ms"] > 0
    (cleared,) = only(events, "output_audio_buffer.cleared")
    assert cleared["response_id"] == cut["id"]
    kinds = types(events)
    second_speech = [n for n, kind in enumerate(kinds) if kind == "input_audio_buffer.speech_started"][1]
    assert second_speech < kinds.index("output_audio_buffer.cleared") < len(kinds) - 1


async def test_speaking_over_a_playback_leaves_the_response_completed() -> None:
    events = await play(BargeIn(when="playback", at=0.25))
    assert [event["response"]["status"] for event in only(events, "response.done")] == ["completed", "completed"]
    kinds = types(events)
    assert kinds.index("response.done") < kinds.index("output_audio_buffer.cleared")
    assert kinds.count("output_audio_buffer.stopped") == 1
    assert len(only(events, "conversation.item.truncated")) == 1


async def test_a_session_can_forbid_interruptions() -> None:
    session = {**SESSION, "audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}}
    events = await play(BargeIn(), session=session)
    assert "output_audio_buffer.cleared" not in types(events)
    assert types(events).count("output_audio_buffer.stopped") == 2


async def test_the_input_clock_runs_on() -> None:
    events = await play(Spoken(user_seconds=2.0), Spoken(user_seconds=1.0))
    starts = [event["audio_start_ms"] for event in only(events, "input_audio_buffer.speech_started")]
    ends = [event["audio_end_ms"] for event in only(events, "input_audio_buffer.speech_stopped")]
    assert ends[0] - starts[0] == 2000 + 300 + 200
    assert starts[1] >= ends[0] - 300


async def test_items_link_to_their_predecessors() -> None:
    events = await play(Spoken(), ToolCall(), Spoken())
    added = only(events, "conversation.item.added")
    assert [event["previous_item_id"] for event in added] == [None, *(event["item"]["id"] for event in added[:-1])]


async def test_deltas_make_the_text() -> None:
    events = await play(Spoken(user="Hi, you: two!", assistant="Well; yes... no?"), transcription="gpt-4o-transcribe")
    for delta, done, field in [
        ("response.output_audio_transcript.delta", "response.output_audio_transcript.done", "transcript"),
        (
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
            "transcript",
        ),
    ]:
        assert "".join(event["delta"] for event in only(events, delta)) == only(events, done)[0][field]


async def test_usage_grows_with_the_conversation() -> None:
    events = await play(Spoken(), Spoken(), Spoken())
    usages = [event["response"]["usage"] for event in only(events, "response.done")]
    inputs = [usage["input_tokens"] for usage in usages]
    assert inputs == sorted(set(inputs))
    for usage in usages:
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["input_token_details"]["cached_tokens"] <= usage["input_tokens"]


@pytest.mark.parametrize(
    ("step", "details"),
    [
        (Failed(reason="insufficient_quota"), "insufficient_quota"),
        (Failed(status="incomplete", reason="content_filter"), "content_filter"),
    ],
)
async def test_a_response_can_break_off(step: Failed, details: str) -> None:
    (done,) = only(await play(step), "response.done")
    assert done["response"]["status"] == step.status
    found = done["response"]["status_details"]
    assert details in (found.get("reason"), found.get("error", {}).get("code"))


async def test_a_transcription_can_fail() -> None:
    events = await play(Spoken(transcription_error="DeploymentNotFound"), transcription="whisper-1")
    (failed,) = only(events, "conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "DeploymentNotFound"


async def test_the_pages_own_error_stays_with_the_page() -> None:
    assert types(await play(Error(), Error(cause="browser"))) == ["error"]


async def test_the_page_can_change_the_session() -> None:
    (updated,) = await play(SessionUpdate(session={"instructions": "Obey the page."}))
    assert updated["session"]["instructions"] == "Obey the page."
    assert not await play(SessionUpdate(session={"nonsense": 1}))


async def test_a_cap_counts_from_the_beginning_of_the_call() -> None:
    scenario = Scenario(name="test", steps=(Wait(seconds=1.0), Cap(minutes=60, scale=1.5 / 3600)))
    async with calling(scenario=scenario, pace=1.0) as caller:
        watch = Watch()
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            await observer.rest()
        call = caller.simulator.calls[call_id]
        assert call.ended is not None
        assert call.ended.cause == "expired"
        # counted from the end of what came before it, it would be a second later
        assert call.ended.at - call.sidebands["sb1"].attached_at < 2.4 + watch.starved()
