"""Take away what may not be kept: calls that are erased, and what is older than `retention` says.

All of it goes through the writer in pieces of a few thousand rows, one per flush, so that recording
waits for none of it. What is interrupted is taken up at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Retention
from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.metrics import Metrics
from rtobserver.store import erasure, partitions, retention
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.identity import day_of
from rtobserver.store.retention import Ref, Step
from rtobserver.store.writer import Transaction, Writer
from rtobserver.store.writing import Writing

SWEEP_SECONDS = 3600.0
LOOK_SECONDS = 2.0
"""Between two looks whether the disk is full."""
AGAIN_SECONDS = 1.0
"""Between two tries while readers are in the way, or while the database refuses."""
PENDING_SECONDS = 15.0
"""Between two looks whether journals have given up what was erased."""
PAGE = 500
"""Calls that are looked up at a time."""

log = structlog.get_logger()


class Housekeeping:
    """Erase calls and keep to the times of retention; made by `keeping_house`."""

    def __init__(
        self, *, database: Database, writer: Writing, clock: Clock, metrics: Metrics, retention: Retention
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._retention = retention
        self._erased = asyncio.Event()
        self._is_pending = False
        """Whether something that was erased may still be in a journal."""

    async def erase(self, call: Call, *, actor: str) -> bool:
        """Erase a call; its rows are gone afterwards, its bytes soon. False where it was erased already.

        Raises:
            CallIsLive: it is going on.
            StoreUnavailable: the database cannot be written; what was begun is ended at the next start.

        """
        if not await self._writer.run(erasure.begin(call, actor=actor, at=self._clock.now_us())):
            return False
        await self._take_entries(Ref(call.key, call.day))
        self._erased.set()
        return True

    async def complete(self) -> None:
        """Take what was erased out of the files, and say so in the audit.

        Raises:
            StoreUnavailable: the database cannot be read or written now.

        """
        # those that begin later may miss the merge and belong to the next round
        found = await erasure.unfinished(self._database)
        journaled = await erasure.journaled(self._database) if found else None
        late = [each for each in found if journaled is not None and each.erased_at >= journaled]
        self._is_pending = bool(late)
        found = [each for each in found if each not in late]
        if not found:
            return
        for each in found:
            await self._take_entries(Ref(each.key, each.day))
        await self.clean_files()
        await self._writer.run(erasure.complete(found, self._clock.now_us()))
        log.info("erasures_complete", calls=len(found))

    async def clean_files(self) -> None:
        """Have the files forget what was deleted.

        Raises:
            StoreUnavailable: the database cannot be written now.

        """
        if not isinstance(self._writer, Writer):
            return
        done = await self._writer.run(erasure.merge(first=True))
        while not done:
            done = await self._writer.run(erasure.merge(first=False))
        if not await self._writer.between(erasure.cut_wal):
            raise StoreUnavailable("a reader is in the way of cutting the WAL off")

    async def sweep(self, progress: Callable[[str, int], None] = lambda what, calls: None) -> None:
        """Take away what is older than it may be kept; `progress` hears how many calls were done with.

        Raises:
            StoreUnavailable: the database cannot be read or written now.

        """
        now = self._clock.now_us()
        before_recordings, before_calls = self.limits(now)
        await self._go_through(
            "recordings",
            lambda: retention.recordings(self._database, before_recordings, PAGE),
            lambda found: retention.purge(found, now, with_day=True),
            progress,
        )
        while await self._writer.run(partitions.drop(day_of(before_recordings))):
            log.info("day_dropped")
        await self._writer.run(partitions.prepare(day_of(now)))
        await self._go_through(
            "calls", lambda: retention.calls(self._database, before_calls, PAGE), retention.forget, progress
        )

    def limits(self, now: int) -> tuple[int, int]:
        """Give the times before which calls must have begun: to lose what was said, to lose everything."""
        return now - round(self._retention.entries * 1e6), now - round(self._retention.calls * 1e6)

    async def _go_through(
        self,
        what: str,
        look: Callable[[], Awaitable[list[Ref]]],
        work: Callable[[list[Ref]], Callable[[Transaction], Step]],
        progress: Callable[[str, int], None],
    ) -> None:
        rows = calls = 0
        while found := await look():
            while found:
                step = await self._writer.run(work(found))
                found = found[step.calls :]
                rows, calls = rows + step.rows, calls + step.calls
                self._metrics.purged_rows.labels(what).inc(step.rows)
                progress(what, step.calls)
        if calls:
            log.info("retention_applied", what=what, calls=calls, rows=rows)

    async def _take_entries(self, call: Ref) -> None:
        while not (await self._writer.run(retention.purge([call], self._clock.now_us()))).calls:
            pass

    async def run(self) -> None:
        """Do all of it, over and over; at once when the disk is full, since what is due makes room."""
        due = self._clock.mono()
        while True:
            try:
                await self.complete()
                if self._clock.mono() >= due:
                    due = self._clock.mono() + SWEEP_SECONDS
                    await self.sweep()
            except StoreError as exc:
                # nothing is lost by waiting
                log.warning("housekeeping_delayed", problem=str(exc))
                await asyncio.sleep(AGAIN_SECONDS)
                self._erased.set()
            if await self._rested(min(due, self._clock.mono() + PENDING_SECONDS) if self._is_pending else due):
                due = self._clock.mono()
            self._erased.clear()

    async def _rested(self, due: float) -> bool:
        """Wait until something is to be done; True where that is because the disk has become full."""
        was_short = self._writer.short_of_room
        while (left := due - self._clock.mono()) > 0 and not self._erased.is_set():
            try:
                async with asyncio.timeout(min(LOOK_SECONDS, left)):
                    await self._erased.wait()
            except TimeoutError:
                pass
            is_short = self._writer.short_of_room
            if is_short and not was_short:
                return True
            was_short = is_short
        return False


@asynccontextmanager
async def keeping_house(housekeeping: Housekeeping) -> AsyncIterator[Housekeeping]:
    """Have the work done for the length of the block."""
    problem: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(housekeeping.run(), name="housekeeping")
        try:
            yield housekeeping
        except Exception as exc:  # noqa: BLE001 - raised again where the group does not wrap it
            problem = exc
        finally:
            task.cancel()
    if problem is not None:
        raise problem
