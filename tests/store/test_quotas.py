"""Limits that hold over several replicas, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Limits
from rtobserver.errors import RequestError
from rtobserver.store import quotas
from rtobserver.store.line import Line
from rtobserver.store.places import Server
from rtobserver.store.quotas import SharedQuota
from tests.store.stored import fresh_server
from tests.support import postgres


class Ground:
    def __init__(self, server: Server, limits: Limits) -> None:
        self.server, self.limits = server, limits
        self._made: list[SharedQuota] = []

    def replica(self, name: str, *, server: Server | None = None, replicas: int = 2) -> SharedQuota:
        made = SharedQuota(
            server or self.server,
            self.limits,
            room=0,
            clock=SystemClock(),
            replica_id=lambda: name,
            replicas=lambda: replicas,
        )
        self._made.append(made)
        return made

    async def rows(self, statement: str) -> list[Any]:
        found = await asyncio.to_thread(postgres.shared().execute, statement, url=self.server.url)
        return [tuple(row) for row in found]

    def close(self) -> None:
        for made in self._made:
            made.close()


@asynccontextmanager
async def ground(**limits: int) -> AsyncIterator[Ground]:
    made = Ground(await asyncio.to_thread(fresh_server), Limits(**limits))
    try:
        yield made
    finally:
        made.close()
        postgres.shared().drop(made.server.url)


async def begin(quota: SharedQuota, user: str | None = "ann") -> int:
    try:
        async with quota.connecting(user, 0.0):
            return 201
    except RequestError as exc:
        return exc.status


@asynccontextmanager
async def comparing(*quotas: SharedQuota) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(quota.compare()) for quota in quotas]
        yield
        for task in running:
            task.cancel()


async def until(quota: SharedQuota, status: int, user: str | None = "ann") -> None:
    async with asyncio.timeout(20):
        while await begin(quota, user) != status:
            pass


async def test_however_many_begin_at_once_the_limit_holds_over_all_replicas() -> None:
    async with ground(concurrent_calls_per_user=5) as it:
        a, b = it.replica("a"), it.replica("b")
        found = await asyncio.gather(*(begin((a, b)[number % 2]) for number in range(100)))
        assert Counter(found) == {201: 5, 429: 95}
        assert await begin(b, "bob") == 201
        assert await begin(a, None) == 201


async def test_all_calls_together_are_limited_over_all_replicas() -> None:
    async with ground(concurrent_calls=4) as it:
        a, b = it.replica("a"), it.replica("b")
        found = await asyncio.gather(*(begin((a, b)[number % 2], f"user {number}") for number in range(40)))
        assert Counter(found) == {201: 4, 429: 36}


async def test_those_who_wait_for_their_turn_do_not_take_the_database_for_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "ANSWER_SECONDS", 1.0)
    async with ground(concurrent_calls_per_user=8) as it:
        await it.rows(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.25); RETURN NEW; END $$"
        )
        await it.rows("CREATE TRIGGER dawdle BEFORE INSERT ON quota FOR EACH ROW EXECUTE FUNCTION dawdle()")
        a = it.replica("a")
        found = await asyncio.gather(*(begin(a) for _ in range(20)))
        assert Counter(found) == {201: 8, 429: 12}


async def test_what_ends_at_one_replica_makes_room_at_the_other() -> None:
    async with ground(concurrent_calls_per_user=1) as it:
        a, b = it.replica("a"), it.replica("b")
        assert [await begin(a), await begin(b)] == [201, 429]
        a.ended("ann")
        async with comparing(a):
            await until(b, 201)


async def test_a_call_that_came_to_nothing_is_given_back() -> None:
    async with ground(concurrent_calls_per_user=1) as it:
        a, b = it.replica("a"), it.replica("b")
        with pytest.raises(ValueError, match="upstream"):
            async with a.connecting("ann", 0.0):
                raise ValueError("upstream")
        async with comparing(a):
            await until(b, 201)


async def test_a_call_whose_commit_is_not_known_yet_keeps_its_place() -> None:
    async with ground(concurrent_calls_per_user=1) as it:
        a, b = it.replica("a"), it.replica("b")
        committed, told = asyncio.Event(), asyncio.Event()
        line = a._lines.get_nowait()
        transaction = line.transaction

        @asynccontextmanager
        async def late() -> AsyncIterator[Any]:
            async with transaction() as lent:
                yield lent
            committed.set()
            await told.wait()

        line.transaction = late  # type: ignore[method-assign]
        a._lines.put_nowait(line)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(begin(a))
            await committed.wait()
            await a._compare()
            told.set()
        assert [first.result(), await begin(b)] == [201, 429]


async def test_calls_that_the_database_refused_do_not_count_as_begun() -> None:
    async with ground(concurrent_calls_per_user=1, connects_per_minute_per_user=3) as it:
        a, b = it.replica("a"), it.replica("b")
        assert [await begin(b), *[await begin(a) for _ in range(4)]] == [201, 429, 429, 429, 429]
        b.ended("ann")
        await b._compare()
        assert await begin(a) == 201


async def test_whoever_is_refused_costs_no_connection() -> None:
    async with ground(concurrent_calls_per_user=1) as it:
        a = it.replica("a")
        b = it.replica("b")
        # the one that is used next, again and again
        assert [await begin(a), await begin(b)] == [201, 429]
        name = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        before = sorted(await it.rows(name))
        assert [await begin(b) for _ in range(5)] == [429] * 5
        assert sorted(await it.rows(name)) == before
        assert len(before) == 2


async def test_calls_begun_of_late_count_even_when_they_are_over() -> None:
    async with ground(connects_per_minute_per_user=2) as it:
        a, b = it.replica("a"), it.replica("b")
        assert await begin(a) == 201
        a.ended("ann")
        assert [await begin(b), await begin(a)] == [201, 429]
        await it.rows("UPDATE quota SET begun_at = begun_at - 60000000")
        assert await begin(it.replica("c")) == 201


async def test_a_call_that_is_taken_over_keeps_its_place() -> None:
    async with ground(concurrent_calls_per_user=2) as it:
        a, b = it.replica("a"), it.replica("b")
        assert [await begin(a), await begin(a), await begin(b)] == [201, 201, 429]
        b.resumed("ann", of="a")
        async with comparing(b):
            async with asyncio.timeout(20):
                while await it.rows("SELECT owner FROM quota WHERE ended_at IS NULL ORDER BY owner") != [
                    ("a",),
                    ("b",),
                ]:
                    pass
            b.ended("ann")
            await until(b, 201)


async def test_who_a_user_is_does_not_stand_in_the_rows() -> None:
    async with ground(concurrent_calls_per_user=2) as it:
        assert await begin(it.replica("a"), "canary@example.com") == 201
        assert "canary" not in str(await it.rows("SELECT * FROM quota"))


async def test_while_the_database_is_away_each_replica_keeps_to_its_share_and_says_afterwards_what_it_holds() -> None:
    async with ground(concurrent_calls_per_user=5) as it:
        away = it.replica("a", server=Server("postgresql://nobody@127.0.0.1:1/nowhere"), replicas=2)
        assert [await begin(away) for _ in range(4)] == [201, 201, 429, 429]
        alone = it.replica("a", server=Server("postgresql://nobody@127.0.0.1:1/nowhere"), replicas=9)
        assert [await begin(alone) for _ in range(2)] == [201, 429]
        # the same replica when the database is back
        away._lines = it.replica("a")._lines
        async with comparing(away):
            async with asyncio.timeout(20):
                while await it.rows("SELECT count(*) FROM quota WHERE owner = 'a'") != [(2,)]:
                    pass
        b = it.replica("b")
        assert [await begin(b) for _ in range(4)] == [201, 201, 201, 429]


async def test_rows_of_a_replica_that_is_gone_for_good_are_forgotten() -> None:
    async with ground(concurrent_calls_per_user=1) as it:
        assert await begin(it.replica("a")) == 201
        line = Line(it.server)
        await line.rows(
            "INSERT INTO replica (replica_id, started_at, beat_at, number, version, fenced_at)"
            " VALUES ('a', 1, 1, 1, '0', 1)"
        )
        line.close()
        b = it.replica("b")
        async with comparing(b):
            await until(b, 201)
