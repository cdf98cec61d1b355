"""Calls with media: real WebRTC between an aiortc caller and the simulator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from rtobserver.errors import ConfigError
from rtobserver.simulator.call import Call
from rtobserver.simulator.caller import Caller, CallRefused
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.scenario import BargeIn, Cap, Error, Frame, Scenario, Spoken, Typed
from rtobserver.simulator.server import Simulator
from tests.simulator import caller as plain

TYPED = Scenario(name="test", steps=(Typed(),), ending="stay")
ELEVEN = {
    "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "output_audio_buffer.started",
    "output_audio_buffer.stopped", "conversation.item.input_audio_transcription.completed", "conversation.item.added",
    "conversation.item.created", "response.output_text.delta", "response.output_text.done",
    "response.output_audio_transcript.delta", "response.output_audio_transcript.done",
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    http: plain.Caller

    @property
    def simulator(self) -> Simulator:
        return self.http.simulator

    async def caller(self, query: str = "", session: plain.Json | None = None, **options: Any) -> Caller:
        """Give a caller that has the right to one call."""
        secret = await self.http.mint(session)
        url = f"{self.simulator.base_url}/realtime/calls{query}"
        return Caller(url, headers={"authorization": f"Bearer {secret}"}, http=self.http.http, **options)

    def call(self, caller: Caller) -> Call:
        return self.simulator.calls[caller.call_id]


@asynccontextmanager
async def staged(**options: Any) -> AsyncIterator[Stage]:
    chosen: dict[str, Any] = {"media": True, "pace": 0.05, "begin": "answered", **options}
    async with plain.calling(**chosen) as http:
        yield Stage(http)


@pytest.mark.parametrize("label", ["oai-events", "realtime-channel", ""])
async def test_a_page_gets_its_session_first_whatever_its_channel_is_called(label: str) -> None:
    async with staged(scenario=TYPED) as stage, await stage.caller(channel=label, audio=False) as caller:
        await caller.until_event("response.done")
        assert caller.events[0]["type"] == "session.created"
        assert caller.events[0]["session"] == stage.call(caller).session


async def test_channel_and_sideband_get_the_same_bytes_but_for_the_greeting() -> None:
    async with staged(scenario=TYPED, begin="attached") as stage, await stage.caller(audio=False) as caller:
        async with stage.http.attach(caller.call_id) as observer:
            await caller.until_event("response.done")
            await observer.until("response.done")
        call = stage.call(caller)
        greeting, *rest = call.produced
        assert [str(message.frame).encode() for message in caller.messages] == [each.frame for each in call.produced]
        assert (greeting.sidebands, greeting.on_channel) == (frozenset(), True)
        assert all(each.on_channel and each.sidebands == {"sb1"} for each in rest)


async def test_each_connection_can_have_event_ids_of_its_own() -> None:
    faults = Faults(same_event_ids=False)
    async with (
        staged(scenario=TYPED, begin="attached", faults=faults) as stage,
        await stage.caller() as caller,
        stage.http.attach(caller.call_id) as observer,
    ):
        await caller.until_event("response.done")
        seen = await observer.until("response.done")
        mine = [event for event in caller.events if event["type"] != "session.created"]
        assert [event["type"] for event in mine] == [event["type"] for event in seen]
        assert not {event["event_id"] for event in mine} & {event["event_id"] for event in seen}


async def test_a_page_controls_its_call_as_a_sideband_does() -> None:
    async with staged(scenario="quiet") as stage, await stage.caller(audio=False) as caller:
        async with stage.http.attach(caller.call_id) as observer:
            caller.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}})
            assert (await observer.until("session.updated"))[-1]["session"]["instructions"] == "Be brief."
            caller.send({"type": "response.create", "response": {"instructions": 'Say "good morning".'}})
            assert (await observer.until("response.done"))[-1]["response"]["status"] == "completed"
            await observer.send(type="session.update", session={"type": "realtime", "instructions": "Be long."})
            assert (await caller.until_event("session.updated", 2))["session"]["instructions"] == "Be long."
        assert [event.sideband for event in stage.call(caller).client_events] == ["browser", "browser", "sb1"]


@pytest.mark.parametrize(("reach", "counts"), [("origin", (1, 1)), ("all", (2, 2))])
async def test_who_sees_an_error_for_a_peers_bad_event_is_a_switch(reach: Any, counts: tuple[int, int]) -> None:
    faults = Faults(errors_reach=reach)
    async with (
        staged(scenario="quiet", faults=faults) as stage,
        await stage.caller(audio=False) as caller,
        stage.http.attach(caller.call_id) as observer,
    ):
        caller.send_frame("not JSON")
        await caller.until_event("error")
        await observer.send(type="response.cancel", event_id="mine")
        await observer.send(type="session.update", session={"type": "realtime"})
        seen = await observer.until("session.updated")
        await caller.until_event("session.updated")
        errors = [[event for event in events if event["type"] == "error"] for events in (caller.events, seen)]
        assert (len(errors[0]), len(errors[1])) == counts


async def test_the_filter_lets_exactly_eleven_types_through_to_the_page_and_hides_nothing_from_sidebands() -> None:
    everything = (Spoken(), Error(), BargeIn(), Typed())
    seen: list[plain.Json] = []
    scenario = Scenario(name="test", steps=everything, ending="stay", transcription="gpt-4o-transcribe")
    async with staged(scenario=scenario, begin="attached", pace=0.2) as stage:
        async with (
            await stage.caller("?webrtcfilter=on") as caller,
            stage.http.attach(caller.call_id) as observer,
        ):
            while [event["type"] for event in seen].count("output_audio_buffer.stopped") < 3:
                seen.append(await observer.next())
            await caller.until_event("output_audio_buffer.stopped", 3)
            call = stage.call(caller)
            shown = [event["event_id"] for event in caller.events]
        assert {event["type"] for event in caller.events} == ELEVEN - {
            "conversation.item.created", "response.output_text.delta", "response.output_text.done",
        }  # fmt: skip
        assert shown == [event["event_id"] for event in seen if event["type"] in ELEVEN]
        assert {"session.created", "error", "output_audio_buffer.cleared"} <= {
            json.loads(produced.frame)["type"] for produced in call.produced
        }


async def test_the_filter_does_not_apply_to_what_a_page_sends() -> None:
    async with staged(scenario="quiet") as stage, await stage.caller("?webrtcfilter=on", audio=False) as caller:
        caller.send({"type": "response.create", "response": {"output_modalities": ["text"]}})
        await caller.until_event("response.output_text.done")
        assert {event["type"] for event in caller.events} <= ELEVEN


@pytest.mark.parametrize("kind", sorted(ELEVEN))
async def test_each_of_the_eleven_passes(kind: str) -> None:
    frames = (Frame(text='{"type":"secret"}'), Frame(text="no JSON"), Frame(text=json.dumps({"type": kind})))
    scenario = Scenario(name="test", steps=frames, ending="stay")
    async with staged(scenario=scenario) as stage, await stage.caller("?webrtcfilter=on", audio=False) as caller:
        await caller.until_event(kind)
        assert [event["type"] for event in caller.events] == [kind]


async def test_openai_knows_no_filter() -> None:
    async with (
        staged(provider="openai", scenario=TYPED) as stage,
        await stage.caller("?webrtcfilter=on", audio=False) as caller,
    ):
        await caller.until_event("response.done")


async def test_a_call_without_sound_says_nothing_of_playback() -> None:
    async with staged(scenario=TYPED) as stage, await stage.caller(audio=False) as caller:
        await caller.until_event("response.done")
        kinds = {event["type"] for event in caller.events}
        assert "response.output_audio_transcript.delta" in kinds
        assert not {kind for kind in kinds if kind.startswith("output_audio_buffer.")}


async def test_sound_really_comes_for_as_long_as_playback_is_said_to_last() -> None:
    scenario = Scenario(name="test", steps=(Spoken(assistant_seconds=0.6),), ending="stay")
    async with staged(scenario=scenario) as stage, await stage.caller() as caller:
        await caller.until_event("output_audio_buffer.stopped")
        await caller.until(lambda: caller.heard_seconds >= 0.6)
        assert caller.heard_seconds == pytest.approx(0.6)
        times = {json.loads(each.frame)["type"]: each.at for each in stage.call(caller).produced}
        assert times["output_audio_buffer.stopped"] - times["output_audio_buffer.started"] > 0.55
        assert times["response.done"] < times["output_audio_buffer.stopped"]


async def test_the_callers_voice_makes_the_turn_and_the_script_its_words() -> None:
    scenario = Scenario(name="test", steps=(Spoken(user="Is it cold?"),), voice="caller", ending="stay")
    session = plain.SESSION | {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    async with staged(scenario=scenario) as stage, await stage.caller(session=session) as caller:
        caller.say("interruption")
        started = await caller.until_event("input_audio_buffer.speech_started")
        assert caller.is_speaking
        stopped = await caller.until_event("input_audio_buffer.speech_stopped")
        await caller.until_event("output_audio_buffer.stopped")
        said = (stopped["audio_end_ms"] - started["audio_start_ms"]) / 1000
        assert started["item_id"] == stopped["item_id"]
        assert 2.0 < said < 4.0
        heard = await caller.until_event("conversation.item.input_audio_transcription.completed")
        assert (heard["transcript"], heard["item_id"]) == ("Is it cold?", started["item_id"])
        kinds = [event["type"] for event in caller.events if "delta" not in event["type"]]
        assert kinds.index("input_audio_buffer.committed") < kinds.index("response.created")
        assert kinds.count("response.done") == 1


async def test_speaking_over_the_answer_stops_its_sound_and_says_how_much_was_heard() -> None:
    scenario = Scenario(name="test", steps=(), voice="caller", ending="stay", replies=("One two three. " * 20,))
    async with staged(scenario=scenario) as stage, await stage.caller() as caller:
        caller.send({"type": "response.create"})
        await caller.until(lambda: caller.heard_count > 10)
        caller.say("interruption")
        cleared = await caller.until_event("output_audio_buffer.cleared")
        heard = caller.heard_count
        truncated = await caller.until_event("conversation.item.truncated")
        started = await caller.until_event("output_audio_buffer.started")
        assert cleared["response_id"] == started["response_id"]
        # Every packet that was sent is heard but for those on their way.
        assert truncated["audio_end_ms"] == pytest.approx(heard * 20, abs=60)
        await caller.until_event("input_audio_buffer.speech_stopped")
        assert caller.heard_count <= heard + 3


async def test_a_session_without_interruptions_goes_on_speaking() -> None:
    scenario = Scenario(name="test", steps=(), voice="caller", ending="stay", replies=("One two three four.",))
    detection = {"type": "server_vad", "interrupt_response": False}
    session = plain.SESSION | {"audio": {"input": {"turn_detection": detection}}}
    async with staged(scenario=scenario) as stage, await stage.caller(session=session) as caller:
        caller.send({"type": "response.create"})
        await caller.until_event("output_audio_buffer.started")
        caller.say("interruption")
        await caller.until_event("input_audio_buffer.speech_started")
        await caller.until_event("output_audio_buffer.stopped")
        assert "output_audio_buffer.cleared" not in {event["type"] for event in caller.events}


async def test_without_turn_detection_the_page_commits_what_was_said_and_asks_for_the_answer() -> None:
    scenario = Scenario(
        name="test", steps=(Spoken(user="Is it cold?", assistant="Very."),), voice="caller", ending="stay"
    )
    audio = {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}
    session = plain.SESSION | {"audio": {"input": audio}}
    async with staged(scenario=scenario) as stage, await stage.caller(session=session) as caller:
        caller.say("interruption")
        await caller.until(lambda: caller.spoken_count > 50)
        caller.send({"type": "input_audio_buffer.commit"})
        committed = await caller.until_event("input_audio_buffer.committed")
        heard = await caller.until_event("conversation.item.input_audio_transcription.completed")
        assert (heard["transcript"], heard["item_id"]) == ("Is it cold?", committed["item_id"])
        caller.send({"type": "response.create"})
        answered = await caller.until_event("response.output_audio_transcript.done")
        assert answered["transcript"] == "Very."
        caller.send({"type": "input_audio_buffer.clear"})
        caller.send({"type": "input_audio_buffer.commit", "event_id": "again"})
        refused = await caller.until_event("error")
        assert (refused["error"]["code"], refused["error"]["event_id"]) == ("input_audio_buffer_commit_empty", "again")
        assert "input_audio_buffer.speech_started" not in {event["type"] for event in caller.events}


async def test_a_client_clears_what_is_playing() -> None:
    scenario = Scenario(name="test", steps=(), ending="stay", replies=("One two three. " * 20,))
    async with staged(scenario=scenario) as stage, await stage.caller() as caller:
        caller.send({"type": "response.create"})
        await caller.until(lambda: caller.heard_count > 5)
        caller.send({"type": "output_audio_buffer.clear"})
        await caller.until_event("output_audio_buffer.cleared")
        call = stage.call(caller)
        assert call.conversation.loudspeaker is not None
        assert call.conversation.loudspeaker.is_silent


async def test_a_caller_that_leaves_ends_its_call() -> None:
    async with staged(scenario="quiet") as stage:
        async with await stage.caller() as caller:
            pass
        await stage.simulator.until(lambda: stage.call(caller).ended is not None)
        ended = stage.call(caller).ended
        assert ended is not None
        assert ended.cause == "left"


@pytest.mark.parametrize("audio", [True, False])
async def test_a_caller_that_vanishes_is_missed_when_its_consent_expires(audio: bool) -> None:
    async with staged(scenario="quiet", consent_seconds=3) as stage, await stage.caller(audio=audio) as caller:
        gone_at = time.time()
        await caller.vanish()
        await stage.simulator.until(lambda: stage.call(caller).ended is not None)
        ended = stage.call(caller).ended
        assert ended is not None
        assert ended.at - gone_at > 2.5


async def test_a_caller_that_stays_keeps_its_consent() -> None:
    async with staged(scenario="quiet", consent_seconds=3) as stage, await stage.caller() as caller:
        caller.say("question")
        await caller.until(lambda: not caller.is_speaking)
        assert stage.call(caller).ended is None


async def test_a_hangup_ends_the_callers_connection() -> None:
    async with staged(scenario="quiet") as stage, await stage.caller() as caller:
        assert (await stage.http.hang_up(caller.call_id)).status == 200
        await caller.until(lambda: caller.is_over)


async def test_a_simulator_that_stops_leaves_no_caller_waiting() -> None:
    async with AsyncExitStack() as callers:
        async with staged(scenario="quiet") as stage:
            placed = [await callers.enter_async_context(await stage.caller(audio=audio)) for audio in (True, False)]
        for caller in placed:
            await caller.until(lambda caller=caller: caller.is_over)  # type: ignore[misc]


async def test_what_was_said_before_the_end_still_reaches_the_page() -> None:
    scenario = Scenario(name="test", steps=(Cap(error_first=True, minutes=0.01),))
    async with staged(scenario=scenario) as stage, await stage.caller(audio=False) as caller:
        await caller.until(lambda: caller.is_over)
        assert caller.events[-1]["error"]["code"] == "session_expired"


async def test_nobody_waits_for_ever_for_a_caller_that_never_connects() -> None:
    async with staged(scenario="quiet", connect_seconds=0.1) as stage:
        offered_at = time.time()
        await stage.http.offer(await stage.http.mint(), offer=(await offer()).replace("fake", "none"))
        (call,) = stage.simulator.calls.values()
        await stage.simulator.until(lambda: call.ended is not None)
        assert call.ended is not None
        assert call.ended.at - offered_at >= 0.1


async def test_clients_are_served_even_if_media_never_connects() -> None:
    async with staged(scenario="quiet") as stage:
        await stage.http.offer(await stage.http.mint(), offer=await offer())
        (call_id,) = stage.simulator.calls
        async with stage.http.attach(call_id) as observer:
            await observer.send(type="response.create")
            kinds = plain.types(await observer.until("response.done"))
            assert "output_audio_buffer.started" not in kinds


async def test_the_answer_names_the_given_address_only_and_says_what_upstream_says_of_messages() -> None:
    async with staged(scenario="quiet") as stage, await stage.caller() as caller:
        candidates = [line.split()[4] for line in caller.answer.splitlines() if line.startswith("a=candidate:")]
        assert set(candidates) == {"127.0.0.1"}
        assert "a=max-message-size:1073741823" in caller.answer
        assert caller.answer.count("a=setup:active") == 2
        assert "a=candidate" not in caller.offer


@pytest.mark.parametrize(
    ("part", "instead"),
    [("a=rtcp-mux\r\n", ""), ("opus/48000/2", "lyra/48000/2"), ("a=mid:0", "a=mid:0\r\na=rtpmap:x")],
)
async def test_an_offer_that_cannot_be_answered_is_refused_as_upstream_does(part: str, instead: str) -> None:
    async with staged(scenario="quiet") as stage:
        text = await offer()
        assert part in text
        answer = await stage.http.offer(await stage.http.mint(), offer=text.replace(part, instead))
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_offer")
        assert not stage.simulator.calls


async def test_a_caller_without_the_right_is_told_why() -> None:
    async with staged(scenario="quiet") as stage:
        with pytest.raises(CallRefused, match="answered 401"):
            async with Caller(f"{stage.simulator.base_url}/realtime/calls", http=stage.http.http):
                pass


async def test_a_frame_larger_than_the_page_takes_is_kept_from_it() -> None:
    scenario = Scenario(name="test", steps=(Frame(text="x" * 262145), Frame(text='{"type":"last"}')), ending="stay")
    async with staged(scenario=scenario, begin="attached") as stage, await stage.caller(audio=False) as caller:
        async with stage.http.attach(caller.call_id) as observer:
            assert len(await observer.socket.recv()) == 262145
        await caller.until_event("last")
        assert [event["type"] for event in caller.events] == ["session.created", "last"]
        assert [each.on_channel for each in stage.call(caller).produced] == [True, False, True]


async def test_media_without_aiortc_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--no-media"):
        async with plain.calling(media=True):
            pass


async def offer() -> str:
    """Make an offer of sound whose sender will never connect."""
    stray = Caller("http://127.0.0.1:1/realtime/calls", channel=None)
    with pytest.raises(OSError):  # noqa: PT011 - nobody listens there
        async with asyncio.timeout(5), stray:
            pass
    return stray.offer
