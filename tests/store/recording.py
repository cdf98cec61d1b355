"""Record into a journal as fast as it takes, until killed; says what is safe. Run as `-m tests.store.recording`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import structlog

from rtobserver.store import registration, tables
from rtobserver.store.journal import Journal
from rtobserver.store.journal_files import Files
from rtobserver.store.places import Server
from rtobserver.store.postgres import Postgres
from rtobserver.store.registration import NewCall
from tests.store.stored import START

PAYLOAD = "%d:%d:" + "x" * 200
"""Names epoch and seq."""
NEW = NewCall(call_id="rtc_1", status="live", started_at=START, profile="p", model="m", max_duration_us=0)


class Deaf:
    """Hear nothing."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None: ...

    def failing(self, problem: str, tries: int, trouble: Any) -> None: ...

    def recovered(self) -> None: ...

    def shipped(self, rows: int) -> None: ...

    def away(self, problem: str) -> None: ...

    def back(self) -> None: ...


def journal(
    server: Server, folder: Path, *, file_bytes: int = 100_000, ships: Deaf | None = None
) -> tuple[Journal, Postgres]:
    """Make a journal whose files are small."""
    database = Postgres(server)
    files = Files(folder, file_bytes=file_bytes, file_seconds=0.3)
    made = Journal(database, files, replica_id="rep_1", flushes=Deaf(), ships=ships or Deaf(), refused=lambda _: None)
    return made, database


async def main(url: str, folder: str, epoch: int, pace: int) -> None:
    """Record one epoch of a call, a handful of entries at a time."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    made, _ = journal(Server(url), Path(folder))
    await made.open()
    ref = NEW.ref()
    made.note(registration.register(ref, NEW))
    if epoch > 1:
        await made.readable(30.0)
        await made.run(lambda transaction: transaction.execute(tables.call.update().values(epoch=epoch)))
    ref.epoch = epoch
    seq = 0
    while True:
        for _ in range(pace):
            seq += 1
            made.entry((ref, epoch, seq, 1, START + seq, seq, "a", None, (PAYLOAD % (epoch, seq)).encode(), 0))
        made.fact(tables.call, ref, {"entry_count": epoch * 1_000_000 + seq})
        await made.kept()
        sys.stdout.write(f"{seq}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
