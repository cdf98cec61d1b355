"""Days of entries on a PostgreSQL server, where several replicas make them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from rtobserver.store import partitions
from tests.store import stored

ROUNDS = 10
REPLICAS = 4


async def test_replicas_that_start_together_make_each_day_once_and_none_of_them_fails(tmp_path: Path) -> None:
    with stored.lent("postgresql", tmp_path) as place:
        async with AsyncExitStack() as stack:
            replicas = [
                await stack.enter_async_context(stored.writing_to(place, tmp_path / f"{number}"))
                for number in range(REPLICAS)
            ]
            for number in range(ROUNDS):
                prepare = partitions.prepare(30_000 + 100 * number)
                made = await asyncio.gather(*(replica.run(prepare) for replica in replicas))
                assert sum(made) == partitions.DAYS_AHEAD + 2, made
                assert await replicas[0].run(prepare) == 0
