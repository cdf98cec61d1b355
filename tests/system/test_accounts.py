"""What a call's row says: verdict, counts, times, sums; and who may place calls, and how many."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from rtobserver.clock import SystemClock, Uptime
from rtobserver.config.sections import Limits, Profile, Public, PublicAuth
from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import Error, Hold, Scenario, Spoken
from tests.support.stage import OFFER, PATIENCE, SESSION, Json, Setting, Stage, serving, simulating
from tests.support.watch import Watch
from tests.system.conftest import Play

FORWARDED = Public(port=0, auth=PublicAuth(mode="forwarded", trusted_proxies=("127.0.0.0/8",)))
ALICE, BOB = {"X_Forwarded_User": "alice"}, {"X_Forwarded_User": "bob"}


MILLISECOND = timedelta(milliseconds=1)


class Later(SystemClock):
    """Tell the time of an hour later, on a machine that has run as much longer."""

    SECONDS = 3600

    def now_us(self) -> int:
        return super().now_us() + self.SECONDS * 1_000_000

    def uptime(self) -> Uptime | None:
        up = super().uptime()
        return up and replace(up, us=up.us + self.SECONDS * 1_000_000)


def bodies(frames: list[bytes], type_: str) -> list[Json]:
    return [event for frame in frames if (event := json.loads(frame))["type"] == type_]


async def played(stage: Stage, *events: Json) -> Json:
    """Place a call in which upstream sends these events; gives its row at the end."""
    call_id = await stage.call()
    await stage.until(call_id, status="live")
    for event in events:
        stage.simulator.produce(call_id, event)
    await stage.simulator.end_call(call_id)
    return await stage.ended(call_id)


# --- sums ---------------------------------------------------------------------------------------


async def test_three_turns_with_a_barge_in_and_a_tool_are_counted_as_a_person_would(play: Play) -> None:
    async with play(scenario="three_turns") as stage:
        call_id = await stage.call()
        row = await stage.ended(call_id)
        done = [event["response"] for event in bodies(stage.produced(call_id), "response.done")]
        # two answers (the first one cut), the tool's call, and what the model made of its output
        assert [response["status"] for response in done] == ["cancelled", "completed", "completed", "completed"]
        assert (row["turn_count"], row["interruption_count"], row["error_count"]) == (3, 1, 0)
        spent = [response["usage"] for response in done if response.get("usage")]
        usage = row["usage"]
        for name in ("input_tokens", "output_tokens", "total_tokens"):
            assert usage[name] == sum(each[name] for each in spent)
        for kind in ("text", "audio"):
            assert usage["input"][kind] == sum(each["input_token_details"][f"{kind}_tokens"] for each in spent)
            assert usage["output"][kind] == sum(each["output_token_details"][f"{kind}_tokens"] for each in spent)
        assert usage["cached_tokens"] == sum(each["input_token_details"]["cached_tokens"] for each in spent)
        assert usage["responses_without_usage"] == len(done) - len(spent)
        heard = bodies(stage.produced(call_id), "conversation.item.input_audio_transcription.completed")
        assert len(heard) == 3
        assert usage["transcription"]["seconds"] == sum(event["usage"]["seconds"] for event in heard)
        assert Decimal(row["cost_usd"]) > 0
        assert row["latency"]["generation_ms"]["p50"] is not None
        assert row["latency"]["first_audio_ms"]["p50"] is not None
        assert row["tampered"] is False


async def test_times_of_a_call_and_of_its_entries_agree(play: Play) -> None:
    async with play(scenario="three_turns") as stage:
        watch = Watch()
        call_id = await stage.call()
        row = await stage.ended(call_id)
        soon = 5 + watch.starved()
        started, ended = datetime.fromisoformat(row["started_at"]), datetime.fromisoformat(row["ended_at"])
        assert ended - started == timedelta(seconds=row["duration_seconds"])
        offered = stage.requests("/realtime/calls")[0].at
        assert 0 <= started.timestamp() - offered < soon
        entries = await stage.entries(call_id)
        times = [datetime.fromisoformat(entry.fields["at"]) for entry in entries]
        assert times == sorted(times)
        assert started <= times[0]
        assert times[-1] <= ended
        offsets = [entry.fields["offset_ms"] for entry in entries]
        assert offsets == sorted(offsets)
        assert all(
            abs((at - started).total_seconds() * 1000 - offset) < 500 for at, offset in zip(times, offsets, strict=True)
        )
        ended_upstream = stage.simulator.calls[call_id].ended
        assert ended_upstream is not None
        assert abs(ended.timestamp() - ended_upstream.at) < soon
        assert 0 <= row["attach_latency_ms"] < soon * 1000


async def test_errors_of_a_call_are_counted_and_can_be_asked_for(play: Play) -> None:
    async with play(scenario=Scenario(name="errors", steps=(Error(), Spoken(), Error()))) as stage:
        row = await stage.ended(await stage.call())
        assert row["error_count"] == 2
        [found] = await stage.calls("&has=error")
        assert found == row
        assert await stage.calls("&has=interruption") == []


async def test_a_call_that_is_live_has_sums_already(play: Play) -> None:
    async with play(scenario=Scenario(name="pause", steps=(Spoken(), Hold()))) as stage:
        call_id = await stage.call()
        row = await stage.until(call_id, status="live", turn_count=1)
        assert row["usage"]["total_tokens"] > 0
        assert (row["outcome"], row["ended_at"], row["duration_seconds"]) == (None, None, None)
        assert row["completeness"] is None


# --- verdicts -----------------------------------------------------------------------------------


def answer(done: str, *deltas: str) -> list[Json]:
    place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    item = {"id": "item_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    return [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": item},
        {"type": "conversation.item.added", "previous_item_id": None, "item": item},
        *({"type": "response.output_text.delta", "delta": delta, **place} for delta in deltas),
        {"type": "response.output_text.done", "text": done, **place},
        {"type": "response.done", "response": {"id": "resp_1", "status": "completed", "output": [item]}},
    ]


async def test_a_record_that_agrees_with_itself_is_complete(play: Play) -> None:
    async with play() as stage:
        row = await played(stage, *answer("Hello there.", "Hello", " there."))
        assert row["completeness"] == "complete"


async def test_deltas_that_do_not_add_up_make_a_record_incomplete(play: Play) -> None:
    async with play() as stage:
        row = await played(stage, *answer("Hello there.", "Hello"))
        assert (row["completeness"], row["gap_count"]) == ("incomplete", 0)


async def test_a_gap_explains_what_does_not_add_up(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        events = answer("Hello there.", "Hello", " there.")
        for event in events[:4]:
            stage.simulator.produce(call_id, event)
        await stage.simulator.close_sidebands(call_id)
        call = stage.simulator.calls[call_id]
        # while nobody listens
        stage.simulator.produce(call_id, events[4])
        await stage.wait(lambda: len(call.open_sidebands) == 1)
        for event in events[5:]:
            stage.simulator.produce(call_id, event)
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert (row["completeness"], row["gap_count"]) == ("complete_with_gaps", 1)
        produced = stage.produced(call_id)
        assert await stage.events(call_id) == [*produced[:4], *produced[5:]]


async def test_what_was_said_before_a_late_attach_is_admitted(play: Play) -> None:
    scenario = Scenario(name="early", steps=(Spoken(), Hold(), Spoken()))
    fault = EndpointFault(status=404, times=2)
    async with play(faults=Faults(attach=fault), scenario=scenario, begin="answered") as stage:
        offered_us = SystemClock().now_us()
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        produced = stage.produced(call_id)
        assert len(produced) > 5
        stage.simulator.release(call_id)
        row = await stage.ended(call_id)
        assert await stage.events(call_id) == stage.produced(call_id)[len(produced) :]
        assert (row["completeness"], row["gap_count"]) == ("complete_with_gaps", 1)
        [gap] = await stage.gaps(call_id)
        assert (gap["reason"], gap["state"]) == ("before_attach", "final")
        # the call may have been producing events since the offer was sent, a moment before the answer was here
        assert datetime.fromtimestamp(offered_us / 1e6, UTC) <= datetime.fromisoformat(gap["from"])
        assert gap["from"] <= row["started_at"]
        assert gap["from"] < gap["to"]
        assert [call["call_id"] for call in await stage.calls("&has=gap")] == [call_id]


async def test_a_late_attach_to_a_call_that_was_silent_admits_nothing(play: Play) -> None:
    scenario = Scenario(name="late", steps=(Hold(), Spoken()))
    fault = EndpointFault(status=404, times=2)
    async with play(faults=Faults(attach=fault), scenario=scenario, begin="answered") as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.release(call_id)
        row = await stage.ended(call_id)
        assert (row["completeness"], row["gap_count"]) == ("complete", 0)
        assert [gap["reason"] for gap in await stage.gaps(call_id)] == ["before_attach"]
        assert await stage.calls("&has=gap") == []


async def test_an_attach_in_the_middle_of_an_answer_admits_what_it_missed(play: Play) -> None:
    delta = {"type": "response.output_text.delta", "response_id": "r", "item_id": "unseen", "delta": "x"}
    async with play() as stage:
        row = await played(stage, {**delta, "output_index": 0, "content_index": 0})
        assert (row["completeness"], row["gap_count"]) == ("complete_with_gaps", 1)


# --- starting again -----------------------------------------------------------------------------


async def test_a_call_goes_on_in_a_second_epoch_when_the_daemon_starts_again(tmp_path: Path) -> None:
    async with simulating(scenario=Scenario(name="two", steps=(Spoken(), Hold(), Spoken()))) as simulator:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            call_id = await stage.call()
            await stage.until(call_id, status="live", turn_count=1)
            first = await stage.until_stored(call_id, lambda found: len(found) == len(stage.produced(call_id)) + 1)
        assert simulator.calls[call_id].hangups == 0
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await stage.wait(lambda: len(simulator.calls[call_id].open_sidebands) == 1)
            simulator.release(call_id)
            row = await stage.ended(call_id)
            entries = await stage.entries(call_id)
            assert [entry.payload for entry in entries if entry.kind == "event"] == stage.produced(call_id)
            assert entries[: len(first)] == first
            second = entries[len(first) :]
            assert [entry.position for entry in second] == [(2, seq) for seq in range(1, len(second) + 1)]
            gaps = await stage.gaps(call_id)
            assert [gap["reason"] for gap in gaps] == ["before_attach", "takeover"]
            assert gaps[1]["after"] == first[-1].fields["position"]
            assert gaps[1]["epoch"] == 2
            assert (row["completeness"], row["gap_count"]) == ("complete_with_gaps", 1)
            assert (row["turn_count"], row["entry_count"]) == (2, len(entries))
            offsets = [entry.fields["offset_ms"] for entry in entries]
            assert offsets == sorted(offsets)


async def test_a_call_that_ended_while_nobody_looked_is_found_ended(tmp_path: Path) -> None:
    async with simulating() as simulator:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            call_id = await stage.call()
            await stage.until(call_id, status="live")
            simulator.produce(call_id, {"type": "said"})
            [_, said] = await stage.until_stored(call_id, lambda found: found[-1].type == "said")
        await simulator.end_call(call_id)
        clock = Later()
        async with serving(simulator, tmp_path / "calls.db", clock=clock) as stage:
            row = await stage.ended(call_id)
            assert (row["completeness"], row["gap_count"]) == ("complete_with_gaps", 1)
            assert row["duration_seconds"] < Later.SECONDS, "it went on until it was heard last, and maybe longer"
            gap = (await stage.gaps(call_id))[-1]
            assert (gap["reason"], gap["to"], gap["state"]) == ("unknown_end", None, "final")
            assert said.fields["at"] <= gap["from"]
            assert abs(datetime.fromisoformat(gap["from"]) - datetime.fromisoformat(row["ended_at"])) < MILLISECOND
            verdict = await stage.document(f"/api/v1/calls/{call_id}/verdict")
            assert verdict["verdict"] == ["Nothing was recorded because nobody knows when the call ended."]
            assert verdict["checks"]["counts"] == {"said": 1}


async def test_calls_are_hung_up_at_the_stop_where_their_profile_says_so(tmp_path: Path) -> None:
    setting = Setting(profile={"on_shutdown": "hang_up"})
    async with simulating() as simulator:
        async with serving(simulator, tmp_path / "calls.db", setting) as stage:
            call_id = await stage.call()
            await stage.until(call_id, status="live")
        assert simulator.calls[call_id].hangups == 1
        async with serving(simulator, tmp_path / "calls.db", setting) as stage:
            row = await stage.row(call_id)
            assert (row["status"], row["outcome"], row["completeness"]) == ("ended", "hung_up", "complete")


# --- whose call ---------------------------------------------------------------------------------


async def test_labels_come_with_the_form_or_the_query_and_calls_are_found_by_them(play: Play) -> None:
    async with play() as stage:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("sdp", OFFER)
        form.add_field("labels", '{"team":"north","shop":"Øst 7"}')
        async with stage.http.post(f"{stage.daemon.public_url}/connect", data=form) as answer:
            assert answer.status == 201
            first = answer.headers["Location"].rpartition("/")[2]
        second = await stage.call('/v1/realtime/calls?labels={"team":"south"}')
        assert (await stage.row(first))["labels"] == {"team": "north", "shop": "Øst 7"}
        assert (await stage.row(second))["labels"] == {"team": "south"}
        assert [call["call_id"] for call in await stage.calls("&label.team=south")] == [second]


@pytest.mark.parametrize("path", ["/connect", "/v1/realtime/calls"])
async def test_a_profile_is_chosen_by_its_name(play: Play, path: str) -> None:
    sales = {"type": "realtime", "model": "gpt-realtime-mini", "instructions": "Sell."}
    profiles = (Profile(name="default", session=SESSION), Profile(name="sales", session=sales))
    async with play(Setting(profiles=profiles)) as stage:
        call_id = await stage.call(f"{path}?profile=sales")
        row = await stage.row(call_id)
        assert (row["profile"], row["model"]) == ("sales", "gpt-realtime-mini")
        assert stage.simulator.calls[call_id].session["instructions"] == "Sell."
        assert (await stage.offer(f"{path}?profile=other")).status == 400
        assert [call["call_id"] for call in await stage.calls("&profile=sales&model=gpt-realtime-mini")] == [call_id]


async def test_the_user_is_who_the_proxy_says_and_nobody_else(play: Play) -> None:
    async with play(Setting(public=FORWARDED)) as stage:
        for path in ("/connect", "/v1/realtime/calls"):
            assert (await stage.offer(path)).status == 401
            assert (await stage.offer(path, X_Forwarded_User="")).status == 401
        assert list(stage.simulator.requests) == []
        call_id = await stage.call(**ALICE)
        assert (await stage.until(call_id, status="live"))["user"] == "alice"
        token = await stage.token(**BOB)
        by_token = await stage.call(Authorization=f"Bearer {token}")
        assert (await stage.row(by_token))["user"] == "bob"
        assert [call["call_id"] for call in await stage.calls("&user=bob")] == [by_token]
        assert await stage.hang_up(call_id, **{"X-Forwarded-User": "bob"}) == 404
        assert await stage.hang_up(call_id) == 404
        assert await stage.hang_up(call_id, **{"X-Forwarded-User": "alice"}) == 200
        await stage.ended(call_id, "hung_up")


# --- limits -------------------------------------------------------------------------------------


async def test_a_user_holds_so_many_calls_at_once_and_no_more(play: Play) -> None:
    setting = Setting(public=FORWARDED, limits=Limits(concurrent_calls_per_user=2))
    async with play(setting) as stage:
        answers = await asyncio.gather(*(stage.offer(**ALICE) for _ in range(20)))
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [201] * 2 + [429] * 18
        refused = next(answer for answer in answers if answer.status == 429)
        assert int(refused.headers["Retry-After"]) > 0
        assert json.loads(await refused.read())["error"]["code"] == "too_many_calls"
        assert len(stage.requests("/client_secrets")) == 2
        assert len(await stage.calls()) == 2
        assert (await stage.offer(**BOB)).status == 201
        ended = next(iter(stage.simulator.calls))
        await stage.until(ended, status="live")
        await stage.simulator.end_call(ended)
        await stage.ended(ended)
        async with asyncio.timeout(PATIENCE):
            while (await stage.offer(**ALICE)).status != 201:
                await stage.row(ended)


async def test_all_users_together_hold_so_many_calls_and_no_more(play: Play) -> None:
    async with play(Setting(public=FORWARDED, limits=Limits(concurrent_calls=2))) as stage:
        assert (await stage.offer(**ALICE)).status == 201
        assert (await stage.offer(**BOB)).status == 201
        assert (await stage.offer(X_Forwarded_User="carol")).status == 429


async def test_a_user_begins_so_many_calls_a_minute_and_no_more(play: Play) -> None:
    async with play(Setting(public=FORWARDED, limits=Limits(connects_per_minute_per_user=3))) as stage:
        statuses = [(await stage.offer(**ALICE)).status for _ in range(4)]
        assert statuses == [201, 201, 201, 429]
        assert (await stage.offer(**BOB)).status == 201


async def test_callers_without_an_identity_count_as_one_user(play: Play) -> None:
    async with play(Setting(limits=Limits(concurrent_calls_per_user=1))) as stage:
        assert (await stage.offer()).status == 201
        assert (await stage.offer()).status == 429
        token = await stage.token()
        assert (await stage.offer(Authorization=f"Bearer {token}")).status == 429


@pytest.mark.parametrize("where", ["client_secrets", "calls"])
async def test_a_negotiation_that_failed_takes_no_place(play: Play, where: str) -> None:
    faults: Json = {where: EndpointFault(status=500, times=3)}
    setting = Setting(limits=Limits(concurrent_calls=1))
    async with play(setting, faults=Faults(**faults)) as stage:
        assert [(await stage.offer()).status for _ in range(4)] == [503, 503, 503, 201]


async def test_calls_taken_up_at_a_start_count_against_the_limits(tmp_path: Path) -> None:
    setting = Setting(limits=Limits(concurrent_calls=1))
    async with simulating() as simulator:
        async with serving(simulator, tmp_path / "calls.db", setting) as stage:
            call_id = await stage.call()
            await stage.until(call_id, status="live")
        async with serving(simulator, tmp_path / "calls.db", setting) as stage:
            await stage.wait(lambda: len(simulator.calls[call_id].open_sidebands) == 1)
            assert (await stage.offer()).status == 429
