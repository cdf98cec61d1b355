"""Open the store that the configuration names, and say how it is doing.

On SQLite that is a file with its one writer. On PostgreSQL it is a server, and the journal on this
machine through which all that is recorded reaches it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Config
from rtobserver.config.sections import Store as Section
from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.metrics import Metrics
from rtobserver.realtime.holes import Loss
from rtobserver.recorder import FlushReport
from rtobserver.store import damage, partitions, replacement, schema, sqlite
from rtobserver.store.database import Database
from rtobserver.store.direct import Direct
from rtobserver.store.identity import CallRef, day_of
from rtobserver.store.journal import Journal
from rtobserver.store.journal_files import Files
from rtobserver.store.places import Place, Server, place_of
from rtobserver.store.postgres import Postgres
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.transaction import Transaction
from rtobserver.store.trouble import WORDS, trouble_of
from rtobserver.store.writer import FLUSH_INTERVAL, EntryRow, Writer
from rtobserver.store.writing import Writing

START_RETRY_SECONDS, START_RETRY_CEILING = 1.0, 16.0
START_RETRY_SHARE = 8
"""Between two tries to begin with a database that does not let us pass so many times the seconds that the last one
took, at least one and at most the ceiling: a copy that fills the disk each time is not made each second."""

log = structlog.get_logger()

Patiently = Callable[[Callable[[], object]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Say what waits in the journal."""

    rows: int
    bytes: int
    """Of all its files, shipped or not."""
    oldest_at: int | None
    """Since when something waits at the longest, in microseconds since 1970."""
    away_since: int | None
    """Since when the database is away; None while it takes rows."""
    short: bool
    """Whether it takes as much room as it may."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Be an open store."""

    writer: Writing
    reads: Database
    is_refused: Callable[[], bool]
    """Says whether it is known that the database takes nothing now."""
    reasons: Callable[[], dict[str, int | None]]
    """Says in short words what is wrong with it, and since when where that is known, for `/readyz`."""
    file: Writer | None = None
    """The writer of the SQLite file, where there is one."""
    journal: Journal | None = None
    """What stands before PostgreSQL, where that is."""
    backlog: Callable[[], Backlog | None] = lambda: None
    """Says what waits in the journal."""

    def tell(
        self,
        *,
        live: Callable[[], damage.Live],
        begun_anew: Callable[[dict[CallRef, list[Loss]]], None],
        disown: Callable[[CallRef], None],
    ) -> None:
        """Ask `live` from now on for the calls under observation, and tell what has become of some of them.

        `begun_anew` hears what another file lacks of them, `disown` of one that could not have a row of its own.
        """
        if self.file is not None:
            self.file.recovery.live, self.file.begun_anew = live, begun_anew
        if self.journal is not None:
            self.journal.live, self.journal.begun_anew, self.journal.disown = live, begun_anew, disown


@contextmanager
def held(section: Section) -> Iterator[None]:
    """Keep other daemons off the file, where the store is one, for the length of the block.

    Raises:
        StoreBusy: another daemon has it.

    """
    place = place_of(section.url)
    with nullcontext() if isinstance(place, Server) else sqlite.hold(place.resolve()):
        yield


@asynccontextmanager
async def opened(
    config: Config,
    *,
    replica_id: str,
    refused: Callable[[list[EntryRow]], None],
    metrics: Metrics,
    clock: Clock,
    waits: dict[str, int | None],
) -> AsyncIterator[Storage]:
    """Have the store, which must be `held`, open for the length of the block.

    `refused` hears of entries that it will not take. Where it cannot be brought to this release's schema for a reason
    that may pass, it waits, and `waits` says for what and since when: room on the disk, a program that holds the
    file, a server that is away.

    Raises:
        StoreBusy: another daemon has the journal's folder.
        SchemaMismatch: the database needs `rtobserver migrate`.
        StoreUnavailable: it cannot be opened for another reason, or the server was gone again while we began.

    """
    place = place_of(config.store.url)
    log.info("store", place=str(place))
    report = FlushReport(metrics, clock)
    patiently = partial(persist, is_server=isinstance(place, Server), waits=waits, clock=clock)
    if isinstance(place, Server):
        async with _server(place, config.store, replica_id, report, refused, metrics, clock, patiently) as storage:
            yield storage
    else:
        async with _file(place.resolve(), config.store, report, refused, metrics, clock, patiently) as storage:
            yield storage


async def persist(work: Callable[[], object], *, is_server: bool, waits: dict[str, int | None], clock: Clock) -> None:
    """Do something in a thread, again and again while what is in its way may pass.

    `waits` says meanwhile for what and since when. Raises StoreUnavailable, if it will not pass by itself.
    """
    try:
        while True:
            began = clock.mono()
            try:
                await _apart(work)
            except StoreUnavailable as exc:
                trouble = trouble_of(exc)
                if not (is_server or trouble in ("locked", "full")):
                    raise
                reason = WORDS[trouble] if trouble is not None else "the database is away"
                if reason not in waits:
                    waits.clear()
                    waits[reason] = clock.now_us()
                    log.warning("store_waited_for", problem=str(exc))
            else:
                return
            took = clock.mono() - began
            await clock.sleep(min(START_RETRY_CEILING, max(START_RETRY_SECONDS, START_RETRY_SHARE * took)))
    finally:
        waits.clear()


async def _apart(work: Callable[[], object]) -> None:
    """Do something in a thread that nobody waits for any more once this is cancelled: it may wait for a lock."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(exc: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if exc is None else done.set_exception(exc)

    def run() -> None:
        problem: BaseException | None = None
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - it is raised where the work is awaited
            problem = exc
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(settle, problem)

    threading.Thread(target=run, name="store-begin", daemon=True).start()
    await done


def reading(place: Place, clock: Clock) -> Database:
    """Open what reads a store, for a command; a daemon may run on it."""
    return Postgres(place) if isinstance(place, Server) else SqliteDatabase(place, clock=clock)


@asynccontextmanager
async def for_command(
    place: Place, *, clock: Clock, metrics: Metrics, flush_interval: float = FLUSH_INTERVAL
) -> AsyncIterator[tuple[Writing, Database]]:
    """Open a store for a command that writes; a file is held, so that no daemon runs on it.

    Raises:
        StoreBusy: a daemon runs on the file.
        SchemaMismatch: the database is of another release.
        StoreUnavailable: it cannot be read or written now.

    """
    with ExitStack() as stack:
        if not isinstance(place, Server):
            stack.enter_context(sqlite.hold(place))
        await asyncio.to_thread(schema.check, place)
        if isinstance(place, Server):
            async with Postgres(place) as server:
                yield Direct(server), server
            return
        path = place
        writer = Writer(
            lambda: sqlite.open_writer(path),
            flushes=FlushReport(metrics, clock),
            refused=lambda _: None,
            flush_interval=flush_interval,
        )
        await writer.open()
        try:
            async with SqliteDatabase(path, clock=clock) as reads:
                yield writer, reads
        finally:
            await writer.close()


@asynccontextmanager
async def _file(
    path: Path,
    section: Section,
    report: FlushReport,
    refused: Callable[[list[EntryRow]], None],
    metrics: Metrics,
    clock: Clock,
    patiently: Patiently,
) -> AsyncIterator[Storage]:
    if replacement.was_cut_off(path):
        log.warning("replacement_cut_off", path=str(path))
    # a file that is damaged is no reason not to record: it is moved aside, and what can be read of it is kept
    await patiently(partial(damage.prepare, path))
    await patiently(partial(schema.migrate if section.migrate_on_start else schema.check, path))
    writer = Writer(
        lambda: sqlite.open_writer(path, durability=section.durability),
        flushes=report,
        refused=refused,
        path=path,
    )
    await writer.open()
    report.watch(writer, writer.recovery)
    try:
        async with SqliteDatabase(path, clock=clock, damaged=writer.recovery.look_over) as reads:
            try:
                if refused_before := await writer.between(damage.admit_refused):
                    log.warning("entries_refused_before", count=refused_before)
                await _compare(writer, metrics)
                yield Storage(
                    writer,
                    reads,
                    is_refused=lambda: report.failing_since is not None,
                    reasons=lambda: report.reasons(writer.recovery) | _missing(writer),
                    file=writer,
                )
            except asyncio.CancelledError:
                # a start that is broken off has nothing that would be worth a wait, nor a word
                writer.hurry()
                with suppress(StoreError):
                    await writer.close()
                raise
            except BaseException:
                await writer.close()
                raise
            else:
                await writer.close()
    except StoreError as exc:
        if trouble_of(exc) == "damaged":
            # found while starting, further in than `prepare` looks: the next start finds a new file
            await asyncio.to_thread(damage.prepare, path, suspected=True)
        raise


async def _compare(writer: Writer, metrics: Metrics) -> None:
    """Look whether all is there that an earlier run is known to have committed."""
    witness = writer.recovery.witness
    if witness is None:
        return
    try:
        await writer.between(witness.check)
    except StoreUnavailable as exc:
        log.warning("missing_commits_not_declared", problem=str(exc))
    metrics.missing_commits.labels("calls").inc(witness.missing.calls)
    metrics.missing_commits.labels("entries").inc(witness.missing.entries)


def _missing(writer: Writer) -> dict[str, int | None]:
    witness = writer.recovery.witness
    if witness is None or not (witness.missing.calls or witness.missing.entries):
        return {}
    if witness.missing.calls:
        return {"what an earlier run had committed is missing; calls are forgotten": None}
    return {"what an earlier run had committed is missing": None}


@asynccontextmanager
async def _server(
    server: Server,
    section: Section,
    replica_id: str,
    report: FlushReport,
    refused: Callable[[list[EntryRow]], None],
    metrics: Metrics,
    clock: Clock,
    patiently: Patiently,
) -> AsyncIterator[Storage]:
    migrate = partial(schema.migrate, spread=section.distribution)
    await patiently(partial(migrate if section.migrate_on_start else schema.check, server))
    await _apart(partial(_prepare_days, server, day_of(clock.now_us())))
    files = Files(
        Path(section.journal_dir),
        durability=section.durability,
        most_bytes=section.journal_max,
        least_free=section.journal_min_free,
    )
    shipping = ShipReport(metrics, clock)
    async with Postgres(server) as reads:
        journal = Journal(reads, files, replica_id=replica_id, flushes=report, ships=shipping, refused=refused)
        await journal.open()
        report.watch(journal, files)
        shipping.watch(journal)

        def reasons() -> dict[str, int | None]:
            own = {reason.replace("database", "journal"): at for reason, at in report.reasons(files).items()}
            return own | shipping.reasons(journal)

        try:
            yield Storage(
                journal,
                reads,
                is_refused=lambda: shipping.is_away,
                reasons=reasons,
                journal=journal,
                backlog=lambda: shipping.backlog(journal),
            )
        except asyncio.CancelledError:
            journal.hurry()
            raise
        finally:
            await journal.close()


def _prepare_days(server: Server, today: int) -> None:
    """Make the partitions of the next days before anything is shipped: what came first would not be in its own."""
    prepare = partitions.prepare(today)
    try:
        schema.visit(server, lambda connection: prepare(Transaction(connection, set())))
    except StoreError as exc:
        # entries have a place all the same, and housekeeping tries again
        log.warning("days_not_prepared", problem=str(exc))


class ShipReport:
    """Turn what the shipper's thread does into figures and log lines."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._away_since: int | None = None
        self._problem = ""

    @property
    def is_away(self) -> bool:
        """Say whether the database takes no rows."""
        return self._away_since is not None

    def shipped(self, rows: int) -> None:
        """Count what has reached the database."""
        self._metrics.shipped_rows.inc(rows)

    def away(self, problem: str) -> None:
        """Say that the database is away: once, and again only where that is for another reason."""
        if self._away_since is None:
            self._away_since = self._clock.now_us()
        if problem != self._problem:
            self._problem = problem
            log.error("database_away", problem=problem)

    def back(self) -> None:
        """Say that the database takes rows again."""
        since, self._away_since, self._problem = self._away_since, None, ""
        seconds = (self._clock.now_us() - since) / 1e6 if since is not None else 0.0
        log.warning("database_back", seconds=round(seconds, 3))

    def reasons(self, journal: Journal) -> dict[str, int | None]:
        """Say what keeps rows from the database, and since when."""
        found: dict[str, int | None] = {}
        if self._away_since is not None:
            found["the database is away; what is recorded waits in the journal"] = self._away_since
        if journal.files.over_since is not None:
            found["the journal takes all the room it may; only what must not be lost is recorded"] = (
                journal.files.over_since
            )
        if journal.shipper_failed:
            found["the shipper has stopped; what is recorded waits in the journal"] = None
        return found

    def backlog(self, journal: Journal) -> Backlog:
        """Say what waits in the journal."""
        return Backlog(
            rows=journal.waiting,
            bytes=journal.files.size_bytes,
            oldest_at=journal.oldest_at,
            away_since=self._away_since,
            short=journal.files.short,
        )

    def watch(self, journal: Journal) -> None:
        """Keep the figures of the journal."""
        metrics = self._metrics
        metrics.journal_rows.set_function(lambda: journal.waiting)
        metrics.journal_bytes.set_function(lambda: journal.files.size_bytes)
        metrics.journal_oldest_seconds.set_function(self._age_of(journal))
        metrics.database_away.set_function(lambda: self._away_since is not None)

    def _age_of(self, journal: Journal) -> Callable[[], float]:
        def age() -> float:
            oldest_at = journal.oldest_at
            return 0.0 if oldest_at is None else max(0, self._clock.now_us() - oldest_at) / 1e6

        return age
