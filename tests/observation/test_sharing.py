"""What a replica does with calls when others take it for dead, and with those that nobody owns; on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import StoreUnavailable
from rtobserver.metrics import Metrics
from rtobserver.observation.handover import UNCLAIMED
from rtobserver.observation.observer import Joined
from rtobserver.observation.sharing import AUDIT_SECONDS, Sharing
from rtobserver.store import registration
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim, Leases
from rtobserver.store.line import Line
from rtobserver.store.places import Server
from rtobserver.store.registration import NewCall
from rtobserver.store.unfinished import Mark
from rtobserver.upstream.attach import Attach
from rtobserver.upstream.credentials import ApiKey
from rtobserver.upstream.endpoints import Endpoints
from tests.store.recording import NEW, journal
from tests.store.stored import fresh_server
from tests.support import postgres

TTL = 1.0
UPSTREAM = Upstream(provider="openai", base_url="http://127.0.0.1:1", auth="api-key")
NOWHERE = "http://127.0.0.1:1"
JUMPY = """
DO $$ BEGIN
  CREATE SCHEMA jumpy;
  CREATE TABLE jumpy.ahead AS SELECT 0 AS seconds;
  CREATE FUNCTION jumpy.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
   'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM jumpy.ahead))';
  EXECUTE format('ALTER DATABASE %I SET search_path = jumpy, pg_catalog, public', current_database());
END $$"""
"""A clock of the database's that can be set."""


class Heard:
    """Hear calls, and do nothing else with them."""

    def __init__(self) -> None:
        self.calls: dict[str, CallRef] = {}
        self.taken: list[Claim] = []
        self.resigned: list[str] = []
        self.letting_go: list[Callable[[], Awaitable[None]]] = []
        """What happens while calls are let go, each once."""

    def refs(self) -> list[CallRef]:
        return list(self.calls.values())

    def knows(self, call_id: str) -> bool:
        return call_id in self.calls

    def row(self, call_id: str) -> NewCall | None:
        return new(call_id)

    def take_over(self, claim: Claim, joined: Joined | None = None, *, is_handed_over: bool = False) -> None:
        self.calls[claim.ref.call_id] = claim.ref
        self.taken.append(claim)

    def resign(self, call_ids: Collection[str]) -> None:
        self.resigned.extend(call_ids)

    async def let_go(self, call_ids: Collection[str]) -> None:
        for call_id in call_ids:
            del self.calls[call_id]
        while self.letting_go:
            await self.letting_go.pop()()


def new(call_id: str) -> NewCall:
    return replace(NEW, call_id=call_id)


class Ground:
    """A database, replicas in it, and one more that only takes what it can."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self._folder = server, folder
        self._lines = Line(server), Line(server)
        self.other = Leases(self._lines[0], "other", 3600.0, beats=self._lines[1])

    @asynccontextmanager
    async def replica(self, name: str, *, ttl: float = TTL) -> AsyncIterator[tuple[Sharing, Heard]]:
        """Share calls as `name`, until the end of the block."""
        writer, database = journal(self.server, self._folder / name)
        await writer.open()
        sharing = Sharing(
            self.server,
            replica_id=name,
            attach=Attach(Endpoints(NOWHERE, "openai"), ApiKey("openai", Secret("key")), UPSTREAM, 1 << 20),
            writer=writer,
            clock=SystemClock(),
            metrics=Metrics(),
            ttl=ttl,
            journal=name,
        )
        heard = Heard()
        await sharing.enter()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(sharing.share(heard))
                yield sharing, heard
                running.cancel()
        finally:
            sharing.close()
            await writer.close()
            await database.close()

    async def register(self, *call_ids: str) -> None:
        """Write rows of calls that nobody owns."""
        writer, database = journal(self.server, self._folder / "of somebody")
        await writer.open()
        for row in map(new, call_ids):
            writer.note(registration.register(row.ref(), row))
        await writer.readable()
        await writer.close()
        await database.close()

    async def rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        found = await asyncio.to_thread(postgres.shared().execute, statement, *values, url=self.server.url)
        return [tuple(row) for row in found]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await self._lines[1].rows("SELECT 1")

    async def fence(self, name: str) -> None:
        await self.rows("UPDATE replica SET lease_until = 0, fenced_at = 1 WHERE replica_id = $1", name)

    def close(self) -> None:
        for line in self._lines:
            line.close()
        postgres.shared().drop(self.server.url)


@asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    made = Ground(await asyncio.to_thread(fresh_server), folder)
    try:
        await made.other.enter(Mark(1), version="0", journal="other")
        yield made
    finally:
        made.close()


def accept(sharing: Sharing, heard: Heard, call_id: str) -> CallRef:
    """Accept a call as a negotiation does."""
    ref = new(call_id).ref()
    ref.epoch = 1
    heard.calls[call_id] = ref
    sharing.begun(ref, new(call_id))
    return ref


async def test_a_call_that_is_accepted_while_a_fenced_replica_lets_its_calls_go_is_owned_by_no_other(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as it, it.replica("a") as (a, heard):
        await a.secured(accept(a, heard, "rtc_early"))
        heard.letting_go.append(lambda: a.secured(accept(a, heard, "rtc_late")))
        await it.fence("a")
        # it is heard again, in an epoch of its own
        await it.until(lambda: a.replica_id != "a" and a.may_act() and "rtc_late" in heard.calls)
        await it.other.claim("a", 50)
        owners: dict[object, object] = dict(await it.rows("SELECT call_id, owner FROM lease"))  # type: ignore[arg-type]
        assert {owners[call_id] for call_id in heard.calls} == {a.replica_id}
        [claim] = [claim for claim in heard.taken if claim.ref.call_id == "rtc_late"]
        assert (claim.owner, claim.ref.epoch) == (a.replica_id, 2)


async def test_orders_that_died_with_their_replica_are_closed_though_whoever_fenced_it_is_gone(tmp_path: Path) -> None:
    async with ground(tmp_path) as it:
        given = ("ord_1", "waiting", "gone"), ("ord_2", "sent", "gone"), ("ord_3", "waiting", "other")
        for order_id, state, owner in given:
            await it.rows(
                'INSERT INTO "order" (order_id, call_key, call_id, state, owner, command, actor, ordered_at)'
                " VALUES ($1, 1, 'rtc_1', $2, $3, '{}', '', 1)",
                *(order_id, state, owner),
            )
        await it.rows(
            "INSERT INTO replica (replica_id, started_at, beat_at, number, version, fenced_at)"
            " VALUES ('gone', 1, 1, 9, '0', 1)"
        )
        async with it.replica("a"):

            async def told() -> dict[object, tuple[object, ...]]:
                rows = await it.rows('SELECT order_id, state, error IS NULL FROM "order"')
                return {order_id: tuple(rest) for order_id, *rest in rows}

            wanted = {"ord_1": ("failed", False), "ord_2": ("sent", False), "ord_3": ("waiting", True)}
            async with asyncio.timeout(30):
                while await told() != wanted:
                    pass


async def test_a_database_whose_clock_is_set_is_no_sign_that_replicas_are_dead(tmp_path: Path) -> None:
    async with ground(tmp_path) as it:
        await it.rows(JUMPY)
        async with it.replica("b", ttl=3.0) as (b, _):
            await it.until(b._may_judge)
            await it.rows("UPDATE jumpy.ahead SET seconds = 7200")
            await it.until(lambda: not b._may_judge())
            assert await it.other.beat()


async def test_calls_whose_lease_was_not_written_when_their_replica_died_are_heard_after_its_fence(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as it, it.replica("a") as (a, heard):
        await it.until(a._may_judge)
        await it.register("rtc_1")
        await it.rows("UPDATE replica SET lease_until = 0 WHERE replica_id = 'other'")
        await it.until(lambda: bool(heard.taken))
        [claim] = heard.taken
        assert (claim.ref.call_id, claim.owner, claim.ref.epoch) == ("rtc_1", "a", 2)
        # nor does anybody know up to when it was recorded: not the mark of who finds it
        assert claim.previous is None


async def test_calls_without_owner_are_not_all_joined_at_once(tmp_path: Path) -> None:
    async with ground(tmp_path) as it:
        await it.register(*(f"rtc_{number}" for number in range(150)))
        async with it.replica("a") as (_, heard):
            await it.until(lambda: len(heard.calls) >= 50)
            began = asyncio.get_running_loop().time()
            await it.until(lambda: len(heard.calls) == 150)
            assert asyncio.get_running_loop().time() - began >= 0.5


async def test_what_a_claim_got_whose_answer_was_lost_is_taken_up_without_waiting_for_the_next_look(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as it, it.replica("a") as (a, heard):
        await it.until(a._may_judge)
        await it.other.hold([(new("rtc_1").ref(), {})])
        lost: list[Claim] = []

        async def lose(owner: str, limit: int, *, offered: bool = False) -> list[Claim]:
            lost.extend(await claim(owner, limit, offered=offered))
            raise StoreUnavailable("the connection to the database was lost")

        claim, a._leases.claim = a._leases.claim, lose  # type: ignore[method-assign]
        began = asyncio.get_running_loop().time()
        await it.rows("UPDATE replica SET lease_until = 0 WHERE replica_id = 'other'")
        await it.until(lambda: bool(heard.taken))
        assert [each.ref.epoch for each in lost + heard.taken] == [2, 3]
        assert asyncio.get_running_loop().time() - began < AUDIT_SECONDS / 2


async def test_whoever_stops_offers_no_more_than_others_can_claim_at_once_so_that_the_rest_is_acted_in(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as it, it.replica("a", ttl=30.0) as (a, heard), asyncio.TaskGroup() as tasks:
        refs = [accept(a, heard, f"rtc_{number}") for number in range(60)]
        await a.secured(refs[-1])
        await it.until(lambda: a._reached_since is not None)
        giving = tasks.create_task(a.hand_over(heard, [ref.call_id for ref in refs]))
        await it.until(lambda: bool(heard.resigned))
        assert len(heard.resigned) == UNCLAIMED
        while not giving.done():
            for claim in await it.other.claim("a", 10, offered=True):
                await it.other.attached(claim.ref, 1)
        assert set(heard.resigned) == {ref.call_id for ref in refs}
        assert heard.calls == {}
        assert await it.rows("SELECT DISTINCT phase FROM lease") == [("left",)]
