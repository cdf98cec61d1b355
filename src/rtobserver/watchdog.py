"""Notice when the loop stands still, and say where it does.

The loop itself measures how late its turns come, which costs twenty short calls a second. A thread
looks on, since a loop that stands still can tell nobody: it logs the stacks of all threads, once
for each stall. A machine that was suspended, or a process that was stopped, is no stall: then the
thread itself slept longer than it wanted, while the process used no processor.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from rtobserver.metrics import Metrics

BEAT_SECONDS = 0.05
"""Between two turns that the loop takes to measure itself."""
STALL_SECONDS = 1.0
"""A loop that did not turn for so long stands still."""
LOOK_SECONDS = 0.25
"""Between two looks of the thread."""
WINDOW_SECONDS = 60.0
"""The longest gap is shown for at least so long, twice as long at most."""
STACK_CHARS = 20_000
"""Of all stacks together."""

log = structlog.get_logger()


class LoopGap:
    """Measure the longest that the loop kept anything waiting; made and used on the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.turned_at = time.monotonic()
        """When the loop last turned."""
        self._longest, self._before = 0.0, 0.0
        self._window_ends = self.turned_at + WINDOW_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._turn)

    @property
    def longest(self) -> float:
        """Give the longest gap of late, in seconds; any thread may ask."""
        return max(self._longest, self._before)

    def stop(self) -> None:
        """Measure no more."""
        self._timer.cancel()

    def _turn(self) -> None:
        now = time.monotonic()
        late = now - self.turned_at - BEAT_SECONDS
        self.turned_at = now
        if now >= self._window_ends:
            self._before, self._longest = self._longest, 0.0
            self._window_ends = now + WINDOW_SECONDS
        self._longest = max(self._longest, late)
        self._timer = self._loop.call_later(BEAT_SECONDS, self._turn)


class Watchdog:
    """Look at a loop from a thread of its own."""

    def __init__(self, gap: LoopGap, metrics: Metrics, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._gap = gap
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        excused = 0.0
        told_of: float | None = None
        looked_at, worked = time.monotonic(), time.process_time()
        while not self._over.wait(LOOK_SECONDS):
            now, work = time.monotonic(), time.process_time()
            overslept = now - looked_at - LOOK_SECONDS
            if overslept > LOOK_SECONDS and work - worked < overslept / 2:
                # nobody in this process could do anything meanwhile
                excused = now
            looked_at, worked = now, work
            turned_at = self._gap.turned_at
            if told_of is not None and turned_at != told_of:
                log.warning("loop_turns_again", seconds=round(turned_at - told_of, 3))
                told_of = None
            if told_of is None and now - max(turned_at, excused) >= self._stall_seconds:
                told_of = turned_at
                self._metrics.loop_stalls.inc()
                log.error("loop_stalled", seconds=round(now - turned_at, 3), stacks=self._stacks())

    def _stacks(self) -> str:
        """Give where each thread is, the loop's first; source lines, never values."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames()
        idents = sorted(frames, key=lambda ident: (ident != self._loop_thread, names.get(ident, "")))
        parts = []
        for ident in idents:
            if ident == threading.get_ident():
                continue
            name = "the loop" if ident == self._loop_thread else names.get(ident, str(ident))
            parts.append(f"{name}:\n{''.join(traceback.format_stack(frames[ident]))}")
        return "\n".join(parts)[:STACK_CHARS]


@contextmanager
def watching(metrics: Metrics) -> Iterator[LoopGap]:
    """Have the running loop measured and watched for the length of the block."""
    gap = LoopGap()
    loop = asyncio.get_running_loop()
    metrics.loop_tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    metrics.loop_gap_seconds.set_function(lambda: gap.longest)
    watchdog = Watchdog(gap, metrics)
    watchdog.start()
    try:
        yield gap
    finally:
        watchdog.stop()
        gap.stop()
