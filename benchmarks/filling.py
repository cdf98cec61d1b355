"""Fill a database with recorded calls, as many entries as are asked for, as fast as SQLite takes them.

Entries of `LIVE` calls at a time lie mixed in the file, as they do when calls are recorded side by
side. Events, items and responses are those of `talk.py`, folded once for each of `TALKS` talks and
written for many calls; each call has one word of its own to be searched for.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.talk import Talk
from rtobserver.realtime.call import CallState
from rtobserver.realtime.events import Event, read
from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals
from rtobserver.store import folds, schema, sqlite, tables
from rtobserver.store.identity import call_key, day_of

PER_CALL = 1_000
LIVE = 100
TALKS = 20
USERS = 200
DAYS = 30
START_US = 1_793_000_000_000_000
EVENT_US = 250_000
"""Four events a second, the usual pace of a spoken call."""


class Talked:
    """Be one talk: its events, and what is folded from them. Times count from its beginning."""

    def __init__(self, seed: int) -> None:
        self.frames = list(itertools.islice(Talk(seed).frames(), PER_CALL))
        state = CallState(model="gpt-realtime")
        self.events: list[Event] = []
        items: dict[str, ItemRow] = {}
        responses: dict[str, ResponseRow] = {}
        for seq, frame in enumerate(self.frames, start=1):
            event, _ = read(frame)
            self.events.append(event)
            changes = state.apply(event, frame, seq * EVENT_US, 1, seq)
            if changes is not None:
                items |= {row.item_id: row for row in changes.items}
                responses |= {row.response_id: row for row in changes.responses}
        changes = state.finish()
        self.items = list((items | {row.item_id: row for row in changes.items}).values())
        self.responses = list((responses | {row.response_id: row for row in changes.responses}).values())
        self.totals: Totals = state.totals()


def fill(path: Path, entries: int, step: Callable[[str], None]) -> int:
    """Make the database; gives the number of calls."""
    schema.migrate(path)
    talks = [Talked(seed) for seed in range(TALKS)]
    calls = max(LIVE, entries // PER_CALL)
    connection = sqlite.open_writer(path, durability="normal")
    try:
        for first in range(0, calls, LIVE):
            step(f"{first * PER_CALL:,} of {calls * PER_CALL:,} entries")
            group = range(first, min(first + LIVE, calls))
            connection.execute("BEGIN IMMEDIATE")
            # a call's row before its items: the search index asks it for the beginning
            _insert(connection, tables.call, (_call(n, calls, talks[n % TALKS]) for n in group))
            _insert(connection, tables.entry, _entries(group, calls, talks))
            _insert(connection, tables.item, (row for n in group for row in _items(n, calls, talks[n % TALKS])))
            _insert(connection, tables.response, (row for n in group for row in _responses(n, calls, talks[n % TALKS])))
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA optimize")
    finally:
        connection.close()
    return calls


def call_id(number: int) -> str:
    """Name a call."""
    return f"rtc_bench{number}"


def own_word(number: int) -> str:
    """Give the word that is said in this call alone."""
    return f"case{number}"


def _began(number: int, calls: int) -> int:
    return START_US + number * (DAYS * 86_400_000_000 // calls)


def _keys(number: int, calls: int) -> tuple[int, int]:
    return call_key(call_id(number)), day_of(_began(number, calls))


def _call(number: int, calls: int, talk: Talked) -> dict[str, Any]:
    began = _began(number, calls)
    key, day = _keys(number, calls)
    values: dict[str, Any] = {
        "call_key": key, "day": day, "call_id": call_id(number), "protocol": "realtime", "status": "ended",
        "outcome": "browser_left", "started_at": began, "ended_at": began + PER_CALL * EVENT_US,
        "profile": ("default", "support", "sales")[number % 3], "model": "gpt-realtime",
        "user": f"user{number % USERS}", "labels": json.dumps({"team": f"team{number % 50}"}),
        "tags": json.dumps(["refund"] if number % 97 == 0 else []), "max_duration_us": 0, "epoch": 1,
        "entry_count": PER_CALL, "tampered": False, "attach_latency_ms": 80,
        "completeness": "complete", "checks": "{}", "gap_count": 0,
    }  # fmt: skip
    return values | folds.call_values(talk.totals) | {"cost_usd": "0.1234567890"}


def _entries(group: range, calls: int, talks: list[Talked]) -> Iterator[dict[str, Any]]:
    places = {number: (*_keys(number, calls), _began(number, calls), talks[number % TALKS]) for number in group}
    for seq in range(1, PER_CALL + 1):
        for number in group:
            key, day, began, talk = places[number]
            event = talk.events[seq - 1]
            yield {
                "call_key": key, "day": day, "epoch": 1, "seq": seq, "kind": tables.KIND_EVENT,
                "at": began + seq * EVENT_US, "offset_us": seq * EVENT_US, "type": event.type,
                "event_id": event.event_id, "payload": talk.frames[seq - 1], "flags": tables.FLAG_JSON,
            }  # fmt: skip


def _items(number: int, calls: int, talk: Talked) -> Iterator[dict[str, Any]]:
    key, day = _keys(number, calls)
    began = _began(number, calls)
    for index, row in enumerate(talk.items):
        own = row if index else replace(row, text=f"{row.text} {own_word(number)} please")
        values = folds.item_values(own) | {"call_key": key, "day": day}
        for name in ("started_at", "ended_at"):
            values[name] = None if values[name] is None else values[name] + began
        yield values


def _responses(number: int, calls: int, talk: Talked) -> Iterator[dict[str, Any]]:
    key, day = _keys(number, calls)
    for row in talk.responses:
        yield folds.response_values(row) | {"call_key": key, "day": day}


def _insert(connection: sqlite3.Connection, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    names = [column.name for column in table.columns]
    quoted = ", ".join(f'"{name}"' for name in names)
    sql = f'INSERT INTO "{table.name}" ({quoted}) VALUES ({", ".join("?" * len(names))})'
    connection.executemany(sql, ([row.get(name) for name in names] for row in rows))
