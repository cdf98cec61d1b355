"""Measure how long something takes on a machine that has other things to do as well."""

from __future__ import annotations

import time
from pathlib import Path

_PRESSURE = Path("/proc/pressure")
_THREADS = Path("/proc/self/task")


class Watch:
    """Run since it was made."""

    def __init__(self) -> None:
        self._began, self._starved = time.monotonic(), _starved()

    def seconds(self) -> float:
        """Give the seconds so far, without those in which somebody waited for a processor, a disk or memory."""
        return time.monotonic() - self._began - self.starved()

    def starved(self) -> float:
        """Give the seconds so far in which somebody waited for a processor, a disk or memory."""
        # a thread that has ended takes its own waiting with it
        return max(0.0, _starved() - self._starved)


def _starved() -> float:
    try:
        told = [(_PRESSURE / name).read_text() for name in ("cpu", "io", "memory")]
    except OSError:
        return _waited()
    return sum(int(text.partition("\n")[0].rpartition("total=")[2]) for text in told) / 1e6


def _waited() -> float:
    """Give the seconds that this process's threads waited for a processor, where the kernel tells of no more."""
    try:
        told = [(thread / "schedstat").read_text() for thread in _THREADS.iterdir()]
    except OSError:
        return 0.0
    return sum(int(text.split()[1]) for text in told) / 1e9
