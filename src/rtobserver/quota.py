"""Count what callers have started, and say when it is too much.

Pure: it is told the time. The counts are this process's own; several replicas count together in
`store/quotas.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from rtobserver.config.sections import Limits
from rtobserver.errors import RequestError

_WINDOW = 60.0


class Counts(Protocol):
    """Count calls, and hold callers to their limits."""

    def connecting(self, user: str | None, mono: float) -> AbstractAsyncContextManager[None]:
        """Count a call as begun; it stays counted after the block, unless the block raises.

        Raises:
            RequestError: 429, a limit is reached, or 503, there is no room; nothing was counted.

        """

    def ended(self, user: str | None) -> None:
        """Count a call as over."""

    def resumed(self, user: str | None, of: str | None = None) -> None:
        """Count a call that an earlier run, or the replica `of`, began."""


class Quota:
    """Hold callers to the configured limits; calls without an identity count as one user's.

    `room` is how many calls this process can observe at once, whatever the limits say; 0 is any number.
    """

    def __init__(self, limits: Limits, *, room: int = 0) -> None:
        self._limits = limits
        self._room = room
        self._open: Counter[str | None] = Counter()
        self._connects: dict[str | None, deque[float]] = {}

    @asynccontextmanager
    async def connecting(self, user: str | None, mono: float) -> AsyncIterator[None]:
        """Count a call as `begin` does; it stays counted after the block, unless the block raises."""
        self.begin(user, mono)
        try:
            yield
        except BaseException:
            self.ended(user)
            raise

    def begin(self, user: str | None, mono: float) -> None:
        """Count a call as begun.

        Raises:
            RequestError: 429, a limit is reached, or 503, there is no room; nothing was counted.

        """
        self._check(user, mono)
        self._open[user] += 1

    def ended(self, user: str | None) -> None:
        """Count a call as over."""
        self._open[user] -= 1
        if not self._open[user]:
            del self._open[user]

    def refused(self, user: str | None, mono: float) -> None:
        """Count a call as never begun that `begin` counted at this time."""
        self.ended(user)
        if self._limits.connects_per_minute_per_user:
            self._connects[user].remove(mono)

    def resumed(self, user: str | None, of: str | None = None) -> None:
        """Count a call that an earlier run, or the replica `of`, began."""
        self._open[user] += 1

    def _check(self, user: str | None, mono: float) -> None:
        limits = self._limits
        if self._room and self._open.total() >= self._room:
            # better no call than one that nobody observes
            raise RequestError(503, "no_room", "This replica observes as many calls as it can.", retry_after=5)
        if limits.concurrent_calls and self._open.total() >= limits.concurrent_calls:
            raise too_many("all calls that may run at once are taken", 5)
        if limits.concurrent_calls_per_user and self._open[user] >= limits.concurrent_calls_per_user:
            raise too_many(f"a user may hold {limits.concurrent_calls_per_user} calls at once", 5)
        if per_minute := limits.connects_per_minute_per_user:
            recent = self._connects.setdefault(user, deque())
            while recent and recent[0] <= mono - _WINDOW:
                recent.popleft()
            if len(recent) >= per_minute:
                wait = max(1, int(recent[0] + _WINDOW - mono) + 1)
                raise too_many(f"a user may begin {per_minute} calls a minute", wait)
            recent.append(mono)
            self._forget(mono)

    def _forget(self, mono: float) -> None:
        # users come and go: whoever began nothing for a minute needs no memory
        if len(self._connects) > 10_000:
            self._connects = {
                user: recent for user, recent in self._connects.items() if recent and recent[-1] > mono - _WINDOW
            }


def too_many(message: str, wait: int) -> RequestError:
    """Refuse a call because of a limit; `wait` is in seconds."""
    return RequestError(429, "too_many_calls", message, retry_after=wait)
