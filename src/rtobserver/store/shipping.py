"""Ship what a journal holds to PostgreSQL, on a thread and a loop of its own.

The database may be away for as long as it likes: everything stays in the files meanwhile, and is
shipped in order once it is back. A line that the database refuses for what it holds is found by
halving and set apart; nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from rtobserver.errors import StoreError
from rtobserver.realtime.holes import Loss
from rtobserver.store import mending, postgres, postgres_driver, shipment
from rtobserver.store.away import is_away, sentence, state_of
from rtobserver.store.identity import CallRef
from rtobserver.store.journal_files import File, Files
from rtobserver.store.journal_lines import EntryLine, Reader, Stretch
from rtobserver.store.places import Server
from rtobserver.store.shipment import Calls, Moved, Outcome, State
from rtobserver.store.trouble import trouble_of

ROWS = 4_000
"""Lines of each kind that one transaction takes at most: enough that the ways to the server and back do not count."""
BYTES = 4 * 1024 * 1024
LONGEST_VOID = 100_000
"""Lines on end of a damaged file of which none can be read, after which it is given up."""
LEAST_ROWS = 20
"""When the database takes too long for a transaction, the next one is half as large, down to this."""
RETRY_FIRST, RETRY_CEILING = 0.1, 2.0
"""Seconds between tries while the database is away."""
LOOK_SECONDS = 1.0
"""Between two looks when nothing new comes."""
_ROWS_FAULT = ("22", "23")
"""Classes of SQLSTATE that a row can be to blame for."""

_CUT = ("", "08000", "08003", "08006", "57P01")
"""SQLSTATE of what becomes of a connection that was cut, if it has one: by the network, or by the server."""

_DATABASES: tuple[type[Exception], ...] = (DBAPIError, *postgres_driver.REFUSED, *postgres_driver.BROKEN, StoreError)
_SHIPPING: tuple[type[Exception], ...] = (*_DATABASES, OSError, sqlite3.Error)
_BATCH: tuple[type[Exception], ...] = (*_DATABASES, ValueError, TypeError, LookupError)
_CALL: tuple[type[Exception], ...] = (*_DATABASES, ValueError)

log = structlog.get_logger()


class Hears(Protocol):
    """Hear what the shipper does, on its thread; must be quick and never raise."""

    def shipped(self, rows: int) -> None:
        """Hear of a commit."""

    def away(self, problem: str) -> None:
        """Hear that the database is away; called at each try."""

    def back(self) -> None:
        """Hear that the database takes rows again."""

    def refused(self, call: CallRef, entry: EntryLine) -> None:
        """Hear of an entry that the database would not take for what it holds."""

    def live(self) -> Iterable[CallRef]:
        """Give the calls under observation here."""

    def lost(self, call: CallRef, losses: Sequence[Loss]) -> None:
        """Hear what of a call's entries a damaged file has cost."""

    def unregistered(self, call: CallRef, problem: str) -> None:
        """Hear of a call that could not have a row of its own."""


@dataclass(slots=True)
class _Open:
    file: File
    reader: Reader
    calls: Calls


class Shipper:
    """Ship one journal; methods are for any thread."""

    def __init__(self, server: Server, files: Files, *, replica_id: str, hears: Hears) -> None:
        self._server, self._files, self._hears = server, files, hears
        self._replica_id = replica_id
        self.position = 0
        """Up to which line everything is in the database."""
        self.reached = False
        """Whether the database was asked where to go on."""
        self.failed: BaseException | None = None
        """What ended the thread, if anything did."""
        self._open: _Open | None = None
        self._damaged: tuple[File | None, int, str] | None = None
        """A file that cannot be read, the line up to which all must be shipped before its losses show, and why."""
        self._unread: tuple[int, float] | None = None
        """Behind which line the disk reads nothing, and since when."""
        self._touched: list[CallRef] = []
        """Calls that may lack what stood in lines which are missing."""
        self._ahead: tuple[int, Stretch] | None = None
        """What was read behind a line while the one before was shipped."""
        self._told: int | None = None
        self._is_told = False
        self._rows = ROWS
        self._is_wary = False
        """Whether what is shipped may be in the database already, against all that is known."""
        self._is_away = False
        self._is_used = False
        """Whether the connection that is open has served before: then it may have been cut while it was idle."""
        self._closing_until: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="shipper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there are new lines."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # it has ended
                return

    def close(self, seconds: float) -> None:
        """Ship what waits, for at most so long, then end."""
        self._closing_until = time.monotonic() + seconds
        self.wake()

    @property
    def is_running(self) -> bool:
        """Say whether the thread has not ended."""
        return self._thread.is_alive()

    # --- the thread -------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._run())
        except BaseException as exc:
            self.failed = exc
            log.exception("shipper_failed")
        finally:
            self._let_go()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        engine = postgres.engine(self._server, "ship", connections=1)
        tries = 0
        try:
            while not self._is_over:
                try:
                    if not self.reached:
                        await self._begin(engine)
                    await self._advance(engine)
                except Moved as exc:
                    log.warning("journal_moved", problem=str(exc))
                    self.reached = False
                except _SHIPPING as exc:
                    if self._is_used and _is_cut(exc):
                        # a new connection tells whether the database is away
                        self._is_used = self.reached = False
                        await engine.dispose()
                        continue
                    tries += 1
                    await self._wait_out(engine, exc, tries)
                except Exception as exc:
                    # a fault of ours: what waits stays in the files, and the next release may know better
                    log.exception("shipping_failed")
                    tries += 1
                    await self._wait_out(engine, exc, tries)
                else:
                    tries = 0
        finally:
            await engine.dispose()

    @property
    def _is_over(self) -> bool:
        until = self._closing_until
        return until is not None and (time.monotonic() >= until or (self.reached and self._is_done))

    @property
    def _is_done(self) -> bool:
        return self.position >= self._files.last

    async def _begin(self, engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            self.position = await shipment.position(connection, self._files.journal_id)
        if self.position > self._files.last:
            # the folder was set back, or is another one: what stands here was numbered again
            log.error("journal_set_back", position=self.position, last=self._files.last)
            self._files.rename()
            self.position = 0
        self._let_go()
        self.reached, self._is_told = True, False

    async def _advance(self, engine: AsyncEngine) -> None:
        """Ship the next stretch, or wait for one."""
        self._news.clear()
        stretch = self._next()
        if stretch is None:
            await self._tell(engine)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
        else:
            ends = [line[-1][0] for line in (stretch.entries, stretch.facts) if line]
            void = stretch.until - max(ends, default=self.position)
            if void and self._damaged is None and self._files.standing()[0].after <= self.position:
                # files are forgotten from the oldest on: one between others was taken away
                log.error("journal_lines_missing", count=void)
                self._damaged = (None, self._files.last, "")
                self._touched = self._standing_calls()
            if ends:
                await self._ship(engine, stretch)
            elif void:
                # the next stretch begins where the database believes that this one ended
                await self._say(engine, stretch.until)
            self.position = stretch.until
        await self._mended(engine)
        if self._damaged is None:
            # a damaged one is kept for people, whatever was shipped of it
            self._files.shipped(self.position)

    def _next(self) -> Stretch | None:
        ahead, self._ahead = self._ahead, None
        if self._is_done:
            return None
        if ahead is not None and ahead[0] == self.position and (ahead[1].entries or ahead[1].facts):
            return ahead[1]
        file, until = self._files.holding(self.position + 1)
        if self._files.is_given_up(file):
            self._let_go()
            return self._rescue(file, until, StoreError("it was written over"))
        try:
            opened = self._opened(file)
            return opened.reader.stretch(self.position, until, rows=self._rows, size=BYTES)
        except sqlite3.Error as exc:
            if not self._files.is_lost(file):
                if trouble_of(exc) not in ("damaged", "other") and not self._is_hopeless():
                    raise
                if self._files.suspect(file, str(exc)):
                    # what of it is in memory is about to stand in another file
                    return None
            return self._rescue(file, until, exc)

    def _is_hopeless(self) -> bool:
        """Tell whether the disk has not read the next line for so long that nobody need wait for it."""
        if self._unread is None or self._unread[0] != self.position:
            self._unread = self.position, time.monotonic()
        return time.monotonic() - self._unread[1] >= self._files.unreadable_seconds

    def _rescue(self, file: File, until: int, problem: Exception) -> Stretch:
        """Go on with what can be read of a damaged file."""
        opened = self._open
        if self._damaged is None or self._damaged[0] != file:
            log.error("journal_damaged", file=file.path.name, problem=str(problem))
            # a hole shows only between others: what is there by now must have been shipped
            self._damaged = (file, self._files.last, str(problem))
            self._touched = self._standing_calls() + self._files.calls_of(file)
        if opened is None or opened.file != file:
            # not even to be opened
            return Stretch(until, [], [])
        found = opened.reader.rescue(self.position, until)
        if not (found.entries or found.facts) and self.position - file.after > LONGEST_VOID:
            found.until = until
        return found

    async def _mended(self, engine: AsyncEngine) -> None:
        """Set a damaged file aside once all that can be read of it is shipped, and admit what it has cost."""
        if self._damaged is None or self.position < self._damaged[1]:
            return
        file, _, problem = self._damaged
        live = list(self._hears.live())
        live_ids = {ref.call_id for ref in live}
        calls = {(ref.call_id, ref.origin, ref.epoch): ref for ref in [*self._touched, *live]}
        async with postgres.transaction(engine) as connection:
            await shipment.find(connection, Calls(_nobody), list(calls.values()))
            driver = await postgres.driver_of(connection)
            for call in calls.values():
                losses = await mending.missing(driver, call)
                if losses and call.call_id in live_ids:
                    self._hears.lost(call, losses)
                elif losses:
                    await mending.declare(driver, call, losses)
        self._let_go()
        if file is None or self._files.set_aside(file, problem):
            self._damaged, self._touched = None, []

    def _standing_calls(self) -> list[CallRef]:
        """List the calls of which any file tells; one that was written again knows all that the one before it had."""
        found = []
        for file in self._files.standing():
            with contextlib.suppress(sqlite3.Error), contextlib.closing(Reader(str(file.path))) as reader:
                found += [reader.call(number) for number in reader.calls()]
        return found

    def _read_ahead(self, stretch: Stretch) -> Callable[[], Awaitable[None]]:
        """Give what reads the stretch behind this one, while the server is at work on this one."""

        async def read() -> None:
            # what cannot be read now is read, and found out about, in its turn
            with contextlib.suppress(sqlite3.Error):
                file, until = self._files.holding(stretch.until + 1)
                opened = self._open
                if until <= stretch.until or opened is None or opened.file != file:
                    return
                for piece in opened.reader.pieces(stretch.until, until, rows=self._rows, size=BYTES):
                    found = piece
                    # what is to be sent goes first
                    await asyncio.sleep(0)
                self._ahead = (stretch.until, found)

        return read

    def _opened(self, file: File) -> _Open:
        earlier = self._open
        if earlier is not None and earlier.file == file:
            return earlier
        reader = Reader(str(file.path))
        self._open = _Open(file, reader, Calls(reader.call, earlier.calls if earlier is not None else None))
        if earlier is not None:
            earlier.reader.close()
        return self._open

    def _let_go(self) -> None:
        self._ahead = None
        opened, self._open = self._open, None
        if opened is not None:
            opened.reader.close()

    async def _ship(self, engine: AsyncEngine, stretch: Stretch, *, wary: bool = False) -> None:
        """Ship a stretch, in halves where the whole is refused; a line that is refused alone is set apart."""
        opened = self._open
        if opened is None:
            return
        before, wary = self.position, wary or self._is_wary
        ahead = self._read_ahead(stretch)
        try:
            async with postgres.transaction(engine) as connection:
                state = self._state(stretch.until)
                landed = await shipment.move(connection, state, before, stretch.until)
                outcome = await shipment.bring(connection, stretch, opened.calls, landed, ahead, wary=wary)
        except _BATCH as exc:
            # what was found within it is undone
            opened.calls.forget()
            if isinstance(exc, Moved) or not _is_rows_fault(exc):
                raise
            if wary:
                await self._divide(engine, stretch, exc)
            else:
                await self._ship(engine, stretch, wary=True)
            return
        except BaseException:
            opened.calls.forget()
            raise
        self._is_told, self._told = True, state.oldest_at
        self._is_wary = outcome.there > 0
        self._arrived(stretch.until, outcome)

    async def _divide(self, engine: AsyncEngine, stretch: Stretch, problem: Exception) -> None:
        lines = sorted([line[0] for line in stretch.entries] + [fact.line for fact in stretch.facts])
        if len(lines) > 1:
            middle = lines[len(lines) // 2 - 1]
            await self._ship(engine, _part(stretch, self.position, middle), wary=True)
            await self._ship(engine, _part(stretch, middle, stretch.until), wary=True)
            return
        opened = self._open
        if opened is None:
            return
        refused = [(opened.calls.ref(entry[1]), entry) for entry in stretch.entries]
        async with postgres.transaction(engine) as connection:
            await shipment.move(connection, self._state(stretch.until), self.position, stretch.until)
            for call, entry in refused:
                await shipment.find(connection, opened.calls, [call])
                log.error("entry_refused", seq=entry[3], problem=sentence(problem))
                try:
                    async with connection.begin_nested():
                        await shipment.quarantine(connection, entry, call, sentence(problem))
                except _CALL as exc:
                    if not _is_rows_fault(exc):
                        raise
                    # its numbers themselves cannot be stored; the gap that its observer writes still counts it
                    log.error("quarantine_refused", seq=entry[3], problem=sentence(exc))  # noqa: TRY400
        for call, entry in refused:
            self._hears.refused(call, entry)
        for fact in stretch.facts:
            log.error("row_refused", table=fact.what, problem=sentence(problem))
        self._arrived(stretch.until, Outcome())

    def _arrived(self, position: int, outcome: Outcome) -> None:
        self.position = position
        self._is_used = True
        self._rows = min(ROWS, self._rows * 2)
        if self._is_away:
            self._is_away = False
            self._hears.back()
        for call, problem in outcome.unregistered:
            self._hears.unregistered(call, problem)
        self._hears.shipped(outcome.entries)

    async def _tell(self, engine: AsyncEngine) -> None:
        """Tell the database of the files when nothing is shipped by which it would learn of them."""
        if not self._is_told or self._told != self._state(self.position).oldest_at:
            await self._say(engine, self.position)

    async def _say(self, engine: AsyncEngine, until: int) -> None:
        state = self._state(until)
        async with postgres.transaction(engine) as connection:
            await shipment.move(connection, state, self.position, until)
        self._is_told, self._told = True, state.oldest_at
        self._is_used = True
        if self._is_away:
            self._is_away = False
            self._hears.back()

    def _state(self, until: int) -> State:
        last, standing = self._files.last, self._files.standing()
        # the newest may be empty, and what was shipped lies in a file until that is deleted
        holds = standing[0].after < last
        return State(
            journal_id=self._files.journal_id,
            replica_id=self._replica_id,
            oldest_at=standing[0].begun_at if holds else None,
            rows=max(0, last - until),
            size=self._files.size_bytes,
            at=time.time_ns() // 1000,
        )

    async def _wait_out(self, engine: AsyncEngine, problem: Exception, tries: int) -> None:
        self.reached = self._is_used = False
        if not is_away(problem) and tries == 1:
            log.error("not_shipped", problem=sentence(problem))
        if isinstance(problem, TimeoutError) or state_of(problem) == "57014":
            self._rows = max(LEAST_ROWS, self._rows // 2)
        self._is_away = True
        self._hears.away(sentence(problem))
        await engine.dispose()
        seconds = min(RETRY_CEILING, RETRY_FIRST * 2 ** min(tries - 1, 10))
        if self._closing_until is not None:
            await asyncio.sleep(RETRY_FIRST)
            return
        try:
            async with asyncio.timeout(seconds):
                while self._closing_until is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return


def _nobody(number: int) -> CallRef:
    raise StoreError(f"there is no call {number} in a file that is not there")


def _is_rows_fault(problem: BaseException) -> bool:
    if state := state_of(problem):
        return state[:2] in _ROWS_FAULT
    return not is_away(problem) and isinstance(problem, ValueError | TypeError | LookupError | StoreError)


def _is_cut(problem: BaseException) -> bool:
    return is_away(problem) and state_of(problem) in _CUT and not isinstance(problem, TimeoutError)


def _part(stretch: Stretch, after: int, until: int) -> Stretch:
    entries = [entry for entry in stretch.entries if after < entry[0] <= until]
    return Stretch(until, entries, [fact for fact in stretch.facts if after < fact.line <= until])
