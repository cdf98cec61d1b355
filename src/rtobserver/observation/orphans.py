"""Take up calls that go on and that nobody owns: those of which the database knew nothing when their replica died.

A lease is written while the browser waits for its answer, but not where the database is away then. Who dies
before it is back leaves rows in a journal, which the next start on that folder ships.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import structlog

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

    def __init__(self, writer: Writing) -> None:
        self._writer = writer
        self._suspected: frozenset[int] = frozenset()
        """Calls without an owner at the last look."""

    @property
    def suspects(self) -> bool:
        """Say whether another look, some seconds after the last, may find any."""
        return bool(self._suspected)

    async def look(self, leases: Leases, calls: Knows) -> list[Claim]:
        """Own the calls that had no owner at the last look either; gives them, each with a new epoch.

        Once is not enough: the row of a call that was just accepted may be there before its lease is.

        Raises:
            StoreUnavailable: the database is away.

        """
        rows = await self._writer.run(orphans.going_on())
        found = await self._without_owner(leases, [ref for ref in rows if not calls.knows(ref.call_id)])
        lasting = [ref for ref in found if ref.key in self._suspected]
        self._suspected = frozenset(ref.key for ref in found) - {ref.key for ref in lasting}
        if not lasting:
            return []
        claims = await leases.adopt(await self._writer.run(orphans.registered(lasting)))
        log.warning("calls_without_owner", count=len(lasting), taken=len(claims))
        return claims

    async def _without_owner(self, leases: Leases, refs: Collection[CallRef]) -> list[CallRef]:
        owned = await leases.holders([ref.key for ref in refs]) if refs else {}
        return [ref for ref in refs if ref.key not in owned]
