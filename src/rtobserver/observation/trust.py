"""Tell how long a replica may act on its lease without having asked again. Pure.

Upstream cannot be told to refuse a replica whose calls others have taken over, so this window is
the only thing that stops one which was paused or cut off: it is looked at right before each send.
It begins when a renewal is asked for, not when it is granted, and ends before the lease does; the
clock is one that goes on while the machine sleeps.
"""

from __future__ import annotations

MARGIN = 0.2
"""The part of a lease's life in which it is not trusted any more, for clocks that do not run alike."""
BEATS = 3
"""Renewals that are tried within the trusted part."""
SET_SECONDS = 0.5
"""By how much more the database's clock must have gone than this machine's to have been set."""


class Trust:
    """Keep the window of one incarnation; `since_boot` is in seconds, and so is `ttl`, the life of a lease."""

    __slots__ = ("_is_lost", "_until", "ttl")

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self._until: float | None = None
        self._is_lost = False

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self.ttl * (1 - MARGIN) / BEATS

    def renewed(self, asked_at: float) -> None:
        """Take note that a renewal was granted that was asked for at `asked_at`."""
        until = asked_at + self.ttl * (1 - MARGIN)
        if self._until is None or until > self._until:
            self._until = until

    def lose(self) -> None:
        """Take note that the incarnation was fenced, or has resigned: it is never trusted again."""
        self._is_lost = True

    @property
    def is_lost(self) -> bool:
        """Say whether it can never be trusted again."""
        return self._is_lost

    def holds(self, since_boot: float) -> bool:
        """Say whether the replica may act now."""
        return not self._is_lost and self._until is not None and since_boot < self._until

    def left(self, since_boot: float) -> float:
        """Give the seconds for which it may still act."""
        return 0.0 if self._is_lost or self._until is None else max(0.0, self._until - since_boot)


class Pace:
    """Tell whether somebody has set another clock; each reading of it lies between two moments of this machine's."""

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None
        """By how much it was ahead of this machine's when it was last read: at least, and at most."""

    def was_set(self, theirs: float, asked_at: float, answered_at: float) -> bool:
        """Say whether it was set, or is another one, since the last reading; all in seconds."""
        before, self._ahead = self._ahead, (theirs - answered_at, theirs - asked_at)
        least, most = self._ahead
        return before is not None and (least > before[1] + SET_SECONDS or most < before[0] - SET_SECONDS)


class Ration:
    """Spread what many calls ask for at once: at most `rate` a second, and `burst` in one go."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = float(burst), 0.0

    def take(self, wanted: int, mono: float) -> int:
        """Take as much as there is now; gives how much that is."""
        self._fill(mono)
        taken = min(wanted, int(self._left))
        self._left -= taken
        return taken

    def give_back(self, taken: int) -> None:
        """Take note that so much of what was taken was not needed."""
        self._left += taken

    def wait(self, wanted: int, mono: float) -> float:
        """Give the seconds until `wanted`, or a whole burst, can be taken."""
        self._fill(mono)
        return max(0.0, (min(wanted, self._burst) - self._left) / self._rate)

    def _fill(self, mono: float) -> None:
        self._left = min(float(self._burst), self._left + max(0.0, mono - self._at) * self._rate)
        self._at = max(self._at, mono)
