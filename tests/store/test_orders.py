from __future__ import annotations

from typing import Any

from rtobserver.realtime.entries import OrderRow
from rtobserver.store import orders
from rtobserver.store.database import Database
from rtobserver.store.writing import Writing


async def _give(writing: Writing, order_id: str, at: int = 1, **command: Any) -> None:
    command = command or {"type": "pause"}
    await writing.run(orders.give(order_id=order_id, call_key=1, call_id="rtc_1", command=command, actor="key", at=at))


async def _state(reads: Database, order_id: str) -> tuple[str, str | None]:
    found = await orders.find(reads, order_id)
    assert found is not None
    return found.state, found.error


async def test_an_order_is_found_as_it_was_given(writing: Writing, reads: Database) -> None:
    await _give(writing, "ord_1", type="say", text="Hell\u00f6")
    found = await orders.find(reads, "ord_1")
    assert found is not None
    assert (found.call_id, found.state, found.command) == ("rtc_1", "waiting", {"type": "say", "text": "Hell\u00f6"})
    assert await orders.find(reads, "ord_2") is None


async def test_an_order_is_taken_once(writing: Writing, reads: Database) -> None:
    await _give(writing, "ord_2", at=2)
    await _give(writing, "ord_1", at=1)
    assert [each.order_id for each in await orders.waiting(reads)] == ["ord_1", "ord_2"]
    assert await writing.run(orders.take(["ord_1"], "rep_1")) == ["ord_1"]
    assert await writing.run(orders.take(["ord_1", "ord_2"], "rep_1")) == ["ord_2"]
    assert {each.owner for each in await orders.waiting(reads)} == {"rep_1"}


async def test_an_order_that_its_taker_never_settled_is_closed(writing: Writing, reads: Database) -> None:
    for number in (1, 2, 3):
        await _give(writing, f"ord_{number}", at=number)
    await writing.run(orders.take(["ord_1", "ord_3"], "rep_1"))
    await writing.run(orders.lose(2))
    assert await _state(reads, "ord_1") == ("failed", orders.UNKNOWN)
    assert [(await _state(reads, f"ord_{number}"))[0] for number in (2, 3)] == ["waiting", "waiting"]


async def test_what_becomes_of_an_order_is_written_and_the_end_is_final(writing: Writing, reads: Database) -> None:
    await _give(writing, "ord_1")
    await writing.run(orders.settle(OrderRow("ord_1", "sent", "rto_1_2", 5)))
    await writing.run(orders.settle(OrderRow("ord_1", "failed", error="no")))
    await writing.run(orders.settle(OrderRow("ord_1", "acknowledged")))
    assert await _state(reads, "ord_1") == ("failed", "no")
    found = await orders.find(reads, "ord_1")
    assert found is not None
    assert found.event_id == "rto_1_2"


async def test_an_order_that_was_given_back_can_be_taken_again(writing: Writing, reads: Database) -> None:
    await _give(writing, "ord_1")
    await writing.run(orders.take(["ord_1"], "rep_1"))
    await writing.run(orders.settle(OrderRow("ord_1", "waiting")))
    assert await writing.run(orders.take(["ord_1"], "rep_2")) == ["ord_1"]


async def test_only_what_nobody_took_expires(writing: Writing, reads: Database) -> None:
    for number in (1, 2, 3):
        await _give(writing, f"ord_{number}", at=number)
    await writing.run(orders.take(["ord_1"], "rep_1"))
    await writing.run(orders.expire(2))
    assert [(await _state(reads, f"ord_{number}"))[0] for number in (1, 2, 3)] == ["waiting", "expired", "waiting"]


async def test_what_an_earlier_run_left_is_closed_and_never_sent_again(writing: Writing, reads: Database) -> None:
    for number in (1, 2, 3, 4):
        await _give(writing, f"ord_{number}")
    await writing.run(orders.take(["ord_1", "ord_2", "ord_4"], "rep_1"))
    await writing.run(orders.settle(OrderRow("ord_2", "sent")))
    await writing.run(orders.settle(OrderRow("ord_4", "acknowledged")))
    await writing.run(orders.abandon(owner="rep_2"))
    assert await _state(reads, "ord_1") == ("failed", orders.UNKNOWN)
    state, error = await _state(reads, "ord_2")
    assert state == "sent"
    assert error
    assert await _state(reads, "ord_4") == ("acknowledged", None)
    assert [each.order_id for each in await orders.waiting(reads)] == ["ord_3"], "what nobody took can be sent"
