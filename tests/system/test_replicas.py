"""Two daemons on one PostgreSQL: whose a call is, who may act on it, and who hears it when one of them stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rtobserver.config.sections import Limits
from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.server import Simulator
from rtobserver.store.places import Server
from tests.process.stage import Watch
from tests.support.replicas import Replica, database, replica
from tests.support.stage import Setting, simulating
from tests.system.ordering import order, sent, settled, upstream_got

ON_THE_WIRE = 0.25
"""Seconds from an operator's wish until upstream has it, whoever took it and whoever hears the call."""

pytestmark = pytest.mark.timeout(120)


@dataclass
class Pair:
    """A simulator, a database, and replicas that start and stop."""

    simulator: Simulator
    server: Server
    key: str
    folder: Path
    setting: Setting
    stacks: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, name: str) -> Replica:
        stack = self.stacks[name] = AsyncExitStack()
        journal = self.folder / name
        return await stack.enter_async_context(replica(self.simulator, self.server, self.key, journal, self.setting))

    async def stop(self, name: str) -> None:
        await self.stacks.pop(name).aclose()


@asynccontextmanager
async def pair(folder: Path, setting: Setting | None = None, **options: object) -> AsyncIterator[Pair]:
    server, key = await database()
    async with simulating(**options) as simulator:  # type: ignore[arg-type]
        made = Pair(simulator, server, key, folder, setting or Setting())
        try:
            yield made
        finally:
            for name in list(made.stacks):
                await made.stop(name)


async def test_an_order_that_one_replica_takes_is_carried_out_by_the_one_that_hears_the_call(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        a, b = await them.start("a"), await them.start("b")
        call_id = await a.call()
        await b.until(call_id, status="live")
        watch = Watch()
        given = await order(b, call_id, "commands", {"type": "input_audio_buffer.clear"})
        await upstream_got(a, call_id, "input_audio_buffer.clear")
        assert watch.seconds() < ON_THE_WIRE
        found = await settled(b, given, "sent", "acknowledged", "failed", "expired")
        assert found["state"] in ("sent", "acknowledged")
        assert [event["type"] for event in sent(a, call_id)] == ["input_audio_buffer.clear"]
        assert (await order(a, call_id, "tags", {"add": ["seen"], "remove": []}))["state"] == "waiting"
        await b.until(call_id, tags=["seen"])


async def test_a_call_that_is_handed_over_loses_nothing_and_has_no_gap(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        a, b = await them.start("a"), await them.start("b")
        calls = await asyncio.gather(*(a.call() for _ in range(5)))
        await asyncio.gather(*(b.until(call_id, status="live") for call_id in calls))
        done = asyncio.Event()

        async def talk() -> None:
            count = 0
            while not done.is_set():
                count += 1
                for call_id in calls:
                    them.simulator.produce(call_id, {"type": "talk", "event_id": f"event_{count}"})
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            await them.stop("a")
            done.set()
        for call_id in calls:
            them.simulator.produce(call_id, {"type": "talk", "event_id": "event_last"})
        for call_id in calls:
            entries = await b.until_stored(
                call_id, lambda found: any(e.fields["event_id"] == "event_last" for e in found)
            )
            events = [entry.payload for entry in entries if entry.kind == "event"]
            assert events == b.produced(call_id)
            assert {entry.fields["epoch"] for entry in entries} == {1, 2}
            assert [gap["reason"] for gap in await b.gaps(call_id)] == ["before_attach"]
            await them.simulator.end_call(call_id)
            row = await b.ended(call_id)
            assert (row["completeness"], row["gap_count"]) == ("complete", 0)


async def test_no_call_that_is_handed_over_is_joined_while_upstream_asks_for_a_rest(tmp_path: Path) -> None:
    faults = Faults(attach=EndpointFault(status=429, retry_after="3", after=1, times=1))
    async with pair(tmp_path, faults=faults) as them:
        a, b = await them.start("a"), await them.start("b")
        call_id = await a.call()
        await b.until(call_id, status="live")
        refused = await b.call()
        await b.until(refused, status="live")
        await them.simulator.close_sidebands(refused)
        await them.simulator.until(lambda: them.simulator.calls[refused].attach_count == 2)
        await them.stop("a")
        await b.until_stored(call_id, lambda found: any(entry.fields["epoch"] == 2 for entry in found))
        assert them.simulator.calls[call_id].attach_count == 1
        # the simulator refuses each call's second attach
        await them.simulator.until(lambda: them.simulator.calls[call_id].attach_count == 3)
        await them.simulator.end_call(call_id)
        await b.ended(call_id)
        assert [gap["reason"] for gap in await b.gaps(call_id)] == ["before_attach", "takeover"]


async def test_200_offers_at_once_against_a_limit_of_5_make_5_calls_however_many_replicas_there_are(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path, Setting(limits=Limits(concurrent_calls_per_user=5))) as them:
        a, b = await them.start("a"), await them.start("b")
        answers = await asyncio.gather(*((a, b)[number % 2].offer() for number in range(200)))
        assert Counter(answer.status for answer in answers) == {201: 5, 429: 195}
        assert len(them.simulator.calls) == 5
        assert {answer.headers["Retry-After"] for answer in answers if answer.status == 429} == {"5"}
        first = next(iter(them.simulator.calls))
        await them.simulator.end_call(first)
        await a.ended(first)
        async with asyncio.timeout(20):
            while (await b.offer()).status != 201:
                pass
        assert len(them.simulator.calls) == 6
