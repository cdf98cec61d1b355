"""Have replicas that share a database count together how often policies act.

Each counts its own decisions at once, and reads every `LOOK_SECONDS` what the others decided in the last minute. What
others did since the last look, and did not ship yet, it does not know: so much may be done beyond a `per_minute`. A
demotion by one is found in the decision that it was made with, and taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreUnavailable
from rtobserver.policy.active import MINUTE_US, Active
from rtobserver.store import decisions
from rtobserver.store.database import Database

LOOK_SECONDS = 2.0

log = structlog.get_logger()


class Rates:
    """Look again and again at what policies with a cap did anywhere; `loaded_at` says when they were put in force."""

    def __init__(self, active: Active, database: Database, clock: Clock, loaded_at: Callable[[], int]) -> None:
        self._active = active
        self._database = database
        self._clock = clock
        self._loaded_at = loaded_at
        self._begun_at = clock.now_us()
        self._looked_at = self._begun_at

    async def run(self) -> None:
        """Look until cancelled; a database that is away, or an error of ours, is looked past."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except StoreUnavailable as exc:
                log.debug("rates_not_read", problem=str(exc))
            except Exception:
                log.exception("rates_not_read")

    async def look(self) -> None:
        """Take in what is stored of the last minute, and the demotions since a minute before the last look.

        Raises:
            StoreUnavailable: the database cannot be read now.

        """
        active, loaded = self._active, self._loaded_at()
        generation, now = active.generation, self._clock.now_us()
        capped = [each.policy.id for each in active.standings() if each.policy.limit.per_minute]
        # what was decided before the policies were read again counts no more, but for what was before our own start
        begun = loaded if loaded > self._begun_at else 0
        decided = await decisions.rates(self._database, capped, since=max(now - MINUTE_US, begun))
        since = max(self._looked_at - MINUTE_US, loaded)
        demoted = await decisions.demotions(self._database, capped, since=since)
        if generation != active.generation:
            return
        self._looked_at = now
        active.learn(decided)
        for policy_id, at in demoted:
            active.demote(policy_id, at)


@asynccontextmanager
async def sharing_rates(rates: Rates) -> AsyncIterator[None]:
    """Have it look for the length of the block."""
    problem: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rates.run(), name="rates")
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - raised again where the group does not wrap it
            problem = exc
        finally:
            task.cancel()
    if problem is not None:
        raise problem
