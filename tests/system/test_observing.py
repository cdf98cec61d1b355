"""Attaching, closes of every kind, and the ends of calls: what becomes of them stands in the call's row and gaps."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Bytes, Observer, Seconds
from rtobserver.simulator.faults import EndpointFault, Faults
from tests.support.stage import Json, Setting, Stage
from tests.system.conftest import Play

IMPATIENT = Observer(attach_timeout=Seconds(0.5))
PROBING = Observer(idle_probe=Seconds(0.3))
CAP = "Your session hit the maximum duration of 60 minutes."


async def until_open(stage: Stage, call_id: str, count: int) -> None:
    """Wait until upstream has seen so many sidebands of a call, the last of which is open."""
    call = stage.simulator.calls[call_id]
    await stage.wait(lambda: len(call.sidebands) == count and call.sidebands[f"sb{count}"].is_open)


def reasons(gaps: list[Json]) -> list[str]:
    return [gap["reason"] for gap in gaps]


# --- attaching ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        EndpointFault(status=404, times=1),
        EndpointFault(status=404, times=3),
        EndpointFault(status=500, times=2),
        EndpointFault(status=503, retry_after="1", times=1),
        EndpointFault(status=429, times=1),
        EndpointFault(status=429, retry_after="1", times=1),
        EndpointFault(status=401, times=1),
        EndpointFault(status=403, times=1),
        EndpointFault(drop=True, times=2),
        EndpointFault(status=200, body="no upgrade", times=1),
    ],
    ids=lambda fault: f"{fault.status or 'drop'}x{fault.times}{'_wait' if fault.retry_after else ''}",
)
async def test_a_refused_attach_is_tried_again_until_it_succeeds(play: Play, fault: EndpointFault) -> None:
    async with play(faults=Faults(attach=fault), scenario="default") as stage:
        offered_us = SystemClock().now_us()
        call_id = await stage.call()
        row = await stage.ended(call_id)
        assert stage.simulator.calls[call_id].attach_count >= fault.times + 1
        assert await stage.events(call_id) == stage.produced(call_id)
        # nothing was said before the attach, so that nothing is missing
        assert (row["gap_count"], row["completeness"]) == (0, "complete")
        [gap] = await stage.gaps(call_id)
        assert (gap["reason"], gap["state"], gap["after"], gap["lost"]) == ("before_attach", "final", None, None)
        # the call may have been producing events since the offer was sent, a moment before the answer was here
        assert datetime.fromtimestamp(offered_us / 1e6, UTC) <= datetime.fromisoformat(gap["from"])
        assert gap["from"] <= row["started_at"]
        if fault.retry_after:
            assert row["attach_latency_ms"] >= 1000


@pytest.mark.parametrize("status", [404, 500])
async def test_a_call_that_cannot_be_attached_goes_on_unobserved(play: Play, status: int) -> None:
    setting = Setting(observer=IMPATIENT)
    async with play(setting, faults=Faults(attach=EndpointFault(status=status))) as stage:
        call_id = await stage.call()
        row = await stage.until(call_id, status="unobserved")
        assert (row["outcome"], row["completeness"], row["ended_at"]) == ("attach_failed", "incomplete", None)
        assert row["gap_count"] == 1
        [gap] = await stage.gaps(call_id)
        assert (gap["reason"], gap["state"], gap["to"]) == ("before_attach", "final", None)
        assert stage.simulator.calls[call_id].hangups == 0
        assert stage.simulator.calls[call_id].ended is None
        assert await stage.calls("&has=gap") != []


async def test_a_call_that_must_be_observed_is_hung_up_when_it_cannot_be(play: Play) -> None:
    setting = Setting(observer=IMPATIENT, profile={"on_unobserved": "hang_up"})
    async with play(setting, faults=Faults(attach=EndpointFault(status=404))) as stage:
        call_id = await stage.call()
        call = stage.simulator.calls[call_id]
        await stage.wait(lambda: call.hangups == 1)
        row = await stage.until(call_id, status="unobserved")
        assert row["outcome"] == "attach_failed"
        commands = await stage.commands(call_id)
        assert [(command["type"], command["source"]) for command in commands] == [("hangup", "system")]
        stored = await stage.until_stored(call_id, lambda entries: len(entries) == 2)
        assert [entry.kind for entry in stored] == ["gap", "command"]
        while (await stage.row(call_id))["ended_at"] is None:
            pass
        assert call.hangups == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_credential_that_stays_refused_is_refreshed_once_and_then_given_up(play: Play, status: int) -> None:
    async with play(faults=Faults(attach=EndpointFault(status=status))) as stage:
        call_id = await stage.call()
        row = await stage.until(call_id, status="unobserved")
        assert row["outcome"] == "attach_failed"
        assert stage.simulator.calls[call_id].attach_count == 2


@pytest.mark.parametrize("location", ["vendor", "absolute", "query", "trailing_slash", "doubled", "call_id_query"])
async def test_every_known_form_of_the_location_leads_to_the_call(play: Play, location: Any) -> None:
    async with play(faults=Faults(location=location)) as stage:
        call_id = await stage.call()
        assert list(stage.simulator.calls) == [call_id]
        await stage.until(call_id, status="live")


USELESS = {
    "missing": Faults(location="missing"),
    "two": Faults(location="two"),
    "empty": Faults(location="raw", location_value=""),
    "no_id": Faults(location="raw", location_value="/v1/realtime/calls/"),
    "other_prefix": Faults(location="raw", location_value="/v1/realtime/calls/call_123"),
    "id_too_long": Faults(location="raw", location_value="/v1/realtime/calls/rtc_" + "a" * 253),
    "id_with_dots": Faults(location="raw", location_value="/v1/realtime/calls/rtc_a%2e%2e"),
    "path_below": Faults(location="raw", location_value="https://elsewhere.example/rtc_../x"),
    "joined": Faults(location="raw", location_value="/v1/realtime/calls/rtc_a, /v1/realtime/calls/rtc_b"),
}


@pytest.mark.parametrize("name", USELESS)
async def test_a_call_without_a_usable_id_is_answered_and_stays_unobserved(play: Play, name: str) -> None:
    async with play(faults=USELESS[name]) as stage:
        answer = await stage.offer()
        assert answer.status == 201
        assert (await answer.read()).startswith(b"v=0")
        assert "Location" not in answer.headers
        row = await stage.until_only(status="unobserved")
        assert (row["outcome"], row["completeness"], row["ended_at"]) == ("no_location", "incomplete", None)
        assert row["call_id"].startswith("neg_")
        assert stage.requests("/realtime") == []


async def test_the_answer_of_a_call_without_an_id_is_withheld_where_calls_must_be_observed(play: Play) -> None:
    setting = Setting(profile={"on_unobserved": "hang_up"})
    async with play(setting, faults=Faults(location="missing")) as stage:
        answer = await stage.offer()
        assert answer.status == 502
        assert b"v=0" not in await answer.read()
        row = await stage.until_only(status="unobserved")
        assert row["outcome"] == "no_location"


async def test_a_call_of_the_same_id_as_a_live_one_is_not_mixed_into_it(play: Play) -> None:
    async with play(faults=Faults(repeat_call_ids=True)) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        assert "Location" not in (await stage.offer()).headers
        [second] = await stage.calls("&status=unobserved")
        assert (second["outcome"], second["entry_count"]) == ("no_location", 0)
        assert (await stage.row(call_id))["status"] == "live"


async def test_a_call_of_the_same_id_as_an_ended_one_is_not_mixed_into_it(play: Play) -> None:
    async with play(faults=Faults(repeat_call_ids=True)) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.produce(call_id, {"type": "of.the.first"})
        await stage.simulator.end_call(call_id)
        before = await stage.ended(call_id)
        entries = await stage.entries(call_id)
        assert (await stage.offer()).status == 201
        second = stage.simulator.calls[call_id]
        while not (unobserved := await stage.calls("&status=unobserved")):
            pass
        for _ in range(10):
            second.emit("of the second")
        await second.end("left", 1000)
        assert unobserved[0]["outcome"] == "no_location"
        assert await stage.row(call_id) == before
        assert await stage.entries(call_id) == entries


# --- closes -------------------------------------------------------------------------------------

CODES = (1000, 1001, 1002, 1006, 1007, 1008, 1011, 1012, 1013, 4000)


async def close(stage: Stage, call_id: str, code: int) -> None:
    if code == 1006:
        await stage.simulator.drop_sidebands(call_id)
    else:
        await stage.simulator.close_sidebands(call_id, code, "going away")


async def test_a_close_of_any_code_while_the_call_goes_on_is_a_gap_and_nothing_else(play: Play) -> None:
    async def one(stage: Stage, code: int) -> None:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.produce(call_id, {"type": "before"})
        await close(stage, call_id, code)
        await until_open(stage, call_id, 2)
        stage.simulator.produce(call_id, {"type": "after"})
        stored = await stage.until_stored(call_id, lambda entries: entries[-1].type == "after")
        row = await stage.row(call_id)
        assert (row["status"], row["outcome"], row["completeness"]) == ("live", None, None)
        reason = "protocol" if code in (1002, 1007) else "reattach"
        assert [(entry.kind, entry.type) for entry in stored[1:]] == [
            ("event", "before"),
            ("gap", None),
            ("event", "after"),
        ]
        assert stored[2].body["reason"] == reason
        assert stored[2].body["after"] == stored[1].fields["position"]
        gap = (await stage.gaps(call_id))[1]
        assert (gap["reason"], gap["state"], gap["after"]) == (reason, "bounded", stored[1].fields["position"])
        assert gap["from"] <= gap["to"]
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert (row["completeness"], row["gap_count"]) == ("complete_with_gaps", 1)
        assert {gap["state"] for gap in await stage.gaps(call_id)} == {"final"}

    async with play() as stage:
        await asyncio.gather(*(one(stage, code) for code in CODES))


async def test_a_close_of_any_code_with_the_call_over_is_its_end(play: Play) -> None:
    async def one(stage: Stage, code: int) -> None:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.produce(call_id, {"type": "last"})
        await stage.simulator.end_call(call_id, "abort" if code == 1006 else code)
        row = await stage.ended(call_id)
        assert (row["completeness"], row["gap_count"]) == ("complete", 0)
        assert reasons(await stage.gaps(call_id)) == ["before_attach"]
        assert (await stage.entries(call_id))[-1].type == "last"
        assert stage.simulator.calls[call_id].attach_count == 2
        assert stage.simulator.calls[call_id].hangups == 0

    async with play() as stage:
        await asyncio.gather(*(one(stage, code) for code in CODES))


async def test_the_vendors_longest_call_ends_as_expired(play: Play) -> None:
    async with play(scenario="cap") as stage:
        call_id = await stage.call()
        row = await stage.ended(call_id, "expired")
        assert row["completeness"] == "complete"


async def test_the_words_of_the_close_alone_make_a_call_expired(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        await stage.simulator.end_call(call_id, 1001, CAP)
        await stage.ended(call_id, "expired")


async def test_the_error_of_an_expired_session_makes_a_call_expired_whatever_the_close(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        error = {"type": "session_expired", "code": "session_expired", "message": CAP}
        stage.simulator.produce(call_id, {"type": "error", "error": error})
        await stage.simulator.end_call(call_id, "abort")
        row = await stage.ended(call_id, "expired")
        assert row["error_count"] == 1


async def test_a_sideband_that_keeps_dying_is_joined_again_and_again(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        for number in range(1, 6):
            await until_open(stage, call_id, number)
            stage.simulator.produce(call_id, {"type": f"number.{number}"})
            await stage.simulator.drop_sidebands(call_id)
        await until_open(stage, call_id, 6)
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert row["gap_count"] == 5
        entries = await stage.entries(call_id)
        assert [entry.position[1] for entry in entries] == list(range(1, len(entries) + 1))
        types = [entry.type for entry in entries if entry.kind == "event"]
        # what was written into a connection that was then dropped may or may not have arrived
        assert set(types) <= {f"number.{number}" for number in range(1, 6)}


async def test_a_call_that_cannot_be_joined_again_is_lost(play: Play) -> None:
    setting = Setting(observer=IMPATIENT)
    async with play(setting, faults=Faults(attach=EndpointFault(status=503, after=1))) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        await stage.simulator.close_sidebands(call_id, 1001)
        row = await stage.until(call_id, status="lost")
        assert (row["outcome"], row["completeness"], row["ended_at"]) == ("lost", "incomplete", None)
        assert reasons(await stage.gaps(call_id)) == ["before_attach", "reattach"]
        assert (await stage.gaps(call_id))[1]["to"] is None
        assert stage.simulator.calls[call_id].hangups == 0


async def test_a_credential_refused_at_the_second_attach_is_refreshed_once(play: Play) -> None:
    async with play(faults=Faults(attach=EndpointFault(status=401, after=1, times=1))) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        await stage.simulator.close_sidebands(call_id, 1001)
        await until_open(stage, call_id, 2)
        stage.simulator.produce(call_id, {"type": "after"})
        await stage.until_stored(call_id, lambda entries: entries[-1].type == "after")
        assert stage.simulator.calls[call_id].attach_count == 3


async def test_a_frame_too_large_costs_itself_and_is_owned_up_to(play: Play) -> None:
    setting = Setting(observer=Observer(max_frame=Bytes(64 * 1024)))
    async with play(setting) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.produce(call_id, {"type": "fits", "text": "x" * 60_000})
        stage.simulator.produce(call_id, {"type": "too.large", "text": "x" * 70_000})
        await until_open(stage, call_id, 2)
        stage.simulator.produce(call_id, {"type": "after"})
        stored = await stage.until_stored(call_id, lambda entries: entries[-1].type == "after")
        assert [(entry.kind, entry.type) for entry in stored[1:]] == [
            ("event", "fits"),
            ("gap", None),
            ("event", "after"),
        ]
        assert stored[2].body["reason"] == "oversize"
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert (row["gap_count"], row["completeness"]) == (1, "complete_with_gaps")


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3_500_000, 15 * 1024 * 1024])
async def test_frames_up_to_the_configured_size_are_stored(play: Play, size: int) -> None:
    frame = b'{"type":"large","text":"' + b"x" * (size - 26) + b'"}'
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.emit(call_id, frame, text=True)
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert await stage.events(call_id) == [frame]
        assert row["completeness"] == "complete"


# --- silence ------------------------------------------------------------------------------------


async def test_a_silent_call_that_ended_without_a_close_is_found_by_a_probe(play: Play) -> None:
    async with play(Setting(observer=PROBING), faults=Faults(leave_close="none")) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        stage.simulator.produce(call_id, {"type": "last"})
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert (row["completeness"], row["gap_count"]) == ("complete", 0)
        assert stage.simulator.calls[call_id].hangups == 0


async def test_a_silent_call_that_is_alive_is_kept_and_its_probe_is_not_recorded(play: Play) -> None:
    faults = Faults(session_created_on_attach=True)
    async with play(Setting(observer=PROBING), faults=faults) as stage:
        call_id = await stage.call()
        call = stage.simulator.calls[call_id]
        await stage.wait(lambda: "sb2" in call.sidebands and bool(call.sidebands["sb2"].end))
        assert call.sidebands["sb1"].is_open
        stage.simulator.produce(call_id, {"type": "after.the.probe"})
        entries = await stage.until_stored(call_id, lambda entries: entries[-1].type == "after.the.probe")
        assert [entry.type for entry in entries] == [None, "session.created", "after.the.probe"]
        row = await stage.row(call_id)
        assert (row["status"], row["gap_count"]) == ("live", 0)
        assert len([frame for frame in stage.produced(call_id) if b"session.created" in frame]) >= 2


async def test_a_call_that_speaks_is_not_probed(play: Play) -> None:
    async with play(Setting(observer=Observer(idle_probe=Seconds(1.0))), scenario="chatty", pace=1.0) as stage:
        call_id = await stage.call()
        await stage.wait(lambda: stage.simulator.calls[call_id].produced_count > 100)
        times = [datetime.fromisoformat(entry.fields["at"]) for entry in await stage.entries(call_id)]
        # where the machine stood still nothing came either
        silences = [later - earlier for earlier, later in pairwise(times) if later - earlier > timedelta(seconds=0.9)]
        assert stage.simulator.calls[call_id].attach_count <= 1 + len(silences)


async def test_a_probe_that_upstream_refuses_changes_nothing(play: Play) -> None:
    async with play(Setting(observer=PROBING), faults=Faults(max_sidebands=1)) as stage:
        call_id = await stage.call()
        call = stage.simulator.calls[call_id]
        await stage.wait(lambda: call.attach_count == 3)
        assert (await stage.row(call_id))["status"] == "live"
        assert list(call.sidebands) == ["sb1"]
        assert call.sidebands["sb1"].is_open


# --- hanging up ---------------------------------------------------------------------------------

SHORT = {"max_duration": Seconds(0.5)}


@pytest.mark.parametrize("order", ["answer_first", "close_first"])
async def test_a_call_that_lasts_too_long_is_hung_up(play: Play, order: Any) -> None:
    async with play(Setting(profile=SHORT), faults=Faults(hangup_order=order)) as stage:
        call_id = await stage.call()
        row = await stage.ended(call_id, "max_duration")
        assert 0.5 <= row["duration_seconds"] < 10
        assert row["completeness"] == "complete"
        assert stage.simulator.calls[call_id].hangups == 1
        [command] = await stage.commands(call_id)
        assert (command["type"], command["source"], command["state"]) == ("hangup", "system", "acknowledged")
        assert command["sent_at"] <= command["acknowledged_at"]
        entries = await stage.entries(call_id)
        assert [entry.kind for entry in entries] == ["gap", "command"]
        assert entries[1].body == {"type": "hangup", "event_id": command["event_id"], "reason": "max_duration"}


async def test_an_unobserved_call_that_lasts_too_long_is_hung_up_too(play: Play) -> None:
    setting = Setting(observer=Observer(attach_timeout=Seconds(0.2)), profile={"max_duration": Seconds(1.0)})
    async with play(setting, faults=Faults(attach=EndpointFault(status=404))) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="unobserved")
        call = stage.simulator.calls[call_id]
        await stage.wait(lambda: call.hangups == 1)
        while (row := await stage.row(call_id))["ended_at"] is None:
            pass
        assert (row["status"], row["outcome"]) == ("unobserved", "attach_failed")
        assert row["duration_seconds"] >= 1.0


async def test_a_hang_up_of_a_call_that_upstream_does_not_know_any_more_is_not_ours(play: Play) -> None:
    async with play(Setting(profile={"max_duration": Seconds(2.0)}), faults=Faults(leave_close="none")) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id, "browser_left")
        assert row["completeness"] == "complete"
        [command] = await stage.commands(call_id)
        assert command["state"] == "acknowledged"


async def test_a_hang_up_that_fails_is_tried_three_times(play: Play) -> None:
    fault = EndpointFault(status=500, times=2)
    async with play(Setting(profile=SHORT), faults=Faults(hangup=fault)) as stage:
        call_id = await stage.call()
        await stage.ended(call_id, "max_duration")
        assert len(stage.requests("/hangup")) == 3
        [command] = await stage.commands(call_id)
        assert command["state"] == "acknowledged"


async def test_a_hang_up_that_keeps_failing_leaves_the_call_live_and_its_command_failed(play: Play) -> None:
    async with play(Setting(profile=SHORT), faults=Faults(hangup=EndpointFault(status=500))) as stage:
        call_id = await stage.call()
        await stage.wait(lambda: len(stage.requests("/hangup")) == 3)
        while [command["state"] for command in await stage.commands(call_id)] != ["failed"]:
            pass
        [command] = await stage.commands(call_id)
        assert "500" in command["error"]
        assert (await stage.row(call_id))["status"] == "live"
        await stage.simulator.end_call(call_id)
        await stage.ended(call_id, "browser_left")


async def test_a_call_whose_browser_left_before_the_answer_is_hung_up(play: Play) -> None:
    async with play(faults=Faults(calls=EndpointFault(delay=0.5))) as stage:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            offering = group.create_task(stage.offer(), name="offer")
            await stage.wait(lambda: len(stage.requests("/realtime/calls")) == 1)
            offering.cancel()
        await stage.wait(lambda: len(stage.simulator.calls) == 1)
        [call] = stage.simulator.calls.values()
        await stage.wait(lambda: call.hangups == 1)
        row = await stage.ended(call.id, "undelivered")
        assert row["status"] == "ended"
        [command] = await stage.commands(call.id)
        assert command["state"] == "acknowledged"


async def test_hanging_up_twice_sends_one_command(play: Play) -> None:
    async with play() as stage:
        token = await stage.token()
        call_id = await stage.call(Authorization=f"Bearer {token}")
        await stage.until(call_id, status="live")
        statuses = await asyncio.gather(*(stage.hang_up(call_id, Authorization=f"Bearer {token}") for _ in range(5)))
        assert set(statuses) <= {200, 404}
        await stage.ended(call_id, "hung_up")
        assert stage.simulator.calls[call_id].hangups == 1
        assert len(await stage.commands(call_id)) == 1
