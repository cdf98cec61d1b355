"""Keep operators' orders: given, taken by the run of the daemon that carries them out, settled.

An order is taken before it is carried out and belongs to that run from then on; if that run dies
first, nobody can know whether it was sent, and it is never sent again. Functions that give work are
for `Writer.post`. Order rows stand apart from calls' rows: no statement touches both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from msgspec.structs import asdict

from rtobserver.realtime.entries import OrderRow
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.notes import Note
from rtobserver.store.writer import Transaction

UNKNOWN = "it is not known whether it was sent: who was to send it stopped meanwhile"

log = structlog.get_logger()

_order = tables.order
# asked again and again for as long as the daemon runs
HANG_UP = {"type": "hangup"}
"""The command that ends a call without a goodbye."""
_WAITING = sa.select(_order).where(_order.c.state == "waiting").order_by(_order.c.ordered_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Be an order as its row has it."""

    order_id: str
    call_key: int
    call_id: str
    state: str
    owner: str | None
    """The run of the daemon that took it."""
    command: Mapping[str, Any]
    event_id: str | None
    ordered_at: int
    error: str | None


def give(
    *, order_id: str, call_key: int, call_id: str, command: Mapping[str, Any], actor: str, at: int
) -> Callable[[Transaction], None]:
    """Write a new order."""
    statement = _order.insert().values(
        order_id=order_id,
        call_key=call_key,
        call_id=call_id,
        state="waiting",
        command=json.dumps(dict(command)),
        actor=actor,
        ordered_at=at,
    )

    def work(transaction: Transaction) -> None:
        transaction.execute(statement)

    return work


async def find(database: Database, order_id: str) -> Order | None:
    """Read an order.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        row = (await connection.execute(sa.select(_order).where(_order.c.order_id == order_id))).mappings().first()
    return _order_of(row) if row is not None else None


async def waiting(database: Database) -> list[Order]:
    """List the orders that wait, taken or not, oldest first.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        return [_order_of(row) for row in (await connection.execute(_WAITING)).mappings()]


async def will_end(database: Database, call_key: int) -> bool:
    """Say whether a call was ordered to end at once, and that has not failed.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    at_once = sa.and_(_order.c.call_key == call_key, _order.c.command == json.dumps(HANG_UP))
    statement = sa.select(sa.exists().where(at_once, _order.c.state.not_in(("failed", "expired"))))
    async with database.reading() as connection:
        return bool((await connection.execute(statement)).scalar_one())


def take(order_ids: Collection[str], owner: str) -> Callable[[Transaction], list[str]]:
    """Take orders for one run of the daemon; gives the ids of those that were still there."""
    free = sa.and_(_order.c.order_id.in_(order_ids), _order.c.state == "waiting", _order.c.owner.is_(None))
    # one statement: of two that take the same order, one finds it taken
    statement = _order.update().where(free).values(owner=owner).returning(_order.c.order_id)

    def work(transaction: Transaction) -> list[str]:
        return [str(row[0]) for row in transaction.execute(statement)]

    return work


def settle(row: OrderRow) -> Note:
    """Write what became of an order; nothing is written over a later state."""
    values: dict[str, Any] = {"state": row.state, "error": row.error}
    for name in ("event_id", "sent_at", "acknowledged_at"):
        if (value := getattr(row, name)) is not None:
            values[name] = value
    if row.state == "waiting":
        values["owner"] = None
    where = sa.and_(_order.c.order_id == row.order_id, _order.c.state.in_(("waiting", "sent")))

    def work(transaction: Transaction) -> None:
        transaction.execute(_order.update().where(where).values(values))

    return Note("settle", work, (), asdict(row))


def expire(before: int) -> Callable[[Transaction], None]:
    """Close orders that were given before a time and that nobody has taken."""

    def work(transaction: Transaction) -> None:
        late = sa.and_(_order.c.state == "waiting", _order.c.owner.is_(None), _order.c.ordered_at <= before)
        transaction.execute(_order.update().where(late).values(state="expired"))

    return work


def lose(before: int) -> Callable[[Transaction], None]:
    """Close orders that were given before a time, and taken by somebody who should have settled them since."""

    def work(transaction: Transaction) -> None:
        late = sa.and_(_order.c.state == "waiting", _order.c.owner.is_not(None), _order.c.ordered_at <= before)
        transaction.execute(_order.update().where(late).values(state="failed", error=UNKNOWN))

    return work


def abandon(*, owner: str) -> Callable[[Transaction], None]:
    """Close what earlier runs had taken and did not settle; this run is `owner`."""
    return _abandon(sa.and_(_order.c.owner.is_not(None), _order.c.owner != owner))


def abandon_of_the_dead() -> Callable[[Transaction], None]:
    """Close what replicas had taken that were declared dead since, and did not settle."""
    dead = sa.select(tables.replica.c.replica_id).where(tables.replica.c.fenced_at.is_not(None))
    return _abandon(_order.c.owner.in_(dead))


def _abandon(theirs: sa.ColumnElement[bool]) -> Callable[[Transaction], None]:
    def work(transaction: Transaction) -> None:
        transaction.execute(
            _order.update().where(theirs, _order.c.state == "waiting").values(state="failed", error=UNKNOWN)
        )
        transaction.execute(
            _order.update()
            .where(theirs, _order.c.state == "sent", _order.c.error.is_(None))
            .values(error="no acknowledgement is known: the daemon stopped meanwhile")
        )

    return work


def hear(settled: asyncio.Future[Any]) -> None:
    """Take note of an order's row for which nobody waits."""
    if not settled.cancelled() and (problem := settled.exception()) is not None:
        log.warning("order_not_settled", problem=str(problem))


def _order_of(row: sa.RowMapping) -> Order:
    values = {name: row[name] for name in Order.__slots__}
    return Order(**values | {"command": json.loads(values["command"])})
