"""Leases, on a real PostgreSQL: who owns a call, who may take it, and that nobody owns it twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from rtobserver.clock import Uptime
from rtobserver.errors import StoreUnavailable
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Fenced, Leases
from rtobserver.store.line import Line
from rtobserver.store.postgres import Postgres
from rtobserver.store.unfinished import Mark, mark_of
from tests.store.stored import fresh_server
from tests.support import postgres

TTL = 10.0


class Ground:
    """A database, and incarnations in it."""

    def __init__(self) -> None:
        self.server = fresh_server()
        self._lines: list[Line] = []
        self._of_kind: dict[str, tuple[Line, Line]] = {}

    async def enter(self, me: str, *, ttl: float = TTL, journal: str = "") -> Leases:
        # "dead 1", "dead 2" come one after the other and need no connections of their own
        kind = me.rstrip("0123456789")
        lines = self._of_kind.get(kind) if kind.endswith("dead ") else None
        lines = self._of_kind[kind] = lines or (self.line(), self.line())
        leases = Leases(lines[0], me, ttl, beats=lines[1])
        await leases.enter(Mark(1), version="0", journal=journal or f"of {me}")
        return leases

    def line(self) -> Line:
        line = Line(self.server)
        self._lines.append(line)
        return line

    async def kill(self, leases: Leases) -> None:
        """Let its lease run out, as time would."""
        await self.line().rows(
            "UPDATE replica SET lease_until = lease_until - 60000000 WHERE replica_id = $1", leases.me
        )

    async def close(self) -> None:
        for line in self._lines:
            line.close()
        postgres.shared().drop(self.server.url)


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    made = Ground()
    try:
        yield made
    finally:
        await made.close()


def call(number: int) -> CallRef:
    return CallRef(f"rtc_{number}", 20_000)


async def hold(leases: Leases, count: int) -> list[CallRef]:
    calls = [call(number) for number in range(count)]
    await leases.hold([(ref, {"call_id": ref.call_id}) for ref in calls])
    return calls


async def test_a_lease_that_is_renewed_is_nobody_elses() -> None:
    async with ground() as it:
        a, b = await it.enter("a"), await it.enter("b")
        await hold(a, 3)
        assert await a.beat()
        assert not await b.fence("a")
        [other] = await b.others()
        assert (other.replica_id, other.calls, other.is_dead) == ("a", 3, False)
        assert 9.0 < other.left <= TTL


async def test_an_incarnation_has_heard_nothing_before_it_began_and_says_on_which_machine() -> None:
    async with ground() as it:
        await it.enter("a")
        marks = [Mark(5, uptime=Uptime("this start", 7)), Mark(6)]
        for me, mark in zip("bc", marks, strict=True):
            await Leases(it.line(), me, TTL, beats=it.line()).enter(mark, version="0", journal=me)
        async with Postgres(it.server) as reads:
            assert [await mark_of(reads, me) for me in "abc"] == [Mark(1), *marks]
        rows = await it.line().rows("SELECT number FROM replica ORDER BY replica_id")
        assert [row["number"] for row in rows] == [1, 2, 3]


async def test_a_dead_replica_is_fenced_once_and_its_calls_are_claimed_with_the_next_epoch() -> None:
    async with ground() as it:
        a, b, c = await it.enter("a"), await it.enter("b"), await it.enter("c")
        await hold(a, 3)
        await it.kill(a)
        assert await b.fence("a")
        assert not await c.fence("a")
        claims = await b.claim("a", 2) + await c.claim("a", 50)
        assert [claim.ref.epoch for claim in claims] == [2, 2, 2]
        assert {claim.ref.call_id for claim in claims} == {"rtc_0", "rtc_1", "rtc_2"}
        assert {claim.previous for claim in claims} == {"a"}
        assert claims[0].registration == {"call_id": claims[0].ref.call_id}
        assert not await a.beat()
        assert await b.claim("a", 50) == []


async def test_a_lease_that_ran_out_is_renewed_as_long_as_nobody_has_fenced_its_owner() -> None:
    async with ground() as it:
        a, b = await it.enter("a"), await it.enter("b")
        await it.kill(a)
        assert await a.beat()
        assert not await b.fence("a")


async def test_calls_of_a_fenced_replica_alone_are_claimed_and_released_by_their_owner_alone() -> None:
    async with ground() as it:
        a, b = await it.enter("a"), await it.enter("b")
        [first, *_] = await hold(a, 2)
        await b.release([first.key])
        assert {ref.key for ref in await a.own()} == {call(0).key, call(1).key}
        await b.hold([(first, {})])
        assert await a.holders([first.key]) == {first.key: "a"}
        await a.release([first.key])
        assert {ref.key for ref in await a.own()} == {call(1).key}


async def test_a_journal_whose_process_is_gone_gives_up_its_calls_at_once() -> None:
    async with ground() as it:
        a = await it.enter("a", journal="disk")
        await hold(a, 2)
        again = await it.enter("again", journal="disk")
        assert await again.fence_earlier("disk") == ["a"]
        assert not await a.beat()
        assert len(await again.claim("a", 50)) == 2


async def test_whoever_was_fenced_or_has_not_entered_can_own_nothing_more() -> None:
    async with ground() as it:
        a, b = await it.enter("a"), await it.enter("b")
        await it.kill(a)
        assert await b.fence("a")
        stranger = Leases(it.line(), "stranger", TTL, beats=it.line())
        for nobody in (a, stranger):
            with pytest.raises(Fenced):
                await hold(nobody, 1)
            assert await nobody.adopt([(call(0), {})]) == []
        assert await hold(b, 1)
        await it.kill(b)
        c = await it.enter("c")
        assert await c.fence("b")
        assert await a.claim("b", 50) == await stranger.claim("b", 50) == []
        assert await c.holders([call(0).key]) == {call(0).key: "b"}
        assert len(await c.claim("b", 50)) == 1


async def test_whoever_has_not_heard_that_it_has_entered_enters_again_unless_it_was_fenced() -> None:
    async with ground() as it:
        a, b = await it.enter("a"), await it.enter("b")
        await it.kill(a)
        await it.enter("a")
        assert not await b.fence("a")
        await it.kill(a)
        assert await b.fence("a")
        with pytest.raises(Fenced):
            await it.enter("a")


async def test_no_call_is_owned_twice_in_a_thousand_claims_that_race() -> None:
    calls, rounds = 50, 20
    async with ground() as it:
        racers = [await it.enter(f"racer {number}") for number in range(4)]
        claimed: dict[int, list[str]] = {}

        async def race(racer: Leases, dead: Leases) -> None:
            await racer.fence(dead.me)
            # whoever lost the race for the fence may claim as soon as it stands
            while any(other.replica_id == dead.me for other in await racer.others()):
                for claim in await racer.claim(dead.me, random.randint(1, 9)):
                    claimed.setdefault(claim.ref.key, []).append(racer.me)

        for turn in range(rounds):
            dead = await it.enter(f"dead {turn}")
            await dead.hold([(call(turn * calls + number), {}) for number in range(calls)])
            await it.kill(dead)
            await asyncio.gather(*(race(racer, dead) for racer in racers))
        assert len(claimed) == calls * rounds
        assert all(len(owners) == 1 for owners in claimed.values())
        found = await racers[0].holders(claimed)
        assert found == {key: owner for key, [owner] in claimed.items()}
        assert len(set(found.values())) > 1


async def test_of_a_fence_and_a_renewal_that_race_one_alone_succeeds() -> None:
    async with ground() as it:
        outcomes: Counter[tuple[bool, bool]] = Counter()
        b = await it.enter("b")
        for number in range(60):
            a = await it.enter(f"dead {number}")
            await it.kill(a)
            if number % 2:
                fenced, renewed = await asyncio.gather(b.fence(a.me), a.beat())
            else:
                renewed, fenced = await asyncio.gather(a.beat(), b.fence(a.me))
            outcomes[renewed, fenced] += 1
        assert set(outcomes) <= {(True, False), (False, True)}


async def test_a_call_is_handed_over_in_steps_that_both_sides_see() -> None:
    async with ground() as it:
        a, b = await it.enter("a"), await it.enter("b")
        [first, second, third] = await hold(a, 3)
        await a.drain()
        assert [other.is_draining for other in await b.others()] == [True]
        assert await b.claim("a", 50, offered=True) == []
        await a.offer([first.key, second.key])
        claims = await b.claim("a", 50, offered=True)
        assert {claim.ref.key for claim in claims} == {first.key, second.key}
        keys = [first.key, second.key, third.key]
        assert await a.taken(keys) == {first.key: "taken", second.key: "taken"}
        await b.attached(first, 5)
        await b.keep(second)
        assert await a.taken(keys) == {first.key: "attached", second.key: "held"}
        await a.leave(keys)
        assert await b.phases(keys) == {first.key: "left", second.key: "held"}
        await a.resign(9)
        assert [claim.ref.key for claim in await b.claim("a", 50)] == [third.key]


async def test_a_beat_does_not_wait_for_a_lock_that_somebody_keeps() -> None:
    async with ground() as it:
        a = await it.enter("a")
        async with it.line().transaction() as transaction:
            await transaction.execute("LOCK TABLE replica IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailable):
                await a.beat()
        assert await a.beat()


async def test_a_connection_that_was_cut_is_made_again() -> None:
    async with ground() as it:
        a = await it.enter("a")
        assert await a.beat()
        others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        line = it.line()
        # none of them ends at once
        while await line.rows(f"SELECT pg_terminate_backend(pid) {others} AND application_name = 'rtobserver beat'"):
            pass
        # where it has not noticed that yet
        with suppress(StoreUnavailable):
            await a.beat()
        assert await a.beat()
