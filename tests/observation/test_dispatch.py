"""How orders get from the store to observers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.observation.control import Order
from rtobserver.observation.dispatch import LOOK_SECONDS, QUIET_SECONDS, WAITING_SECONDS, Dispatch
from rtobserver.observation.ownership import Sole
from rtobserver.store import orders
from rtobserver.store.database import Database
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.writer import Writer
from tests.store import stored


class Taking:
    """Take orders and remember them."""

    def __init__(self) -> None:
        self.taken: list[Order] = []
        self.some = asyncio.Event()

    def order(self, order: Order) -> None:
        self.taken.append(order)
        self.some.set()


class Stage:
    def __init__(self, database: Database, writer: Writer) -> None:
        self.database, self.writer = database, writer
        self.clock = SystemClock()
        self.calls: dict[str, Taking] = {}
        self.dispatch = Dispatch(
            writer=writer,
            database=database,
            clock=self.clock,
            ownership=Sole(writer, "rep_1"),
            find=lambda call_id: self.calls.get(call_id),
        )

    async def give(self, order_id: str, call_id: str = "rtc_1", age: float = 0.0) -> None:
        at = self.clock.now_us() - int(age * 1e6)
        command = {"type": "pause"}
        await self.writer.run(
            orders.give(order_id=order_id, call_key=1, call_id=call_id, command=command, actor="key", at=at)
        )

    async def state(self, order_id: str) -> str:
        found = await orders.find(self.database, order_id)
        assert found is not None
        return found.state


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    path = stored.fresh(tmp_path)
    writer = stored.writer_of(path)
    await writer.open()
    async with SqliteDatabase(path, clock=SystemClock()) as database:
        yield Stage(database, writer)
    await writer.close()


async def test_an_order_goes_to_the_observer_of_its_call_once(stage: Stage) -> None:
    one, two = stage.calls["rtc_1"], stage.calls["rtc_2"] = Taking(), Taking()
    await stage.give("ord_1", "rtc_1")
    await stage.give("ord_2", "rtc_2")
    assert not await stage.dispatch.look()
    assert not await stage.dispatch.look()
    assert [order.order_id for order in one.taken] == ["ord_1"]
    assert [order.order_id for order in two.taken] == ["ord_2"]


async def test_an_order_waits_for_an_observer_and_expires_without_one(stage: Stage) -> None:
    await stage.give("ord_1")
    await stage.give("ord_2", age=11.0)
    assert await stage.dispatch.look()
    assert (await stage.state("ord_1"), await stage.state("ord_2")) == ("waiting", "expired")
    stage.calls["rtc_1"] = Taking()
    await stage.dispatch.look()
    assert [order.order_id for order in stage.calls["rtc_1"].taken] == ["ord_1"]


async def test_looks_are_seldom_while_nothing_is_there_until_an_order_waits_or_is_not_settled(stage: Stage) -> None:
    assert stage.dispatch.pause == LOOK_SECONDS
    await stage.dispatch.look()
    assert stage.dispatch.pause == QUIET_SECONDS
    await stage.give("ord_1")
    await stage.dispatch.look()
    assert stage.dispatch.pause == WAITING_SECONDS
    stage.calls["rtc_1"] = Taking()
    await stage.dispatch.look()
    assert stage.dispatch.pause == LOOK_SECONDS


async def test_an_order_whose_call_ends_while_it_is_taken_has_failed(stage: Stage) -> None:
    await stage.give("ord_1")
    observers = iter([Taking(), None])
    stage.dispatch = Dispatch(
        writer=stage.writer,
        database=stage.database,
        clock=stage.clock,
        ownership=Sole(stage.writer, "rep_1"),
        find=lambda _: next(observers),
    )
    await stage.dispatch.look()
    await stage.writer.readable()
    assert await stage.state("ord_1") == "failed"


async def test_an_order_whose_observer_failed_is_not_left_waiting(stage: Stage) -> None:
    stage.calls["rtc_1"] = Taking()
    await stage.give("ord_1", age=15.0)
    await stage.dispatch.look()
    assert await stage.state("ord_1") == "waiting"
    await stage.give("ord_2", age=25.0)
    await stage.dispatch.look()
    await stage.dispatch.look()
    assert (await stage.state("ord_1"), await stage.state("ord_2")) == ("waiting", "failed")


async def test_a_signal_brings_an_order_at_once(stage: Stage) -> None:
    stage.calls["rtc_1"] = Taking()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        running = group.create_task(stage.dispatch.run(), name="bring orders")
        await stage.give("ord_1")
        stage.writer.ordered.announce()
        await stage.calls["rtc_1"].some.wait()
        running.cancel()
