"""Keep the partitions of PostgreSQL's table `entry`: one for each UTC day, made before the day comes, dropped whole.

Rows of days without a partition go to `entry_rest`: late ones of days that were dropped, and those of
a daemon that could make none. Nothing is lost there, but rows are taken away one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.transaction import Transaction

DAYS_AHEAD = 7
LOCK_MS = 1_000
"""How long making or dropping one may wait, since whoever comes after it waits, too."""

_LOCK = 0x72746F70
"""Number of the lock for whoever makes partitions; any that nobody else takes."""
_NAME = re.compile(r"entry_([0-9]{8})")
_FIRST = date(1970, 1, 1)
_call = tables.call


def name_of(day: int) -> str:
    """Name the partition of a day, which is counted since 1970."""
    return f"entry_{_FIRST + timedelta(days=day):%Y%m%d}"


def prepare(today: int) -> Callable[[Transaction], int]:
    """Make the partitions from yesterday on that are not there; gives how many; for `Writing.run`."""

    def work(transaction: Transaction) -> int:
        if transaction.dialect == "sqlite":
            return 0
        wanted = set(range(today - 1, today + DAYS_AHEAD + 1))
        if not wanted - set(days(transaction)):
            return 0
        _hurry(transaction)
        # replicas that start together all find it missing
        transaction.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        missing = sorted(wanted - set(days(transaction)))
        makeable = [day for day in missing if not _is_in_rest(transaction, day)]
        for day in makeable:
            _make(transaction, day)
        return len(makeable)

    return work


def drop(before: int) -> Callable[[Transaction], int]:
    """Drop the oldest partition of a day before this one of which every call was purged; gives how many days.

    All of the day's calls lose their entries at once, so it is for those who have said in the calls' rows that
    they are gone. A day that has another call yet, which came late or goes on, is left.
    """

    def work(transaction: Transaction) -> int:
        if transaction.dialect == "sqlite":
            return 0
        kept = sa.or_(_call.c.purged_at.is_(None), _call.c.purged_at == 0)
        for day in days(transaction):
            if day >= before:
                break
            if not transaction.execute(sa.select(_call.c.call_key).where(_call.c.day == day, kept).limit(1)):
                _hurry(transaction)
                transaction.execute(sa.text(f"DROP TABLE {name_of(day)}"))
                return 1
        return 0

    return work


def days(transaction: Transaction) -> list[int]:
    """List the days that have a partition, oldest first."""
    children = "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    statement = sa.text(f"{children} WHERE inhparent = CAST('entry' AS regclass)")
    found = [_NAME.fullmatch(name) for (name,) in transaction.execute(statement)]
    return sorted((date.fromisoformat(match[1]) - _FIRST).days for match in found if match)


def _is_in_rest(transaction: Transaction, day: int) -> bool:
    # those rows would have to be moved first; they are found and taken away where they are
    rest = sa.table("entry_rest", sa.column("day", sa.Integer))
    return bool(transaction.execute(sa.select(rest.c.day).where(rest.c.day == day).limit(1)))


def _make(transaction: Transaction, day: int) -> None:
    name = name_of(day)
    # made beside the table and then hung in: so nobody who reads or writes it has to wait
    _hurry(transaction)
    for statement in (
        f"CREATE TABLE {name} (LIKE entry INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)",
        f"ALTER TABLE {name} ADD CONSTRAINT its_day CHECK (day = {day})",
        f"ALTER TABLE entry ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({day + 1})",
        f"ALTER TABLE {name} DROP CONSTRAINT its_day",
    ):
        transaction.execute(sa.text(statement))


def _hurry(transaction: Transaction) -> None:
    transaction.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
