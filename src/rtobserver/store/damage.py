"""Begin a new file in the place of a damaged one, and bring over what can still be read of it.

The damaged file stays where it is until the new one is whole (`salvage.py` fills it, `replacement.py`
puts it in place), so that a kill at any moment loses nothing: the next start begins again, or
finishes. Then it is moved aside with its WAL, under a name that says what it is and since when;
nothing of it is deleted here. What a call has lost stands in a gap.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import sqlalchemy as sa
import structlog

from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.realtime.holes import Loss, fewest
from rtobserver.store import holes, imprint, regain, replacement, schema, sqlite, tables, vital
from rtobserver.store.identity import CallRef
from rtobserver.store.immediate import immediately
from rtobserver.store.salvage import Salvaged, bring_older, bring_over
from rtobserver.store.transaction import Transaction

SALVAGE_SECONDS = 20.0
"""How long bringing rows over may take; recording waits in memory meanwhile."""
SALVAGE_BYTES = 1024 * 1024 * 1024
"""More than can be brought over in that time: where so much is free, room is not what keeps anybody from it."""
CHECK_SECONDS = 5.0
"""How long a look for damage may take where the writer, or a start, waits for it."""
QUIET_SECONDS = 0.3
"""How long a file must have stayed the same until nobody seems to write to it."""
SCAN_BYTES = 1024 * 1024
"""Of a file that is no database: within so many bytes the words of our tables are looked for."""

_ALONE = "mode=ro&immutable=1"
"""How a file is opened without its WAL."""

Live = Mapping[CallRef, Callable[[Transaction], None]]
"""Calls under observation, each with what writes its row if that is not there."""

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


def is_sound(
    connection: sqlite3.Connection, seconds: float = CHECK_SECONDS, check: Literal["quick", "integrity"] = "quick"
) -> bool:
    """Tell whether SQLite finds no damage; what it cannot look at in the time counts as sound."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 20_000)
    try:
        found = connection.execute(f"PRAGMA {check}_check(1)").fetchall()
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
    """Look at the file before a start; one of ours that is no database any more is replaced by a new one.

    Gives where the damaged one is now. With `suspected` all of it is looked at, which may take minutes. Where an
    earlier run was cut off while it replaced the file, as much is looked at as a start has time for; that it was
    suspected is known until somebody has looked at the rest (`Recovery.look_over`).

    Raises:
        StoreError: it is no database, and nothing shows that it ever was one of ours.
        StoreUnavailable: it cannot be opened now, or the new one cannot be written.

    """
    was_cut_off, is_mixed = replacement.was_cut_off(path), False
    if not path.exists() or path.stat().st_size == 0:
        if was_cut_off:
            # what was to be copied is gone, and of the copy nobody knows how far it came
            replacement.forget(path)
        return None
    own = imprint.number_of(path)
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
            is_mixed = imprint.is_mixed(own, connection)
            if is_mixed:
                log.warning("wal_of_another_file", path=str(path))
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if name in tables.metadata.tables:
                    for direction in ("ASC", "DESC"):
                        connection.execute(
                            f'SELECT rowid FROM "{name}" ORDER BY rowid {direction} LIMIT 1'  # noqa: S608 - our names
                        ).fetchall()
                elif name == "alembic_version":
                    _look_at_version(path, connection)
            if not (suspected or was_cut_off or is_mixed) or is_sound(
                connection, float("inf") if suspected else CHECK_SECONDS
            ):
                if was_cut_off:
                    replacement.empty(path)
                return None
            problem = "quick_check finds damage"
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                return None
            problem = str(exc)
        finally:
            connection.close()
    return replace(path, problem=problem, live={}, mixed=is_mixed)


def replace(path: Path, *, problem: str, live: Live, mixed: bool = False, kept: vital.Kept | None = None) -> Path:
    """Put a new file with all that can be read in the place of a damaged one; gives where that is now.

    No connection of ours that writes may be open. What the calls in `live` have lost is for their observers to
    declare; their rows count what was stored of them, so that the next start does if they cannot. Where it fails,
    the damaged file is where it was. A `mixed` one is read twice, with its WAL and without.

    Raises:
        StoreUnavailable: the new file cannot be written now.

    """
    try:
        with _nobody_else_writing(path):
            made = replacement.begin(path, SALVAGE_BYTES)
            try:
                salvaged = _fill(made, path, live, mixed, kept or vital.Kept())
                aside = replacement.complete(path, "damaged")
            except BaseException:
                replacement.empty(path)
                raise
            log.error(
                "database_damaged",
                problem=problem,
                moved_to=str(aside),
                **_told(salvaged),
            )
            _tell_of_keys(salvaged)
            replacement.finish(path)
    except (OSError, sqlite3.Error) as exc:
        raise StoreUnavailable(f"the damaged {path} cannot be replaced: {exc}") from exc
    return aside


def replace_overwritten(
    path: Path, connection: sqlite3.Connection, *, live: Live, kept: vital.Kept, word: str, done: Callable[[], None]
) -> Path:
    """Put a new file in the place of one that somebody has written over while it was open; gives where that is now.

    What the open connection can read comes first, then what stands in the file itself, without its WAL: that may be
    an older state of all this. `done` is called when the connection is needed no more, and closes it. Otherwise as
    `replace`; what was written over the file is kept as it is.

    Raises:
        StoreUnavailable: the new file cannot be written now.

    """
    try:
        _wait_for_the_end(path)
        made = replacement.begin(path, SALVAGE_BYTES)
        try:
            schema.migrate(made)
            # this closes the file outside of SQLite's books, which takes away our locks on it: so it comes last
            uri = f"file:{quote(str(path))}?{_ALONE}"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as older:
                salvaged = fill(made, [connection, older], live, kept)
            aside = replacement.complete(path, word)
        except BaseException:
            replacement.empty(path)
            raise
        log.error("database_overwritten", moved_to=str(aside), **_told(salvaged))
        _tell_of_keys(salvaged)
        with _guard(path):
            done()
            replacement.finish(path)
        if word == "foreign":
            # they belong to what was there before: to whoever opens the file they would make it neither
            for part in ("-wal", "-shm"):
                aside.with_name(aside.name + part).unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as exc:
        raise StoreUnavailable(f"{path}, which was written over, cannot be replaced: {exc}") from exc
    return aside


def _wait_for_the_end(path: Path) -> None:
    """Wait until nobody seems to write to a file any more."""
    deadline = time.monotonic() + CHECK_SECONDS
    seen: tuple[int, int] | None = None
    while time.monotonic() < deadline:
        found = path.stat()
        if (found.st_size, found.st_mtime_ns) == seen:
            return
        seen = (found.st_size, found.st_mtime_ns)
        time.sleep(QUIET_SECONDS)


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Keep whoever closes the file meanwhile from being the last, who would move the WAL into it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(sqlite3.Error):
            connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
            stack.enter_context(closing(connection))
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        yield


def _tell_of_keys(salvaged: Salvaged) -> None:
    if not salvaged.rows.get("api_key"):
        log.error("keys_lost", help="make new ones with `rtobserver keys create`")


def _told(salvaged: Salvaged) -> dict[str, object]:
    return {
        "rows": salvaged.rows,
        "unreadable": salvaged.damaged,
        "no_time_for": salvaged.left,
        "made_anew": {"call": salvaged.calls_regained, "gap": salvaged.gaps_regained},
        "calls_lost": salvaged.calls_lost,
    }


@contextmanager
def _nobody_else_writing(path: Path) -> Iterator[None]:
    """Have other programs wait, as far as the damage allows it: what they wrote to the old file would be lost."""
    with contextlib.ExitStack() as stack:
        # as a reader of ours finds what is in the WAL, so does this; closed when the file has its other name
        with contextlib.suppress(sqlite3.Error):
            connection = sqlite3.connect(path, timeout=CHECK_SECONDS, isolation_level=None)
            stack.enter_context(closing(connection))
            connection.execute("BEGIN IMMEDIATE")
        yield


def _fill(made: Path, path: Path, live: Live, mixed: bool, kept: vital.Kept) -> Salvaged:
    """Fill a new file from a damaged one."""
    schema.migrate(made)
    with contextlib.ExitStack() as stack:
        sources = []
        for query in ("mode=ro", _ALONE)[: 2 if mixed else 1]:
            source = sqlite3.connect(f"file:{quote(str(path))}?{query}", uri=True, isolation_level=None)
            sources.append(stack.enter_context(closing(source)))
            source.execute("PRAGMA query_only = ON")
        return fill(made, sources, live, kept)


def fill(made: Path, sources: Sequence[sqlite3.Connection], live: Live, kept: vital.Kept) -> Salvaged:
    """Fill a new file, which has its tables, with what can be read of others; of a row the first source's counts.

    What was `kept` in memory counts more than any of them.

    Raises:
        StoreUnavailable: it cannot be written now.

    """
    with closing(sqlite.open_writer(made)) as target:
        # it is synced as a whole before it has a name that anybody believes
        target.execute("PRAGMA synchronous = OFF")
        salvaged = bring_over(sources[0], target, SALVAGE_SECONDS)
        regain.tombstones(target)
        for other in sources[1:]:
            bring_older(other, target, SALVAGE_SECONDS, salvaged)
        salvaged.calls_regained = vital.put(target, kept, {ref.key for ref in live})
        for name, rows in kept.whole.items():
            salvaged.rows[name] = max(salvaged.rows[name], len(rows))
    with sqlite.transaction(made) as connection:
        write_again(Transaction(connection, set()), live)
    with closing(sqlite.open_writer(made)) as target:
        target.execute("PRAGMA synchronous = OFF")
        for source in sources:
            _regain(source, target, salvaged)
        _admit(target, live)
        if salvaged.lacks_entries:
            doubt(target, live)
    with sqlite.transaction(made) as connection:
        write_again(Transaction(connection, set()), live)
    return salvaged


def _regain(source: sqlite3.Connection, target: sqlite3.Connection, salvaged: Salvaged) -> None:
    """Make rows anew that others tell of."""
    if salvaged.lacks("call"):
        regained, salvaged.calls_lost = regain.calls(source, target)
        salvaged.calls_regained += regained
        regain.epochs(target)
    if salvaged.lacks("gap"):
        salvaged.gaps_regained += regain.gaps(target)
        regain.recount(target)


def write_again(transaction: Transaction, live: Live) -> None:
    """Give calls under observation their rows, and have these count what was stored of them."""
    for ref, register in live.items():
        register(transaction)
        transaction.execute(_counting(ref))


def _counting(ref: CallRef) -> sa.Update:
    """Write the statement that has a call's row count all that was ever stored: what is short of it is lost.

    A row of an older state may not know of its newest owner.
    """
    call, gap = tables.call.c, tables.gap.c
    declared = sa.select(sa.func.coalesce(sa.func.sum(gap.lost), 0)).where(
        gap.call_key == ref.key, gap.day == ref.day, gap.reason == "corrupt"
    )
    count = sa.func.max(call.entry_count, ref.stored + declared.scalar_subquery())
    return (
        tables.call.update()
        .where(call.call_key == ref.key, call.day == ref.day)
        .values(entry_count=count, epoch=sa.func.max(call.epoch, ref.epoch))
    )


def admit(connection: sqlite3.Connection, losses: Mapping[CallRef, Sequence[Loss]]) -> None:
    """Declare what calls that nobody observes have lost, whose last owner had the epoch that is told.

    Raises sqlite3.Error.
    """
    with immediately(connection):
        for call, lost in losses.items():
            connection.execute(
                "UPDATE call SET epoch = max(epoch, ?) WHERE call_key = ? AND day = ?", (call.epoch, call.key, call.day)
            )
            _declare(connection, call.key, fewest(lost))


def doubt(target: sqlite3.Connection, live: Live) -> None:
    """Let the mark say nothing of calls that nobody observes and whose last entries may be missing."""
    [latest] = target.execute("SELECT replica_id, doubts FROM replica ORDER BY number DESC LIMIT 1").fetchall() or [
        (None, None)
    ]
    if latest[0] is None:
        return
    doubts = json.loads(latest[1] or "{}")
    known = {ref.key for ref in live}
    for key, call_id, started_at in target.execute(
        "SELECT call_key, call_id, started_at FROM call WHERE ended_at IS NULL"
    ):
        if key not in known:
            doubts[call_id] = started_at
    target.execute("UPDATE replica SET doubts = ? WHERE replica_id = ?", (json.dumps(doubts), latest[0]))


def _admit(target: sqlite3.Connection, live: Live) -> None:
    """Write gaps for each call that has fewer entries than its row counts, or numbers without an entry."""
    now = time.time_ns() // 1000
    known = {ref.key for ref in live}
    short = target.execute(_SHORT).fetchall()
    with immediately(target):
        for key, day, ended_at, missing in short:
            if key in known:
                continue
            losses = holes.of_call(target, key, day)
            # the row of a call that did not end may count a little less than there was
            rest = missing - sum(loss.lost for loss in losses)
            _declare(target, key, fewest([*losses, *holes.behind(target, key, day, rest, ended_at or now)]))


def admit_refused(connection: sqlite3.Connection) -> int:
    """Declare what the database refused of calls that ended, where a run was killed before it did; gives how much.

    What it refused of calls that go on, their observers declare. Raises sqlite3.Error.
    """
    ended = connection.execute(
        "SELECT DISTINCT call_key, day FROM quarantine JOIN call USING (call_key, day) WHERE ended_at IS NOT NULL"
    ).fetchall()
    found = [(key, losses) for key, day in ended if (losses := holes.of_call(connection, key, day))]
    if found:
        with immediately(connection):
            for key, losses in found:
                _declare(connection, key, fewest(losses))
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


def _look_at_version(path: Path, connection: sqlite3.Connection) -> None:
    """Read which release's tables these are; raises what keeps it from that.

    Raises:
        StoreError: it cannot be read, and the tables are not those of this release.

    """
    try:
        connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as exc:
        for table in tables.metadata.tables.values():
            found = {row[1] for row in connection.execute(f'PRAGMA table_info("{table.name}")')}
            if found != {column.name for column in table.columns}:
                raise StoreError(
                    f"{path}: {exc}: its version cannot be read, and its table {table.name} is not this release's:"
                    " start the release that wrote it, which can mend it"
                ) from exc
        raise


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
