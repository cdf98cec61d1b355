"""Take away what is older than `retention` says, while no daemon runs; ends begun erasures too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Retention
from rtobserver.housekeeping import Housekeeping
from rtobserver.metrics import Metrics
from rtobserver.recorder import FlushReport
from rtobserver.store import retention, schema, sqlite
from rtobserver.store.retention import Due
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.writer import Writer

FLUSH_INTERVAL = 0.001
"""Nobody records meanwhile, so the pieces need not wait for each other."""


async def purge(path: Path, kept: Retention, *, dry_run: bool, begins: Callable[[Due], Callable[[int], None]]) -> None:
    """Purge a database; `begins` hears what is due, and what it gives hears of each call that is done.

    Raises:
        StoreBusy: a daemon runs on the file.
        SchemaMismatch: the database is of another release.
        StoreUnavailable: it cannot be read or written now; what was purged stays so.

    """
    clock, metrics = SystemClock(), Metrics()
    with sqlite.hold(path):
        await asyncio.to_thread(schema.check, path)
        writer = Writer(
            lambda: sqlite.open_writer(path),
            flushes=FlushReport(metrics, clock),
            refused=lambda _: None,
            flush_interval=FLUSH_INTERVAL,
        )
        async with SqliteDatabase(path, clock=clock) as reads:
            keeping = Housekeeping(database=reads, writer=writer, clock=clock, metrics=metrics, retention=kept)
            recordings, calls = keeping.limits(clock.now_us())
            done = begins(await retention.due(reads, recordings_before=recordings, calls_before=calls))
            if dry_run:
                return
            await writer.open()
            try:
                await keeping.sweep(lambda _, count: done(count))
                await keeping.complete()
                await keeping.clean_files()
            finally:
                await writer.close()
