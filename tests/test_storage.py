"""A start waits for what may pass."""

from __future__ import annotations

import errno

from rtobserver.clock import SystemClock
from rtobserver.errors import StoreUnavailable
from rtobserver.storage import persist


class HandClock(SystemClock):
    """Go on when somebody sleeps, or says that something took a while."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []
        self.mono = lambda: self.seconds

    async def sleep(self, seconds: float) -> None:
        """Note that somebody wanted to."""
        self.slept.append(seconds)
        self.seconds += seconds


async def test_what_takes_long_in_vain_is_tried_less_often() -> None:
    clock, tries = HandClock(), iter([0.01, 0.5, 60.0])
    waits: dict[str, int | None] = {}

    def copy() -> None:
        for took in tries:
            clock.seconds += took
            raise StoreUnavailable("no room") from OSError(errno.ENOSPC, "no space left")

    await persist(copy, is_server=False, waits=waits, clock=clock)
    assert clock.slept == [1.0, 4.0, 16.0]
    assert waits == {}
