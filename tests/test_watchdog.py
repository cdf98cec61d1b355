"""A loop that stands still is noticed, told of once with where it stands, and measured."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import structlog

from rtobserver.metrics import Metrics
from rtobserver.watchdog import LoopGap, Watchdog, watching


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)


def stand_still(is_over: Callable[[], bool]) -> None:
    """Be the function that the log must name."""
    for _ in range(1000):
        if is_over():
            return
        threading.Event().wait(0.01)


def _count(logs: list[structlog.typing.EventDict], event: str) -> int:
    return [line["event"] for line in logs].count(event)


async def test_a_stall_is_told_once_with_the_place_where_the_loop_stands() -> None:
    metrics = Metrics()
    with structlog.testing.capture_logs() as logs:
        gap = LoopGap()
        watchdog = Watchdog(gap, metrics, stall_seconds=0.3)
        watchdog.start()
        await _until(lambda: gap.turned_at > 0)
        stand_still(lambda: any("stand_still" in line.get("stacks", "") for line in list(logs)))
        await _until(lambda: _count(logs, "loop_turns_again") == _count(logs, "loop_stalled"))
        watchdog.stop()
        gap.stop()
    told = [line for line in logs if line["event"] == "loop_stalled"]
    # on a busy machine it may stand still for other reasons too
    [stalled] = [line for line in told if "stand_still" in line["stacks"]]
    assert stalled["stacks"].startswith("the loop:")
    again = logs[logs.index(stalled) + 1]
    assert again["event"] == "loop_turns_again"
    assert again["seconds"] >= stalled["seconds"] >= 0.3
    assert f"rtobserver_loop_stalls_total {len(told)}.0" in metrics.render().decode()


async def test_the_longest_gap_of_late_is_a_figure() -> None:
    metrics = Metrics()
    with watching(metrics) as gap:
        threading.Event().wait(0.4)
        await _until(lambda: gap.longest > 0.3)
        [line] = [line for line in metrics.render().splitlines() if line.startswith(b"rtobserver_loop_gap_seconds ")]
        assert 0.3 < float(line.split()[1]) < 5


async def test_the_tasks_that_have_not_ended_are_a_figure() -> None:
    metrics = Metrics()

    def told() -> int:
        [line] = [line for line in metrics.render().splitlines() if line.startswith(b"rtobserver_loop_tasks ")]
        return int(float(line.split()[1]))

    with watching(metrics):
        before = told()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(over.wait(), name=f"waits {number}")
            assert told() == before + 3
            over.set()
        assert told() == before


STOPPED = """
import asyncio, sys, structlog
from rtobserver.metrics import Metrics
from rtobserver.watchdog import watching

async def main():
    with structlog.testing.capture_logs() as logs, watching(Metrics()):
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await asyncio.sleep(1)
    print(sorted(line["event"] for line in logs), flush=True)

asyncio.run(main())
"""


@pytest.mark.process
def test_a_process_that_was_stopped_is_no_stall() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        while time.monotonic() - stopped < 2.5:
            os.sched_yield()
            threading.Event().wait(0.1)
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate(b"\n", timeout=20)
    assert out == b"[]\n"
