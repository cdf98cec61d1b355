"""Mark what two replicas have received of a call: it counts once, in the later epoch.

Only what the later owner has too is marked, since what is marked is left out of what is read. Times
never mark anything by themselves: they are of two machines' clocks, and who had the call may
have been slow to read what was sent before the next one joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from rtobserver.realtime.events import fields, read
from rtobserver.realtime.redaction import AUDIO_DELTAS
from rtobserver.store import tables
from rtobserver.store.identity import CallRef
from rtobserver.store.transaction import Transaction

NEAR_US = 60_000_000
"""Around a join, where an event that both have is looked for first."""
ALIKE = 1_000
"""Events whose content is compared where ids tell nothing."""
LONG = 1_024
"""Texts from which on a payload may hold something else in their place (`realtime/redaction.py`)."""

_entry, _gap = tables.entry, tables.gap


def since(call: CallRef, epoch: int, at: int, first: bytes) -> Callable[[Transaction], None]:
    """Mark the events of an epoch from the one on that the next owner heard `first`, after it had joined `at` a time.

    It is known by its id, or by its bytes; else by its content, since whether upstream gives an event the same id on
    each connection is not known, if only one says that, and none before the join. Where it is not there, whoever had
    the call has heard none of what the next one has.
    """

    def work(transaction: Transaction) -> None:
        _mark(transaction, call, epoch, at, first)

    return work


def late(call: CallRef, epoch: int) -> Callable[[Transaction], None]:
    """Mark the events of an epoch that a later owner has too, as far as its take-over is on record."""
    later = sa.and_(_entry.c.call_key == call.key, _entry.c.day == call.day, _entry.c.epoch > epoch)
    joined = sa.select(sa.func.min(_gap.c.to_at)).where(
        _gap.c.call_key == call.key, _gap.c.day == call.day, _gap.c.epoch > epoch, _gap.c.reason == "takeover"
    )
    first = sa.select(_entry.c.payload).where(later, _entry.c.kind == tables.KIND_EVENT)
    first = first.order_by(_entry.c.epoch, _entry.c.seq).limit(1)

    def work(transaction: Transaction) -> None:
        [(at,)] = transaction.execute(joined)
        found = transaction.execute(first)
        if at is not None and found:
            _mark(transaction, call, epoch, at, bytes(found[0][0]))

    return work


def _mark(transaction: Transaction, call: CallRef, epoch: int, at: int, first: bytes) -> None:
    its = (_entry.c.call_key == call.key, _entry.c.day == call.day, _entry.c.epoch == epoch)
    own = (*its, _entry.c.kind == tables.KIND_EVENT)
    event, _ = read(first)
    same = _entry.c.event_id == event.event_id if event.event_id else _entry.c.payload == first
    near = _entry.c.at.between(at - NEAR_US, at + NEAR_US)
    lookups: tuple[sa.Select[Any], ...] = (
        sa.select(_entry.c.seq).where(*own, near, same).order_by(sa.func.abs(_entry.c.at - at)).limit(1),
        # a clock is far wrong
        sa.select(sa.func.max(_entry.c.seq)).where(*own, same).having(sa.func.count() > 0),
    )
    for lookup in lookups:
        if rows := transaction.execute(lookup):
            [(seq,)] = rows
            break
    else:
        alike = sa.select(_entry.c.seq, _entry.c.at, _entry.c.payload).where(*own, near, _entry.c.type == event.type)
        content = _content(first)
        rows = transaction.execute(alike.order_by(sa.func.abs(_entry.c.at - at)).limit(ALIKE))
        same_words = [(seq, then) for seq, then, payload in rows if content and _content(bytes(payload)) == content]
        # to leave out what the next owner does not have is worse than to give twice what both have
        is_sure = len(same_words) == 1 and same_words[0][1] >= at
        seq = same_words[0][0] if is_sure else None
    if seq is not None:
        flags = _entry.c.flags.op("|")(tables.FLAG_OVERLAP)
        transaction.execute(_entry.update().where(*own, _entry.c.seq >= seq).values(flags=flags))


def _content(payload: bytes) -> Any:
    """Give what an event says but for its id, and for what may have been replaced in it."""
    found = fields(payload)
    left_out = ("event_id", "delta") if found.get("type") in AUDIO_DELTAS else ("event_id",)
    return {name: _short(value) for name, value in found.items() if name not in left_out}


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return None if "hmac_sha256" in value else {name: _short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return None if isinstance(value, str) and len(value) > LONG else value
