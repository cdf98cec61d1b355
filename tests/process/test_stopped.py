"""A daemon that is told to stop, at every moment of its life."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.server import Simulator, SimulatorOptions
from rtobserver.store import sqlite
from tests.process import oracle
from tests.process.stage import configure, ground
from tests.process.test_killed import further, observed, recorded, simulator
from tests.support.stage import Json
from tests.support.watch import Watch

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

CALLS = 20


async def test_stopping_leaves_live_calls_and_loses_nothing(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        upstream = here.simulator
        async with here.serving() as first:
            call_ids = [await first.place() for _ in range(CALLS)]
            await further(upstream, call_ids, 20)
            watch = Watch()
            told_at = time.time()
            took = await first.command.stopped()
        left = {call_id: list(upstream.calls[call_id].produced) for call_id in call_ids}
        async with here.serving() as second:
            await observed(upstream, call_ids)
            await further(upstream, call_ids, 5)
            entries = {call_id: await recorded(second, upstream, call_id) for call_id in call_ids}
            gaps = {call_id: await second.gaps(call_id) for call_id in call_ids}
            starved = watch.starved()
            await second.command.stopped()

    figures = {id_: oracle.verify(upstream.calls[id_], entries[id_], gaps[id_]) for id_ in call_ids}
    stored = {entry.fields["event_id"] for id_ in call_ids for entry in entries[id_]}
    lost = [
        told_at - frame.at
        for id_ in call_ids
        for frame in left[id_]
        if frame.sidebands and frame.at < told_at and frame.event_id not in stored
    ]
    oracle.say(
        "stopped",
        calls=CALLS,
        took_s=round(took, 2),
        produced=sum(each.produced for each in figures.values()),
        missing_unexplained=sum(each.missing_unexplained for each in figures.values()),
        lost_before_the_signal=len(lost),
        gap_s=round(max(each.gap_s for each in figures.values()), 2),
    )
    assert took < 2
    assert not lost
    for call_id in call_ids:
        outage = upstream.calls[call_id].open_sidebands
        assert not outage
        attached = upstream.calls[call_id].sidebands["sb2"].attached_at
        assert figures[call_id].is_lawful, figures[call_id]
        assert figures[call_id].gap_s < attached - told_at + 0.5 + starved
        assert upstream.calls[call_id].hangups == 0


async def test_the_sums_of_a_call_that_was_left_are_those_of_its_entries(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        async with here.serving() as first:
            call_ids = [await first.place() for _ in range(4)]
            await further(here.simulator, call_ids, 20)
            await first.command.stopped()
        # nobody attaches to them again, so the rows stay as they were left
        here.config = configure(here.folder, "http://127.0.0.1:9/openai/v1")
        async with here.serving() as second:
            for call_id in call_ids:
                call = await second.get(f"/calls/{call_id}")
                first_epoch = [entry for entry in await second.entries(call_id) if entry.position[0] == 1]
                assert (call["status"], call["entry_count"]) == ("live", len(first_epoch))
            await second.command.stopped()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_the_start_ends_it_well(tmp_path: Path, number: signal.Signals) -> None:
    async with ground(tmp_path, simulator()) as here:
        async with here.serving() as first:
            call_id = await first.place()
            await further(here.simulator, [call_id], 5)
            # a call that dies with the daemon before its first commit leaves nothing to take up
            await first.get(f"/calls/{call_id}")
            first.process.kill()
        async with here.starting() as starting:
            await starting.logged("starting")
            starting.process.send_signal(number)
            code, _, log = await starting.ended()
        assert code == 0, log
        assert "Traceback" not in log
        async with here.serving() as second:
            await observed(here.simulator, [call_id])
            entries = await recorded(second, here.simulator, call_id)
            assert oracle.verify(here.simulator.calls[call_id], entries, await second.gaps(call_id)).is_lawful
            await second.command.stopped()


async def test_calls_are_hung_up_where_the_profile_says_so(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        here.config = configure(here.folder, here.simulator.base_url, profile='on_shutdown = "hang_up"')
        async with here.serving() as first:
            call_ids = [await first.place() for _ in range(3)]
            await further(here.simulator, call_ids, 5)
            assert await first.command.stopped() < 2
        async with here.serving() as second:
            assert second.adopted == 0
            for call_id in call_ids:
                call = await second.get(f"/calls/{call_id}")
                assert (call["status"], call["outcome"]) == ("ended", "hung_up")
                assert call["completeness"] == "complete"
                figures = oracle.verify(here.simulator.calls[call_id], await second.entries(call_id), [])
                assert figures.missing == 0
                assert here.simulator.calls[call_id].hangups == 1
            await second.command.stopped()


async def test_a_second_signal_waits_for_no_hang_up(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator(Faults(hangup=EndpointFault(hang=True)))) as here:
        here.config = configure(here.folder, here.simulator.base_url, profile='on_shutdown = "hang_up"')
        async with here.serving() as daemon:
            call_id = await daemon.place()
            await further(here.simulator, [call_id], 5)
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.command.logged("draining")
            await daemon.until(lambda: any("hangup" in each.path for each in here.simulator.requests))
            assert await daemon.command.stopped() < 2
        async with here.serving() as second:
            await second.call_with(call_id, status="live")


async def test_new_offers_are_refused_while_those_in_flight_are_answered(tmp_path: Path) -> None:
    # long enough for what has to be asked while the answer is awaited
    async with ground(tmp_path, simulator(Faults(calls=EndpointFault(delay=5.0)))) as here:
        async with here.serving() as daemon, asyncio.TaskGroup() as tasks:
            early = tasks.create_task(daemon.offer(), name="early offer")
            await daemon.until(lambda: len(here.simulator.requests) == 2)
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.command.logged("draining")
            assert await daemon.offer() == (503, "draining")
            assert await daemon.status("/readyz") == 503
            status, location = await early
            assert status == 201
            code, _, _ = await daemon.command.ended()
            assert code == 0
        call_id = location.rpartition("/")[2]
        async with here.serving() as second:
            await observed(here.simulator, [call_id])
            await recorded(second, here.simulator, call_id)
            await second.command.stopped()


async def test_a_second_signal_waits_for_no_answer(tmp_path: Path) -> None:
    silent = simulator(Faults(calls=EndpointFault(hang=True)))
    async with ground(tmp_path, silent) as here, here.serving() as daemon, asyncio.TaskGroup() as tasks:
        offer = tasks.create_task(daemon.offer(), name="offer")
        await daemon.until(lambda: len(here.simulator.requests) == 2)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.command.logged("draining")
        assert await daemon.command.stopped() < 2
        assert await offer == (504, "upstream_timeout")


async def test_what_waits_for_a_locked_database_is_stored_before_the_end(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        async with here.serving() as first:
            call_id = await first.place()
            await further(here.simulator, [call_id], 10)
            with ExitStack() as stack:
                other = stack.enter_context(closing(sqlite.open_writer(here.store)))
                other.execute("BEGIN IMMEDIATE")
                await further(here.simulator, [call_id], 10)
                told_at = time.time()
                first.process.send_signal(signal.SIGTERM)
                await first.command.logged("draining")
                other.execute("ROLLBACK")
            code, _, log = await first.command.ended()
            assert code == 0, log
        async with here.serving() as second:
            entries = await recorded(second, here.simulator, call_id)
            figures = oracle.verify(here.simulator.calls[call_id], entries, await second.gaps(call_id))
            stored = {entry.fields["event_id"] for entry in entries}
            await second.command.stopped()
    assert figures.is_lawful
    assert not [
        frame.event_id
        for frame in here.simulator.calls[call_id].produced
        if frame.at < told_at - 0.1 and frame.event_id not in stored
    ]


async def test_a_daemon_without_calls_stops_at_once(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator(SimulatorOptions())) as here, here.serving() as daemon:
        calls: list[Json] = (await daemon.get("/calls"))["data"]
        assert calls == []
        assert await daemon.command.stopped() < 1
