"""Mark what two replicas have received of a call: it counts once, in the later epoch."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from rtobserver.realtime.events import read
from rtobserver.store import tables
from rtobserver.store.identity import CallRef
from rtobserver.store.transaction import Transaction

SLACK_US = 5_000_000
"""By how much what was received before a join may be the first thing that was sent after it."""

_entry, _gap = tables.entry, tables.gap


def since(call: CallRef, epoch: int, at: int, first: bytes) -> Callable[[Transaction], None]:
    """Mark the events of an epoch from the one on that the next owner heard `first`, after it had joined `at` a time.

    It is known by its id, or by its bytes. Where it is not among them, those count that were received from that
    time on: whether upstream gives an event the same id on each connection is not known.
    """
    event, _ = read(first)
    same = _entry.c.event_id == event.event_id if event.event_id else _entry.c.payload == first
    found = sa.select(sa.func.min(_entry.c.seq)).where(*_events(call, epoch), _entry.c.at >= at - SLACK_US, same)

    def work(transaction: Transaction) -> None:
        [(seq,)] = transaction.execute(found)
        transaction.execute(_marking(call, epoch, _entry.c.at >= at if seq is None else _entry.c.seq >= seq))

    return work


def late(call: CallRef, epoch: int) -> Callable[[Transaction], None]:
    """Mark the events of an epoch that were received after a later owner's take-over, as far as one is on record."""
    taken_over_at = (
        sa.select(sa.func.min(_gap.c.to_at))
        .where(_gap.c.call_key == call.key, _gap.c.day == call.day)
        .where(_gap.c.epoch > epoch, _gap.c.reason == "takeover")
        .scalar_subquery()
    )
    statement = _marking(call, epoch, _entry.c.at >= taken_over_at)

    def work(transaction: Transaction) -> None:
        transaction.execute(statement)

    return work


def _marking(call: CallRef, epoch: int, which: sa.ColumnElement[bool]) -> sa.Update:
    flags = _entry.c.flags.op("|")(tables.FLAG_OVERLAP)
    return _entry.update().where(*_events(call, epoch), which).values(flags=flags)


def _events(call: CallRef, epoch: int) -> tuple[sa.ColumnElement[bool], ...]:
    own = (_entry.c.call_key == call.key, _entry.c.day == call.day, _entry.c.epoch == epoch)
    return (*own, _entry.c.kind == tables.KIND_EVENT)
