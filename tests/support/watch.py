"""Measure how long something takes on a machine, and in a process, that has other things to do as well."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector away: for a whole test process it takes a tenth of a second, whenever it likes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def quickest(work: Callable[[], object], enough: float) -> float:
    """Give the processor's seconds that some work takes at its quickest in ten tries, or until it is `enough`.

    A processor that others use too, or its other half, takes longer for the same work now and then.
    """
    best = float("inf")
    with uncollected():
        for _ in range(10):
            began = time.thread_time()
            work()
            best = min(best, time.thread_time() - began)
            if best < enough:
                break
    return best


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
