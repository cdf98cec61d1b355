from __future__ import annotations

import asyncio
import threading

from rtobserver.store.signal import Signal


async def test_a_waiter_is_woken_from_another_thread() -> None:
    signal = Signal()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(signal.wait(0, 60), name="wait")
        while not waiting.done():
            thread = threading.Thread(target=signal.announce)
            thread.start()
            await asyncio.to_thread(thread.join)


async def test_what_was_announced_since_the_last_look_is_not_waited_for() -> None:
    signal = Signal()
    seen = signal.count
    signal.announce()
    async with asyncio.timeout(5):
        await signal.wait(seen, 60)


async def test_a_waiter_looks_again_without_any_word() -> None:
    async with asyncio.timeout(5):
        await Signal().wait(0, 0.01)


async def test_all_waiters_are_woken() -> None:
    signal = Signal()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(signal.wait(0, 60), name="wait")
        await asyncio.sleep(0)
        signal.announce()
