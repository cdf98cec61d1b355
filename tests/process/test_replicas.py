"""A replica that is killed, frozen or stopped, and the one that has its calls after it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp
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
limit = { per_minute = 100000 }
"""
LAG = 1.0
"""Seconds by which whoever hears a call may be late to read what was sent, on a busy machine."""
OVERHANG = 2.0
"""Seconds by which a gap may be longer than what is missing, at either end."""
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
    """End a call; what is missing of it must lie within gaps, and these must be no longer than that. Gives them."""
    await them.simulator.end_call(call_id)
    await daemon.call_with(call_id, status="ended")
    entries = await daemon.entries(call_id)
    outages = [gap for gap in await daemon.gaps(call_id) if gap["reason"] != "before_attach"]
    produced = them.simulator.calls[call_id].produced
    stored = [entry.payload for entry in entries if entry.kind == "event"]
    assert is_within(stored, [event.frame for event in produced]), call_id
    assert all(gap["state"] in ("bounded", "recovered", "final") for gap in outages)
    times = [(_at(gap["from"]), _at(gap["to"])) for gap in outages]
    there = set(stored)
    missing = [event.at for event in produced if event.frame not in there]
    for at in missing:
        assert any(begin - LAG <= at <= end + LAG for begin, end in times), (call_id, at, outages)
    for begin, end in times:
        within = [at for at in missing if begin - LAG <= at <= end + LAG]
        if not within:
            # nobody can say what nothing was sent in
            assert not any(begin <= event.at <= end - LAG for event in produced), (call_id, outages)
            continue
        assert within[0] - begin <= OVERHANG, (call_id, within[0], outages)
        assert end - within[-1] <= OVERHANG, (call_id, within[-1], outages)
    return outages


def _at(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


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
    await check_frozen(tmp_path, 5)


async def check_frozen(tmp_path: Path, calls: int) -> None:
    """Freeze a replica whose calls another one takes over; when it goes on it must send nothing into them."""
    more = SHORT + ACT
    async with (
        replicas(tmp_path, more=more, scenario=QUIET) as them,
        them.serving("a") as a,
        them.serving("b") as b,
    ):
        call_ids = await placed(a, calls)
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


async def test_no_call_is_forgotten_that_was_answered_right_before_its_replica_was_killed(tmp_path: Path) -> None:
    await check_answered(tmp_path, rounds=2, answers=8)


async def check_answered(tmp_path: Path, *, rounds: int, answers: int) -> None:
    """Kill replicas at the moment in which a browser has its answer; another must hear each call that was answered."""
    async with replicas(tmp_path, more=SHORT) as them, them.serving("b") as b:
        answered: list[str] = []
        for turn in range(1, rounds + 1):
            async with them.serving(f"a{turn}") as a, asyncio.TaskGroup() as tasks:
                for _ in range(random.randint(1, 8)):
                    tasks.create_task(answered_until(a, answered, turn * answers))
        calls = them.calls(answered)
        # whoever was killed took its own connections along
        await them.simulator.until(lambda: all(call.open_sidebands for call in calls), PATIENCE)
        await live(them, b, answered)
        assert len(answered) >= rounds * answers
        for call_id in answered:
            assert {gap["reason"] for gap in await check_record(them, b, call_id)} == {"takeover"}


async def answered_until(daemon: Daemon, answered: list[str], count: int) -> None:
    """Place calls one after the other; whoever has the answer that makes so many in all kills the replica."""
    with contextlib.suppress(aiohttp.ClientError):
        while daemon.process.returncode is None:
            answered.append(await daemon.place())
            if len(answered) == count:
                daemon.process.kill()


async def test_calls_that_were_accepted_while_the_database_was_away_are_found_when_their_replica_starts_again(
    tmp_path: Path,
) -> None:
    with postgres.running(durable=True) as cluster:
        async with replicas(tmp_path, more=SHORT, cluster=cluster) as them:
            async with them.serving("a") as a:
                await asyncio.to_thread(cluster.stop, "fast")
                await until(lambda: is_degraded(a))
                call_ids = await placed(a, 3)
                await heard(them.simulator, call_ids)
                a.process.kill()
            await asyncio.to_thread(cluster.start)
            async with them.serving("a") as again, them.serving("b") as b:
                # nobody has ever heard of them but through the journal
                await heard(them.simulator, call_ids)
                for call_id in call_ids:
                    [gap] = await check_record(them, b, call_id)
                    assert (gap["reason"], gap["epoch"]) == ("takeover", 2)
                    assert len(await again.gaps(call_id)) == 2


@pytest.mark.parametrize("limit", ["concurrent_calls", "concurrent_calls_per_user"])
async def test_a_limit_holds_over_replicas_and_over_the_death_of_one(tmp_path: Path, limit: str) -> None:
    more = SHORT + f"[limits]\n{limit} = 5\n"
    async with replicas(tmp_path, more=more) as them, them.serving("a") as a, them.serving("b") as b:
        offers = await asyncio.gather(*((a, b)[number % 2].offer() for number in range(200)))
        call_ids = [location.rpartition("/")[2] for status, location in offers if status == 201]
        assert len(call_ids) == len(them.simulator.calls) == 5
        assert {said for said in offers if said[0] != 201} == {(429, "too_many_calls")}
        a.process.kill()
        await heard(them.simulator, call_ids)
        await live(them, b, call_ids)
        # whoever hears them holds their places
        assert set(await asyncio.gather(*(b.offer() for _ in range(20)))) == {(429, "too_many_calls")}
        for call_id in call_ids:
            await them.simulator.end_call(call_id)
            await b.call_with(call_id, status="ended")

        async def admitted() -> bool:
            return sum([(await b.offer())[0] == 201 for _ in range(5)]) > 0

        await until(admitted)
        while (await b.offer())[0] == 201:
            pass
        assert len([call for call in them.simulator.calls.values() if call.ended is None]) == 5


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
