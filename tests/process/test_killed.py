"""A daemon that is killed in the middle of live calls, and the one that comes after it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import aiohttp
import pytest

from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import BargeIn, Flood, Repeat, Scenario, Spoken, ToolCall, Typed
from rtobserver.simulator.server import Simulator, SimulatorOptions
from tests.faults.oracle import Json
from tests.process import oracle
from tests.process.stage import PATIENCE, Daemon, ground, until
from tests.support.stage import Entry
from tests.support.watch import Watch

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

CALLS = 20
RECOVERY = 3.0
"""Seconds within which a restarted daemon observes all calls again."""

TALK = Scenario(
    name="talk",
    transcription="gpt-realtime-whisper",
    steps=(Repeat(times=0, steps=(Typed(), Spoken(), BargeIn(), ToolCall())),),
)
STREAM = Scenario(name="stream", steps=(Flood(rate=10, seconds=0),))


def endless(_offer: str, number: int) -> Scenario:
    return TALK if number % 2 else STREAM


def simulator(faults: Faults | None = None) -> Simulator:
    options = SimulatorOptions(scenario_for=endless, pace=0.25, begin="attached", faults=faults or Faults())
    return Simulator(options)


async def further(upstream: Simulator, call_ids: list[str], events: int) -> None:
    """Wait until upstream has produced so many more events in each call."""
    goals = {call_id: upstream.calls[call_id].produced_count + events for call_id in call_ids}
    await upstream.until(
        lambda: all(upstream.calls[id_].produced_count >= goal for id_, goal in goals.items()), PATIENCE
    )


async def on_record(daemon: Daemon, call_ids: list[str]) -> None:
    """Wait until each call has its row: one that dies with the daemon before that leaves nothing to take up."""
    for call_id in call_ids:
        await daemon.get(f"/calls/{call_id}")


async def observed(upstream: Simulator, call_ids: list[str]) -> None:
    """Wait until each call has one open sideband."""
    await upstream.until(
        lambda: all(len(upstream.calls[call_id].open_sidebands) == 1 for call_id in call_ids), PATIENCE
    )


async def all_entries(daemon: Daemon, call_ids: list[str]) -> dict[str, list[Entry]]:
    return {call_id: await daemon.entries(call_id) for call_id in call_ids}


async def recorded(daemon: Daemon, upstream: Simulator, call_id: str) -> list[Entry]:
    """End a call and wait until its record is whole; gives its entries."""
    await upstream.end_call(call_id)
    await daemon.call_with(call_id, status="ended")
    return await daemon.entries(call_id)


async def test_what_was_committed_survives_a_kill_and_the_rest_lies_within_gaps(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        upstream = here.simulator
        async with here.serving() as first:
            call_ids = [await first.place() for _ in range(CALLS)]
            await further(upstream, call_ids, 40)
            watch = Watch()
            committed = await all_entries(first, call_ids)
            first.process.kill()
            killed_at = time.time()
            await first.command.ended()
        async with here.serving() as second:
            await observed(upstream, call_ids)
            recovery = second.command.watch.seconds()
            again = {call_id: upstream.calls[call_id].open_sidebands[0].attached_at for call_id in call_ids}
            await further(upstream, call_ids, 20)
            after = {call_id: await recorded(second, upstream, call_id) for call_id in call_ids}
            gaps = {call_id: await second.gaps(call_id) for call_id in call_ids}
            calls = {call_id: await second.get(f"/calls/{call_id}") for call_id in call_ids}
            verdicts = {call_id: await second.get(f"/calls/{call_id}/verdict") for call_id in call_ids}
            # nobody reads what comes, or commits what was read, while he waits for a processor
            starved = watch.starved()
            assert await second.command.stopped() < 2

    figures = {id_: oracle.verify(upstream.calls[id_], after[id_], gaps[id_]) for id_ in call_ids}
    outages = {call_id: attached_at - killed_at for call_id, attached_at in again.items()}
    missed = [
        frame.at
        for id_ in call_ids
        for frame in upstream.calls[id_].produced
        if frame.sidebands and frame.event_id not in {entry.fields["event_id"] for entry in after[id_]}
    ]
    oracle.say(
        "killed",
        calls=CALLS,
        produced=sum(each.produced for each in figures.values()),
        missing=sum(each.missing for each in figures.values()),
        missing_unexplained=sum(each.missing_unexplained for each in figures.values()),
        sent_to_us_and_missing=len(missed),
        oldest_of_these_ms=round((killed_at - min(missed, default=killed_at)) * 1000),
        recovery_s=round(recovery, 2),
        outage_s=round(max(outages.values()), 2),
        overhang_s=round(max(figures[id_].gap_s - outages[id_] for id_ in call_ids), 2),
    )
    assert second.adopted == CALLS
    assert recovery < RECOVERY
    assert min(missed, default=killed_at) > killed_at - 1 - starved
    for call_id in call_ids:
        assert after[call_id][: len(committed[call_id])] == committed[call_id]
        assert figures[call_id].is_lawful, figures[call_id]
        assert {entry.position[0] for entry in after[call_id]} == {1, 2}
        assert figures[call_id].gap_s < outages[call_id] + 2 + starved
        assert [gap["reason"] for gap in gaps[call_id]] == ["before_attach", "takeover"]
        # of an outage that lasted, whole items may have been missing, and were asked for (decision 0100)
        healed = bool(verdicts[call_id]["checks"]["recovered_items"])
        assert gaps[call_id][0]["state"] == "final"
        assert gaps[call_id][1]["state"] in ({"final", "recovered"} if healed else {"final"})
        assert calls[call_id]["entry_count"] == len(after[call_id])
        assert calls[call_id]["completeness"] == "complete_with_gaps"
        assert calls[call_id]["gap_count"] == 1


async def test_each_restart_is_an_epoch_however_often_it_is_killed(tmp_path: Path) -> None:
    kills = 4
    async with ground(tmp_path, simulator()) as here:
        upstream = here.simulator
        async with here.serving() as daemon:
            call_ids = [await daemon.place() for _ in range(4)]
            await further(upstream, call_ids, 5)
            await on_record(daemon, call_ids)
            daemon.process.kill()
        for _ in range(kills - 1):
            async with here.serving() as daemon:
                # the second one dies before it has attached to all, the others later
                await upstream.until(
                    lambda: any(upstream.calls[call_id].open_sidebands for call_id in call_ids), PATIENCE
                )
                daemon.process.kill()
        async with here.serving() as daemon:
            await observed(upstream, call_ids)
            await further(upstream, call_ids, 5)
            for call_id in call_ids:
                entries = await recorded(daemon, upstream, call_id)
                gaps = await daemon.gaps(call_id)
                figures = oracle.verify(upstream.calls[call_id], entries, gaps)
                oracle.say("killed again and again", kills=kills, figures=figures)
                assert figures.is_lawful
                assert entries[-1].position[0] == kills + 1
                assert [gap["to"] is not None for gap in gaps] == [True] * len(gaps)
            await daemon.command.stopped()


async def test_a_call_that_ended_during_the_outage_is_ended_at_the_restart(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        async with here.serving() as first:
            call_id = await first.place()
            await further(here.simulator, [call_id], 10)
            await on_record(first, [call_id])
            first.process.kill()
            await first.command.ended()
        await here.simulator.end_call(call_id)
        async with here.serving() as second:
            call = await second.call_with(call_id, status="ended")
            entries, gaps = await second.entries(call_id), await second.gaps(call_id)
            await second.command.stopped()
    assert call["outcome"] == "browser_left"
    assert call["completeness"] == "complete_with_gaps"
    assert oracle.verify(here.simulator.calls[call_id], entries, gaps).is_lawful
    assert (gaps[-1]["reason"], gaps[-1]["to"], gaps[-1]["state"]) == ("unknown_end", None, "final")


async def test_a_call_that_cannot_be_observed_again_is_hung_up_once_and_lost(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator(Faults(attach=EndpointFault(status=503, after=1)))) as here:
        upstream = here.simulator
        async with here.serving() as first:
            call_id = await first.place()
            await further(upstream, [call_id], 10)
            await on_record(first, [call_id])
            first.process.kill()
            await first.command.ended()
        async with here.serving(RTOBSERVER_OBSERVER__ATTACH_TIMEOUT="1s") as second:
            call = await second.call_with(call_id, status="lost")
            await upstream.until(lambda: upstream.calls[call_id].ended is not None, PATIENCE)
            commands = (await second.get(f"/calls/{call_id}/commands"))["data"]
            await second.command.logged("call_lost")
            await second.command.stopped()
        async with here.serving(RTOBSERVER_OBSERVER__ATTACH_TIMEOUT="1s") as third:
            assert third.adopted == 0
            await third.command.stopped()
    assert call["outcome"] == "lost"
    assert call["completeness"] == "incomplete"
    assert upstream.calls[call_id].hangups == 1
    assert [command["type"] for command in commands] == ["hangup"]


async def test_a_kill_within_a_negotiation_leaves_a_call_of_ours_that_is_lost(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator(Faults(calls=EndpointFault(hang=True)))) as here:
        async with here.serving() as first, asyncio.TaskGroup() as tasks:
            tasks.create_task(_offer_in_vain(first), name="offer")
            await first.until(lambda: len(here.simulator.requests) == 2)
            await until(lambda: _listed(first))
            first.process.kill()
        async with here.serving() as second:
            [call] = await _listed(second)
            await second.command.stopped()
    assert call["call_id"].startswith("neg_")
    assert (call["status"], call["outcome"]) == ("lost", "lost")


async def _offer_in_vain(daemon: Daemon) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        await daemon.offer()


async def _listed(daemon: Daemon) -> list[Json]:
    calls: list[Json] = (await daemon.get("/calls"))["data"]
    return calls
