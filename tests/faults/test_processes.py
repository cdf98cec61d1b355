"""The daemon itself is in trouble: told to stop, short of descriptors, stalled, failing inside (D04, D13 to D16)."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.acts import place, recovery
from tests.faults.ground import record, site, stream
from tests.faults.table import Case
from tests.process.stage import Daemon
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(300)]


def logged(daemon: Daemon, event: str) -> int:
    return len(daemon.command.events(event))  # type: ignore[attr-defined]


async def halted(daemon: Daemon) -> None:
    """Stop a daemon whose log holds the traceback of a fault that was wanted."""
    daemon.process.send_signal(signal.SIGTERM)
    code, _, log = await daemon.command.ended()
    assert code == 0, log


@pytest.mark.parametrize("when", [pytest.param("live", marks=pytest.mark.quarter), "twice", "locked"])
@pytest.mark.case("D04")
async def test_a_daemon_that_is_told_to_stop_stops_and_loses_nothing_before(
    case: Case, tmp_path: Path, when: str
) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as first:
            call_ids = await place(first, here, 10, events=10)
            if when == "locked":
                with closing(sqlite3.connect(here.store, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    await further(here.simulator, call_ids, 5)
                    first.process.send_signal(signal.SIGTERM)
                    await first.command.logged("draining")
                    other.execute("ROLLBACK")
            watch = time.monotonic()
            if when != "locked":
                first.process.send_signal(signal.SIGTERM)
            if when == "twice":
                first.process.send_signal(signal.SIGTERM)
            code, _, log = await first.command.ended()
            took = time.monotonic() - watch
        async with here.serving() as second:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 3)
            await here.end(second, call_ids)
            figures = await here.figures(second, call_ids)
            case.show(figures, exit_s=round(took, 2), code=code, t_recover_s=recovery(here, call_ids))
            await second.command.stopped()
    assert (code, "Traceback" in log) == (0, False), log
    assert took <= 5


@pytest.mark.parametrize("event", ["starting", "listening"])
@pytest.mark.case("D04")
async def test_a_signal_during_the_start_ends_it(case: Case, tmp_path: Path, event: str) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as first:
            call_ids = await place(first, here)
            await first.get(f"/calls/{call_ids[0]}")
            first.process.kill()
            await first.command.ended()
        async with here.starting() as starting:
            await starting.logged(event)
            began = time.monotonic()
            starting.process.send_signal(signal.SIGTERM)
            code, _, log = await starting.ended()
            took = time.monotonic() - began
        async with here.serving() as third:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 3)
            await here.end(third, call_ids)
            case.show(await here.figures(third, call_ids), exit_s=round(took, 2), code=code)
            await third.command.stopped()
    assert code == 0, log
    assert took <= 5


@pytest.mark.case("D13")
async def test_a_daemon_short_of_descriptors_refuses_new_calls_and_keeps_the_old(case: Case, tmp_path: Path) -> None:
    prefix = ("prlimit", "--nofile=256:256")
    async with site(tmp_path, scenario=stream(1)) as here, here.serving(prefix=prefix) as daemon:
        taken: list[str] = []
        refused: dict[str, int] = {}
        for _ in range(400):
            try:
                status, location = await daemon.offer()
            except OSError as exc:
                status, location = 0, type(exc).__name__
            if status == 201:
                taken.append(location.rpartition("/")[2])
            else:
                key = f"{status} {location}"
                refused[key] = refused.get(key, 0) + 1
        began, used = time.monotonic(), _cpu(daemon.process.pid)
        await asyncio.to_thread(_until, began + 3)
        busy = (_cpu(daemon.process.pid) - used) / (time.monotonic() - began)
        alive = [call_id for call_id in taken if here.simulator.calls[call_id].open_sidebands]
        await further(here.simulator, alive, 1)
        for call_id in taken:
            await here.simulator.end_call(call_id)
        for call_id in alive:
            await daemon.call_with(call_id, status="ended")
        figures = await here.figures(daemon, alive)
        case.show(
            figures,
            taken=len(taken),
            observed=len(alive),
            refused=refused,
            cpu=round(busy, 2),
            descriptors=here.measured.descriptors,
        )
        assert len(alive) >= 100
        # what was taken is observed, and the rest was told so before it cost anything
        assert len(alive) == len(taken)
        assert set(refused) == {"503 no_room"}
        assert len(here.simulator.calls) == len(taken)
        assert here.measured.descriptors <= 256
        # no loop that tries to accept what it cannot
        assert busy < 1.5
        await daemon.command.stopped()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(moment: float) -> None:
    while time.monotonic() < moment:
        time.sleep(0.1)


@pytest.mark.quarter
@pytest.mark.case("D14")
async def test_a_loop_that_stands_still_is_logged_with_its_stacks(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(10)) as here, here.serving("loop.turn=sleep:15@6") as daemon:
        call_ids = await place(daemon, here, 5)
        stalled = await daemon.command.logged("loop_stalled")
        again = await daemon.command.logged("loop_turns_again")
        await further(here.simulator, call_ids, 10)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        # the fifteen seconds of the failpoint, and one more
        case.show(figures, loop_gap=16_000, said_after_s=stalled["seconds"], stood_still_s=again["seconds"])
        # the sockets hold what came meanwhile
        assert (figures.missing, figures.closes_by_us) == (0, 0)
        assert stalled["seconds"] < 5
        assert again["seconds"] >= 14
        assert figures.loop_gap >= 14_000
        assert "failpoints.py" in stalled["stacks"]
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("D16")
async def test_a_fault_in_one_observer_is_that_calls_alone(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving("frame.received=raise@50") as daemon:
        call_ids = await place(daemon, here, 5)
        failed = await daemon.command.logged("observer_failed")
        await observed(here.simulator, call_ids)
        await further(here.simulator, call_ids, 10)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        epochs = {call_id: (await record(daemon, call_id)).entries[-1].position[0] for call_id in call_ids}
        case.show(figures, epochs=sorted(epochs.values()), t_recover_s=recovery(here, call_ids))
        assert [call_id for call_id in call_ids if epochs[call_id] == 2] == [failed["call_id"]]
        await halted(daemon)


@pytest.mark.case("D16")
async def test_an_observer_that_always_fails_is_given_up_and_the_others_go_on(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving("frame.received=raise@1+") as daemon:
        call_ids = await place(daemon, here, 3, events=0)
        broken = call_ids[0]
        for _ in range(4):
            await observed(here.simulator, [broken])
            here.simulator.produce(broken, {"type": "odd"})
            await here.simulator.until(lambda: not here.simulator.calls[broken].open_sidebands)
            if logged(daemon, "observer_failed") == 4:
                break
        await daemon.call_with(broken, status="lost", completeness="incomplete")
        await here.simulator.until(lambda: here.simulator.calls[broken].ended is not None)
        await here.end(daemon, call_ids[1:])
        figures = await here.figures(daemon, call_ids)
        hang_ups = here.simulator.calls[broken].hangups
        case.show(figures, faults=logged(daemon, "observer_failed"), hang_ups=hang_ups)
        assert (logged(daemon, "observer_failed"), hang_ups) == (4, 1)
        assert len(here.simulator.calls[broken].sidebands) == 4
        await halted(daemon)


POLICIES = """
[[policy]]
id = "broken"
on = "response.output_audio_transcript.delta"
when = "event.delta != ''"
mode = "enforce"
limit = { per_call = 100, cooldown = "1s" }
do = [{ tag = "never" }]

[[policy]]
id = "works"
on = "response.output_audio_transcript.delta"
mode = "enforce"
limit = { per_call = 100, cooldown = "1s" }
do = [{ tag = "heard" }]
"""


@pytest.mark.quarter
@pytest.mark.case("D16")
async def test_a_fault_in_one_policy_is_recorded_and_the_others_go_on(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        here.configure(more=POLICIES)
        async with here.serving("policy.weighed=raise@1+") as daemon:
            call_ids = await place(daemon, here, 3, events=70)
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            calls = [await daemon.get(f"/calls/{call_id}") for call_id in call_ids]
            epochs = {(await record(daemon, call_id)).entries[-1].position[0] for call_id in call_ids}
            found = [each for call_id in call_ids for each in (await daemon.get(f"/calls/{call_id}/decisions"))["data"]]
            faults = [each for each in found if each["outcome"] == "fault"]
            acted = [each for each in found if each["policy"] == "works" and each["acted"]]
            case.show(figures, policy_faults=len(faults), decisions_of_the_other=len(acted))
            assert (figures.missing, epochs) == (0, {1})
            assert {each["policy"] for each in faults} == {"broken"}
            assert {call["tags"][0] for call in calls} == {"heard"}
            assert len(faults) >= 6
            assert len(acted) >= 6
            assert all("rtobserver failed inside: Failed at failpoints.py" in each["detail"] for each in faults)
            await daemon.command.stopped()


@pytest.mark.case("D16")
async def test_a_writer_that_fails_ends_the_daemon_aloud(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving("writer.turn=raise@60") as first:
            call_ids = await place(first, here, 3)
            code, _, log = await first.command.ended()
            faults = logged(first, "writer_failed")
        async with here.serving() as second:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 3)
            await here.end(second, call_ids)
            case.show(await here.figures(second, call_ids), code=code, writer_failed=faults)
            await second.command.stopped()
    assert (code, faults) == (1, 1), log
    assert "the database can be written no more" in log
