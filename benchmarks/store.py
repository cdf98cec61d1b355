"""Ask a large store what the API asks it, beside raw SQL, and say what the search index costs.

    python benchmarks/store.py --entries 1000000 [--seconds 60] [--keep FILE]

Each query is made as the route makes it (without HTTP and without the audit's wait for a flush, as
section 12 of the design has it), down to the bytes that would be sent; beside it, in turns, the
plainest SQL on a connection of `sqlite3` that answers the same question. The store is warm: what a
first look from a cold disk costs depends on the disk. Targets are held against CPU time: the clock
on the wall also tells how busy a shared machine was.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import filling
from rtobserver.clock import SystemClock
from rtobserver.realtime.transcript import transcript
from rtobserver.realtime.turns import turns
from rtobserver.store import calls, entries, folds, phrases, schema, search, sqlite, stats, tables
from rtobserver.store.database import Database
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.web import conversation, shapes

ROUNDS = 200
"""Times that each question is asked, at most."""
COMMITS = 300
"""Flushes of the write test, 150 entries each: 3,000 events a second."""

Ask = Callable[[int], Awaitable[object]]
Raw = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Question:
    """Be a question in both ways; they are given a number that makes each time another one of it."""

    name: str
    ask: Ask
    raw: Raw
    target_ms: float | None = None
    """What the 95th percentile of the CPU time must not exceed."""


@dataclass(frozen=True, slots=True)
class Times:
    """Hold how long a question took each time, in milliseconds."""

    wall: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    """CPU of all threads."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all questions")
    parser.add_argument("--keep", type=Path, help="the database; made if it is not there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rtobserver-bench-") as folder:
        path = given.keep or Path(folder) / "store.db"
        began = time.monotonic()
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                [(count,)] = connection.execute("SELECT count(*) FROM call")
        else:
            count = filling.fill(path, given.entries, _step)
            _step("")
        size = path.stat().st_size / 2**20
        print(
            f"{count * filling.PER_CALL:,} entries, {count:,} calls, {size:,.0f} MiB, {time.monotonic() - began:.0f} s"
        )
        met = asyncio.run(_measure(path, count, given.seconds))
        _write_cost(Path(folder))
    return 0 if met else 1


async def _measure(path: Path, count: int, seconds: float) -> bool:
    met = True
    print(f"{'':31}{'CPU ms':^16}{'wall ms':^16}{'raw SQL, CPU ms':^16}")
    print(f"{'':31}{'p50':>8}{'p95':>8}" + f"{'p50':>8}{'p95':>8}" * 2 + "  target, CPU p95")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        raw.execute("PRAGMA cache_size = -16384")
        async with SqliteDatabase(path, clock=SystemClock()) as reads:
            questions = _questions(reads, raw, count)
            for question in questions:
                ours, theirs = await _both(question, seconds / len(questions))
                (cpu, cpu95), (wall, wall95), (raw_cpu, raw_cpu95) = map(
                    _p50_p95, (ours.spent, ours.wall, theirs.spent)
                )
                good = question.target_ms is None or cpu95 <= question.target_ms
                met = met and good
                target = "" if question.target_ms is None else f"{question.target_ms:g} {'met' if good else 'MISSED'}"
                figures = (cpu, cpu95, wall, wall95, raw_cpu, raw_cpu95)
                print(f"{question.name:31}{''.join(f'{each:8.2f}' for each in figures)}  {target}")
    return met


async def _both(question: Question, seconds: float) -> tuple[Times, Times]:
    ours, theirs = Times(), Times()
    chance = random.Random(question.name)
    ends = time.monotonic() + seconds
    for turn in range(ROUNDS):
        if turn >= 10 and time.monotonic() > ends:
            break
        number = chance.randrange(1 << 60)
        for side in (ours, theirs) if turn % 2 else (theirs, ours):
            began, cpu = time.perf_counter(), time.process_time()
            if side is ours:
                await question.ask(number)
            else:
                question.raw(number)
            # the first looks warm up
            if turn >= 2:
                side.wall.append((time.perf_counter() - began) * 1000)
                side.spent.append((time.process_time() - cpu) * 1000)
    return ours, theirs


def _questions(reads: Database, raw: sqlite3.Connection, count: int) -> list[Question]:
    def sql(statement: str, *values: object) -> list[Any]:
        return raw.execute(statement, values).fetchall()

    async def page(wanted: calls.Filter, number: int | None = None) -> bytes:
        before = None
        if number is not None:
            before = calls.Before(filling.START_US + number % (filling.DAYS * 86_400_000_000), 0)
        found, _ = await calls.page(reads, wanted, before=before, limit=50)
        return shapes.encode([shapes.call(row) for row in found])

    async def one(number: int) -> calls.Call:
        found = await calls.find(reads, filling.call_id(number % count))
        if found is None:
            raise LookupError(number)
        return found

    async def entries_of(number: int) -> bytes:
        written = bytearray()
        async with aclosing(entries.read(reads, await one(number), limit=1001)) as rows:
            async for row in rows:
                written += shapes.entry(row)
        return bytes(written)

    async def transcript_of(number: int) -> bytes:
        lines = transcript(await folds.items(reads, await one(number)))
        return shapes.encode([conversation.line(line) for line in lines])

    async def turns_of(number: int) -> bytes:
        call = await one(number)
        found = turns(await folds.items(reads, call), await folds.responses(reads, call))
        return shapes.encode([conversation.turn(turn) for turn in found])

    async def hits(text: str, wanted: calls.Filter | None = None) -> bytes:
        found, _ = await search.page(reads, phrases.read(text) or (), wanted or calls.Filter(), limit=20)
        return shapes.encode([conversation.hit(hit) for hit in found])

    async def called(text: str) -> bytes:
        found, _ = await search.call_page(reads, phrases.read(text) or (), calls.Filter(), limit=20)
        return shapes.encode([shapes.call(row) for row in found])

    async def sums(by: stats.GroupBy) -> bytes:
        groups = await stats.groups(reads, by, stats.Wanted(since=filling.START_US, until=filling.START_US * 2))
        return shapes.encode([conversation.group(group) for group in groups])

    common = _common_word(raw)
    newest = "SELECT * FROM call {} ORDER BY started_at DESC, call_key DESC LIMIT 50"
    own = "call_key = (SELECT call_key FROM call WHERE call_id = ?)"
    day = "day = (SELECT day FROM call WHERE call_id = ?)"
    text = (
        "SELECT l.*, i.text FROM"
        " (SELECT rowid FROM search_index WHERE search_index MATCH ? ORDER BY rowid DESC LIMIT 20) f"
        " JOIN search_line l ON l.line_id = f.rowid JOIN item i USING (call_key, day, item_id)"
    )
    summed = "SELECT {0}, count(*), sum(turn_count), sum(cost_usd) FROM call GROUP BY {0}"

    def of_call(columns: str, table: str, number: int) -> list[Any]:
        id_ = filling.call_id(number % count)
        return sql(f'SELECT {columns} FROM "{table}" WHERE {own} AND {day} ORDER BY epoch, seq', id_, id_)

    def moment(number: int) -> int:
        return filling.START_US + number % (filling.DAYS * 86_400_000_000)

    return [
        Question("calls: newest 50", lambda _: page(calls.Filter()), lambda _: sql(newest.format("")), 5),
        Question(
            "calls: a page far back",
            lambda n: page(calls.Filter(), n),
            lambda n: sql(newest.format("WHERE (started_at, call_key) < (?, 0)"), moment(n)),
            5,
        ),
        Question(
            "calls: of a user",
            lambda n: page(calls.Filter(user=f"user{n % filling.USERS}")),
            lambda n: sql(newest.format("WHERE user = ?"), f"user{n % filling.USERS}"),
            5,
        ),
        Question(
            "calls: with a label",
            lambda n: page(calls.Filter(labels={"team": f"team{n % 50}"})),
            lambda n: sql(newest.format("WHERE json_extract(labels, '$.team') = ?"), f"team{n % 50}"),
        ),
        Question(
            "calls: with a tag",
            lambda _: page(calls.Filter(tags=("refund",))),
            lambda _: sql(newest.format("WHERE EXISTS (SELECT 1 FROM json_each(tags) WHERE value = 'refund')")),
        ),
        Question("one call: 1,000 entries", entries_of, lambda n: of_call("*", "entry", n), 40),
        Question("one call: transcript", transcript_of, lambda n: of_call("*", "item", n), 40),
        Question("one call: turns", turns_of, lambda n: [of_call("*", "item", n), of_call("*", "response", n)], 40),
        Question(
            "search: a word of one call",
            lambda n: hits(filling.own_word(n % count)),
            lambda n: sql(text, filling.own_word(n % count)),
            200,
        ),
        Question("search: a common word", lambda _: hits(common), lambda _: sql(text, common), 200),
        Question(
            "search: a phrase",
            lambda n: hits(f'"{filling.own_word(n % count)} please"'),
            lambda n: sql(text, f'"{filling.own_word(n % count)} please"'),
            200,
        ),
        Question(
            "search: a beginning",
            lambda n: hits(f"case{n % 9 + 1}*"),
            lambda n: sql(text, f"case{n % 9 + 1}*"),
            200,
        ),
        Question(
            "search: a common word of a user",
            lambda n: hits(common, calls.Filter(user=f"user{n % filling.USERS}")),
            lambda _: sql(text, common),
            200,
        ),
        Question("calls: in which a word is said", lambda _: called(common), lambda _: sql(text, common), 200),
        Question("sums: by day", lambda _: sums("day"), lambda _: sql(summed.format("day"))),
        Question("sums: all", lambda _: sums("all"), lambda _: sql(summed.format("day * 0"))),
        Question("sums: by profile", lambda _: sums("profile"), lambda _: sql(summed.format("profile"))),
    ]


def _common_word(raw: sqlite3.Connection) -> str:
    counts: dict[str, int] = {}
    for (text,) in raw.execute("SELECT text FROM item LIMIT 500"):
        for word in text.split():
            counts[word] = counts.get(word, 0) + 1
    counts.pop("please", None)
    return max(counts, key=lambda word: counts[word])


def _write_cost(folder: Path) -> None:
    """Write the same flushes with and without the search index."""
    talk = filling.Talked(1)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number in range(3):
        for indexed in (True, False) if number % 2 else (False, True):
            path = folder / f"write-{number}-{indexed}.db"
            schema.migrate(path)
            with closing(sqlite.open_writer(path, durability="normal")) as connection:
                if not indexed:
                    for name in ("search_insert", "search_update", "search_delete"):
                        connection.execute(f"DROP TRIGGER {name}")
                began = time.process_time()
                for flush in _flushes(talk):
                    connection.execute("BEGIN IMMEDIATE")
                    for sql, rows in flush:
                        connection.executemany(sql, rows)
                    connection.execute("COMMIT")
                spent[indexed].append((time.process_time() - began) / (COMMITS * 150) * 1e6)
    with_index, without = statistics.median(spent[True]), statistics.median(spent[False])
    print(
        f"writing, CPU per entry in flushes of 150: {with_index:.2f} us with the search index, {without:.2f} us without"
        f" ({with_index / without:.2f} x)"
    )


def _flushes(talk: filling.Talked) -> Iterator[list[tuple[str, list[list[Any]]]]]:
    """Make flushes of 150 entries with the items that belong to them, each begun and then finished."""
    columns = [column.name for column in tables.item.columns]
    entry = f"INSERT INTO entry VALUES ({', '.join('?' * len(tables.entry.columns))})"
    kept = ", ".join(f"{name} = excluded.{name}" for name in columns[3:])
    item = (
        f"INSERT INTO item VALUES ({', '.join('?' * len(columns))})"
        f" ON CONFLICT (call_key, day, item_id) DO UPDATE SET {kept}"
    )
    items = itertools.cycle(talk.items)
    for flush in range(COMMITS):
        entries_ = [
            [flush % 100, 1, flush, n, 1, n, n, talk.events[n].type, talk.events[n].event_id, talk.frames[n], 4]
            for n in range(150)
        ]
        # two items in 71 events, each written when it begins and when it is done
        written = []
        for n in range(4):
            done = replace(next(items), item_id=f"item_{flush}_{n}")
            for row in (replace(done, status="in_progress"), done):
                values = folds.item_values(row) | {"call_key": flush % 100, "day": 1}
                written.append([values[name] for name in columns])
        yield [(entry, entries_), (item, written)]


def _p50_p95(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), sorted(values)[-(-95 * len(values) // 100) - 1]


def _step(text: str) -> None:
    print(f"\r{text:40}", end="\r" if not text else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
