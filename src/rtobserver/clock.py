"""The one door to time: wall clock, monotonic clock, sleep.

The pure core is told the time; everything else takes a `Clock`, so that tests can move it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Uptime:
    """Say how long the machine has run, which nobody can set."""

    boot_id: str
    """Of this start of the machine; only times of the same one can be compared."""
    us: int
    """Microseconds, those in which it was suspended included."""


class Clock(Protocol):
    """Tell the time."""

    def now_us(self) -> int:
        """Give the wall clock in microseconds since 1970 (UTC)."""

    def mono(self) -> float:
        """Give the monotonic clock in seconds; only differences mean anything."""

    def uptime(self) -> Uptime | None:
        """Tell how long the machine has run; None where the system does not tell (only Linux does)."""

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of the monotonic clock."""


class SystemClock:
    """Tell the machine's time."""

    def now_us(self) -> int:
        """Give the wall clock in microseconds since 1970 (UTC)."""
        return time.time_ns() // 1000

    # asked several times for each frame: no call of ours stands before the system's
    mono = staticmethod(time.monotonic)

    def uptime(self) -> Uptime | None:
        """Tell how long the machine has run; None where the system does not tell (only Linux does)."""
        with suppress(OSError, AttributeError):
            return Uptime(_boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)
        return None

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)


@functools.cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def since_boot() -> float:
    """Give the seconds since the machine was started, for differences within this process.

    Those in which it was suspended are among them where the system counts them.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
