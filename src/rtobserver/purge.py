"""Take away what is older than `retention` says, while no daemon runs on the file; ends begun erasures too.

On PostgreSQL daemons may run meanwhile: whoever takes away waits for whoever does so already.
"""

from __future__ import annotations

from collections.abc import Callable

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Retention
from rtobserver.housekeeping import Housekeeping
from rtobserver.metrics import Metrics
from rtobserver.storage import for_command
from rtobserver.store import retention
from rtobserver.store.places import Place
from rtobserver.store.retention import Due

FLUSH_INTERVAL = 0.001
"""Nobody records meanwhile, so the pieces need not wait for each other."""


async def purge(
    place: Place, kept: Retention, *, dry_run: bool, begins: Callable[[Due], Callable[[int], None]]
) -> None:
    """Purge a database; `begins` hears what is due, and what it gives hears of each call that is done.

    Raises:
        StoreBusy: a daemon runs on the file.
        SchemaMismatch: the database is of another release.
        StoreUnavailable: it cannot be read or written now; what was purged stays so.

    """
    clock, metrics = SystemClock(), Metrics()
    async with for_command(place, clock=clock, metrics=metrics, flush_interval=FLUSH_INTERVAL) as (writer, reads):
        keeping = Housekeeping(database=reads, writer=writer, clock=clock, metrics=metrics, retention=kept)
        recordings, calls = keeping.limits(clock.now_us())
        done = begins(await retention.due(reads, recordings_before=recordings, calls_before=calls))
        if dry_run:
            return
        await keeping.sweep(lambda _, count: done(count))
        await keeping.complete()
        await keeping.clean_files()
