"""Two daemons on a database that somebody has set to a stricter isolation than PostgreSQL's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rtobserver.config.sections import Limits
from tests.support import postgres
from tests.support.replicas import Replica
from tests.support.stage import Setting
from tests.system.test_replicas import pair

pytestmark = pytest.mark.timeout(120)


async def place(replica: Replica) -> int:
    return (await replica.offer()).status


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_limits_are_exact_whatever_isolation_a_database_has_by_default(isolation: str, tmp_path: Path) -> None:
    setting = Setting(limits=Limits(concurrent_calls=5))
    async with pair(tmp_path, setting) as them:
        name = urlsplit(them.server.url).path[1:]
        change = f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{isolation}'"
        await asyncio.to_thread(postgres.shared().execute, change)
        a, b = await them.start("a"), await them.start("b")
        assert a.select("SHOW default_transaction_isolation") == [(isolation,)]
        said = await asyncio.gather(*(place((a, b)[number % 2]) for number in range(60)))
        assert Counter(said) == {201: 5, 429: 55}
        assert len(them.simulator.calls) == 5
