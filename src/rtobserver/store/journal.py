"""Write to PostgreSQL: what is recorded goes to a journal on this machine first, and is shipped from there.

Nothing that is recorded waits for the database, and nothing of it is lost while the database is away
or when this process ends: a later run on the same folder ships what is left. All other work goes to
the database at once, and fails where that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import structlog

from rtobserver.errors import StoreUnavailable
from rtobserver.realtime.holes import Loss
from rtobserver.store import sqlite
from rtobserver.store.commits import EntryRow
from rtobserver.store.identity import CallRef
from rtobserver.store.journal_files import Files
from rtobserver.store.journal_lines import EntryLine
from rtobserver.store.postgres import Postgres
from rtobserver.store.shipping import Shipper
from rtobserver.store.signal import Signal
from rtobserver.store.transaction import Transaction
from rtobserver.store.writer import Flusher, Flushes

READABLE_SECONDS = 5.0
CLOSING_SECONDS = 5.0
"""How long `close` waits for the database to take what is left; the next run ships the rest."""
LOOK_SECONDS = 0.25

log = structlog.get_logger()

T = TypeVar("T")


class Ships(Protocol):
    """Hear how shipping goes; called on the shipper's thread, must be quick and never raise."""

    def shipped(self, rows: int) -> None:
        """Hear of a commit: how many entries."""

    def away(self, problem: str) -> None:
        """Hear that the database is away; called at each try."""

    def back(self) -> None:
        """Hear that the database takes rows again."""


class Journal:
    """Write everything that this process stores.

    Methods are for the loop's thread. After `close` nothing may be handed over.
    """

    def __init__(
        self,
        database: Postgres,
        files: Files,
        *,
        replica_id: str,
        flushes: Flushes,
        ships: Ships,
        refused: Callable[[list[EntryRow]], None],
    ) -> None:
        self._database = database
        self.files = files
        self._loop = asyncio.get_running_loop()
        self._ships = ships
        self._refused = refused
        self.live: Callable[[], Iterable[CallRef]] = list
        """Gives the calls under observation; settable."""
        self.begun_anew: Callable[[dict[CallRef, list[Loss]]], None] = lambda losses: None
        """Hears, on the loop, what a damaged file has cost of each live call; settable."""
        self.disown: Callable[[CallRef], None] = lambda call: None
        """Hears, on the loop, of a call that could not have a row of its own; settable."""
        self._flusher = Flusher(files, flushes=flushes, refused=refused)
        self._shipper = Shipper(database.server, files, replica_id=replica_id, hears=self)
        files.committed = self._shipper.wake
        self.commits, self.ordered = Signal(), Signal()
        self._hurried = self._is_closing = False
        self._lock: AbstractContextManager[None] | None = None
        self.entry = self._flusher.entry
        self.fact = self._flusher.fact
        self.note = self._flusher.note
        self.kept = self._flusher.kept

    @property
    def journal_id(self) -> str:
        """Name the folder of files, for as long as it exists."""
        return self.files.journal_id

    @property
    def done(self) -> asyncio.Future[None]:
        """Be done when nothing more can be recorded; carries the exception that ended it, if any."""
        return self._flusher.done

    @property
    def queued_rows(self) -> int:
        """Count entries that are only in memory."""
        return self._flusher.queued_rows

    @property
    def queued_bytes(self) -> int:
        """Count payload bytes that are only in memory."""
        return self._flusher.queued_bytes

    @property
    def short_of_room(self) -> bool:
        """Say whether the journal takes as much room as it may, or the disk is full."""
        return self.files.short

    @property
    def waiting(self) -> int:
        """Count lines that are in the journal and not in the database."""
        return max(0, self.files.last - self._shipper.position)

    @property
    def oldest_at(self) -> int | None:
        """Give the time since which something waits at the longest, in microseconds since 1970; None: nothing waits."""
        if not self.waiting:
            return None
        return self.files.holding(self._shipper.position + 1)[0].begun_at

    @property
    def shipper_failed(self) -> bool:
        """Say whether nothing is shipped any more until the next start."""
        return self._shipper.failed is not None

    async def open(self) -> None:
        """Begin a file behind what an earlier run left, and begin to ship.

        Raises:
            StoreBusy: another daemon holds the folder.
            StoreUnavailable: the folder cannot be written.

        """
        self._lock = sqlite.hold(self.files.folder / "journal")
        self._lock.__enter__()
        try:
            await self._flusher.open()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self._shipper.start()

    async def close(self) -> None:
        """Keep what waits, ship it if the database takes it soon, and let go of the files."""
        self._is_closing = True
        try:
            await self._flusher.close()
        finally:
            self._shipper.close(0.0 if self._hurried else CLOSING_SECONDS)
            while self._shipper.is_running:
                await asyncio.sleep(0.01)
                if self._hurried:
                    self._shipper.close(0.0)
            if self._lock is not None:
                self._lock.__exit__(None, None, None)

    def hurry(self) -> None:
        """Have `close` wait for nothing but this machine's own disk."""
        self._hurried = True
        self._flusher.hurry()

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """Have work done in the database at once, and wait until it is committed.

        Raises StoreUnavailable where the database is away; whether it was done is then unknown if it was away
        only when the end was confirmed.
        """
        if self._is_closing:
            raise StoreUnavailable("the store is closing")
        result = await self._database.run(function)
        self.commits.announce()
        return result

    async def readable(self, seconds: float = READABLE_SECONDS) -> None:
        """Wait until all that was handed over before is in the database, for at most so long.

        Raises:
            StoreUnavailable: the time is over.

        """
        await self.kept()
        until = self.files.last
        deadline = self._loop.time() + seconds
        while self._shipper.position < until:
            left = deadline - self._loop.time()
            if left <= 0 or not self._shipper.is_running:
                raise StoreUnavailable("the database has not yet taken what was recorded")
            seen = self.commits.count
            if self._shipper.position < until:
                await self.commits.wait(seen, min(left, LOOK_SECONDS))

    # --- the shipper's thread ---------------------------------------------------------------------

    def shipped(self, rows: int) -> None:
        """Hear of a commit."""
        self._ships.shipped(rows)
        self.commits.announce()

    def away(self, problem: str) -> None:
        """Hear that the database is away."""
        self._ships.away(problem)

    def back(self) -> None:
        """Hear that the database takes rows again."""
        self._ships.back()

    def refused(self, call: CallRef, entry: EntryLine) -> None:
        """Hear of an entry that the database would not take."""
        self._tell(self._refused, [(call, *entry[2:])])

    def lost(self, call: CallRef, losses: Sequence[Loss]) -> None:
        """Hear what of a call's entries a damaged file has cost."""
        self._tell(self.begun_anew, {call: list(losses)})

    def unregistered(self, call: CallRef, problem: str) -> None:
        """Hear of a call that could not have a row of its own."""
        log.error("registration_failed", call_id=call.call_id, problem=problem)
        self._tell(self.disown, call)

    def _tell(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            log.warning("shipper_outlived_its_loop")
