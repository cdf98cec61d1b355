"""The one door to time: wall clock, monotonic clock, sleep.

The pure core is told the time; everything else takes a `Clock`, so that tests can move it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tell the time."""

    def now_us(self) -> int:
        """Give the wall clock in microseconds since 1970 (UTC)."""

    def mono(self) -> float:
        """Give the monotonic clock in seconds; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of the monotonic clock."""


class SystemClock:
    """Tell the machine's time."""

    def now_us(self) -> int:
        """Give the wall clock in microseconds since 1970 (UTC)."""
        return time.time_ns() // 1000

    # asked several times for each frame: no call of ours stands before the system's
    mono = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)


def since_boot() -> float:
    """Give the seconds since the machine was started, those among them in which it was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
