"""Clocks that are set, a database that is held, frames that break the protocol, stops in the middle of things."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
from datetime import datetime
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Public
from rtobserver.errors import StoreBusy
from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import Hold, Scenario, Spoken
from tests.support.stage import Setting, serving, simulating
from tests.system.conftest import Play


class SetClock(SystemClock):
    """Be a wall clock that somebody sets."""

    ahead = 0.0

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead * 1e6)


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0], ids=["back", "forward"])
async def test_a_wall_clock_that_is_set_changes_neither_order_nor_durations(tmp_path: Path, ahead: float) -> None:
    clock = SetClock()
    scenario = Scenario(name="two", steps=(Spoken(), Hold(), Spoken()))
    async with simulating(scenario=scenario) as simulator, serving(simulator, tmp_path / "c.db", clock=clock) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live", turn_count=1)
        clock.ahead = ahead
        stage.simulator.release(call_id)
        row = await stage.ended(call_id)
        # whoever reckoned with the clock that was set would be an hour off
        assert 0 < row["duration_seconds"] < 1800
        assert row["started_at"] < row["ended_at"]
        entries = await stage.entries(call_id)
        assert [entry.payload for entry in entries if entry.kind == "event"] == stage.produced(call_id)
        offsets = [entry.fields["offset_ms"] for entry in entries]
        assert offsets == sorted(offsets)
        assert offsets[-1] < 1_800_000
        times = [datetime.fromisoformat(entry.fields["at"]) for entry in entries]
        assert abs(abs((times[-1] - times[0]).total_seconds()) - 3600) < 1800
        assert row["completeness"] == "complete"


async def test_a_gap_across_a_clock_set_back_ends_no_earlier_than_it_began(tmp_path: Path) -> None:
    clock = SetClock()
    async with simulating() as simulator, serving(simulator, tmp_path / "c.db", clock=clock) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        await stage.simulator.close_sidebands(call_id)
        clock.ahead = -3600.0
        await stage.wait(lambda: len(simulator.calls[call_id].open_sidebands) == 1)
        await simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert row["duration_seconds"] >= 0
        for gap in await stage.gaps(call_id):
            assert gap["to"] is None or gap["from"] <= gap["to"]


async def test_a_database_that_somebody_holds_costs_no_frame_and_no_sideband(play: Play) -> None:
    async with play(scenario="three_turns") as stage:
        with contextlib.closing(sqlite3.connect(stage.path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            call_ids = await asyncio.gather(*(stage.call() for _ in range(10)))
            calls = stage.simulator.calls
            await stage.wait(lambda: all(calls[call_id].ended for call_id in call_ids))
            # longer than the driver waits for its turn, so that the writer has to try again
            async with asyncio.timeout(30):
                while b"degraded" not in (await stage.get("/readyz"))[1]:
                    pass
            assert (await stage.get("/readyz"))[0] == 200
            # who looks is told at once, though nothing can be written into the audit
            status, page = await stage.get("/system")
            assert status == 200
            assert b"another program holds the database, since <time" in page
            assert b"refuses to write" in page
            holder.execute("ROLLBACK")
        for call_id in call_ids:
            row = await stage.ended(call_id)
            assert (row["completeness"], row["gap_count"]) == ("complete", 0)
            assert await stage.events(call_id) == stage.produced(call_id)
            assert calls[call_id].attach_count == 2


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\xc1\x03abc", id="compressed"),
        pytest.param(b"\x83\x03abc", id="reserved_opcode"),
        pytest.param(b"\x81\x83\x00\x00\x00\x00abc", id="masked"),
        pytest.param(b"\x80\x03abc", id="continuation_of_nothing"),
        pytest.param(b"\x09\x00", id="fragmented_ping"),
    ],
)
async def test_a_breach_of_the_protocol_is_a_gap_and_the_call_goes_on(play: Play, octets: bytes) -> None:
    async with play() as stage:
        call_id = await stage.call()
        call = stage.simulator.calls[call_id]
        await stage.until(call_id, status="live")
        stage.simulator.produce(call_id, {"type": "before"})
        await stage.until_stored(call_id, lambda found: found[-1].type == "before")
        call.sidebands["sb1"].transport.write(octets)
        await stage.wait(lambda: "sb2" in call.sidebands)
        stage.simulator.produce(call_id, {"type": "after"})
        entries = await stage.until_stored(call_id, lambda found: found[-1].type == "after")
        assert [entry.type for entry in entries] == [None, "before", None, "after"]
        assert [gap["reason"] for gap in await stage.gaps(call_id)] == ["before_attach", "protocol"]
        await stage.simulator.end_call(call_id)
        assert (await stage.ended(call_id))["completeness"] == "complete_with_gaps"


async def test_a_message_in_many_fragments_is_one_entry(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        transport = stage.simulator.calls[call_id].sidebands["sb1"].transport
        frame = json.dumps({"type": "in.pieces", "text": "x" * 42}).encode()
        assert len(frame) % 5 == 0
        transport.write(b"\x01\x05" + frame[:5])
        for place in range(5, len(frame), 5):
            # a ping between any two of them
            transport.write(b"\x00\x05" + frame[place : place + 5] + b"\x89\x00")
        transport.write(b"\x80\x00")
        await stage.simulator.end_call(call_id)
        await stage.ended(call_id)
        assert await stage.events(call_id) == [frame]


async def test_an_offer_in_flight_when_the_daemon_stops_is_answered_and_its_call_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with simulating(Faults(calls=EndpointFault(delay=0.5))) as simulator:
        async with serving(simulator, path) as stage, asyncio.TaskGroup() as group:
            offering = group.create_task(stage.offer(), name="offer")
            await stage.wait(lambda: len(stage.requests("/realtime/calls")) == 1)
            await stage.daemon.drain()
            answer = await offering
            assert answer.status == 201
            assert (await stage.offer()).status == 503
        [call_id] = simulator.calls
        async with serving(simulator, path) as stage:
            await stage.wait(lambda: len(simulator.calls[call_id].open_sidebands) == 1)
            simulator.produce(call_id, {"type": "after"})
            entries = await stage.until_stored(call_id, lambda found: found[-1].type == "after")
            assert entries[-1].position[0] == 2
            await simulator.end_call(call_id)
            await stage.ended(call_id)


async def test_a_second_daemon_on_the_same_file_is_refused(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        with pytest.raises(StoreBusy):
            async with serving(stage.simulator, stage.path):
                pass
        await stage.until(call_id, status="live")


async def test_an_address_that_is_taken_is_said_as_what_it_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        setting = Setting(public=Public(port=taken.getsockname()[1]))
        async with simulating() as simulator:
            with pytest.raises(OSError, match="in use"):
                async with serving(simulator, tmp_path / "c.db", setting):
                    pass


async def test_a_handshake_that_is_never_answered_holds_up_no_other_call(play: Play) -> None:
    async with play(faults=Faults(attach=EndpointFault(hang=True, times=1)), scenario="default") as stage:
        call_id = await stage.call()
        row = await stage.ended(call_id)
        assert row["attach_latency_ms"] >= 9_000
        assert row["completeness"] == "complete"
        assert await stage.events(call_id) == stage.produced(call_id)


async def test_entries_read_page_by_page_while_they_come_are_neither_skipped_nor_repeated(play: Play) -> None:
    async with play(scenario=Scenario(name="hold", steps=(Hold(),))) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        seen: list[int] = []
        sent, cursor = 0, ""
        while len(seen) < 301:
            for _ in range(min(50, 300 - sent)):
                sent += 1
                stage.simulator.produce(call_id, {"type": "tick", "number": sent})
            page = await stage.document(f"/api/v1/calls/{call_id}/entries?limit=7{cursor}")
            seen += [entry["seq"] for entry in page["data"]]
            if page["data"]:
                cursor = f"&after=1:{seen[-1]}"
        assert seen == list(range(1, 302))
