"""Measure how fast a journal is shipped to PostgreSQL, beside a bare loop of asyncpg that does nothing else.

    python benchmarks/shipping.py [--entries N] [--rounds N] [--url URL] [--json FILE]

The journal is filled first, as observers fill it: calls, entries, and the rows that follow from them. Then its
shipper runs until all of it is in the database. The floors send the same entries, which they have in memory, into
the same table, in transactions as large: one as the shipper does, by COPY, one by an insert that leaves out what is
there already. All take turns. The server is a private one on this machine that syncs what it commits, unless a URL
names another; its settings are printed. Exit code 1 if the target was missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.filling import PER_CALL, START_US, TALKS, Talked
from rtobserver.realtime.events import read
from rtobserver.store import folds, postgres, registration, schema, shipment, shipping, tables
from rtobserver.store.commits import EntryRow
from rtobserver.store.journal_files import Files
from rtobserver.store.places import Server
from rtobserver.store.registration import NewCall
from rtobserver.store.shipping import Shipper
from rtobserver.store.writer import Flusher
from tests.support.postgres import running

ROWS_PER_SECOND = 25_000
"""Target."""
SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum", "shared_buffers", "max_wal_size")
MIXED = 100
"""Calls whose entries lie mixed in the journal, as they do when calls are recorded side by side."""


@dataclass(slots=True)
class Side:
    """Hold the rates of one side, round by round."""

    rows_per_second: list[float] = field(default_factory=list)
    cpu_us_per_row: list[float] = field(default_factory=list)
    """Of this process, user and system time."""

    def took(self, rows: int, seconds: float, cpu: float) -> None:
        self.rows_per_second.append(rows / seconds)
        self.cpu_us_per_row.append(cpu * 1e6 / rows)


class Deaf:
    """Hear nothing."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None: ...

    def failing(self, problem: str, tries: int, trouble: Any) -> None: ...

    def recovered(self) -> None: ...

    def shipped(self, rows: int) -> None: ...

    def away(self, problem: str) -> None:
        raise RuntimeError(problem)

    def back(self) -> None: ...

    def live(self) -> list[Any]:
        return []

    def lost(self, call: Any, losses: Any) -> None: ...

    def refused(self, call: Any, entry: Any) -> None: ...

    def unregistered(self, call: Any, problem: str) -> None: ...


class Load:
    """Be what is recorded: as many calls as are asked for, of a few talks."""

    def __init__(self, entries: int) -> None:
        self.talks = [Talked(seed) for seed in range(TALKS)]
        self.heads = [[read(frame)[0] for frame in talk.frames] for talk in self.talks]
        self.calls = [
            NewCall(call_id=f"rtc_{number}", started_at=START_US, profile="p", model="gpt-realtime", max_duration_us=0)
            for number in range(max(1, entries // PER_CALL))
        ]
        self.refs = [call.ref() for call in self.calls]
        self.count = len(self.calls) * PER_CALL

    def entries(self) -> Iterator[tuple[int, EntryRow]]:
        """Give all entries in the order in which they would come, with the number of their call."""
        for first in range(0, len(self.refs), MIXED):
            group = range(first, min(first + MIXED, len(self.refs)))
            for seq in range(1, PER_CALL + 1):
                for number in group:
                    talk = number % TALKS
                    head = self.heads[talk][seq - 1]
                    frame = self.talks[talk].frames[seq - 1]
                    at = START_US + seq
                    yield number, (self.refs[number], 1, seq, 1, at, seq, head.type, head.event_id, frame, 4)

    async def record(self, flusher: Flusher) -> None:
        """Hand everything to a journal."""
        for call, ref in zip(self.calls, self.refs, strict=True):
            flusher.note(registration.register(ref, call))
        await flusher.kept()
        waiting = 0
        for number, row in self.entries():
            flusher.entry(row)
            if row[2] == PER_CALL:
                talk, ref = self.talks[number % TALKS], self.refs[number]
                for item in talk.items:
                    flusher.fact(tables.item, ref, folds.item_values(item))
                for response in talk.responses:
                    flusher.fact(tables.response, ref, folds.response_values(response))
                flusher.fact(tables.call, ref, folds.call_values(talk.totals))
            waiting += 1
            if waiting == 10_000:
                waiting = 0
                await flusher.kept()
        await flusher.kept()


async def ship(server: Server, load: Load, side: Side) -> None:
    """Fill a journal, then ship it."""
    await clear(server)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder), durability="normal", file_seconds=3600)
        flusher = Flusher(files, flushes=Deaf(), refused=lambda _: None)
        await flusher.open()
        await load.record(flusher)
        shipper = Shipper(server, files, replica_id="bench", hears=Deaf())
        began, cpu = time.monotonic(), time.process_time()
        shipper.start()
        while shipper.position < files.last and shipper.is_running:  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.01)
        side.took(load.count, time.monotonic() - began, time.process_time() - cpu)
        shipper.close(1.0)
        await flusher.close()
    await check(server, load)


async def insert(server: Server, load: Load, side: Side, *, wary: bool) -> None:
    """Send the same entries with nothing around it."""
    await clear(server)
    rows = [(row[0].key, row[0].day, *row[1:]) for _, row in load.entries()]
    connection = await postgres.connect(server, "ship")
    began, cpu = time.monotonic(), time.process_time()
    for first in range(0, len(rows), shipping.ROWS):
        some = rows[first : first + shipping.ROWS]
        if wary:
            await connection.execute(shipment.ENTRIES, *zip(*some, strict=True), first)
        else:
            landed = ((*row, first) for row in some)
            await connection.copy_records_to_table("entry", records=landed, columns=shipment.COLUMNS)
    side.took(load.count, time.monotonic() - began, time.process_time() - cpu)
    await connection.close()
    await check(server, load)


async def clear(server: Server) -> None:
    """Take everything away, and let the server come to rest."""
    connection = await postgres.connect(server, "migrate")
    names = ", ".join(f'"{table.name}"' for table in (*tables.PER_CALL, tables.journal))
    await connection.execute(f"TRUNCATE {names}")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def check(server: Server, load: Load) -> None:
    """Make sure that nothing is missing: a fast loss would be no feat."""
    connection = await postgres.connect(server, "migrate")
    found = await connection.fetchval("SELECT count(*) FROM entry")
    await connection.close()
    if found != load.count:
        raise SystemExit(f"{found:,} of {load.count:,} entries arrived")


async def described(server: Server) -> str:
    """Say what kind of server it is, since much of a rate is its settings'."""
    connection = await postgres.connect(server, "read")
    version = await connection.fetchval("SHOW server_version")
    settings = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in SETTINGS]
    await connection.close()
    return f"PostgreSQL {version}, {', '.join(settings)}"


@click.command()
@click.option("--entries", default=300_000, help="How many are shipped in a round.")
@click.option("--rounds", default=3)
@click.option("--url", default="", help="A database of a server of your own; what it holds is taken away.")
@click.option("--json", "file", type=click.Path(path_type=Path))
def main(entries: int, rounds: int, url: str, file: Path | None) -> None:
    """Measure, print a table."""
    console = Console()
    floor, inserting, product = Side(), Side(), Side()
    with ExitStack() as stack:
        server = Server(url or stack.enter_context(running(durable=True)).create())
        schema.migrate(server)
        its = asyncio.run(described(server))
        where = "a server of your own" if url else "a private server on this machine, on disk"
        load = Load(entries)
        for _ in range(rounds):
            asyncio.run(insert(server, load, floor, wary=False))
            asyncio.run(insert(server, load, inserting, wary=True))
            asyncio.run(ship(server, load, product))
    table = Table(title=f"{load.count:,} entries, {len(load.calls):,} calls, median of {rounds} rounds")
    for column in ("", "rows/s", "CPU us/row here", "of the floor's rate"):
        table.add_column(column, justify="right" if column else "left")
    floor_rate = statistics.median(floor.rows_per_second)
    sides = {"bare asyncpg, COPY": floor, "bare asyncpg, INSERT": inserting, "journal's shipper": product}
    for name, side in sides.items():
        rate = statistics.median(side.rows_per_second)
        cpu = statistics.median(side.cpu_us_per_row)
        table.add_row(name, f"{rate:,.0f}", f"{cpu:.1f}", f"{rate / floor_rate:.2f}")
    console.print(table)
    console.print(f"{where}: {its}; load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    slowest = min(product.rows_per_second)
    met = statistics.median(product.rows_per_second) >= ROWS_PER_SECOND
    console.print(f"target {ROWS_PER_SECOND:,} rows/s: {'met' if met else 'MISSED'} (slowest round {slowest:,.0f})")
    if file is not None:
        found = {"machine": platform.platform(), "cpus": os.cpu_count(), "server": its, "entries": load.count}
        rates = {"floor": asdict(floor), "insert": asdict(inserting), "shipper": asdict(product)}
        file.write_text(json.dumps(found | rates, indent=1))
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
