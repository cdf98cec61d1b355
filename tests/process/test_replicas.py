"""A replica that is killed, frozen or stopped, and the one that has its calls after it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from rtobserver.simulator.scenario import Scenario
from tests.process.replicas import Replicas, heard, live, placed, replicas
from tests.process.stage import PATIENCE, Daemon, Watch, until
from tests.support import postgres
from tests.support.stage import Json

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

TTL = 5.0
SHORT = f'[observer]\nlease_ttl = "{TTL:g}s"\n'
ACT = """
[[policy]]
id = "answer-triggers"
mode = "enforce"
on = "trigger"
do = [{ send = { type = "input_audio_buffer.clear" } }]
"""
QUIET = Scenario(name="quiet", steps=(), ending="stay")


async def killed(them: Replicas, daemon: Daemon, call_ids: list[str]) -> list[float]:
    """Kill a replica, and wait until each of its calls is heard again; gives the seconds that took, in order."""
    before = {call_id: them.simulator.calls[call_id].attach_count for call_id in call_ids}
    killed_at = time.monotonic()
    daemon.process.kill()
    found: list[float] = []

    def is_heard(call_id: str) -> bool:
        call = them.simulator.calls[call_id]
        return call.attach_count > before[call_id] and bool(call.open_sidebands)

    def all_heard() -> bool:
        for call_id in [call_id for call_id in before if is_heard(call_id)]:
            del before[call_id]
            found.append(time.monotonic() - killed_at)
        return not before

    await them.simulator.until(all_heard, PATIENCE)
    return found


async def check_record(them: Replicas, daemon: Daemon, call_id: str) -> list[Json]:
    """End a call; what is missing of it, at ten events a second, must lie within gaps. Gives those."""
    await them.simulator.end_call(call_id)
    await daemon.call_with(call_id, status="ended")
    entries = await daemon.entries(call_id)
    outages = [gap for gap in await daemon.gaps(call_id) if gap["reason"] != "before_attach"]
    produced = [event.frame for event in them.simulator.calls[call_id].produced]
    stored = [entry.payload for entry in entries if entry.kind == "event"]
    assert is_within(stored, produced), call_id
    assert all(gap["state"] in ("bounded", "recovered", "final") for gap in outages)
    length = sum((_at(gap["to"]) - _at(gap["from"]) for gap in outages), timedelta())
    assert len(produced) - len(stored) <= 10 * length.total_seconds() + 2 * len(outages), (call_id, outages)
    return outages


def _at(time: str) -> datetime:
    return datetime.fromisoformat(time)


def is_within(part: list[bytes], whole: list[bytes]) -> bool:
    """Tell whether `part` is `whole` with some left out, in the same order and none twice."""
    rest = iter(whole)
    return all(any(each == other for other in rest) for each in part)


def commands(them: Replicas, call_id: str) -> list[Json]:
    return [json.loads(event.message) for event in them.simulator.calls[call_id].client_events]


async def test_calls_of_a_replica_that_is_killed_are_heard_again_when_its_lease_is_over(tmp_path: Path) -> None:
    async with replicas(tmp_path, more=SHORT) as them, them.serving("a") as a, them.serving("b") as b:
        call_ids = await placed(a, 20)
        await heard(them.simulator, call_ids)
        await live(them, b, call_ids)
        seconds = await killed(them, a, call_ids)
        assert max(seconds) <= TTL + 5.0
        for call_id in call_ids:
            [gap] = await check_record(them, b, call_id)
            assert (gap["reason"], gap["epoch"]) == ("takeover", 2)


async def test_a_replica_that_was_frozen_sends_nothing_when_its_calls_are_somebody_elses(tmp_path: Path) -> None:
    more = SHORT + ACT
    async with (
        replicas(tmp_path, more=more, scenario=QUIET) as them,
        them.serving("a") as a,
        them.serving("b") as b,
    ):
        call_ids = await placed(a, 5)
        await live(them, b, call_ids)
        for call_id in call_ids:
            them.simulator.produce(call_id, {"type": "trigger"})
        await them.simulator.until(lambda: all(len(commands(them, call_id)) == 1 for call_id in call_ids), PATIENCE)
        a.process.send_signal(signal.SIGSTOP)
        try:
            # the frozen one still holds its end of each connection
            await heard(them.simulator, call_ids, 2)
            for call_id in call_ids:
                for _ in range(5):
                    them.simulator.produce(call_id, {"type": "trigger"})
            await them.simulator.until(lambda: all(len(commands(them, call_id)) == 6 for call_id in call_ids), PATIENCE)
        finally:
            a.process.send_signal(signal.SIGCONT)
        # it has read what waited for it, found out, and let its calls go
        await a.command.logged("lease_lost")
        await heard(them.simulator, call_ids, 1)
        for call_id in call_ids:
            sent = [event["event_id"] for event in commands(them, call_id)]
            assert [event_id.startswith("rto_1_") for event_id in sent] == [True] + [False] * 5
            await them.simulator.end_call(call_id)
            await b.call_with(call_id, status="ended")
            await until(partial(received_once, b, call_id, "trigger", 6))


async def received_once(daemon: Daemon, call_id: str, type_: str, count: int) -> bool:
    """Tell whether what two replicas received is there, and counts once."""
    found = [entry for entry in await daemon.entries(call_id) if entry.type == type_]
    return len(found) == count


async def test_calls_of_a_replica_that_is_stopped_are_handed_over_without_a_gap(tmp_path: Path) -> None:
    async with replicas(tmp_path) as them, them.serving("a") as a, them.serving("b") as b:
        call_ids = await placed(a, 30)
        await live(them, b, call_ids)
        await a.command.stopped()
        await heard(them.simulator, call_ids)
        for call_id in call_ids:
            assert await check_record(them, b, call_id) == []


async def test_a_replica_that_is_killed_and_started_again_has_its_calls_back_at_once(tmp_path: Path) -> None:
    async with replicas(tmp_path) as them:
        async with them.serving("a") as a:
            call_ids = await placed(a, 10)
            await heard(them.simulator, call_ids)
            await live(them, a, call_ids)
            a.process.kill()
        async with them.serving("a") as again:
            watch = Watch()
            await heard(them.simulator, call_ids)
            # the lease of the one before had eight seconds to go
            assert watch.seconds() < 4.0
            for call_id in call_ids:
                assert len(await check_record(them, again, call_id)) == 1


async def test_when_the_database_was_away_longer_than_a_lease_nobody_takes_anybody_for_dead(tmp_path: Path) -> None:
    with postgres.running(durable=True) as cluster:
        async with (
            replicas(tmp_path, more=SHORT, cluster=cluster) as them,
            them.serving("a") as a,
            them.serving("b") as b,
        ):
            call_ids = [*await placed(a, 5), *await placed(b, 5)]
            await until(lambda: knows_live(a, 10))
            await asyncio.to_thread(cluster.stop, "fast")
            # neither may act any more
            await until(lambda: is_degraded(a))
            await until(lambda: is_degraded(b))
            await asyncio.to_thread(cluster.start)
            await until(lambda: has_recovered(a))
            await until(lambda: has_recovered(b))
            assert [call.attach_count for call in them.calls(call_ids)] == [1] * 10
            for call_id in call_ids:
                assert await check_record(them, b, call_id) == []


async def knows_live(daemon: Daemon, count: int) -> bool:
    return len((await daemon.get("/calls?status=live"))["data"]) == count


async def is_degraded(daemon: Daemon) -> bool:
    """Tell whether a replica says that its lease has run out."""
    return any("lease" in str(reason) for reason in (await readiness(daemon))["reasons"])


async def has_recovered(daemon: Daemon) -> bool:
    return bool((await readiness(daemon))["status"] == "ok")


async def readiness(daemon: Daemon) -> Json:
    async with daemon.http.get(f"{daemon.operator}/readyz") as answer:
        document: Json = await answer.json()
        return {"reasons": [], **document}
