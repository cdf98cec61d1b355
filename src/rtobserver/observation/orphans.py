"""Take up calls that go on and that nobody owns: those of which the database knew nothing when their replica died.

A lease is written while the browser waits for its answer, but not where the database is away then, or does not
answer in time. Who dies before it does leaves rows in the database, or in a journal, which the next start on that
folder ships.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Protocol

import structlog

from rtobserver.clock import Clock
from rtobserver.observation.trust import Ration
from rtobserver.store import orphans
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim, Leases
from rtobserver.store.writing import Writing

log = structlog.get_logger()


class Knows(Protocol):
    """Know which calls are observed here."""

    def knows(self, call_id: str) -> bool:
        """Say whether a call is observed, or is being taken up."""


class Orphans:
    """Look for such calls."""

    def __init__(self, writer: Writing, clock: Clock, ration: Ration) -> None:
        self._writer, self._clock, self._ration = writer, clock, ration
        self._suspected: frozenset[int] = frozenset()
        """Calls without an owner at the last look."""

    @property
    def suspects(self) -> bool:
        """Say whether another look may find any."""
        return bool(self._suspected)

    async def look(self, leases: Leases, calls: Knows) -> list[CallRef]:
        """List the calls that had no owner at the last look either.

        Once is not enough: the row of a call that was just accepted may be there before its lease is.

        Raises:
            StoreUnavailable: the database is away.

        """
        rows = await self._writer.run(orphans.going_on())
        found = await self._without_owner(leases, [ref for ref in rows if not calls.knows(ref.call_id)])
        before, self._suspected = self._suspected, frozenset(ref.key for ref in found)
        return [ref for ref in found if ref.key in before]

    async def adopt(self, leases: Leases, refs: Collection[CallRef]) -> AsyncIterator[Claim]:
        """Own calls that have no owner, as far as they still go on, and as quickly as the ration allows.

        Gives each with a new epoch. Raises StoreUnavailable where the database is away: the next look finds the rest.
        """
        left = list(refs)
        while left:
            if room := self._ration.take(len(left), self._clock.mono()):
                part, left = left[:room], left[room:]
                claims = await leases.adopt(await self._writer.run(orphans.registered(part)))
                log.warning("calls_without_owner", count=len(part), taken=len(claims))
                for claim in claims:
                    yield claim
            else:
                await self._clock.sleep(self._ration.wait(len(left), self._clock.mono()))

    async def _without_owner(self, leases: Leases, refs: Collection[CallRef]) -> list[CallRef]:
        owned = await leases.holders([ref.key for ref in refs]) if refs else {}
        return [ref for ref in refs if ref.key not in owned]
