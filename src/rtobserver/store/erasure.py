"""Take the texts and identities of one call out of the database, then out of its files.

The first is done when the caller is answered: the call is a tombstone, its rows are gone, nothing
that still waits in the writer for it is written. The second takes longer: SQLite overwrites deleted
rows (`secure_delete`), but the search index forgets a word only when its parts are merged, and the
WAL keeps old pages until it is cut off. `Erased.complete` is said in the audit only after both.

The call's row stays, without user, labels and tags: its sums are nobody's words. So do its orders, without
what was ordered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from rtobserver.errors import StoreError
from rtobserver.store import audit, retention, tables
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey
from rtobserver.store.transaction import Transaction

MERGE_PAGES = 256
"""Pages of the search index that one transaction merges: about ten milliseconds."""

_call, _tombstone, _order = tables.call, tables.tombstone, tables.order


class CallIsLive(StoreError):
    """Report that a call is going on: what is still being said cannot be erased."""


class Erased(NamedTuple):
    """Be an erasure whose bytes may still be in the files."""

    key: int
    day: int
    call_id: str
    actor: str
    erased_at: int


def begin(call: CallKey, *, actor: str, at: int) -> Callable[[Transaction], bool]:
    """Make a call a tombstone and take away all but its entries; False where it was one already.

    Raises (in the writer):
        CallIsLive: nothing is changed.

    """

    def work(transaction: Transaction) -> bool:
        found = transaction.execute(sa.select(_call.c.status).where(_call.c.call_key == call.key))
        if found and found[0][0] in ("connecting", "live"):
            raise CallIsLive("the call is going on")
        marked = transaction.execute(
            transaction.insert(_tombstone)
            .values(call_key=call.key, erased_at=at, actor=actor)
            .on_conflict_do_nothing()
            .returning(_tombstone.c.call_key)
        )
        transaction.refuse(call.key)
        for table in (tables.item, tables.quarantine, *retention.FIGURES):
            transaction.execute(sa.delete(table).where(table.c.call_key == call.key, table.c.day == call.day))
        transaction.execute(sa.delete(tables.lease).where(tables.lease.c.call_key == call.key))
        # ids of orders stay, so that a request for one is told what became of it; what they said goes
        of_call = _order.c.call_key == call.key
        transaction.execute(sa.update(_order).where(of_call).values(command="{}", event_id=None, error=None))
        # in another state a row takes no late word of what became of it
        transaction.execute(
            sa.update(_order).where(of_call, _order.c.state.in_(("waiting", "sent"))).values(state="failed")
        )
        transaction.execute(
            sa.update(_call)
            .where(_call.c.call_key == call.key)
            .values(
                user=None,
                labels="{}",
                tags="[]",
                token_id=None,
                upstream_request_id=None,
                session=None,
                checks="{}",
                purged_at=0,
                erased_at=at,
            )
        )
        return bool(marked)

    return work


async def unfinished(database: Database) -> list[Erased]:
    """List erasures of which the audit does not say yet that they are complete.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    pending = sa.select(_tombstone.c.call_key, _tombstone.c.actor, _tombstone.c.erased_at)
    async with database.reading() as connection:
        found = {row[0]: row for row in await connection.execute(pending.where(_tombstone.c.completed_at.is_(None)))}
        wanted = sa.select(_call.c.call_key, _call.c.day, _call.c.call_id).where(_call.c.call_key.in_(found))
        return [Erased(*row, *found[row.call_key][1:]) for row in await connection.execute(wanted)]


async def journaled(database: Database) -> int | None:
    """Say since when at the earliest something waits in a replica's journal; None where nothing does.

    What was erased since then may still be in that file.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        found = (await connection.execute(sa.select(sa.func.min(tables.journal.c.oldest_at)))).scalar()
    return None if found is None else int(found)


def merge(*, first: bool) -> Callable[[Transaction], bool]:
    """Merge a piece of the search index into one whole; True when there is nothing left to do.

    Only a whole index has forgotten the words of deleted lines.
    """

    def work(transaction: Transaction) -> bool:
        before = _total_changes(transaction)
        pages = -MERGE_PAGES if first else MERGE_PAGES
        transaction.execute(
            sa.text("INSERT INTO search_index (search_index, rank) VALUES ('merge', :pages)").bindparams(pages=pages)
        )
        # as SQLite's documentation has it: a merge that did nothing counts as one change
        return _total_changes(transaction) - before < 2

    return work


def cut_wal(connection: sqlite3.Connection) -> bool:
    """Move all of the WAL into the database and cut it off; False where a reader is in the way."""
    [(waited,)] = connection.execute("PRAGMA busy_timeout").fetchall()
    # the writer must not wait for readers, it is asked again
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {waited}")
    return not busy


def complete(erased: Sequence[Erased], at: int) -> Callable[[Transaction], None]:
    """Say in the audit that erasures are complete, once."""

    def work(transaction: Transaction) -> None:
        for each in erased:
            pending = sa.and_(_tombstone.c.call_key == each.key, _tombstone.c.completed_at.is_(None))
            transaction.execute(sa.update(_tombstone).where(pending).values(completed_at=at))
            if transaction.changed:
                transaction.execute(
                    audit.insertion(at, action="calls.erased", object_=each.call_id, status=200, actor=each.actor)
                )

    return work


def _total_changes(transaction: Transaction) -> int:
    [(count,)] = transaction.execute(sa.select(sa.func.total_changes()))
    return int(count)
