"""Run a command of rtobserver with failpoints and a measure of its loop: `python -m tests.faults.run … -- serve …`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rtobserver import cli, daemon
from rtobserver.store import schema
from tests.faults import failpoints

BEAT = 0.02
_PRESSURE = Path("/proc/pressure/cpu")


class LoopGap:
    """Measure the longest that a loop did not turn, and keep it in a file that outlives a kill.

    Beside it stands for how much of that time anything on this machine waited for a processor, both in ms.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        self._longest = 0.0
        self._loop = asyncio.get_running_loop()
        self._write(0.0, 0.0)
        self._arm()

    def _arm(self) -> None:
        self._due, self._starved = time.monotonic() + BEAT, _starved()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        late = time.monotonic() - self._due
        if late > self._longest:
            self._write(late, min(late, max(0.0, _starved() - self._starved)))
        self._arm()

    def _write(self, seconds: float, starved: float) -> None:
        self._longest = seconds
        os.pwrite(self._file, f"{seconds * 1000:15.3f} {starved * 1000:15.3f}\n".encode(), 0)

    def stop(self) -> None:
        self._timer.cancel()
        os.close(self._file)


def _starved() -> float:
    try:
        some = _PRESSURE.read_text().partition("\n")[0]
    except OSError:
        return 0.0  # not told by this kernel
    return int(some.rpartition("total=")[2]) / 1e6


def _measured(path: Path) -> Any:
    running = daemon.running

    @asynccontextmanager
    async def measured(*args: Any, **named: Any) -> AsyncIterator[daemon.Daemon]:
        async with running(*args, **named) as begun:
            gap = LoopGap(path)
            try:
                yield begun
            finally:
                gap.stop()

    return measured


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--failpoint", action="append", default=[])
    parser.add_argument("--loop-gap", type=Path)
    parser.add_argument("--migrations", type=Path, help="be a release with these scripts")
    parser.add_argument("words", nargs="+")
    told = parser.parse_args()
    for order in told.failpoint:
        failpoints.install(order)
    if told.migrations is not None:
        schema.scripts = lambda: told.migrations
    if told.loop_gap is not None:
        daemon.running = _measured(told.loop_gap)
    sys.argv = ["rtobserver", *told.words]
    cli.main()


if __name__ == "__main__":
    main()
