"""Operators' orders: given over HTTP, carried out in the call, told of afterwards."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rtobserver.config.sections import Observer
from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import Flood
from rtobserver.store import keys
from tests.support.stage import Setting, Stage, serving, simulating
from tests.support.watch import Watch
from tests.system.conftest import Play
from tests.system.ordering import done, live, order, post, sent, settled, upstream_got

UPDATE = {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}}


async def test_a_client_event_is_on_the_wire_soon_under_an_id_of_ours_and_acknowledged(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        took = []
        for _ in range(5):
            watch, began = Watch(), time.time()
            given = await order(stage, call_id, "commands", {**UPDATE, "event_id": "theirs"})
            assert "event_id" not in given["command"]
            await settled(stage, given, "acknowledged")
            took.append(stage.simulator.calls[call_id].client_events[-1].at - began - watch.starved())
        assert sorted(took)[2] < 0.25, took
        row = await settled(stage, given, "acknowledged")
        commands = await stage.commands(call_id)
        assert [command["event_id"] for command in commands] == [event["event_id"] for event in sent(stage, call_id)]
        assert row["command"] == {**UPDATE, "event_id": commands[-1]["event_id"]}
        assert commands[-1]["event_id"].startswith("rto_1_")
        last = commands[-1]
        assert (last["type"], last["source"], last["state"]) == ("session.update", "operator", "acknowledged")
        assert last["sent_at"] <= last["acknowledged_at"]
        entries = [entry for entry in await stage.entries(call_id) if entry.kind == "command"]
        assert [entry.body for entry in entries] == sent(stage, call_id)


async def test_what_upstream_refuses_has_failed_with_its_code(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        row = await done(stage, call_id, "commands", {"type": "response.cancel"}, state="failed")
        assert row["error"] == "response_cancel_not_active"
        [command] = await stage.commands(call_id)
        assert (command["state"], command["error"]) == ("failed", "response_cancel_not_active")


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "conversation.item.create", "item": {"type": "message", "role": "system", "content": []}}],
        [{"type": "input_audio_buffer.clear"}],
        [{"type": "response.create", "response": {"conversation": "none", "output_modalities": ["text"]}}],
    ],
)
async def test_each_client_event_is_tied_to_its_acknowledgement(play: Play, events: list[dict[str, Any]]) -> None:
    async with play() as stage:
        call_id = await live(stage)
        for event in events:
            await done(stage, call_id, "commands", event)


async def test_items_of_ours_have_ids_of_ours_and_can_be_named_afterwards(play: Play) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    async with play() as stage:
        call_id = await live(stage)
        await done(stage, call_id, "commands", {"type": "conversation.item.create", "item": item})
        [created] = sent(stage, call_id, "conversation.item.create")
        item_id = created["item"]["id"]
        assert item_id == created["event_id"]
        await done(stage, call_id, "commands", {"type": "conversation.item.retrieve", "item_id": item_id})
        await done(stage, call_id, "commands", {"type": "conversation.item.delete", "item_id": item_id})


async def test_an_order_that_is_not_acknowledged_in_time_says_so(play: Play) -> None:
    async with play(faults=Faults(acknowledge=False)) as stage:
        call_id = await live(stage)
        given = await order(stage, call_id, "commands", UPDATE)
        await settled(stage, given, "sent")
        await stage.simulator.drop_sidebands(call_id)
        await stage.until_stored(call_id, lambda _: bool(stage.select("select 1 from command where state = 'unknown'")))
        assert (await settled(stage, given, "sent"))["error"] is not None


async def test_a_call_that_is_not_live_takes_no_orders(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        await stage.simulator.end_call(call_id)
        await stage.ended(call_id)
        for what, body in (("commands", UPDATE), ("say", {"text": "x"}), ("hangup", None), ("pause", None)):
            status, answer = await post(stage, f"/calls/{call_id}/{what}", body)
            assert (status, answer["error"]["code"]) == (409, "call_not_live")
        assert (await post(stage, "/calls/rtc_nobody/say", {"text": "x"}))[0] == 404
        rows = stage.select("select object, status from audit where action = 'calls.say' order by audit_id")
        assert rows == [(call_id, 200), (call_id, 409), ("rtc_nobody", 200), ("rtc_nobody", 404)]


async def test_an_order_that_cannot_be_sent_expires_after_ten_seconds(play: Play) -> None:
    attach = EndpointFault(status=503, after=1)
    async with play(Setting(observer=Observer(attach_timeout=30.0)), faults=Faults(attach=attach)) as stage:  # type: ignore[arg-type]
        call_id = await live(stage)
        await stage.simulator.drop_sidebands(call_id)
        watch, began = Watch(), time.monotonic()
        given = await order(stage, call_id, "commands", UPDATE)
        await settled(stage, given, "expired", patience=30)
        assert time.monotonic() - began > 9
        assert watch.seconds() < 13
        assert not sent(stage, call_id)
        assert not await stage.commands(call_id)


async def test_what_is_to_be_said_waits_for_the_response_that_is_active(play: Play) -> None:
    async with play(pace=1.0) as stage:
        call_id = await live(stage)
        stage.simulator.perform(call_id, Flood(rate=20.0, seconds=1.0))
        await stage.simulator.until(lambda: stage.simulator.calls[call_id].conversation.active is not None)
        given = await order(stage, call_id, "say", {"text": "Please hold the line."})
        await settled(stage, given, "acknowledged")
        [event] = sent(stage, call_id)
        assert event["type"] == "response.create"
        assert event["response"]["metadata"] == {"rtobserver": "operator"}
        assert "Please hold the line." in event["response"]["instructions"]
        types = [entry.type for entry in await stage.entries(call_id)]
        assert types.index("response.done") < types.index("response.create"), "not before the other was over"
        assert "error" not in types


async def test_what_is_said_too_early_is_said_again_once(play: Play) -> None:
    faults = Faults(acknowledge_delay=0.5)
    async with play(pace=1.0, faults=faults) as stage:
        call_id = await live(stage)
        given = await order(stage, call_id, "say", {"text": "One moment."})
        await upstream_got(stage, call_id, "response.create")
        # a response begins at once, while ours is on its way
        stage.simulator.perform(call_id, Flood(rate=20.0, seconds=1.5))
        await settled(stage, given, "acknowledged", "failed")
        assert len(sent(stage, call_id, "response.create")) == 2
        first, second = await stage.commands(call_id)
        assert (first["state"], first["error"]) == ("failed", "conversation_already_has_active_response")
        assert second["state"] == "acknowledged"


async def test_two_things_to_say_are_said_one_after_the_other(play: Play) -> None:
    async with play(pace=0.2) as stage:
        call_id = await live(stage)
        given = [await order(stage, call_id, "say", {"text": text}) for text in ("First.", "Second.")]
        for each in given:
            await settled(stage, each, "acknowledged")
        types = [entry.type for entry in await stage.until_stored(call_id, _has_responses(2))]
        assert "error" not in types
        created = [index for index, type_ in enumerate(types) if type_ == "response.created"]
        assert "response.done" in types[created[0] : created[1]]


def _has_responses(count: int) -> Any:
    return lambda entries: [entry.type for entry in entries].count("response.done") >= count


async def test_hanging_up_ends_the_call(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        given = await order(stage, call_id, "hangup")
        await stage.ended(call_id, "hung_up")
        assert (await settled(stage, given, "acknowledged"))["error"] is None
        [command] = await stage.commands(call_id)
        assert (command["type"], command["source"], command["state"]) == ("hangup", "operator", "acknowledged")


async def test_a_goodbye_is_heard_before_the_call_is_hung_up(play: Play) -> None:
    async with play(pace=0.3) as stage:
        call_id = await live(stage)
        given = await order(stage, call_id, "hangup", {"goodbye": "Goodbye and thank you.", "after": 20})
        await stage.ended(call_id, "hung_up")
        await settled(stage, given, "acknowledged")
        types = [entry.type for entry in await stage.entries(call_id)]
        assert types.index("output_audio_buffer.stopped") < types.index("hangup")
        assert "Goodbye and thank you." in sent(stage, call_id)[0]["response"]["instructions"]


async def test_a_goodbye_that_takes_too_long_is_cut_off(play: Play) -> None:
    async with play(pace=5.0) as stage:
        call_id = await live(stage)
        watch = Watch()
        await order(stage, call_id, "hangup", {"goodbye": "Good " * 40, "after": "500ms"})
        await stage.ended(call_id, "hung_up")
        assert watch.seconds() < 8
        assert "output_audio_buffer.stopped" not in [entry.type for entry in await stage.entries(call_id)]


async def test_tags_are_added_and_taken_away(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        await done(stage, call_id, "tags", {"add": ["vip", "refund"]})
        await done(stage, call_id, "tags", {"add": ["vip", "late"], "remove": ["refund"]})
        assert (await stage.row(call_id))["tags"] == ["vip", "late"]
        assert [call["call_id"] for call in await stage.calls("&tag=late")] == [call_id]


async def test_tags_survive_a_restart(tmp_path: Path) -> None:
    async with simulating() as simulator:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            call_id = await live(stage)
            await done(stage, call_id, "tags", {"add": ["vip"]})
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await simulator.until(lambda: bool(simulator.calls[call_id].open_sidebands))
            await done(stage, call_id, "tags", {"add": ["late"]})
            assert (await stage.row(call_id))["tags"] == ["vip", "late"]


async def test_an_order_that_waits_at_a_restart_is_carried_out_once_by_the_next_start(tmp_path: Path) -> None:
    async with simulating(pace=1.0) as simulator:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            call_id = await live(stage)
            # it goes on until it is cancelled
            simulator.perform(call_id, Flood(rate=20.0, seconds=0))
            await simulator.until(lambda: simulator.calls[call_id].conversation.active is not None)
            given = await order(stage, call_id, "say", {"text": "Hello again."})
            await stage.until_stored(call_id, lambda _: bool(stage.select('select 1 from "order" where owner <> ""')))
        assert not sent(stage, call_id)
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await stage.until_stored(call_id, lambda found: any(entry.position[0] == 2 for entry in found))
            await done(stage, call_id, "commands", {"type": "response.cancel"})
            await upstream_got(stage, call_id, "response.create")
            await settled(stage, given, "acknowledged")
            created = [entry for entry in await stage.entries(call_id) if entry.type == "response.created"]
            assert len(created) == 2, "the long answer, and what was ordered"


async def test_an_order_that_was_sent_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    async with simulating(Faults(acknowledge=False)) as simulator:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            call_id = await live(stage)
            given = await order(stage, call_id, "commands", UPDATE)
            await settled(stage, given, "sent")
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await simulator.until(lambda: bool(simulator.calls[call_id].open_sidebands))
            await done(stage, call_id, "tags", {"add": ["alive"]})
            assert len(sent(stage, call_id)) == 1
            assert (await settled(stage, given, "sent"))["error"] is not None


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("commands", {}),
        ("commands", {"type": "say"}),
        ("commands", {"type": 3}),
        ("say", {}),
        ("say", {"text": ""}),
        ("say", {"text": "x", "loud": True}),
        ("hangup", {"after": "soon"}),
        ("hangup", {"after": 3600}),
        ("tags", {"add": ["a\nb"]}),
        ("tags", {"add": "vip"}),
    ],
)
async def test_orders_that_make_no_sense_are_refused(play: Play, what: str, body: Any) -> None:
    async with play() as stage:
        call_id = await live(stage)
        status, answer = await post(stage, f"/calls/{call_id}/{what}", body)
        assert (status, answer["error"]["code"]) == (400, "invalid_body")


async def test_orders_need_the_scope_control_and_are_audited_first(play: Play) -> None:
    async with play() as stage:
        call_id = await live(stage)
        admin = stage.key
        stage.key = _key(stage, "read")
        assert (await post(stage, f"/calls/{call_id}/say", {"text": "x"}))[0] == 403
        stage.key = _key(stage, "control")
        given = await order(stage, call_id, "tags", {"add": ["x"]})
        stage.key = admin
        await settled(stage, given, "acknowledged")
        rows = stage.select("select action, object, status from audit where action like '%calls.%' order by audit_id")
        assert ("calls.tags", call_id, 200) in rows
        assert ("calls.say", call_id, 200) not in rows


def _key(stage: Stage, scope: keys.Scope) -> str:
    return keys.create(stage.path, name="x", scopes=(scope,), now_us=time.time_ns() // 1000)


async def test_orders_of_many_calls_reach_their_own_calls(play: Play) -> None:
    async with play() as stage:
        calls = [await live(stage) for _ in range(8)]
        given = await asyncio.gather(*(order(stage, call_id, "commands", UPDATE) for call_id in calls))
        for each in given:
            await settled(stage, each, "acknowledged")
        assert [len(sent(stage, call_id)) for call_id in calls] == [1] * 8
