"""The one door to time: wall clock, monotonic clock, sleep.

The pure core is told the time; everything else takes a `Clock`, so that tests can move it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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


@dataclass(frozen=True, slots=True)
class Uptime:
    """Say how long the machine has run, which nobody can set."""

    boot_id: str
    """Of this start of the machine; only times of the same one can be compared."""
    us: int
    """Microseconds, those in which it was suspended included."""


def uptime() -> Uptime | None:
    """Tell how long the machine has run; None where the system does not tell (only Linux does)."""
    with suppress(OSError, AttributeError):
        return Uptime(_BOOT_ID.read_text().strip(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)
    return None


def since_boot() -> float:
    """Give the seconds since the machine was started, for differences within this process.

    Those in which it was suspended are among them where the system counts them.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
