"""Mark what two replicas have received of a call: it counts once, in the later epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.identity import CallRef
from rtobserver.store.transaction import Transaction

_entry, _gap = tables.entry, tables.gap


def since(call: CallRef, epoch: int, at: int) -> Callable[[Transaction], None]:
    """Mark the events of an epoch that were received from a time on, when the next owner heard the call too."""
    return _marking(call, epoch, sa.literal(at, sa.BigInteger))


def late(call: CallRef, epoch: int) -> Callable[[Transaction], None]:
    """Mark the events of an epoch that were received after a later owner's take-over, as far as one is on record."""
    taken_over_at = (
        sa.select(sa.func.min(_gap.c.to_at))
        .where(_gap.c.call_key == call.key, _gap.c.day == call.day)
        .where(_gap.c.epoch > epoch, _gap.c.reason == "takeover")
        .scalar_subquery()
    )
    return _marking(call, epoch, taken_over_at)


def _marking(call: CallRef, epoch: int, at: sa.ColumnElement[Any]) -> Callable[[Transaction], None]:
    statement = (
        _entry.update()
        .where(_entry.c.call_key == call.key, _entry.c.day == call.day, _entry.c.epoch == epoch)
        .where(_entry.c.kind == tables.KIND_EVENT, _entry.c.at >= at)
        .values(flags=_entry.c.flags.op("|")(tables.FLAG_OVERLAP))
    )

    def work(transaction: Transaction) -> None:
        transaction.execute(statement)

    return work
