"""Say which calls are this replica's, and whether it may act on them.

On SQLite one daemon has the file, and with it all calls. On PostgreSQL calls are shared by leases
(`sharing.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from rtobserver.observation.observer import Joined
from rtobserver.store import registration
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim
from rtobserver.store.registration import NewCall
from rtobserver.store.writing import Writing


class Calls(Protocol):
    """Be the calls that are observed here (`supervisor.py`)."""

    def refs(self) -> list[CallRef]:
        """Point at them."""

    def knows(self, call_id: str) -> bool:
        """Say whether a call is observed, or is being taken up."""

    def row(self, call_id: str) -> NewCall | None:
        """Give the row of one of them as it was registered."""

    def take_over(self, claim: Claim, joined: Joined | None = None, *, is_handed_over: bool = False) -> None:
        """Take up a call that another replica had; `joined` is its sideband, where that is open already."""

    def resign(self, call_ids: Collection[str]) -> None:
        """Act on these calls no more, and go on recording them."""

    async def let_go(self, call_ids: Collection[str]) -> None:
        """Leave these calls as they are; returns when they are not observed any more."""


class Ownership(Protocol):
    """Know which calls are this replica's."""

    @property
    def replica_id(self) -> str:
        """Give the id of this incarnation."""

    def may_act(self) -> bool:
        """Say whether anything may leave now; asked right before each thing that does."""

    def reasons(self) -> dict[str, int | None]:
        """Say in short words what keeps this replica from acting, for `/readyz`."""

    def begun(self, call: CallRef, row: NewCall) -> None:
        """Take note of a new call, which was accepted here."""

    async def secured(self, call: CallRef) -> None:
        """Wait until others would find a new call if this process ended now; not long, and not for a database away."""

    def over(self, call: CallRef) -> None:
        """Take note that a call needs no owner any more."""

    async def next_epoch(self, call: CallRef) -> int:
        """Begin a new epoch of an own call; gives its number.

        Raises:
            StoreError: the database is away, or the call is somebody else's now.

        """

    async def share(self, calls: Calls) -> None:
        """Renew the lease and take over what others leave, until cancelled."""

    async def hand_over(self, calls: Calls, call_ids: Collection[str]) -> None:
        """Give these calls to other replicas as far as there are any; returns when that has come to an end."""

    async def resign(self, at: int) -> None:
        """End this incarnation: whatever it still owns may be claimed."""


class Sole:
    """Own all calls there are."""

    def __init__(self, writer: Writing, replica_id: str) -> None:
        self._writer = writer
        self._replica_id = replica_id

    @property
    def replica_id(self) -> str:
        """Give the id of this run of the daemon."""
        return self._replica_id

    def may_act(self) -> bool:
        """Nobody else can act."""
        return True

    def reasons(self) -> dict[str, int | None]:
        """Nothing keeps it."""
        return {}

    def begun(self, call: CallRef, row: NewCall) -> None:
        """Need nothing beyond the call's row."""

    async def secured(self, call: CallRef) -> None:
        """Wait for nothing: there are no others."""

    def over(self, call: CallRef) -> None:
        """Need nothing beyond the call's row."""

    async def next_epoch(self, call: CallRef) -> int:
        """Count the epochs on the call's own row."""
        return await self._writer.run(registration.next_epoch(call))

    async def share(self, calls: Calls) -> None:
        """Share with nobody."""

    async def hand_over(self, calls: Calls, call_ids: Collection[str]) -> None:
        """Have nobody to give them to."""

    async def resign(self, at: int) -> None:
        """Be followed by the next start."""
