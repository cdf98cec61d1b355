"""Make rows anew, in a file to which all was copied that can be read, of those that could not be.

    a row of        is made of
    `gap`           the gap's own entry, and what stands behind it (`realtime/regained.py`)
    `call`          the indexes of the damaged file, which repeat some columns, and the call's entries
    `tombstone`     the rows of calls that were erased

For whoever has both files open, with no transaction going on.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from rtobserver.realtime.entries import GapRow
from rtobserver.realtime.regained import Declaration, Life, regained
from rtobserver.store import holes, registration, tables
from rtobserver.store.identity import CallRef, day_of
from rtobserver.store.immediate import immediately

_WITHOUT_ROW = f"""
SELECT call_key, day, epoch, seq, payload FROM entry
WHERE kind = {tables.KIND_GAP} AND flags & {tables.FLAG_OVERLAP} = 0 AND NOT EXISTS (
    SELECT 1 FROM gap WHERE gap.call_key = entry.call_key AND gap.day = entry.day
        AND gap.epoch = entry.epoch AND gap.seq = entry.seq
) ORDER BY call_key, day, epoch, seq
"""  # noqa: S608 - our own numbers
_BEHIND = f"""
SELECT at FROM entry WHERE call_key = ? AND day = ? AND (epoch, seq) > (?, ?)
    AND kind <> {tables.KIND_GAP} AND flags & {tables.FLAG_OVERLAP} = 0
ORDER BY epoch, seq LIMIT 1
"""  # noqa: S608
_RESUMED = f"""
SELECT at FROM entry WHERE call_key = ? AND day = ? AND (epoch, seq) > (?, ?)
    AND kind = {tables.KIND_COMMAND} AND type = 'resume'
ORDER BY epoch, seq LIMIT 1
"""  # noqa: S608
_LIFE = "SELECT ended_at, started_at, attach_latency_ms, checks FROM call WHERE call_key = ? AND day = ?"
_INSERT_GAP = """
INSERT OR IGNORE INTO gap
    (call_key, day, epoch, seq, from_at, to_at, reason, "after", state, lost, lost_by_type, counted)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_RECOUNT = "UPDATE call SET gap_count = (SELECT count(*) FROM gap WHERE gap.call_key = call.call_key AND counted)"
_ORPHANS = """
SELECT DISTINCT call_key FROM entry
WHERE NOT EXISTS (SELECT 1 FROM call WHERE call.call_key = entry.call_key)
    AND NOT EXISTS (SELECT 1 FROM tombstone WHERE tombstone.call_key = entry.call_key)
"""
_IS_KNOWN = """
SELECT EXISTS (SELECT 1 FROM call WHERE call_key = ?) OR EXISTS (SELECT 1 FROM tombstone WHERE call_key = ?)
"""
_ENTRIES = "SELECT day, min(at), max(at), max(epoch), count(*) FROM entry WHERE call_key = ? GROUP BY day"
_REPEATED = {
    "call_key": "sqlite_autoindex_call_1",
    "call_id": "sqlite_autoindex_call_2",
    "started_at": "ix_call_started",
    "status": "ix_call_status_started",
    "user": "ix_call_user_started",
    "profile": "ix_call_profile_started",
}
"""Columns of `call`, each with the index that begins with it."""
_EPOCHS = """
UPDATE call SET epoch = max(epoch, coalesce(
    (SELECT max(epoch) FROM entry WHERE entry.call_key = call.call_key AND entry.day = call.day), 0
))
"""
_TOMBSTONES = """
INSERT OR IGNORE INTO tombstone (call_key, erased_at, actor) SELECT call_key, erased_at, '' FROM call
WHERE erased_at IS NOT NULL
"""


def gaps(target: sqlite3.Connection) -> int:
    """Give each gap a row whose entry is there and has none; gives how many were made. Raises sqlite3.Error."""
    declared: dict[tuple[int, int], list[Declaration]] = {}
    for key, day, epoch, seq, payload in target.execute(_WITHOUT_ROW).fetchall():
        place = (key, day, epoch, seq)
        found = [target.execute(sql, place).fetchone() for sql in (_BEHIND, _RESUMED)]
        behind, resumed = [row[0] if row else None for row in found]
        declared.setdefault((key, day), []).append(Declaration(epoch, seq, bytes(payload), behind, resumed))
    count = 0
    with immediately(target):
        for (key, day), each in declared.items():
            rows = regained(each, holes.of_call(target, key, day), _life(target, key, day))
            count += target.executemany(_INSERT_GAP, [(key, day, *_values(row)) for row in rows]).rowcount
    return count


def recount(target: sqlite3.Connection) -> None:
    """Have calls count the gaps that are there; raises sqlite3.Error."""
    target.execute(_RECOUNT)


def calls(source: sqlite3.Connection, target: sqlite3.Connection) -> tuple[int, int]:
    """Give calls a row that have none, as far as indexes tell of them.

    Gives how many were made, and how many calls have entries and not even an id that is known: their entries
    stay, and nobody finds them. Raises sqlite3.Error.
    """
    made = 0
    with immediately(target):
        for key, told in _repeated(source).items():
            if "call_id" in told and not target.execute(_IS_KNOWN, (key, key)).fetchone()[0]:
                made += _enter(target, key, told)
    return made, len(target.execute(_ORPHANS).fetchall())


def epochs(target: sqlite3.Connection) -> None:
    """Have calls know of their newest owner, so that the next one's entries meet no others; raises sqlite3.Error."""
    target.execute(_EPOCHS)


def tombstones(target: sqlite3.Connection) -> None:
    """Have calls stay erased; raises sqlite3.Error."""
    target.execute(_TOMBSTONES)


def _enter(target: sqlite3.Connection, key: int, told: dict[str, Any]) -> int:
    found = target.execute(_ENTRIES, (key,)).fetchone()
    day, first_at, last_at, epoch, count = found or (None, 0, None, 1, 0)
    started_at = told.get("started_at", first_at)
    day = day_of(started_at) if day is None else day
    status = told.get("status", "lost")
    goes_on = status in ("connecting", "live")
    new = registration.NewCall(
        call_id=told["call_id"],
        started_at=started_at if day_of(started_at) == day else first_at,
        profile=told.get("profile", ""),
        model="",
        max_duration_us=0,
        status=status,
        ended_at=None if goes_on else last_at or started_at,
        user=told.get("user"),
    )
    values = registration.row(CallRef(new.call_id, day, key), new)
    count_gaps = "SELECT count(*) FROM gap WHERE call_key = ? AND counted"
    values["gap_count"] = target.execute(count_gaps, (key,)).fetchone()[0]
    # what it was judged by is gone with the row; `rebuild` judges it again
    values |= {"epoch": epoch, "entry_count": count, "completeness": None if goes_on else "incomplete"}
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    sql = f"INSERT OR IGNORE INTO call ({names}) VALUES ({marks})"  # noqa: S608 - only our own names
    return target.execute(sql, list(values.values())).rowcount


def _repeated(source: sqlite3.Connection) -> dict[int, dict[str, Any]]:
    """Read what the indexes of `call` repeat of its rows, by the call's key, around what cannot be read."""
    rows: dict[int, dict[str, Any]] = {}
    for column in _REPEATED:
        for rowid, value in _scan(source, column):
            rows.setdefault(rowid, {})[column] = value
    return {row["call_key"]: row for row in rows.values() if isinstance(row.get("call_key"), int)}


def _scan(source: sqlite3.Connection, column: str) -> Iterator[tuple[int, Any]]:
    """Read an index from either end, up to what cannot be read."""
    sql = f'SELECT rowid, "{column}" FROM call INDEXED BY {_REPEATED[column]} ORDER BY "{column}"'  # noqa: S608
    for direction in ("ASC", "DESC"):
        try:
            yield from source.execute(f"{sql} {direction}")
        except sqlite3.DatabaseError:
            continue
        return


def _life(target: sqlite3.Connection, key: int, day: int) -> Life:
    row = target.execute(_LIFE, (key, day)).fetchone()
    if row is None:
        return Life()
    ended_at, started_at, latency_ms, checks = row
    attached_at = None if latency_ms is None else started_at + latency_ms * 1000
    with contextlib.suppress(ValueError):
        return Life(ended_at, attached_at, bool(json.loads(checks).get("missed_before_attach")))
    return Life(ended_at, attached_at)


def _values(row: GapRow) -> tuple[Any, ...]:
    counts = json.dumps(row.lost_by_type)
    told = (row.epoch, row.seq, row.from_at, row.to_at, row.reason, row.after, row.state, row.lost)
    return (*told, counts, row.counted)
