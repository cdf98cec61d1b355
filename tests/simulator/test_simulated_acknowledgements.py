"""What upstream does about each client event."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rtobserver.simulator.faults import Faults
from rtobserver.simulator.scenario import BargeIn, Scenario, Spoken, ToolCall, Typed
from tests.simulator.caller import SESSION, Caller, Observer, calling, types


@asynccontextmanager
async def attached(
    session: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Caller, Observer, str]]:
    async with calling(**options) as caller:
        call_id = await caller.call(session)
        async with caller.attach(call_id) as observer:
            yield caller, observer, call_id


def scripted(*steps: Any, **keys: Any) -> Scenario:
    return Scenario(name="test", steps=steps, **{"ending": "stay", **keys})


async def test_an_empty_update_gives_a_snapshot() -> None:
    async with attached() as (caller, observer, call_id):
        await observer.send(type="session.update", session={"type": "realtime"})
        event = await observer.next()
        assert (event["type"], event["session"]) == ("session.updated", caller.simulator.calls[call_id].session)


async def test_an_update_merges_at_the_top_and_inside_audio() -> None:
    async with attached({**SESSION, "instructions": "Old."}) as (_, observer, _):
        detection = {"type": "semantic_vad", "eagerness": "low"}
        update = {
            "type": "realtime",
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "audio": {"input": {"turn_detection": detection, "transcription": {"model": "m"}}},
        }
        await observer.send(type="session.update", session=update)
        session = (await observer.next())["session"]
        assert session["instructions"] == "Old."
        assert session["tools"] == [{"type": "function", "name": "f", "parameters": {}}]
        assert session["audio"]["output"]["voice"] == "alloy"
        assert session["audio"]["input"] == {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "m", "language": None, "prompt": None},
            "noise_reduction": None,
            "turn_detection": {
                "type": "semantic_vad",
                "eagerness": "low",
                "create_response": True,
                "interrupt_response": True,
            },
        }


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "voice": "x"}, "unknown_parameter", "session.voice"),
        ({"type": "realtime", "audio": {"output": {"pitch": 1}}}, "unknown_parameter", "session.audio.output.pitch"),
        ({"type": "realtime", "model": "other"}, "invalid_value", "session.model"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        ({"type": "realtime", "max_output_tokens": 0}, "invalid_value", "session.max_output_tokens"),
        ({"type": "realtime", "tools": [{"type": "x"}]}, "invalid_value", "session.tools[0].type"),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"threshold": 2}}}},
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
    ],
)
async def test_an_invalid_update_changes_nothing(session: dict[str, Any], code: str, param: str) -> None:
    async with attached() as (caller, observer, call_id):
        before = dict(caller.simulator.calls[call_id].session)
        await observer.send(type="session.update", event_id="mine", session=session)
        event = await observer.next()
        assert event["type"] == "error"
        assert (event["error"]["code"], event["error"]["param"], event["error"]["event_id"]) == (code, param, "mine")
        assert caller.simulator.calls[call_id].session == before


async def test_the_voice_is_locked_once_the_model_spoke() -> None:
    async with attached(scenario=scripted(Typed())) as (_, observer, _):
        await observer.until("response.done")
        update = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
        await observer.send(type="session.update", session=update)
        event = (await observer.until("error"))[-1]
        assert event["error"]["code"] == "cannot_update_voice"


async def test_items_are_added_retrieved_and_deleted() -> None:
    async with attached() as (_, observer, _):
        for text in ("one", "two"):
            item = {"id": f"item_{text}", "type": "message", "role": "user"}
            item["content"] = [{"type": "input_text", "text": text}]  # type: ignore[assignment]
            await observer.send(type="conversation.item.create", item=item)
            added, done = await observer.next(), await observer.next()
            assert types([added, done]) == ["conversation.item.added", "conversation.item.done"]
            assert added["item"] == done["item"] == {**item, "status": "completed"}
        assert added["previous_item_id"] == "item_one"
        await observer.send(type="conversation.item.retrieve", item_id="item_one")
        assert (await observer.next())["item"]["content"][0]["text"] == "one"
        await observer.send(type="conversation.item.delete", item_id="item_one")
        assert (await observer.next())["item_id"] == "item_one"
        await observer.send(type="conversation.item.delete", item_id="item_one", event_id="again")
        error = (await observer.next())["error"]
        assert (error["code"], error["event_id"]) == ("item_delete_invalid_item_id", "again")


async def test_an_item_can_go_to_the_front() -> None:
    async with attached() as (caller, observer, call_id):
        content = [{"type": "input_text", "text": "x"}]
        for item_id, after in [("item_a", None), ("item_b", "root"), ("item_c", "item_b")]:
            item = {"id": item_id, "type": "message", "role": "system", "content": content}
            await observer.send(type="conversation.item.create", item=item, previous_item_id=after)
            await observer.until("conversation.item.done")
        assert list(caller.simulator.calls[call_id].conversation.items) == ["item_b", "item_c", "item_a"]
        await observer.send(type="conversation.item.create", item=item, previous_item_id="item_zzz")
        assert (await observer.next())["error"]["param"] == "previous_item_id"


async def test_a_retrieved_spoken_item_holds_its_sound() -> None:
    async with attached(scenario=scripted(Spoken(user_seconds=2))) as (_, observer, _):
        events = await observer.until("output_audio_buffer.stopped")
        await observer.send(type="conversation.item.retrieve", item_id=events[0]["item_id"])
        part = (await observer.next())["item"]["content"][0]
        assert part["type"] == "input_audio"
        assert len(base64.b64decode(part["audio"])) == 2 * 48_000


async def test_an_assistants_item_can_be_truncated() -> None:
    async with attached(scenario=scripted(Typed())) as (_, observer, _):
        item_id = (await observer.until("output_audio_buffer.stopped"))[3]["item"]["id"]
        truncate = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0}
        await observer.send(**truncate, audio_end_ms=300)
        event = await observer.next()
        assert (event["type"], event["audio_end_ms"]) == ("conversation.item.truncated", 300)
        await observer.send(**truncate, audio_end_ms=99_999)
        assert (await observer.next())["error"]["code"] == "invalid_value"


async def test_a_response_is_created_and_says_what_is_quoted() -> None:
    async with attached() as (_, observer, _):
        response = {"instructions": 'Say exactly: "Good bye now."', "metadata": {"k": "v"}}
        await observer.send(type="response.create", response=response)
        events = await observer.until("response.done")
        assert events[0]["response"]["metadata"] == {"k": "v"}
        done = events[-1]["response"]
        assert (done["status"], done["metadata"]) == ("completed", {"k": "v"})
        assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Good bye now."}]


async def test_only_one_response_at_a_time_but_others_apart() -> None:
    # long enough that it goes on while the others are asked for
    async with attached(pace=1.0, scenario=scripted(replies=("word " * 400,))) as (_, observer, _):
        await observer.send(type="response.create")
        await observer.until("response.created")
        await observer.send(type="response.create", event_id="second")
        error = (await observer.until("error"))[-1]["error"]
        assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
        apart = {"conversation": "none", "output_modalities": ["text"], "metadata": {"topic": "summary"}}
        await observer.send(type="response.create", response=apart)
        created = (await observer.until("response.created"))[-1]["response"]
        assert (created["conversation_id"], created["metadata"]) == (None, {"topic": "summary"})


async def test_an_out_of_band_response_stays_outside_the_conversation() -> None:
    async with attached() as (caller, observer, call_id):
        request = {"conversation": "none", "output_modalities": ["text"]}
        await observer.send(type="response.create", response=request)
        events = await observer.until("response.done")
        assert "conversation.item.added" not in types(events)
        assert "response.output_text.done" in types(events)
        assert not caller.simulator.calls[call_id].conversation.items


async def test_a_cancelled_response_is_done_as_cancelled() -> None:
    async with attached(scenario=scripted(Spoken(latency=3600)), pace=0.02) as (_, observer, _):
        await observer.until("response.created")
        await observer.send(type="response.cancel", event_id="c1")
        done = (await observer.until("response.done"))[-1]["response"]
        assert (done["status"], done["status_details"]) == (
            "cancelled",
            {"type": "cancelled", "reason": "client_cancelled"},
        )
        await observer.send(type="response.cancel", event_id="c2")
        error = (await observer.next())["error"]
        assert (error["code"], error["event_id"]) == ("response_cancel_not_active", "c2")


async def test_a_cancelled_answer_holds_what_was_generated_so_far() -> None:
    long = Spoken(assistant="one two three four five six seven eight nine ten " * 200, latency=0)
    async with attached(scenario=scripted(long), pace=0.05) as (_, observer, _):
        await observer.until("output_audio_buffer.started")
        await observer.send(type="response.cancel")
        events = await observer.until("response.done")
        text = next(e for e in events if e["type"] == "response.output_audio_transcript.done")["transcript"]
        assert long.assistant.startswith(text)
        assert text != long.assistant
        assert events[-1]["response"]["output"][0]["status"] == "incomplete"


async def test_what_is_heard_can_be_cleared() -> None:
    async with attached(scenario=scripted(Typed(assistant_seconds=600)), pace=1.0) as (_, observer, _):
        response_id = (await observer.until("response.done"))[-1]["response"]["id"]
        await observer.send(type="output_audio_buffer.clear")
        event = (await observer.until("output_audio_buffer.cleared"))[-1]
        assert event["response_id"] == response_id


async def test_a_sideband_can_answer_a_tool() -> None:
    async with attached(scenario=scripted(ToolCall(output=""))) as (_, observer, _):
        done = (await observer.until("response.done"))[-1]["response"]
        call_id = done["output"][0]["call_id"]
        output = {"type": "function_call_output", "call_id": call_id, "output": "{}"}
        await observer.send(type="conversation.item.create", item=output)
        added = (await observer.until("conversation.item.added"))[-1]["item"]
        assert list(added) == ["id", "type", "call_id", "output"]
        await observer.send(type="conversation.item.create", item=output, event_id="twice")
        assert (await observer.until("error"))[-1]["error"]["event_id"] == "twice"
        await observer.send(type="response.create")
        done = (await observer.until("response.done"))[-1]["response"]
        assert done["output"][0]["content"][0]["transcript"] == ToolCall().assistant


async def test_the_page_answers_a_tool_if_nobody_did() -> None:
    async with attached(scenario=scripted(ToolCall())) as (_, observer, _):
        await observer.until("response.done")
        events = await observer.until("response.done")
        assert events[0]["item"]["type"] == "function_call_output"


async def test_a_session_can_leave_answering_to_clients() -> None:
    session = {**SESSION, "audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}}
    async with attached(session, scenario=scripted(Spoken(assistant="Allowed."))) as (_, observer, _):
        await observer.until("conversation.item.done")
        await observer.send(type="response.create")
        done = (await observer.until("response.done"))[-1]["response"]
        assert done["output"][0]["content"][0]["transcript"] == "Allowed."


async def test_without_turn_detection_there_is_no_speech_event() -> None:
    session = {**SESSION, "audio": {"input": {"turn_detection": None}}}
    async with attached(session, scenario=scripted(Spoken(), BargeIn(), ending="leave")) as (_, observer, _):
        seen = types(await observer.rest())
        assert "input_audio_buffer.speech_started" not in seen
        assert "output_audio_buffer.cleared" not in seen
        assert seen.count("input_audio_buffer.committed") == 3


async def test_transcripts_come_only_where_they_are_on() -> None:
    def transcripts(events: list[dict[str, Any]]) -> int:
        return sum(event["type"].endswith("transcription.completed") for event in events)

    async with attached(scenario=scripted(Spoken(), ending="leave")) as (_, observer, _):
        assert transcripts(await observer.rest()) == 0
    async with attached(scenario=scripted(Spoken(), ending="leave", transcription="whisper-1")) as (_, observer, _):
        events = await observer.rest()
        assert events[0]["type"] == "session.updated"
        assert transcripts(events) == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_event"),
        ("[]", "invalid_event"),
        ('{"event_id":"e"}', "invalid_event"),
        ('{"type":"session.end"}', "invalid_value"),
        ('{"type":"input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        (b"\x00", "invalid_event"),
        ("[" * 100_000, "invalid_event"),
    ],
)
async def test_a_bad_message_is_answered_with_an_error(message: str | bytes, code: str) -> None:
    async with attached() as (caller, observer, call_id):
        await observer.socket.send(message)
        assert (await observer.next())["error"]["code"] == code
        assert [event.message for event in caller.simulator.calls[call_id].client_events] == [message]


@pytest.mark.parametrize("reach", ["origin", "all"])
async def test_errors_reach_their_origin_or_everyone(reach: Any) -> None:
    async with (
        attached(faults=Faults(errors_reach=reach)) as (caller, observer, call_id),
        caller.attach(call_id) as other,
    ):
        await observer.send(type="response.cancel")
        await observer.send(type="session.update", session={"type": "realtime"})
        assert types([await observer.next(), await observer.next()]) == ["error", "session.updated"]
        first = await other.next()
        assert first["type"] == ("session.updated" if reach == "origin" else "error")


async def test_client_events_can_be_ignored() -> None:
    async with attached(faults=Faults(acknowledge=False)) as (caller, observer, call_id):
        await observer.send(type="session.update", session={"type": "realtime"})
        call = caller.simulator.calls[call_id]
        await caller.simulator.until(lambda: len(call.client_events) == 1)
        assert call.produced_count == 0


async def test_acknowledgements_can_be_late() -> None:
    async with attached(faults=Faults(acknowledge_delay=0.01)) as (_, observer, _):
        await observer.send(type="session.update", session={"type": "realtime"})
        assert (await observer.next())["type"] == "session.updated"


@pytest.mark.parametrize(
    ("faults", "kind", "present"),
    [
        (Faults(), "response.created", True),
        (Faults(response_created_for_vad=False), "response.created", False),
        (Faults(), "response.output_audio.delta", False),
        (Faults(audio_delta_on_sideband=True), "response.output_audio.delta", True),
        (Faults(), "output_audio_buffer.started", True),
        (Faults(media_path=False), "output_audio_buffer.started", False),
    ],
)
async def test_open_questions_have_a_switch(faults: Faults, kind: str, present: bool) -> None:
    async with attached(scenario=scripted(Spoken(), ending="leave"), faults=faults) as (_, observer, _):
        assert (kind in types(await observer.rest())) is present
