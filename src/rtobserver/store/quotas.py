"""Count calls for the limits together with the other replicas: a row in PostgreSQL for each one that goes on.

Who begins a call holds a lock of the database's for the length of one short transaction, counts what
is there, and adds its own row: however many begin at once, wherever, no limit is passed. When the
database is away, each replica keeps to its share of the limits by what it has itself. The rows are
written again from what goes on here whenever they may have come to differ from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Limits
from rtobserver.errors import RequestError, StoreError
from rtobserver.quota import Quota, too_many
from rtobserver.store.line import Line
from rtobserver.store.places import Server

LINES = 2
"""Connections for those who begin a call; more of them would wait for the same lock, and be counted as no answer."""
ANSWER_SECONDS = 2.0
"""How long an offer whose turn it is waits for the database's word; then all have a share only, for as long again."""
COMPARE_SECONDS = 5.0
"""Between two looks whether the rows are those of the calls that go on here."""
FORGET_US = 60_000_000
"""How long a row outlives its call: so long it counts among the calls that were begun of late."""
DEAD_US = 30_000_000
"""How long the rows of a replica that was declared dead are kept for those who take its calls over."""

log = structlog.get_logger()

_ALL = "all"
"""The lock of the limit for all calls together; callers have one each."""


def _timed(statement: str) -> str:
    return statement.replace("NOW", "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('rtobserver quota ' || $1, 0))"
# a statement of its own behind the locks: it sees what those wrote who had them before
_COUNT = _timed("""
SELECT count(*) FILTER (WHERE ended_at IS NULL) AS total,
       count(*) FILTER (WHERE ended_at IS NULL AND caller = $1) AS own,
       count(*) FILTER (WHERE caller = $1 AND begun_at > NOW - 60000000) AS lately,
       min(begun_at) FILTER (WHERE caller = $1 AND begun_at > NOW - 60000000) - NOW + 60000000 AS wait_us
  FROM quota WHERE caller = $1 OR ($2 AND ended_at IS NULL)""")
_BEGIN = _timed("INSERT INTO quota (slot_id, caller, owner, begun_at) VALUES ($1, $2, $3, NOW)")
_ENDED = _timed("UPDATE quota SET ended_at = NOW WHERE slot_id = ANY($1::text[]) AND ended_at IS NULL")
_THERE = "SELECT slot_id FROM quota WHERE owner = $1 AND ended_at IS NULL"
_AGAIN = _timed("""
INSERT INTO quota (slot_id, caller, owner, begun_at)
SELECT slot_id, caller, $1, NOW - 60000000 FROM unnest($2::text[], $3::text[]) AS held (slot_id, caller)
    ON CONFLICT (slot_id) DO UPDATE SET owner = excluded.owner, ended_at = NULL""")
_TAKE = """
UPDATE quota SET owner = $1 WHERE slot_id = (
       SELECT slot_id FROM quota WHERE owner = $2 AND caller = $3 AND ended_at IS NULL
        LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING slot_id"""
_FORGET = _timed("DELETE FROM quota WHERE ended_at < NOW - $1 AND begun_at < NOW - $1")
_FORGET_DEAD = _timed("""
DELETE FROM quota WHERE ended_at IS NULL AND owner IN (
       SELECT replica_id FROM replica WHERE fenced_at < NOW - $1
          AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.owner = replica_id))""")


class SharedQuota:
    """Hold callers to limits that hold over all replicas; as `quota.Quota` does for one."""

    def __init__(
        self,
        server: Server,
        limits: Limits,
        *,
        room: int,
        clock: Clock,
        replica_id: Callable[[], str],
        replicas: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._local = Quota(limits, room=room)
        self._clock = clock
        self._replica_id, self._replicas = replica_id, replicas
        self._lines: asyncio.LifoQueue[Line] = asyncio.LifoQueue()
        for _ in range(LINES):
            self._lines.put_nowait(Line(server))
        self._slots: dict[str | None, list[str]] = {}
        """Ids of the rows of calls that go on here, by user."""
        self._inherited: list[tuple[str | None, str, str]] = []
        """(user, slot, replica) of calls that were taken over, and whose row may be the other's yet."""
        self._asking: set[str] = set()
        """Ids of rows that may have been written for calls of which it is not known yet whether they may begin."""
        self._changed = asyncio.Event()
        self._away_until = 0.0
        """Until when the database is not asked, on the clock's monotonic time."""

    @property
    def _counts(self) -> bool:
        limits = self._limits
        return bool(limits.concurrent_calls or limits.concurrent_calls_per_user or limits.connects_per_minute_per_user)

    @asynccontextmanager
    async def connecting(self, user: str | None, mono: float) -> AsyncIterator[None]:
        """Count a call as begun; it stays counted after the block, unless the block raises.

        Raises:
            RequestError: 429, a limit is reached, or 503, there is no room; nothing was counted.

        """
        self._local.begin(user, mono)
        slot = f"slot_{secrets.token_hex(8)}"
        self._asking.add(slot)
        try:
            if self._counts:
                await self._begin(user, slot)
        except BaseException:
            self._local.refused(user, mono)
            raise
        finally:
            self._asking.discard(slot)
        self._slots.setdefault(user, []).append(slot)
        try:
            yield
        except BaseException:
            self.ended(user)
            raise

    def ended(self, user: str | None) -> None:
        """Count a call as over."""
        self._local.ended(user)
        # the calls of one user are all alike
        slots = self._slots[user]
        slots.pop()
        if not slots:
            del self._slots[user]
        self._changed.set()

    def resumed(self, user: str | None, of: str | None = None) -> None:
        """Count a call that an earlier run, or the replica `of`, began."""
        self._local.resumed(user)
        slot = f"slot_{secrets.token_hex(8)}"
        self._slots.setdefault(user, []).append(slot)
        if of is not None:
            self._inherited.append((user, slot, of))
        self._changed.set()

    async def compare(self) -> None:
        """Keep the rows as they should be, until cancelled."""
        while self._counts:
            try:
                await self._compare()
            except StoreError as exc:
                # what goes on here is compared again when the database is back
                log.info("quotas_not_compared", problem=str(exc))
            try:
                async with asyncio.timeout(COMPARE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    def close(self) -> None:
        """Let go of the database."""
        while not self._lines.empty():
            self._lines.get_nowait().close()

    # --- the database ---------------------------------------------------------------------------

    async def _begin(self, user: str | None, slot: str) -> None:
        if self._asks_the_database():
            # many who begin at once wait for each other, and that says nothing of the database
            async with self._line() as line:
                if self._asks_the_database():
                    try:
                        async with asyncio.timeout(ANSWER_SECONDS):
                            refusal = await self._begin_together(line, user, slot)
                    except (StoreError, TimeoutError) as exc:
                        self._away_until = self._clock.mono() + ANSWER_SECONDS
                        log.warning("limits_by_share", problem=str(exc) or "no answer")
                    else:
                        if refusal is not None:
                            raise refusal
                        return
        self._keep_to_share(user)

    def _asks_the_database(self) -> bool:
        return self._clock.mono() >= self._away_until

    async def _begin_together(self, line: Line, user: str | None, slot: str) -> RequestError | None:
        """Begin where the limits allow it, or say why not; what is raised within a transaction costs its connection."""
        limits, caller = self._limits, _digest(user)
        async with line.transaction() as transaction:
            # always in this order
            if limits.concurrent_calls:
                await transaction.execute(_LOCK, _ALL)
            await transaction.execute(_LOCK, caller)
            found = await transaction.fetchrow(_COUNT, caller, bool(limits.concurrent_calls))
            if found is None:
                raise AssertionError  # counting always gives a row
            if limits.concurrent_calls and found["total"] >= limits.concurrent_calls:
                return too_many("all calls that may run at once are taken", 5)
            if limits.concurrent_calls_per_user and found["own"] >= limits.concurrent_calls_per_user:
                return too_many(f"a user may hold {limits.concurrent_calls_per_user} calls at once", 5)
            if limits.connects_per_minute_per_user and found["lately"] >= limits.connects_per_minute_per_user:
                wait = max(1, int((found["wait_us"] or 0) / 1e6) + 1)
                return too_many(f"a user may begin {limits.connects_per_minute_per_user} calls a minute", wait)
            await transaction.execute(_BEGIN, slot, caller, self._replica_id())
            return None

    def _keep_to_share(self, user: str | None) -> None:
        """Hold this replica to its part of the limits; each may hold one call at least, or nobody could begin any."""
        limits, replicas = self._limits, max(1, self._replicas())
        total, own = sum(map(len, self._slots.values())), len(self._slots.get(user, ()))
        if limits.concurrent_calls and total >= max(1, limits.concurrent_calls // replicas):
            raise too_many("all calls that may run here at once are taken", 5)
        if limits.concurrent_calls_per_user and own >= max(1, limits.concurrent_calls_per_user // replicas):
            raise too_many("a user may hold no more than a share of the calls here while the database is away", 5)

    async def _compare(self) -> None:
        me = self._replica_id()
        async with self._line() as line:
            inherited, self._inherited = self._inherited, []
            for user, slot, of in inherited:
                rows = await line.rows(_TAKE, me, of, _digest(user))
                slots = self._slots.get(user, [])
                if rows and slot in slots:
                    slots[slots.index(slot)] = rows[0]["slot_id"]
            there = {row["slot_id"] for row in await line.rows(_THERE, me)}
            here = {slot: _digest(user) for user, slots in self._slots.items() for slot in slots}
            # a commit may be done before whoever waits for it hears that
            if over := [slot for slot in there if slot not in here and slot not in self._asking]:
                await line.rows(_ENDED, over)
            if missing := {slot: caller for slot, caller in here.items() if slot not in there}:
                await line.rows(_AGAIN, me, list(missing), list(missing.values()))
            await line.rows(_FORGET, FORGET_US)
            await line.rows(_FORGET_DEAD, DEAD_US)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[Line]:
        line = await self._lines.get()
        try:
            yield line
        finally:
            self._lines.put_nowait(line)


def _digest(user: str | None) -> str:
    """Name a user without saying who it is; those without an identity are one."""
    return "" if user is None else hashlib.blake2b(user.encode(), digest_size=16).hexdigest()
