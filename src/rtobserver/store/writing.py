"""Say what everything that writes goes through, whichever database stands behind it.

What observers record is handed over without waiting: `entry`, `fact`, `note`. It is kept in the order
in which it came and reaches the database in that order, through SQLite's writer (`writer.py`) or
through the journal and its shipper (`journal.py`). Everything else is work for `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Table

from rtobserver.store.commits import EntryRow
from rtobserver.store.identity import CallRef
from rtobserver.store.notes import Note
from rtobserver.store.signal import Signal
from rtobserver.store.transaction import Transaction

T = TypeVar("T")


class Writing(Protocol):
    """Write everything that this process stores; methods are for the loop's thread."""

    @property
    def commits(self) -> Signal:
        """Is announced when there is something new to read."""

    @property
    def ordered(self) -> Signal:
        """Is announced by whoever has handed over an order, or has heard of one."""

    @property
    def done(self) -> asyncio.Future[None]:
        """Be done when nothing more can be recorded; carries the exception that ended it, if any."""

    @property
    def queued_rows(self) -> int:
        """Count entries that are only in memory."""

    @property
    def queued_bytes(self) -> int:
        """Count the bytes of memory that these take."""

    @property
    def short_of_room(self) -> bool:
        """Say whether room for what is recorded is short, or was a moment ago."""

    def entry(self, row: EntryRow) -> None:
        """Hand over an entry."""

    def fact(self, table: Table, call: CallRef, values: dict[str, Any]) -> None:
        """Hand over a row of a call: whole for `item`, `response`, `gap` and `command`, any columns for `call`."""

    def note(self, note: Note) -> asyncio.Future[None]:
        """Hand over a note; gives the future of its safety from the end of this process.

        Where it is done by then, what it raises reaches the future; where it is done later, the log.
        """

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Have work done in the database and wait until it is committed; it may be begun more than once.

        What it raises undoes it. Raises StoreUnavailable where the database is away; whether it was done is then
        unknown if it was away only when the end was confirmed.
        """

    async def kept(self) -> None:
        """Wait until all that was handed over before is safe from the end of this process."""

    async def readable(self) -> None:
        """Wait until all that was handed over before can be read.

        Raises:
            StoreUnavailable: the database is away, or far behind.

        """

    async def close(self) -> None:
        """Keep what waits, then end; nothing may be handed over afterwards."""

    def hurry(self) -> None:
        """Have `close` wait for nothing but this machine's own disk."""
