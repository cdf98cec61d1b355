"""Replicas on a database that somebody has set to a stricter isolation than PostgreSQL's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.store.test_quotas import begin, ground
from tests.support import postgres


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_limits_are_exact_whatever_isolation_a_database_has_by_default(isolation: str) -> None:
    async with ground(concurrent_calls=5) as it:
        name = urlsplit(it.server.url).path[1:]
        change = f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{isolation}'"
        await asyncio.to_thread(postgres.shared().execute, change)
        assert await it.rows("SHOW default_transaction_isolation") == [(isolation,)]
        a, b = it.replica("a"), it.replica("b")
        found = await asyncio.gather(*(begin((a, b)[number % 2], f"user {number}") for number in range(60)))
        assert set(Counter(found)) == {201, 429}
        # what the database allowed: where it answers too late for an offer, a replica keeps to its share instead
        [(allowed,)] = await it.rows("SELECT count(*) FROM quota")
        assert 0 < allowed <= 5
