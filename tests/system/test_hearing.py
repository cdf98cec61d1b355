"""While nothing is heard of any call, the daemon says so; one call's own fate is not that."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rtobserver.config.sections import Observer, Seconds
from rtobserver.simulator.faults import EndpointFault, Faults
from tests.support.stage import PATIENCE, Setting, Stage
from tests.system.conftest import Play


async def readiness(stage: Stage) -> tuple[int, dict[str, Any]]:
    status, body = await stage.get("/readyz")
    return status, json.loads(body)


async def until_ready_is(stage: Stage, wanted: str) -> list[str]:
    """Wait until `/readyz` says a word; gives the reasons."""
    told: dict[str, Any] = {}
    async with asyncio.timeout(PATIENCE):
        while told.get("status") != wanted:
            status, told = await readiness(stage)
            assert status == 200, told
    return list(told["reasons"])


async def failing(stage: Stage, what: str) -> bool:
    _, figures = await stage.get("/metrics")
    return f'rtobserver_upstream_failing{{what="{what}"}} 1.0'.encode() in figures


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (EndpointFault(status=403), "it does not take our credential (403)"),
        (EndpointFault(status=503, times=6), "it answers 503"),
    ],
    ids=["403", "503"],
)
async def test_attaches_that_succeed_for_nobody_are_told_until_one_succeeds(
    play: Play, fault: EndpointFault, words: str
) -> None:
    async with play(faults=Faults(attach=fault)) as stage:
        first = await stage.call()
        await stage.wait(lambda: stage.simulator.calls[first].attach_count >= 1)
        assert (await readiness(stage))[1] == {"status": "ok", "reasons": []}
        assert not await failing(stage, "attach")
        await stage.call()
        [reason] = await until_ready_is(stage, "degraded")
        assert reason.startswith(f"no attach gets through to upstream: {words} (")
        assert await failing(stage, "attach")
        [told] = (await stage.document("/api/v1/system"))["reasons"]
        assert told["since"] is not None
        assert f"no attach gets through to upstream: {words}" in (await stage.get("/system"))[1].decode()
        if fault.times:
            assert await until_ready_is(stage, "ok") == []
            assert not await failing(stage, "attach")


async def test_calls_that_upstream_accepts_and_never_knows_are_told_when_they_are_given_up(play: Play) -> None:
    setting = Setting(observer=Observer(attach_timeout=Seconds(0.5)))
    async with play(setting, faults=Faults(attach=EndpointFault(status=404))) as stage:
        first = await stage.call()
        await stage.until(first, status="unobserved")
        assert (await readiness(stage))[1] == {"status": "ok", "reasons": []}
        second = await stage.call()
        await stage.until(second, status="unobserved")
        assert (await readiness(stage))[1]["reasons"] == [
            "no attach gets through to upstream: it knows none of the calls that it accepts (404) (2 times)"
        ]


async def test_calls_that_end_say_nothing_of_upstream(play: Play) -> None:
    async with play() as stage:
        for _ in range(3):
            call_id = await stage.call()
            await stage.until(call_id, status="live")
            await stage.simulator.end_call(call_id)
            await stage.ended(call_id)
        assert (await readiness(stage))[1] == {"status": "ok", "reasons": []}


async def test_sidebands_that_are_all_dead_are_told_before_they_are_given_up(play: Play) -> None:
    async with play(faults=Faults(deaf=True)) as stage:
        calls = [await stage.call() for _ in range(2)]
        for call_id in calls:
            await stage.until(call_id, status="live")
        [reason] = await until_ready_is(stage, "degraded")
        assert reason == "nothing is heard on any sideband, not even an answer to a ping"
        assert await failing(stage, "sideband")
        assert [row["status"] for row in await stage.calls()] == ["live", "live"]


async def test_calls_in_which_nobody_speaks_are_no_dead_sidebands(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        observer = stage.daemon._supervisor.find(call_id)
        assert observer is not None
        # as long as a dead one would take
        async with asyncio.timeout(PATIENCE):
            while (await stage.row(call_id))["status"] == "live" and observer.machine.ledger.age(
                asyncio.get_running_loop().time()
            ) < 7.0:
                assert (await readiness(stage))[1] == {"status": "ok", "reasons": []}
