"""End open streams when their key is revoked or expires, or the cookie or access token does that opened them.

One look at the database for all streams together: each by itself would cost more than the streams.
While the database cannot be read, nothing new flows through them either, so that none is ended for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreError
from rtobserver.store import keys
from rtobserver.store.database import Database

LOOK_SECONDS = 0.4
"""A stream ends within a second of its key."""

ACTOR_PREFIX = "jwt:"
"""What the name of who was let in by an access token begins with; no key's id does. Nothing can revoke a token."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Vigil:
    """Watch the keys of open streams; `keep` runs for as long as the listener."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._watched: Counter[str] = Counter()
        self._ends: dict[Callable[[], None], tuple[str, int | None]] = {}
        self._some = asyncio.Event()

    @contextmanager
    def watching(self, key_id: str, end: Callable[[], None], *, until: int | None = None) -> Iterator[None]:
        """Call `end` once the key is good no more, or at a time at the latest, as long as the block lasts."""
        self._ends[end] = key_id, until
        if not key_id.startswith(ACTOR_PREFIX):
            self._watched[key_id] += 1
        self._some.set()
        try:
            yield
        finally:
            del self._ends[end]
            if key_id in self._watched:
                self._watched[key_id] -= 1
                if not self._watched[key_id]:
                    del self._watched[key_id]
            if not self._ends:
                self._some.clear()

    async def keep(self) -> None:
        """Look again and again, while there are streams."""
        while True:
            await self._some.wait()
            await self._clock.sleep(LOOK_SECONDS)
            try:
                now_us = self._clock.now_us()
                asked = set(self._watched)
                good = await keys.good(self._database, asked, now_us=now_us)
            except StoreError as exc:
                _log.warning("keys_not_readable", problem=str(exc))
                continue
            for end, (key_id, until) in list(self._ends.items()):
                is_good = key_id in good or key_id not in asked
                if not is_good or (until is not None and until <= now_us):
                    end()
