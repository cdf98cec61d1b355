"""Give calls their rows: before upstream is asked, once the id is known, at a take-over.

The notes may be done again: by whoever finds them in a journal, after a successor has written the row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import select, update

from rtobserver.errors import StoreError
from rtobserver.realtime.rows import Totals
from rtobserver.store import folds, tables
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef, call_key, day_of
from rtobserver.store.notes import Note
from rtobserver.store.transaction import Transaction

_MAX_COLLISIONS = 8


class CallExists(StoreError):
    """Report that upstream gave an id that is on record already, or was until it was erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """Be what is known of a call when its row is written."""

    call_id: str
    started_at: int
    profile: str
    model: str
    max_duration_us: int
    protocol: str = "realtime"
    status: str = "connecting"
    outcome: str | None = None
    ended_at: int | None = None
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    token_id: str | None = None
    upstream_request_id: str | None = None
    session: Mapping[str, Any] = field(default_factory=dict)
    """The session that was minted."""

    def ref(self) -> CallRef:
        """Point at the row that this will be."""
        return CallRef(self.call_id, day_of(self.started_at))


def register(call: CallRef, new: NewCall, *, instead_of: CallRef | None = None) -> Note:
    """Write a call's row, in place of the one that stood for its negotiation.

    Sets `call.key`, which a hash collision makes differ from the first guess. A row that is there already since
    it was written from the same negotiation is left as it is.

    Raises (in the database's writer):
        CallExists: the id is on record; nothing is changed, and what is recorded under `call` falls to
            the row of `instead_of`.

    """
    if instead_of is not None:
        call.origin = instead_of.call_id

    def work(transaction: Transaction) -> None:
        try:
            call.key = _enter(transaction, call, new)
        except StoreError:
            if instead_of is not None:
                # what its observer has handed over already must not be mixed into the call on record
                call.key = instead_of.key
            raise
        if instead_of is not None:
            transaction.execute(tables.call.delete().where(tables.call.c.call_key == instead_of.key))

    return Note("register", work, (call, instead_of), asdict(new))


def again(call: CallRef, new: NewCall, epoch: int) -> Note:
    """Write a live call's row if it is not there.

    The file is another one than that in which it was registered, or its row waits in another replica's journal.
    """

    def work(transaction: Transaction) -> None:
        values = row(call, new) | {"epoch": epoch}
        transaction.execute(transaction.insert(tables.call).values(values).on_conflict_do_nothing())

    return Note("again", work, (call,), {"new": asdict(new), "epoch": epoch})


def close(call: CallRef, *, status: str, outcome: str, ended_at: int | None) -> Note:
    """Write how a negotiation ended that led to no observed call."""
    told = {"status": status, "outcome": outcome, "ended_at": ended_at}

    def work(transaction: Transaction) -> None:
        values = told | {"completeness": "incomplete"}
        transaction.execute(update(tables.call).where(tables.call.c.call_key == call.key).values(values))

    return Note("close", work, (call,), told)


def next_epoch(call: CallRef) -> Callable[[Transaction], int]:
    """Begin a new owner's stretch of observing the call; gives its number."""

    def work(transaction: Transaction) -> int:
        where = tables.call.c.call_key == call.key
        transaction.execute(update(tables.call).where(where).values(epoch=tables.call.c.epoch + 1))
        [(epoch,)] = transaction.execute(select(tables.call.c.epoch).where(where))
        return int(epoch)

    return work


def _enter(transaction: Transaction, call: CallRef, new: NewCall) -> int:
    """Write the row under the first key that is free; gives the key."""
    columns = tables.call.c
    for attempt in range(_MAX_COLLISIONS):
        key = call_key(call.call_id, attempt)
        there = select(columns.call_id, columns.started_at).where(columns.call_key == key)
        found = transaction.execute(there)
        if not found:
            erased = select(tables.tombstone.c.call_key).where(tables.tombstone.c.call_key == key)
            if transaction.execute(erased):
                raise CallExists(f"{call.call_id} was erased")
            values = row(call, new) | {"call_key": key}
            entered = (
                transaction.insert(tables.call).values(values).on_conflict_do_nothing().returning(columns.call_key)
            )
            if transaction.execute(entered):
                return key
            # another replica was quicker
            found = transaction.execute(there)
        if found and found[0] == (call.call_id, new.started_at):
            return key
        if not found or found[0][0] == call.call_id:
            raise CallExists(f"{call.call_id} is on record already")
    raise StoreError(f"no free key for {call.call_id}")


def key_of(transaction: Transaction, call_id: str) -> int | None:
    """Find the key under which a call is on record; None where it is not."""
    for attempt in range(_MAX_COLLISIONS):
        key = call_key(call_id, attempt)
        found = transaction.execute(select(tables.call.c.call_id).where(tables.call.c.call_key == key))
        if not found:
            return None
        if found[0][0] == call_id:
            return key
    return None


def row(call: CallRef, new: NewCall) -> dict[str, Any]:
    """Give the columns of a call of which nothing is recorded yet."""
    return {
        "call_key": call.key,
        "day": call.day,
        "call_id": new.call_id,
        "protocol": new.protocol,
        "status": new.status,
        "outcome": new.outcome,
        "started_at": new.started_at,
        "ended_at": new.ended_at,
        "profile": new.profile,
        "model": new.model,
        "user": new.user,
        "labels": json.dumps(dict(new.labels)),
        "tags": "[]",
        "token_id": new.token_id,
        "max_duration_us": new.max_duration_us,
        "epoch": 1,
        "entry_count": 0,
        "tampered": False,
        "attach_latency_ms": None,
        "completeness": None,
        "checks": "{}",
        "gap_count": 0,
        "upstream_request_id": new.upstream_request_id,
        "session": json.dumps(dict(new.session)),
        **folds.call_values(Totals()),
    }


@dataclass(frozen=True, slots=True)
class Owner:
    """Say who opened a call."""

    token_id: str | None
    user: str | None
    call_key: int
    goes_on: bool
    """Whether its row says that somebody observes it."""


async def owner(database: Database, call_id: str) -> Owner | None:
    """Read who opened a call; None where there is no such call.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    columns = tables.call.c
    statement = select(columns.token_id, columns.user, columns.call_key, columns.status)
    async with database.reading() as connection:
        row = (await connection.execute(statement.where(columns.call_id == call_id))).first()
    return Owner(row.token_id, row.user, row.call_key, row.status == "live") if row else None
