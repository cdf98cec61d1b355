"""Take away what is older than it may be kept, in small pieces that fit between two flushes.

On PostgreSQL the entries of a whole day are one partition: the calls of that day are said to be purged,
and then it is dropped (`partitions.py`). So they go when the last call of their day is due.

A call's entries, items and quarantined entries go first. They leave its row marked as purged and a
gap of the reason `erased` that counts the entries, so that no reader takes what is left for a whole
record. Later all else goes. How old a call is counts from its beginning. A call that is going on is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.store import partitions, tables
from rtobserver.store.database import Database
from rtobserver.store.identity import day_of
from rtobserver.store.positions import CallKey
from rtobserver.store.transaction import Transaction

ROWS = 5_000
"""Rows that one transaction takes away at most."""

RECORDINGS = (tables.entry, tables.item, tables.quarantine)
"""What was said."""
REASON = "erased"
"""Why the gap is there that a purge leaves."""
FIGURES = (tables.response, tables.gap, tables.command, tables.decision)
"""What else belongs to a call, besides its own row, its orders and its lease."""

_call = tables.call
_JANITOR = 7_250_147_306_159_612_019
"""The lock of whoever takes away: two replicas that did it at once would count the same rows twice."""
_OVER = _call.c.status.not_in(("connecting", "live"))
# as the index has it, or SQLite does not see that it may use it
_UNPURGED = sa.text("(call.purged_at IS NULL OR call.purged_at = 0)")


class Ref(NamedTuple):
    """Point at a call."""

    key: int
    day: int


@dataclass(frozen=True, slots=True)
class Step:
    """Say what one transaction did."""

    rows: int
    calls: int
    """Calls that it was done with, from the first on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Count what is older than it may be."""

    recordings: int
    """Calls whose entries and items are to go."""
    entries: int
    """Entries of those."""
    calls: int
    """Calls of which everything is to go."""


async def recordings(database: Database, before: int, limit: int) -> list[Ref]:
    """List calls that began before a time and still have what was said, oldest first.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    return await _refs(database, sa.and_(_is_due(database, before), _UNPURGED, _OVER), limit)


async def calls(database: Database, before: int, limit: int) -> list[Ref]:
    """List calls that began before a time, oldest first.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    return await _refs(database, sa.and_(_call.c.started_at < before, _OVER), limit)


async def due(database: Database, *, recordings_before: int, calls_before: int) -> Due:
    """Count what is due.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    purged = sa.and_(_is_due(database, recordings_before), _UNPURGED, _OVER)
    entries = (
        sa.select(sa.func.count())
        .select_from(_call)
        .join(tables.entry, sa.and_(tables.entry.c.call_key == _call.c.call_key, tables.entry.c.day == _call.c.day))
    )
    statements = (
        sa.select(sa.func.count()).select_from(_call).where(purged),
        entries.where(purged),
        sa.select(sa.func.count()).select_from(_call).where(_call.c.started_at < calls_before, _OVER),
    )
    counts = []
    async with database.reading() as connection:
        for statement in statements:
            counts.append(int((await connection.execute(statement)).scalar() or 0))
    return Due(recordings=counts[0], entries=counts[1], calls=counts[2])


def purge(
    found: Sequence[CallKey], at: int, rows: int = ROWS, *, with_day: bool = False
) -> Callable[[Transaction], Step]:
    """Take away what was said in some calls, as far as one transaction may go; for `Writing.run`.

    With `with_day` the entries of days that have a partition are left for `partitions.drop`.
    """

    def work(transaction: Transaction) -> Step:
        left = rows
        _alone(transaction)
        whole = set(partitions.days(transaction)) if with_day and transaction.dialect != "sqlite" else set()
        for done, call in enumerate(found):
            gap = _gap_of(transaction, call)
            if call.day in whole:
                entries = _count(transaction, call)
                # nothing is taken one by one, yet many calls take their time
                left -= 1
            else:
                entries = take(transaction, (tables.entry,), call, left)
                left -= entries
            if entries:
                _admit(transaction, call, gap, entries)
            left -= take(transaction, (tables.item, tables.quarantine), call, left)
            _mark(transaction, call, at if left > 0 else 0)
            if left <= 0:
                return Step(rows, done)
        return Step(rows - left, len(found))

    return work


def forget(found: Sequence[CallKey], rows: int = ROWS) -> Callable[[Transaction], Step]:
    """Take away some calls with all they have, as far as one transaction may go; for `Writing.run`."""

    def work(transaction: Transaction) -> Step:
        left = rows
        _alone(transaction)
        for done, call in enumerate(found):
            left -= take(transaction, (*RECORDINGS, *FIGURES), call, left)
            if left <= 0:
                return Step(rows, done)
            for table in (tables.order, tables.lease, _call):
                transaction.execute(sa.delete(table).where(table.c.call_key == call.key))
                left -= transaction.changed
        return Step(rows - left, len(found))

    return work


def take(transaction: Transaction, from_tables: Sequence[sa.Table], call: CallKey, rows: int) -> int:
    """Delete at most so many of a call's rows; gives how many it were."""
    left = rows
    for table in from_tables:
        if left <= 0:
            break
        own = (table.c.call_key == call.key, table.c.day == call.day)
        # PostgreSQL's numbers hold within a partition only, which the day names
        number = sa.literal_column("rowid" if transaction.dialect == "sqlite" else "ctid", sa.BigInteger())
        chosen = sa.select(number).select_from(table).where(*own).limit(left)
        transaction.execute(sa.delete(table).where(*own, number.in_(chosen)))
        left -= transaction.changed
    return rows - left


class _Gap(NamedTuple):
    epoch: int
    seq: int
    is_new: bool


def _gap_of(transaction: Transaction, call: CallKey) -> _Gap:
    """Find the place of the gap that says what of a call was purged; while entries are left, or it has one already."""
    gap, entry = tables.gap.c, tables.entry.c
    own = (gap.call_key == call.key, gap.day == call.day)
    for epoch, seq in transaction.execute(sa.select(gap.epoch, gap.seq).where(*own, gap.reason == REASON)):
        return _Gap(epoch, seq, is_new=False)
    [(epoch,)] = transaction.execute(sa.select(sa.func.max(_call.c.epoch)).where(_call.c.call_key == call.key))
    # behind all that ever had a number in the newest epoch
    lasts = (
        sa.select(sa.func.max(entry.seq)).where(
            entry.call_key == call.key, entry.day == call.day, entry.epoch == (epoch or 0)
        ),
        sa.select(sa.func.max(gap.seq)).where(*own, gap.epoch == (epoch or 0)),
    )
    found = [number or 0 for statement in lasts for (number,) in transaction.execute(statement)]
    return _Gap(epoch or 0, max(found) + 1, is_new=True)


def _admit(transaction: Transaction, call: CallKey, place: _Gap, entries: int) -> None:
    """Say that entries were taken away; what was erased has no reader who could miss them."""
    gap = tables.gap
    if not place.is_new:
        own = (gap.c.call_key == call.key, gap.c.day == call.day, gap.c.epoch == place.epoch, gap.c.seq == place.seq)
        transaction.execute(sa.update(gap).where(*own).values(lost=gap.c.lost + entries))
        return
    wanted = sa.and_(_call.c.call_key == call.key, _call.c.erased_at.is_(None))
    values: dict[str, Any] = {
        "call_key": _call.c.call_key,
        "day": _call.c.day,
        "epoch": sa.literal(place.epoch),
        "seq": sa.literal(place.seq),
        "from_at": _call.c.started_at,
        "to_at": _call.c.ended_at,
        "reason": sa.literal(REASON),
        "after": sa.null(),
        "state": sa.literal("final"),
        "lost": sa.literal(entries),
        "lost_by_type": sa.literal("{}"),
        "counted": sa.true(),
    }
    transaction.execute(sa.insert(gap).from_select(list(values), sa.select(*values.values()).where(wanted)))
    # a record that was whole is so no longer; one that never was does not become better
    whole = sa.case((_call.c.completeness == "complete", "complete_with_gaps"), else_=_call.c.completeness)
    transaction.execute(sa.update(_call).where(wanted).values(gap_count=_call.c.gap_count + 1, completeness=whole))


def _mark(transaction: Transaction, call: CallKey, at: int) -> None:
    # the instructions that were minted, and the words that policies matched, were said too
    transaction.execute(sa.update(_call).where(_call.c.call_key == call.key).values(purged_at=at, session=None))
    of_call = (tables.decision.c.call_key == call.key, tables.decision.c.day == call.day)
    transaction.execute(sa.update(tables.decision).where(*of_call).values(match=None, detail=None))


def _alone(transaction: Transaction) -> None:
    if transaction.dialect != "sqlite":
        transaction.execute(sa.select(sa.func.pg_advisory_xact_lock(_JANITOR)))


def _count(transaction: Transaction, call: CallKey) -> int:
    entry = tables.entry.c
    counted = sa.select(sa.func.count()).where(entry.call_key == call.key, entry.day == call.day)
    [(count,)] = transaction.execute(counted)
    return int(count)


def _is_due(database: Database, before: int) -> sa.ColumnElement[bool]:
    if database.dialect == "sqlite":
        return _call.c.started_at < before
    return _call.c.day < day_of(before)


async def _refs(database: Database, wanted: sa.ColumnElement[bool], limit: int) -> list[Ref]:
    statement = sa.select(_call.c.call_key, _call.c.day).where(wanted).order_by(_call.c.started_at).limit(limit)
    async with database.reading() as connection:
        return [Ref(*row) for row in await connection.execute(statement)]
