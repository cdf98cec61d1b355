"""Share calls with other replicas over PostgreSQL: beat, take over what the dead leave, hand over.

The lease of this incarnation is renewed by one beat, whatever the number of calls. One that cannot be
renewed lets nothing leave any more when its trusted part is over (`trust.py`), but goes on recording:
facts are never fenced. If others were told meanwhile that it is dead, it lets all its calls go and
begins again under another id, as whoever starts.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import structlog

from rtobserver import __version__
from rtobserver.clock import Clock, since_boot
from rtobserver.errors import StoreError, StoreUnavailable
from rtobserver.metrics import Metrics
from rtobserver.observation import handover, late
from rtobserver.observation.orphans import Orphans
from rtobserver.observation.ownership import Calls
from rtobserver.observation.trust import Pace, Ration, Trust
from rtobserver.store import leases, orders, unfinished
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim, Fenced, Leases, Other
from rtobserver.store.line import Line, listen
from rtobserver.store.places import Server
from rtobserver.store.registration import NewCall
from rtobserver.store.signal import Signal
from rtobserver.store.writing import Writing
from rtobserver.upstream.attach import Attach

RETRY_SECONDS = 0.5
"""Between two tries while the database is away."""
LOOK_SECONDS = 2.0
"""Between two looks for the dead, if none is due to die before."""
DRAINING_SECONDS = 0.25
"""Between two looks while somebody who stops has calls to offer; a wake-up for each may get lost."""
SPREAD_SECONDS = 0.2
"""By how much looks differ, so that survivors share what one leaves."""
CLAIMS, CLAIMS_PER_SECOND = 50, 100.0
"""Calls that are claimed in one go, and how many a second: each is attached to at once."""
AUDIT_SECONDS = 10.0
"""Between two looks whether the leases are as they should be, if nothing is in doubt."""
CATCH_UP_SECONDS = 5.0
"""How long a start waits for its own journal before it takes over what its predecessor left."""
NEGOTIATING_US = 120_000_000
"""No negotiation takes so long."""
STRAYS_SECONDS = 60.0
"""Between two looks for calls that nobody owns, and for what died with a replica: negotiations, orders it had taken."""
SECURED_SECONDS = 0.25
"""How long an answer may wait for the lease of its call, and then for its row to be in the journal."""
RESIGN_SECONDS = 3.0
"""How long a replica that stops tries to say so; after that its lease runs out by itself."""

log = structlog.get_logger()


class Sharing:
    """Own calls by leases; `enter` comes first."""

    def __init__(
        self,
        server: Server,
        *,
        replica_id: str,
        attach: Attach,
        writer: Writing,
        clock: Clock,
        metrics: Metrics,
        ttl: float,
        journal: str,
    ) -> None:
        self._server = server
        self._line, self._beats = Line(server), Line(server)
        self._attach, self._writer, self._clock = attach, writer, clock
        self._journal = journal
        self._ttl = ttl
        self._wake, self._doubts, self._strays = Signal(), Signal(), Signal()
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self._written = Signal()
        self._is_behind = False
        """Whether leases could not be written when that was last tried."""
        self._held: dict[int, tuple[CallRef, NewCall]] = {}
        """Calls of ours whose lease is not written yet."""
        self._over: dict[str, CallRef] = {}
        """Those whose lease is not given up yet."""
        self._handing: set[str] = set()
        """Those that are being handed over to us."""
        self._ration = Ration(CLAIMS_PER_SECOND, CLAIMS)
        self._orphans = Orphans(writer, clock, self._ration)
        self._caught_up = self._resigned = False
        self._looked = 0
        """Announcements of strays that have been followed."""
        self._doubted = 0
        """And of doubts."""
        self._tasks: asyncio.TaskGroup | None = None
        self._reached_since: float | None = None
        """Since when, by the machine's uptime, every beat has reached the database."""
        self._pace = Pace()
        self._steady_since = 0.0
        """Since when its clock has not been set."""
        self.replicas = 1
        """Replicas that go on, this one among them, as far as is known."""
        self.beside: Callable[[], Coroutine[Any, Any, None]] | None = None
        """What else goes on as long as calls are shared."""
        self._begin(replica_id)
        metrics.lease_seconds.set_function(lambda: self._trust.left(since_boot()))
        self._taken_over, self._fenced = metrics.calls_taken_over, metrics.replicas_fenced

    def _begin(self, replica_id: str) -> None:
        self._trust = Trust(self._ttl)
        self._leases = Leases(self._line, replica_id, self._ttl, beats=self._beats)

    async def enter(self) -> None:
        """Begin this incarnation.

        Raises:
            StoreUnavailable: the database is away.

        """
        asked = since_boot()
        mark = unfinished.Mark(self._clock.now_us(), uptime=self._clock.uptime())
        await self._leases.enter(mark, version=__version__, journal=self._journal)
        self._trust.renewed(asked)

    def reasons(self) -> dict[str, int | None]:
        """Say in short words what keeps this replica from acting, for `/readyz`."""
        return {} if self.may_act() or self._resigned else {"the lease has run out; nothing is sent into calls": None}

    def close(self) -> None:
        """Let go of the database."""
        self._line.close()
        self._beats.close()

    # --- what the observers ask -----------------------------------------------------------------

    @property
    def replica_id(self) -> str:
        """Give the id of this incarnation."""
        return self._leases.me

    def may_act(self) -> bool:
        """Say whether no other replica can have taken our calls yet."""
        return self._trust.holds(since_boot())

    def begun(self, call: CallRef, row: NewCall) -> None:
        """Own a new call, as soon as the database has it."""
        self._held[call.key] = call, row
        self._begun.set()

    async def secured(self, call: CallRef) -> None:
        """Wait until the lease of a new call is written, or else its row in the journal, but for neither long."""
        try:
            async with asyncio.timeout(SECURED_SECONDS):
                # where nothing can be written now there is nothing to wait for
                while self._reached_since is not None and not self._is_behind:
                    if call.key not in self._held or call.call_id in self._over:
                        return
                    await self._written.wait(self._written.count, SECURED_SECONDS)
        except TimeoutError:
            log.info("call_without_lease_yet", call_id=call.call_id)
        try:
            # then whoever starts on this journal next finds it
            async with asyncio.timeout(SECURED_SECONDS):
                await self._writer.kept()
        except (StoreError, TimeoutError) as exc:
            log.info("call_not_yet_secured", call_id=call.call_id, problem=str(exc))

    def over(self, call: CallRef) -> None:
        """Give a lease up, when what was recorded of the call can be read: without one it must not seem to go on."""
        self._over[call.call_id] = call
        self._ended.set()

    async def next_epoch(self, call: CallRef) -> int:
        """Begin a new epoch of an own call; raises StoreError where it is not ours."""
        claim = await self._leases.claim_again(call)
        if claim is None:
            raise StoreError("the call has another owner")
        return claim.ref.epoch

    async def hand_over(self, calls: Calls, call_ids: Collection[str]) -> None:
        """Give these calls to other replicas as far as there are any."""
        self._resigned = True
        if not self.may_act() or self._reached_since is None:
            return
        try:
            await self._write_begun(calls)
            await handover.give(self._leases, calls, call_ids, writer=self._writer, clock=self._clock, wake=self._wake)
        except StoreError as exc:
            log.warning("calls_not_handed_over", problem=str(exc))

    async def resign(self, at: int) -> None:
        """End this incarnation, when what it recorded can be read, as far as that is soon."""
        self._trust.lose()
        try:
            async with asyncio.timeout(RESIGN_SECONDS):
                with suppress(Fenced):
                    await self._write_begun()
                await self._write_ended()
                await self._leases.leave_all()
                await self._leases.resign(at)
        except (StoreError, TimeoutError) as exc:
            log.warning("lease_not_given_up", problem=str(exc))
        finally:
            self.close()

    # --- what goes on all the time --------------------------------------------------------------

    async def share(self, calls: Calls) -> None:
        """Do all of it, until cancelled."""
        channels = {leases.WAKE: self._wake.announce, leases.ORDERS: self._writer.ordered.announce}
        async with asyncio.TaskGroup() as self._tasks:
            go_on = self._tasks.create_task
            go_on(self._again(lambda: self._beat(calls)), name="renew the lease")
            go_on(self._again(lambda: self._look(calls)), name="look for the dead")
            go_on(self._again(lambda: self._find_strays(calls)), name="look for calls without owner")
            go_on(self._again(lambda: self._keep_begun(calls)), name="write leases")
            go_on(self._again(self._keep_ended), name="give leases up")
            go_on(self._again(lambda: self._audit(calls)), name="compare leases")
            if self.beside is not None:
                go_on(self.beside(), name="share limits")
            go_on(listen(self._server, channels), name="listen")

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something over and over, whatever goes wrong: a replica that stops doing it is taken for dead."""
        is_away = False
        while True:
            try:
                await work()
                is_away = False
            except StoreUnavailable as exc:
                if not is_away:
                    log.warning("leases_away", problem=str(exc))
                is_away = True
                await self._clock.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("sharing_failed")
                await self._clock.sleep(RETRY_SECONDS)

    def _once(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something beside all that; whatever goes wrong in it ends nothing else."""

        async def bounded() -> None:
            try:
                await work
            except Exception:
                log.exception("sharing_failed")

        if self._tasks is None:
            raise RuntimeError("nothing is shared yet")
        self._tasks.create_task(bounded(), name=name)

    async def _beat(self, calls: Calls) -> None:
        trust, asked = self._trust, since_boot()
        try:
            is_held = await self._leases.beat()
        except StoreUnavailable:
            self._reached_since = None
            raise
        if self._reached_since is None:
            self._reached_since = asked
        if is_held:
            trust.renewed(asked)
            await self._clock.sleep(trust.interval)
        else:
            await self._begin_anew(calls)

    async def _begin_anew(self, calls: Calls) -> None:
        """Let all calls go, because this incarnation was taken for dead, and begin another.

        What was accepted so late that others know nothing of it has no lease, and is taken up again.
        """
        self._trust.lose()
        log.error("lease_lost", replica_id=self._leases.me, calls=len(calls.refs()))
        left: dict[int, CallRef] = {}
        # others are accepted while some are let go, and none of them may be left under the next id
        while there := calls.refs():
            left |= {ref.key: ref for ref in there}
            await calls.let_go([ref.call_id for ref in there])
        self._begin(_new_id())
        while True:
            try:
                await self.enter()
                break
            except Fenced:
                self._begin(_new_id())
            except StoreUnavailable:
                await self._clock.sleep(RETRY_SECONDS)
        log.warning("begun_anew", replica_id=self._leases.me)
        self._mark_late([(ref, ref.epoch) for ref in left.values()])
        self._doubts.announce()

    def _mark_late(self, epochs: Collection[tuple[CallRef, int]]) -> None:
        self._once(late.mark(epochs, writer=self._writer, clock=self._clock), "mark what came late")

    async def _catch_up(self) -> None:
        """Fence those that wrote to our journal before, whose processes are gone, and bring what they left to all."""
        for earlier in await self._leases.fence_earlier(self._journal):
            log.info("predecessor_fenced", replica_id=earlier)
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._writer.readable()
        except TimeoutError:
            log.warning("journal_far_behind")
        self._caught_up = True
        self._strays.announce()

    async def _look(self, calls: Calls) -> None:
        """Look for the dead and for those that stop, and take calls of theirs."""
        if not self._caught_up:
            await self._catch_up()
        seen, asked = self._wake.count, since_boot()
        others = await self._leases.others()
        if others and self._pace.was_set(others[0].told_at, asked, since_boot()):
            log.warning("database_clock_was_set")
            self._steady_since = since_boot()
        self.replicas = 1 + sum(not other.is_dead for other in others)
        wanted = 0
        if self.may_act() and not self._resigned:
            for other in others:
                wanted += await self._take_from(other, calls)
        lasting = [other.left for other in others if not other.is_dead]
        pause = min([LOOK_SECONDS, *lasting])
        if any(other.is_draining and other.calls for other in others):
            pause = min(pause, DRAINING_SECONDS)
        if wanted:
            pause = min(pause, self._ration.wait(wanted, self._clock.mono()))
        # spread, so that whoever looks first does not take everything; no secret depends on it
        await self._wake.wait(seen, max(0.01, pause) + random.random() * SPREAD_SECONDS)  # noqa: S311

    def _may_judge(self) -> bool:
        """Say whether a lease that has run out means that its owner is gone.

        When the database was away, or its clock was set, everybody's has: whoever is back first waits for the others.
        """
        if self._reached_since is None:
            return False
        return since_boot() - max(self._reached_since, self._steady_since) >= self._ttl

    async def _take_from(self, other: Other, calls: Calls) -> int:
        """Take calls that another replica leaves; gives how many are left to take."""
        if not other.is_fenced and other.is_dead:
            if not self._may_judge() or not await self._leases.fence(other.replica_id):
                return 0
            self._fenced.inc()
            log.warning("replica_fenced", replica_id=other.replica_id, calls=other.calls)
            self._strays.announce()
        elif not other.is_dead and not other.is_draining:
            return 0
        left = other.calls
        while left and (room := self._ration.take(min(left, CLAIMS), self._clock.mono())):
            try:
                claims = await self._leases.claim(other.replica_id, room, offered=not other.is_dead)
            except StoreUnavailable:
                # they may be ours all the same
                self._doubts.announce()
                raise
            self._taken_over.labels("handed_over" if not other.is_dead else "dead").inc(len(claims))
            if other.is_dead:
                for claim in claims:
                    calls.take_over(claim)
            elif claims:
                self._once(self._take(calls, claims), "take calls that are handed over")
            left -= len(claims)
            self._ration.give_back(room - len(claims))
            if len(claims) < room:
                # the rest is being claimed by others, or not offered yet
                left = left if other.is_dead else 0
                break
        return left

    async def _take(self, calls: Calls, claims: list[Claim]) -> None:
        call_ids = {claim.ref.call_id for claim in claims}
        self._handing |= call_ids
        try:
            unsure = await handover.take(
                self._leases,
                calls,
                claims,
                attach=self._attach,
                writer=self._writer,
                clock=self._clock,
                wake=self._wake,
            )
        finally:
            self._handing -= call_ids
        if unsure:
            # both may have recorded some of it
            self._mark_late([(ref, ref.epoch - 1) for ref in unsure])

    async def _keep_begun(self, calls: Calls) -> None:
        await self._begun.wait()
        self._begun.clear()
        try:
            await self._write_begun(calls)
        except BaseException:
            self._begun.set()
            raise

    async def _keep_ended(self) -> None:
        await self._ended.wait()
        self._ended.clear()
        try:
            await self._write_ended()
        except BaseException:
            self._ended.set()
            raise

    async def _write_begun(self, calls: Calls | None = None) -> None:
        """Write leases of new calls."""
        held = [each for each in self._held.values() if each[0].call_id not in self._over]
        try:
            taken = await self._leases.hold([(ref, asdict(row)) for ref, row in held]) if held else []
        except BaseException:
            self._is_behind = True
            self._written.announce()
            raise
        self._is_behind = False
        for ref, _ in held:
            self._held.pop(ref.key, None)
        self._written.announce()
        if taken and calls is not None:
            await self._yield(calls, taken)

    async def _write_ended(self) -> None:
        """Give leases up of calls that are over."""
        over = dict(self._over)
        if over:
            await self._writer.readable()
            await self._leases.release([ref.key for ref in over.values()])
        for call_id, ref in over.items():
            self._over.pop(call_id, None)
            self._held.pop(ref.key, None)

    async def _yield(self, calls: Calls, refs: Collection[CallRef]) -> None:
        """Let calls go that somebody else took up meanwhile."""
        holders = await self._leases.holders([ref.key for ref in refs])
        lost = [ref for ref in refs if holders.get(ref.key) not in (None, self._leases.me)]
        if not lost:
            return
        for ref in lost:
            log.error("call_has_another_owner", call_id=ref.call_id)
        await calls.let_go([ref.call_id for ref in lost])
        self._mark_late([(ref, ref.epoch) for ref in lost])

    async def _find_strays(self, calls: Calls) -> None:
        """Take up calls that nobody owns, as many a second as are claimed of the dead; close what they leave."""
        if self._orphans.suspects:
            # who accepted them has written their leases by then, or acts no more
            await self._clock.sleep(self._ttl)
        else:
            await self._strays.wait(self._looked, STRAYS_SECONDS)
        self._looked = self._strays.count
        if self._resigned or not self.may_act():
            return
        # by what is on record, since whoever declares another dead may be gone before it has done this
        await self._writer.run(orders.abandon_of_the_dead())
        now = self._clock.now_us()
        await self._writer.run(unfinished.close_negotiations(now, begun_before=now - NEGOTIATING_US))
        lasting = await self._orphans.look(self._leases, calls)
        async for claim in self._orphans.adopt(self._leases, lasting):
            calls.take_over(claim)

    async def _audit(self, calls: Calls) -> None:
        """See that every call observed here has a lease, and that every lease of ours is of such a call."""
        await self._doubts.wait(self._doubted, AUDIT_SECONDS)
        self._doubted = self._doubts.count
        if self._resigned:
            return
        if self._held:
            await self._write_begun(calls)
        own = {ref.call_id: ref for ref in await self._leases.own()}
        observed = {ref.call_id: ref for ref in calls.refs()}
        for call_id, ref in own.items():
            if calls.knows(call_id) or call_id in self._over or call_id in self._handing:
                continue
            # its observer failed, and so did taking it up again
            if (claim := await self._leases.claim_again(ref)) is not None:
                calls.take_over(claim)
        missing = [ref for call_id, ref in observed.items() if call_id not in own and ref.key not in self._held]
        await self._yield(calls, missing)
        for ref in missing:
            row = calls.row(ref.call_id)
            if row is not None and ref.call_id not in self._over:
                self.begun(ref, row)


def _new_id() -> str:
    return f"rep_{secrets.token_hex(8)}"
