"""Spell out what a journal file holds, one line for each thing that was handed over, numbered in that order.

A file stands for itself: calls have a number of the file's own, since a call's key is known for
certain only where the database is. Numbers of lines go on from file to file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from rtobserver.errors import StoreError
from rtobserver.realtime.entries import OrderRow
from rtobserver.store import orders, registration, unfinished
from rtobserver.store.identity import CallRef
from rtobserver.store.notes import Note
from rtobserver.store.registration import NewCall

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS call (
    number INTEGER PRIMARY KEY, call_id TEXT NOT NULL, day INTEGER NOT NULL, epoch INTEGER NOT NULL, origin TEXT
);
CREATE TABLE IF NOT EXISTS entry (
    line INTEGER PRIMARY KEY, call INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    kind INTEGER NOT NULL, at INTEGER NOT NULL, offset_us INTEGER NOT NULL, type TEXT, event_id TEXT,
    payload BLOB NOT NULL, flags INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS fact (line INTEGER PRIMARY KEY, calls TEXT NOT NULL, what TEXT NOT NULL, told BLOB NOT NULL);
COMMIT;
"""
INSERT_CALL = "INSERT INTO call VALUES (?, ?, ?, ?, ?)"
INSERT_ENTRY = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_FACT = "INSERT INTO fact VALUES (?, ?, ?, ?)"

PIECE_ROWS = 200
"""Rows that are read in one go."""
RESCUED_LINES = 2_000
NOTE = "note "
"""Stands before a note's name; a fact has the name of its table."""

EntryLine = tuple[int, int, int, int, int, int, int, str | None, str | None, bytes, int]
"""(line, call, epoch, seq, kind, at, offset_us, type, event_id, payload, flags)"""


class FactLine(NamedTuple):
    """Be a row, or a note."""

    line: int
    calls: str
    """Numbers of the calls that it is about, with commas between them; empty where one is missing."""
    what: str
    told: bytes


@dataclass(slots=True)
class Stretch:
    """Be what stands in a file behind one line, up to another."""

    until: int
    """The last line that it covers."""
    entries: list[EntryLine]
    facts: list[FactLine]


def write(values: Mapping[str, Any]) -> bytes:
    """Write values down; what no UTF-8 can hold is escaped."""
    try:
        return msgspec.json.encode(values)
    except UnicodeEncodeError:
        return json.dumps(values).encode()


def read(told: bytes) -> dict[str, Any]:
    """Read values again, as PostgreSQL's text can hold them: it knows no NUL, and no half of a character."""
    values: dict[str, Any]
    try:
        values = msgspec.json.decode(told)
    except (msgspec.DecodeError, UnicodeDecodeError):
        values = json.loads(told)
    if b"\\u" in told:
        values = {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}
    return values


def storable(text: str) -> str:
    """Give a text as PostgreSQL can hold it."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_note(name: str, calls: Sequence[CallRef | None], told: bytes) -> Note:
    """Make a note again of what was written down.

    Raises:
        StoreError: it is none that this release knows.

    """
    make = _NOTES.get(name)
    if make is None:
        raise StoreError(f"no note is called {name}")
    return make(calls, read(told))


def _register(calls: Sequence[CallRef | None], told: dict[str, Any]) -> Note:
    call, instead_of = calls
    return registration.register(_known(call), NewCall(**told), instead_of=instead_of)


def _again(calls: Sequence[CallRef | None], told: dict[str, Any]) -> Note:
    return registration.again(_known(calls[0]), NewCall(**told["new"]), told["epoch"])


def _close(calls: Sequence[CallRef | None], told: dict[str, Any]) -> Note:
    return registration.close(_known(calls[0]), **told)


def _beat(_calls: Sequence[CallRef | None], told: dict[str, Any]) -> Note:
    mark = unfinished.mark_in(told["at"], told["doubts"], told["boot"])
    return unfinished.beat(told["replica_id"], mark, stopped_at=told["stopped_at"])


def _settle(_calls: Sequence[CallRef | None], told: dict[str, Any]) -> Note:
    return orders.settle(OrderRow(**told))


_NOTES: dict[str, Callable[[Sequence[CallRef | None], dict[str, Any]], Note]] = {
    "register": _register,
    "again": _again,
    "close": _close,
    "beat": _beat,
    "settle": _settle,
}


def _known(call: CallRef | None) -> CallRef:
    if call is None:
        raise StoreError("a note names no call")
    return call


class Reader:
    """Read one journal file beside whoever writes it; for one thread."""

    def __init__(self, path: str) -> None:
        # one that is not there must not be made
        self._raw = sqlite3.connect(f"file:{quote(path)}?mode=rw", timeout=1.0, isolation_level=None, uri=True)
        self._raw.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()

    def is_begun(self) -> bool:
        """Say whether whoever made the file came so far that anything can stand in it."""
        return self._raw.execute("SELECT 1 FROM sqlite_schema WHERE name = 'fact'").fetchone() is not None

    def last(self) -> int:
        """Give the number of the last line; 0 where there is none."""
        [(last,)] = self._raw.execute(
            "SELECT max(coalesce((SELECT max(line) FROM entry), 0), coalesce((SELECT max(line) FROM fact), 0))"
        )
        return int(last)

    def call(self, number: int) -> CallRef:
        """Read which call has a number; its key is a guess."""
        [(call_id, day, epoch, origin)] = self._raw.execute(
            "SELECT call_id, day, epoch, origin FROM call WHERE number = ?", (number,)
        )
        ref = CallRef(call_id, day)
        ref.epoch, ref.origin = epoch, origin
        return ref

    def calls(self) -> list[int]:
        """List the numbers of the calls; none where that cannot be read."""
        try:
            return [number for (number,) in self._raw.execute("SELECT number FROM call")]
        except sqlite3.DatabaseError:
            return []

    def rescue(self, after: int, until: int) -> Stretch:
        """Read what can be read of the next lines of a damaged file."""
        until = min(until, after + RESCUED_LINES)
        entries = self._rescued("SELECT * FROM entry WHERE line > ? AND line <= ? ORDER BY line", after, until)
        facts = self._rescued("SELECT * FROM fact WHERE line > ? AND line <= ? ORDER BY line", after, until)
        return Stretch(until, entries, [FactLine(*row) for row in facts])

    def _rescued(self, sql: str, after: int, until: int) -> list[Any]:
        found: list[Any] = []
        step = PIECE_ROWS
        while after < until:
            to = min(after + step, until)
            try:
                found += self._raw.execute(sql, (after, to)).fetchall()
            except sqlite3.DatabaseError:
                if step > 1:
                    step //= 2
                    continue
            after, step = to, PIECE_ROWS if step == 1 else step
        return found

    def stretch(self, after: int, until: int, *, rows: int, size: int) -> Stretch:
        """Read what is behind a line and not behind another; at most so many rows of each kind, or bytes of payload."""
        *_, whole = self.pieces(after, until, rows=rows, size=size)
        return whole

    def pieces(self, after: int, until: int, *, rows: int, size: int) -> Iterator[Stretch]:
        """Read the same little by little; what is given last is the whole."""
        entries: list[EntryLine] = []
        total = 0
        for row in self._raw.execute(
            "SELECT * FROM entry WHERE line > ? AND line <= ? ORDER BY line LIMIT ?", (after, until, rows)
        ):
            entries.append(row)
            total += len(row[9])
            if total >= size:
                break
            if len(entries) % PIECE_ROWS == 0:
                yield Stretch(after, [], [])
        if len(entries) == rows or total >= size:
            until = entries[-1][0]
        facts = [
            FactLine(*row)
            for row in self._raw.execute(
                "SELECT * FROM fact WHERE line > ? AND line <= ? ORDER BY line LIMIT ?", (after, until, rows)
            )
        ]
        if len(facts) == rows:
            until = facts[-1].line
            entries = [entry for entry in entries if entry[0] <= until]
        yield Stretch(until, entries, facts)
