"""Notice that somebody sets the wall clock back: compare it with the machine's uptime, which nobody can set."""

from __future__ import annotations

from rtobserver.clock import Clock, Uptime

SET_BACK_US = 100_000
"""A wall clock that loses more than so much between two looks was set back."""


class WallClock:
    """Be looked at again and again, for as long as a run of the daemon lasts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._differ: int | None = None
        """By how much the wall clock was ahead of the uptime, in microseconds."""
        self.was_set_back = False

    def compared(self, now: int) -> Uptime | None:
        """Compare the uptime with a time of the wall clock, in microseconds since 1970; gives the uptime."""
        up = self._clock.uptime()
        if up is not None:
            differ, before = now - up.us, self._differ
            self.was_set_back = self.was_set_back or (before is not None and differ < before - SET_BACK_US)
            self._differ = differ
        return up
