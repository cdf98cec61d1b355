"""Begin a new file in the place of a damaged one, and bring over what can still be read of it.

The damaged file is moved aside whole, with its WAL, under a name that says what it is and since when;
nothing of it is deleted here. Every row that SQLite can still read is copied, the newest first and
the small tables of which a daemon lives before all others. What a call has lost stands in a gap.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

from rtobserver.errors import StoreError
from rtobserver.realtime.holes import Loss, fewest
from rtobserver.store import holes, schema, sqlite, tables

SALVAGE_SECONDS = 20.0
"""How long bringing rows over may take; recording waits in memory meanwhile."""
CHECK_SECONDS = 5.0
"""How long a look for damage may take where the writer waits for it."""
ROWS = 500
"""Rows that are read at a time."""
SCAN_BYTES = 1024 * 1024
"""Of a file that is no database: within so many bytes the words of our tables are looked for."""

_ORDER = ("secret", "api_key", "tombstone", "call", "replica", "order", "audit", "gap", "decision", "command")
_LAST = ("response", "item", "quarantine", "entry")
_FIRST_ROWID, _LAST_ROWID = 0, (1 << 63) - 1
_SHORT = """
SELECT call_key, day, ended_at, entry_count - coalesce(there, 0)
    - (SELECT coalesce(sum(lost), 0) FROM gap
        WHERE gap.call_key = call.call_key AND gap.day = call.day AND reason = 'corrupt') AS missing
FROM call LEFT JOIN (
    SELECT call_key, day, sum(there) AS there, sum(last - there) AS skipped FROM (
        SELECT call_key, day, count(*) AS there, max(seq) AS last FROM entry GROUP BY call_key, day, epoch
    ) GROUP BY call_key, day
) USING (call_key, day)
WHERE purged_at IS NULL AND (missing > 0 OR skipped > 0)
"""

log = structlog.get_logger()


@dataclass(slots=True)
class Salvaged:
    """Say what was brought over."""

    rows: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    """Tables of which something could not be read."""
    left: list[str] = field(default_factory=list)
    """Tables that there was no time for, or not enough."""


def is_sound(connection: sqlite3.Connection, seconds: float = CHECK_SECONDS) -> bool:
    """Tell whether SQLite finds no damage; what it cannot look at in the time counts as sound."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 20_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return True
        raise
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.set_progress_handler(None, 0)
    return found == [("ok",)]


def prepare(path: Path, *, suspected: bool = False) -> Path | None:
    """Look at the file before a start; one of ours that is no database any more is moved aside and begun anew.

    Gives where the damaged file is now. With `suspected` all of it is looked at, which may take minutes.

    Raises:
        StoreError: it is no database, and nothing shows that it ever was one of ours.
        StoreUnavailable: it cannot be opened now.

    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        connection = sqlite.open_writer(path)
    except StoreError as exc:
        if not _is_damage(exc.__cause__):
            raise
        if not _was_ours(path):
            raise
        problem = str(exc.__cause__)
    else:
        try:
            # the first pages of every table, not the whole of a file that may be large
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if name in tables.metadata.tables:
                    for direction in ("ASC", "DESC"):
                        connection.execute(
                            f'SELECT rowid FROM "{name}" ORDER BY rowid {direction} LIMIT 1'  # noqa: S608 - our names
                        ).fetchall()
            if not suspected or is_sound(connection, float("inf")):
                return None
            problem = "quick_check finds damage"
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                return None
            problem = str(exc)
        finally:
            connection.close()
    aside = move_aside(path)
    begin_anew(path, aside, problem=problem, live=())
    return aside


def move_aside(path: Path) -> Path:
    """Give the file, and what belongs to it, another name; raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    # the WAL first: a file that is found without its WAL would be taken for an older state of itself
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _sync_folder(path.parent)
    return aside


def begin_anew(path: Path, aside: Path, *, problem: str, live: Collection[int]) -> Salvaged:
    """Make a new file and bring over what can be read; may be done again if it was interrupted.

    What the calls with the keys `live` have lost is for their observers to declare.

    Raises:
        StoreError: the new file cannot be made now.
        sqlite3.Error: it cannot be written now.

    """
    schema.migrate(path)
    salvaged = _salvage(path, aside, live)
    log.error(
        "database_damaged",
        problem=problem,
        moved_to=str(aside),
        rows=salvaged.rows,
        unreadable=salvaged.damaged,
        no_time_for=salvaged.left,
    )
    if not salvaged.rows.get("api_key"):
        log.error("keys_lost", help="make new ones with `rtobserver keys create`")
    return salvaged


def _salvage(path: Path, aside: Path, live: Collection[int]) -> Salvaged:
    salvaged = Salvaged()
    deadline = time.monotonic() + SALVAGE_SECONDS
    target = sqlite.open_writer(path)
    try:
        source = sqlite3.connect(f"file:{quote(str(aside))}?mode=ro", uri=True, isolation_level=None)
        try:
            source.execute("PRAGMA query_only = ON")
            for name in _tables():
                _bring(name, source, target, salvaged, deadline)
        finally:
            source.close()
        _admit(target, live)
    finally:
        target.close()
    return salvaged


def _tables() -> Iterator[str]:
    yield from _ORDER
    yield from (name for name in tables.metadata.tables if name not in (*_ORDER, *_LAST, "lease"))
    yield from _LAST


def _bring(
    name: str, source: sqlite3.Connection, target: sqlite3.Connection, salvaged: Salvaged, deadline: float
) -> None:
    columns = [column.name for column in tables.metadata.tables[name].columns]
    try:
        there = {row[1] for row in source.execute(f'PRAGMA table_info("{name}")')}
    except sqlite3.DatabaseError:
        there = set()
    columns = [column for column in columns if column in there]
    if not columns:
        salvaged.damaged.append(name)
        return
    named = ", ".join(f'"{column}"' for column in ("rowid", *columns))
    read = f'SELECT {named} FROM "{name}" WHERE rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?'  # noqa: S608
    marks = ", ".join("?" * (len(columns) + 1))
    write = f'INSERT OR IGNORE INTO "{name}" ({named}) VALUES ({marks})'  # noqa: S608 - only our own names
    reading = _Reading(source, read)
    count = 0
    for rows in reading.newest_first():
        target.execute("BEGIN IMMEDIATE")
        try:
            count += _write(target, write, rows)
            target.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                target.execute("ROLLBACK")
            raise
        if time.monotonic() > deadline:
            salvaged.left.append(name)
            break
    salvaged.rows[name] = count
    if reading.failed:
        salvaged.damaged.append(name)


def _write(target: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]) -> int:
    try:
        return target.executemany(sql, rows).rowcount
    except (sqlite3.IntegrityError, sqlite3.DataError):
        count = 0
        for row in rows:
            # what damage made of it does not fit its table
            with contextlib.suppress(sqlite3.IntegrityError, sqlite3.DataError):
                count += target.execute(sql, row).rowcount
        return count


class _Reading:
    """Read a table backwards by rowid, around what cannot be read."""

    def __init__(self, source: sqlite3.Connection, sql: str) -> None:
        self._source = source
        self._sql = sql
        self.failed = False

    def newest_first(self) -> Iterator[list[tuple[Any, ...]]]:
        upper, limit, step = _LAST_ROWID, ROWS, 1
        hole_top: int | None = None
        while upper >= _FIRST_ROWID:
            try:
                rows = self._read(_FIRST_ROWID, upper, limit)
            except sqlite3.DatabaseError:
                self.failed = True
                if hole_top is None:
                    hole_top = upper = self._top(upper)
                if limit > 1:
                    limit = max(1, limit // 8)
                else:
                    # the row below, then further and further
                    upper, step = upper - step, step * 2
                continue
            if hole_top is not None:
                found = rows[0][0] if rows else _FIRST_ROWID
                yield from self._behind(found, hole_top)
                hole_top = None
            if not rows:
                return
            yield rows
            upper, limit, step = rows[-1][0] - 1, min(ROWS, limit * 8), 1

    def _top(self, upper: int) -> int:
        """Give a rowid above which nothing is, so that steps begin where rows are."""
        if upper < _LAST_ROWID:
            return upper
        for bits in range(1, 63):
            try:
                if not self._read(1 << bits, upper, 1):
                    return 1 << bits
            except sqlite3.DatabaseError:
                continue
        return upper

    def _behind(self, found: int, top: int) -> Iterator[list[tuple[Any, ...]]]:
        """Read upwards what a step went past, as far as that can be read."""
        lower = found + 1
        while lower <= top:
            sql = self._sql.replace("DESC", "ASC")
            try:
                rows = self._source.execute(sql, (lower, top, 1)).fetchall()
            except sqlite3.DatabaseError:
                return
            if not rows:
                return
            yield rows
            lower = rows[-1][0] + 1

    def _read(self, lower: int, upper: int, limit: int) -> list[tuple[Any, ...]]:
        return self._source.execute(self._sql, (lower, upper, limit)).fetchall()


def _admit(target: sqlite3.Connection, live: Collection[int]) -> None:
    """Write gaps for each call that has fewer entries than its row counts, or numbers without an entry."""
    now = time.time_ns() // 1000
    short = target.execute(_SHORT).fetchall()
    target.execute("BEGIN IMMEDIATE")
    for key, day, ended_at, missing in short:
        if key in live:
            continue
        losses = holes.of_call(target, key, day)
        # the row of a call that did not end may count a little less than there was
        rest = missing - sum(loss.lost for loss in losses)
        _declare(target, key, fewest([*losses, *holes.behind(target, key, day, rest, ended_at or now)]))
    target.execute("COMMIT")


def admit_refused(connection: sqlite3.Connection) -> int:
    """Declare what the database refused of calls that ended, where a run was killed before it did; gives how much.

    What it refused of calls that go on, their observers declare. Raises sqlite3.Error.
    """
    ended = connection.execute(
        "SELECT DISTINCT call_key, day FROM quarantine JOIN call USING (call_key, day) WHERE ended_at IS NOT NULL"
    ).fetchall()
    found = [(key, losses) for key, day in ended if (losses := holes.of_call(connection, key, day))]
    if found:
        connection.execute("BEGIN IMMEDIATE")
        for key, losses in found:
            _declare(connection, key, fewest(losses))
        connection.execute("COMMIT")
    return sum(loss.lost for _, losses in found for loss in losses)


def _declare(target: sqlite3.Connection, key: int, losses: Sequence[Loss]) -> None:
    """Write gaps of a call that nobody observes, behind all that it has."""
    for loss in losses:
        target.execute(
            """
            INSERT INTO gap
                (call_key, day, epoch, seq, from_at, to_at, reason, "after", state, lost, lost_by_type, counted)
            SELECT call_key, day, epoch, 1 + max(
                coalesce((SELECT max(seq) FROM entry AS e
                    WHERE e.call_key = call.call_key AND e.day = call.day AND e.epoch = call.epoch), 0),
                coalesce((SELECT max(seq) FROM gap AS g
                    WHERE g.call_key = call.call_key AND g.day = call.day AND g.epoch = call.epoch), 0)
            ), coalesce(?2, started_at), ?3, 'corrupt', ?4, 'final', ?5, '{}', 1
            FROM call WHERE call_key = ?1
            """,
            (key, loss.from_at, loss.to_at, loss.after, loss.lost),
        )
        target.execute(
            "UPDATE call SET gap_count = gap_count + 1, completeness ="
            " CASE completeness WHEN 'complete' THEN 'complete_with_gaps' ELSE completeness END WHERE call_key = ?",
            (key,),
        )


def _is_damage(problem: BaseException | None) -> bool:
    code = getattr(problem, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _was_ours(path: Path) -> bool:
    """Look for the words of our tables; a file of zeros, as a crash may leave it, is nobody's.

    Nobody has the file open: closing it here would take away the locks of whoever in this process had it open.
    """
    with path.open("rb") as file:
        beginning = file.read(SCAN_BYTES)
    return b"CREATE TABLE api_key" in beginning or not beginning.strip(b"\0")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
