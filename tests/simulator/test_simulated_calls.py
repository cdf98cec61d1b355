"""How calls run: who sees what, ends, hang-ups, ledgers, floods."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import websockets

from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import Cap, Flood, Frame, Hold, Leave, Scenario, Spoken, Typed
from tests.simulator.caller import Caller, calling, types
from tests.support.watch import Watch


def scripted(*steps: Any, **keys: Any) -> Scenario:
    return Scenario(name="test", steps=steps, **keys)


async def test_nothing_comes_first_and_nothing_is_replayed() -> None:
    scenario = scripted(Typed(), Hold(), Typed(user="Again."), ending="stay")
    async with calling(scenario=scenario, begin="answered") as caller:
        call_id = await caller.call()
        call = caller.simulator.calls[call_id]
        await caller.simulator.until(lambda: call.produced_count >= 13)
        missed = call.produced_count
        async with caller.attach(call_id) as observer:
            caller.simulator.release(call_id)
            first = await observer.next()
            assert first["item"]["content"][0]["text"] == "Again."
        assert not call.produced[missed - 1].sidebands
        assert call.produced[missed].sidebands == {"sb1"}


async def test_all_sidebands_get_the_same_bytes_in_the_same_order() -> None:
    async with calling(scenario=scripted(Hold(), Spoken())) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as one, caller.attach(call_id) as two:
            caller.simulator.release(call_id)
            assert await one.rest() == await two.rest() != []
        assert all(produced.sidebands == {"sb1", "sb2"} for produced in caller.simulator.calls[call_id].produced)


async def test_each_connection_can_have_event_ids_of_its_own() -> None:
    async with calling(scenario=scripted(Hold(), Typed()), faults=Faults(same_event_ids=False)) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as one, caller.attach(call_id) as two:
            caller.simulator.release(call_id)
            first, second = await one.rest(), await two.rest()
        assert types(first) == types(second)
        assert not {e["event_id"] for e in first} & {e["event_id"] for e in second}


@pytest.mark.parametrize(("close", "code"), [(None, 1000), (1001, 1001), (4000, 4000), ("abort", 1006)])
async def test_the_browser_leaves_in_many_ways(close: Any, code: int) -> None:
    async with calling(scenario=scripted(Leave(close=close), ending="stay")) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            await observer.socket.wait_closed()
            assert (observer.socket.close_code or 1006) == code
        assert (await caller.refused(call_id))[0] == 404


async def test_a_browser_can_vanish_without_a_sign() -> None:
    async with calling(faults=Faults(leave_close="none")) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            await caller.simulator.end_call(call_id)
            assert (await caller.refused(call_id))[1]["error"]["code"] == "call_id_not_found"
            await observer.socket.ping()
            assert observer.socket.state is websockets.State.OPEN


async def test_a_call_ends_at_the_cap_with_upstreams_words() -> None:
    async with calling(scenario=scripted(Cap(error_first=True))) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            assert (await observer.next())["error"]["code"] == "session_expired"
            await observer.socket.wait_closed()
            assert observer.socket.close_code == 1001
            assert observer.socket.close_reason == "Your session hit the maximum duration of 60 minutes."


@pytest.mark.parametrize("order", ["answer_first", "close_first"])
async def test_a_hangup_answers_200_and_closes_the_sidebands(order: Any) -> None:
    async with calling(faults=Faults(hangup_order=order)) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            answer = await caller.hang_up(call_id)
            assert (answer.status, await answer.read()) == (200, b"")
            await asyncio.wait_for(observer.socket.wait_closed(), 5)
            assert observer.socket.close_code == 1000
        again = await caller.hang_up(call_id)
        assert (again.status, (await again.json())["error"]["code"]) == (404, "call_id_not_found")
        call = caller.simulator.calls[call_id]
        assert call.ended is not None
        assert (call.ended.cause, call.hangups) == ("hung_up", 2)


async def test_an_unknown_call_is_not_found() -> None:
    async with calling() as caller:
        assert (await caller.hang_up("rtc_unknown")).status == 404
        assert (await caller.refused("rtc_unknown"))[0] == 404


async def test_the_first_attaches_of_each_call_can_fail() -> None:
    fault = EndpointFault(status=404, times=2)
    async with calling(faults=Faults(attach=fault)) as caller:
        for call_id in [await caller.call(), await caller.call()]:
            assert [(await caller.refused(call_id))[0] for _ in range(2)] == [404, 404]
            async with caller.attach(call_id):
                assert caller.simulator.calls[call_id].attach_count == 3


async def test_a_second_sideband_can_be_refused() -> None:
    async with calling(faults=Faults(max_sidebands=1)) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id):
            assert (await caller.refused(call_id))[0] == 409
        call = caller.simulator.calls[call_id]
        await caller.simulator.until(lambda: not call.open_sidebands)
        async with caller.attach(call_id):
            assert len(call.open_sidebands) == 1


async def test_a_model_beside_the_call_id_is_refused() -> None:
    async with calling() as caller:
        call_id = await caller.call()
        assert (await caller.refused(f"{call_id}&model=x"))[0] == 400


async def test_sidebands_can_be_closed_or_dropped_while_the_call_goes_on() -> None:
    async with calling() as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            await caller.simulator.close_sidebands(call_id, 1001, "rotated")
            await observer.socket.wait_closed()
            assert (observer.socket.close_code, observer.socket.close_reason) == (1001, "rotated")
        async with caller.attach(call_id) as observer:
            await caller.simulator.drop_sidebands(call_id)
            await observer.socket.wait_closed()
            assert observer.socket.close_code == 1006
        async with caller.attach(call_id):
            call = caller.simulator.calls[call_id]
            assert [side.end for side in call.sidebands.values()] == ["closed", "aborted", ""]


async def test_a_quiet_sideband_can_be_closed() -> None:
    async with calling(faults=Faults(idle_close=0.02, idle_close_code=1001)) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            await asyncio.wait_for(observer.socket.wait_closed(), 5)
            assert observer.socket.close_code == 1001
        assert caller.simulator.calls[call_id].ended is None


async def test_a_deaf_sideband_answers_no_ping() -> None:
    async with calling(faults=Faults(deaf=True)) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id, close_timeout=0.01) as observer:
            pong = await observer.socket.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pong, 0.05)


async def test_a_session_created_can_come_first() -> None:
    async with calling(faults=Faults(session_created_on_attach=True)) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            event = await observer.next()
            assert (event["type"], event["session"]) == (
                "session.created",
                caller.simulator.calls[call_id].session,
            )


async def test_any_frame_can_be_sent() -> None:
    async with calling(scenario=scripted(Frame(text="not json"), ending="stay")) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            caller.simulator.emit(call_id, b"\x00\x01")
            caller.simulator.emit(call_id, "x" * 3_000_000)
            caller.simulator.produce(call_id, {"type": "brand.new", "field": 1})
            got = [await observer.socket.recv() for _ in range(4)]
            assert got[:2] == [b"\x00\x01", "not json"] or got[:2] == ["not json", b"\x00\x01"]
            assert len(got[2]) == 3_000_000
            assert json.loads(got[3])["type"] == "brand.new"
            caller.simulator.emit(call_id, b"\xff\xfe", text=True)
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await observer.socket.recv()
            assert closed.value.sent is not None
            assert closed.value.sent.code == 1007


async def test_what_was_produced_can_be_read_and_is_in_the_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.ndjson"
    async with calling(scenario="three_turns", ledger=ledger) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            received = [json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in await observer.rest()]
        call = caller.simulator.calls[call_id]
        assert [produced.frame.decode() for produced in call.produced] == received
        assert [produced.ordinal for produced in call.produced] == list(range(1, len(received) + 1))
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    events = [line for line in lines if line["kind"] == "event"]
    assert [line["event_id"] for line in events] == [json.loads(frame)["event_id"] for frame in received]
    assert [line["bytes"] for line in events] == [len(frame.encode()) for frame in received]
    assert {tuple(line["sidebands"]) for line in events} == {("sb1",)}
    assert [line["kind"] for line in lines if line["kind"] != "event"] == ["answer", "attach", "end", "detach"]
    assert lines[-2] | {"at": 0} == {
        "kind": "end",
        "call_id": call_id,
        "cause": "left",
        "close": 1000,
        "at": 0,
        "produced": len(received),
    }


async def test_each_call_can_have_a_scenario_of_its_own() -> None:
    def choose(offer: str, number: int) -> Scenario:
        return scripted(Typed(user=f"call {number}"))

    async with calling(scenario_for=choose) as caller:
        for number in (1, 2):
            async with caller.attach(await caller.call()) as observer:
                assert (await observer.next())["item"]["content"][0]["text"] == f"call {number}"


async def test_steps_can_be_performed_from_a_test() -> None:
    async with calling() as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as observer:
            caller.simulator.perform(call_id, Spoken(assistant="Performed."))
            assert (await observer.until("response.done"))[-1]["response"]["status"] == "completed"


async def test_fifty_calls_run_at_once() -> None:
    async with calling(scenario="three_turns") as caller:

        async def one(caller: Caller) -> list[str]:
            async with caller.attach(await caller.call()) as observer:
                return types(await observer.rest())

        runs = await asyncio.gather(*(one(caller) for _ in range(50)))
        assert all(run == runs[0] for run in runs)
        assert runs[0].count("input_audio_buffer.committed") == 3
        assert runs[0].count("output_audio_buffer.cleared") == 1
        assert runs[0].count("response.function_call_arguments.done") == 1


async def test_a_flood_loses_nothing() -> None:
    async with calling(scenario=scripted(Flood(rate=1000, seconds=10))) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id) as one, caller.attach(call_id) as two:
            first, second = await asyncio.gather(one.rest(), two.rest())
        produced = caller.simulator.calls[call_id].produced
        assert len(first) == len(produced) > 10_000
        assert len(second) <= len(first)


async def test_the_pace_scales_the_conversation() -> None:
    async with calling(scenario=scripted(Typed(latency=0.5, assistant_seconds=0.5)), pace=0.1) as caller:
        call_id = await caller.call()
        # the conversation begins before whoever attaches knows that he has
        watch, began = Watch(), time.monotonic()
        async with caller.attach(call_id) as observer:
            await observer.rest()
            assert time.monotonic() - began > 0.09
            assert watch.seconds() < 2


async def test_a_slow_reader_is_dropped_when_its_buffer_is_full() -> None:
    faults = Faults(send_buffer=1_000_000)
    async with calling(faults=faults) as caller:
        call_id = await caller.call()
        async with caller.attach(call_id, max_queue=1) as observer:
            call = caller.simulator.calls[call_id]
            for _ in range(40):
                caller.simulator.emit(call_id, "x" * 1_000_000)
            await caller.simulator.until(lambda: not call.open_sidebands)
            assert call.sidebands["sb1"].end == "aborted"
            assert observer.socket is not None
