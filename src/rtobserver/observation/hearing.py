"""Know whether anything is heard of calls at all: whether sidebands can be opened, and whether the open ones live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import UpstreamError
from rtobserver.metrics import Metrics
from rtobserver.upstream.reach import Reach

LOOK_SECONDS = 0.5
PROOF_SECONDS = 0.9
"""A sideband of which nothing was heard for so long is asked for a sign of life: no mark can be later than that."""
DEAF_SECONDS = 5.0
"""Where of no sideband anything was heard for so long, though each was asked, it is not the calls that are quiet."""

log = structlog.get_logger()


class Listens(Protocol):
    """Be what observes a call, as far as it matters here."""

    @property
    def is_attached(self) -> bool:
        """Say whether there is a sideband."""

    @property
    def silent(self) -> float:
        """Give the seconds since its last sign of life."""

    def prove(self) -> None:
        """Ask it for a sign of life."""


class Hearing:
    """Listen to all sidebands of this process."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._attaches = Reach("attach", clock, several=True)
        self._looks = 0
        """How often in a row nothing was heard of anybody."""
        self._deaf_since: int | None = None
        metrics.upstream_failing.labels("attach").set_function(lambda: self._attaches.is_failing)
        metrics.upstream_failing.labels("sideband").set_function(lambda: self._deaf_since is not None)

    def joined(self, began: float) -> None:
        """Note that an attach that began at a monotonic time succeeded."""
        self._attaches.got_through(began)

    def missed(self, call_id: str, exc: UpstreamError, began: float, *, is_given_up: bool = False) -> None:
        """Note that one failed, and whether the call is given up for that although nobody ever heard it."""
        self._attaches.missed(exc, began, call_id, is_given_up=is_given_up)

    def reasons(self) -> dict[str, int | None]:
        """Say in short words why nothing is heard of calls, and since when, for `/readyz`."""
        found = self._attaches.reasons()
        if self._deaf_since is not None:
            found["nothing is heard on any sideband, not even an answer to a ping"] = self._deaf_since
        return found

    async def listen(self, observers: Callable[[], Iterable[Listens]], some: asyncio.Event) -> None:
        """Ask quiet sidebands for signs of life; `some` is set while there are calls."""
        while True:
            if not some.is_set():
                self._look([])
                await some.wait()
            attached = [observer for observer in observers() if observer.is_attached]
            for observer in attached:
                if observer.silent >= PROOF_SECONDS:
                    observer.prove()
            self._look([observer.silent for observer in attached])
            await self._clock.sleep(LOOK_SECONDS)

    def _look(self, silences: list[float]) -> None:
        shortest = min(silences, default=0.0)
        # after a process was stopped for a while, the first look finds what waited in the sockets unread
        self._looks = self._looks + 1 if shortest >= DEAF_SECONDS else 0
        if self._looks > 1 and self._deaf_since is None:
            self._deaf_since = self._clock.now_us() - int(shortest * 1e6)
            log.error("nothing_heard", sidebands=len(silences), seconds=round(shortest, 3))
        elif not self._looks and self._deaf_since is not None:
            seconds = (self._clock.now_us() - self._deaf_since) / 1e6
            self._deaf_since = None
            log.warning("heard_again" if silences else "nothing_left_to_hear", seconds=round(seconds, 3))
