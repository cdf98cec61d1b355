"""Bring operators' orders from the store to the observers of their calls.

A signal says that an order was given; reading the store is what finds it. An order is taken before
it is handed over, and that is committed first: a run that dies in between leaves an order that is
never sent twice. One that no observer here can take is looked at again, until it expires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreError
from rtobserver.observation.control import ORDER_SECONDS, Order
from rtobserver.observation.ownership import Ownership
from rtobserver.realtime.entries import OrderRow
from rtobserver.store import orders
from rtobserver.store.database import Database
from rtobserver.store.writing import Writing

LOOK_SECONDS = 1.0
"""Between two looks, while no signal comes."""
QUIET_SECONDS = 5.0
"""The same where nobody but this process gives orders, and none is there: the signal tells of each."""
WAITING_SECONDS = 0.1
"""Between two looks, while an order waits for an observer."""
LOST_SECONDS = 2 * ORDER_SECONDS
"""An order that was taken and still waits so long after it was given belongs to an observer that failed."""

log = structlog.get_logger()


class TakesOrders(Protocol):
    """Be an observer, as far as orders go."""

    def order(self, order: Order) -> None:
        """Carry out an order."""


class Dispatch:
    """Bring orders to the calls of one process."""

    def __init__(
        self,
        *,
        writer: Writing,
        database: Database,
        clock: Clock,
        ownership: Ownership,
        find: Callable[[str], TakesOrders | None],
    ) -> None:
        self._writer = writer
        self._database = database
        self._clock = clock
        self._ownership = ownership
        self._find = find
        self._is_shared = database.dialect != "sqlite"
        """Whether other processes give orders, too; their signals may get lost."""
        self.pause = LOOK_SECONDS
        """Seconds until the next look, if no signal comes."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            seen = self._writer.ordered.count
            try:
                await self.look()
            except StoreError as exc:
                log.warning("orders_not_readable", problem=str(exc))
                await self._clock.sleep(LOOK_SECONDS)
                continue
            await self._writer.ordered.wait(seen, self.pause)

    async def look(self) -> bool:
        """Hand over what can be; tells whether an order is left that may still be carried out."""
        found = await orders.waiting(self._database)
        waiting = [each for each in found if each.owner is None]
        here = [each for each in waiting if self._find(each.call_id) is not None]
        if here and self._ownership.may_act():
            work = orders.take([each.order_id for each in here], self._ownership.replica_id)
            taken = set(await self._writer.run(work))
            for each in here:
                if each.order_id in taken:
                    self._hand_over(each)
        now = self._clock.now_us()
        late, lost = now - int(ORDER_SECONDS * 1e6), now - int(LOST_SECONDS * 1e6)
        if any(each.ordered_at <= late for each in waiting if each not in here):
            await self._writer.run(orders.expire(late))
        if any(each.ordered_at <= lost for each in found if each.owner is not None):
            await self._writer.run(orders.lose(lost))
        left = len(here) < len(waiting)
        self.pause = WAITING_SECONDS if left else LOOK_SECONDS if found or self._is_shared else QUIET_SECONDS
        return left

    def _hand_over(self, row: orders.Order) -> None:
        observer = self._find(row.call_id)
        if observer is None:
            # the call ended while the order was being taken
            problem = OrderRow(row.order_id, "failed", error="the call ended before it was sent")
            self._writer.note(orders.settle(problem)).add_done_callback(orders.hear)
        else:
            observer.order(Order(row.order_id, dict(row.command), row.ordered_at))
