"""Keep this process's observers: start them, take up what an earlier run left, drain them.

Each call has a task of its own and a boundary around it: what goes wrong in one call's code ends
that observer, is logged with its traceback, and the call is taken up again as after a restart.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import structlog

from rtobserver.clock import Clock
from rtobserver.config import sections
from rtobserver.errors import StoreError, StoreUnavailable, UpstreamError
from rtobserver.metrics import Metrics
from rtobserver.observation.dispatch import Dispatch
from rtobserver.observation.effects import Finish
from rtobserver.observation.hearing import Hearing
from rtobserver.observation.machine import Machine
from rtobserver.observation.machines import Accepted, Left, Machines, row_of
from rtobserver.observation.observer import HangsUp, Joined, Observer, Reaches
from rtobserver.observation.ownership import Ownership
from rtobserver.observation.phases import Phase
from rtobserver.observation.wallclock import WallClock
from rtobserver.policy.active import Active
from rtobserver.quota import Counts
from rtobserver.realtime.call import CallState
from rtobserver.realtime.holes import Loss
from rtobserver.recorder import Recorder
from rtobserver.store import registration, tables, unfinished
from rtobserver.store.commits import EntryRow
from rtobserver.store.damage import Live
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim
from rtobserver.store.registration import NewCall
from rtobserver.store.unfinished import Mark, Unfinished
from rtobserver.store.writing import Writing
from rtobserver.upstream.attach import Attach

BEAT_SECONDS = 0.5
"""How often the mark up to which everything is stored is written, while calls are live."""
DOUBT_SECONDS = 2.0
"""One of which nothing was heard for so long may be dead; it has a mark of its own, and the others' goes on."""
TIDY_AFTER = 200
"""Sidebands, or as many as there are calls if these are more, after which what is left of ended ones is collected."""
ADOPTIONS = 20
"""Calls that are taken up at a time at a start."""
RETRIES = 3
"""How often a call whose observer failed is taken up again; then it is declared lost, and hung up."""
HANG_UP_SECONDS = 10.0
"""How long a drain waits for calls that it hangs up."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    observer: Observer
    profile: sections.Profile
    user: str | None
    row: NewCall
    """The call's row as it would be written again."""
    failures: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Is set when the call is not observed any more."""


class Supervisor:
    """Observe calls; an async context manager that ends when no observer is left."""

    def __init__(
        self,
        *,
        attach: Attach,
        rest: HangsUp,
        recorder: Recorder,
        writer: Writing,
        database: Database,
        clock: Clock,
        metrics: Metrics,
        quota: Counts,
        patience: sections.Observer,
        profiles: Mapping[str, sections.Profile],
        default: sections.Profile,
        audio_key: bytes | None,
        new_state: Callable[[sections.Profile, str], CallState],
        ownership: Ownership,
        active: Active | None = None,
        outbound: Reaches | None = None,
    ) -> None:
        self._attach, self._rest, self._recorder = attach, rest, recorder
        self._writer, self._database = writer, database
        self._clock, self._metrics = clock, metrics
        self._quota = quota
        self._hearing = Hearing(clock, metrics)
        self._ownership = ownership
        self._outbound = outbound
        self._machines = Machines(
            database=database,
            clock=clock,
            patience=patience,
            profiles=profiles,
            default=default,
            audio_key=audio_key,
            new_state=new_state,
            active=active,
        )
        self._turns = asyncio.Semaphore(ADOPTIONS)
        self._taking: dict[str, Claim] = {}
        """Calls that other replicas had, and that are being taken up."""
        self._kept: dict[str, _Kept] = {}
        self._tasks = asyncio.TaskGroup()
        self._leaving = asyncio.Event()
        self._undeclared: set[str] = set()
        """Calls that nobody observes and whose loss no gap declares yet: the mark must not pass over it."""
        self._tidied = 0
        self._wall_clock = WallClock(clock)
        self._some, self._none = asyncio.Event(), asyncio.Event()
        self._none.set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._beating = self._tasks.create_task(self._beat(), name="beat")
        listening = self._hearing.listen(lambda: [kept.observer for kept in self._kept.values()], self._some)
        self._listening = self._tasks.create_task(listening, name="listen")
        dispatch = Dispatch(
            writer=self._writer, database=self._database, clock=self._clock, ownership=self._ownership, find=self.find
        )
        self._dispatching = self._tasks.create_task(dispatch.run(), name="bring orders")
        self._sharing = self._tasks.create_task(self._ownership.share(self), name="share calls")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._beating, self._listening, self._dispatching, self._sharing):
            task.cancel()
        if isinstance(exc, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, exc, trace)
        else:
            # an error of the block is no reason to cut off what is in progress, nor to be wrapped in a group
            await self._tasks.__aexit__(None, None, None)

    @property
    def count(self) -> int:
        """Count the calls under observation."""
        return len(self._kept)

    def reasons(self) -> dict[str, int | None]:
        """Say in short words why nothing is heard of any call, and since when, for `/readyz`."""
        return self._hearing.reasons()

    def find(self, call_id: str) -> Observer | None:
        """Find the observer of a call that this process observes."""
        return kept.observer if (kept := self._kept.get(call_id)) else None

    def observe(self, accepted: Accepted) -> Observer:
        """Begin to observe a call that was just accepted, and that the quota counts already.

        The attach happens in the background.
        """
        machine = self._machines.begin(accepted)
        row = accepted.row()
        kept = self._keep(accepted.ref, machine, accepted.profile, row)
        self._ownership.begun(accepted.ref, row)
        self._tasks.create_task(self._run(accepted.ref, kept), name=f"observe {accepted.ref.call_id}")
        return kept.observer

    async def secured(self, call_id: str) -> None:
        """Wait, but not long, until another replica would take up a new call if this one was killed."""
        if observer := self.find(call_id):
            await self._ownership.secured(observer.call)

    async def adopt(self, mark: Mark | None) -> int:
        """Take up the calls that an earlier run left, by the mark that it left; gives how many.

        Raises:
            StoreUnavailable: they cannot be read; nothing was taken up.

        """
        found = await unfinished.calls(self._database)
        self._undeclared = {call.ref.call_id for call in found}
        for call in found:
            self._tasks.create_task(self._adopt(call, Left(mark=mark)), name=f"adopt {call.ref.call_id}")
        return len(found)

    async def drain(self) -> None:
        """Leave all calls, or hang up those whose profile says so; returns when no observer is left."""
        self._leaving.set()
        # orders are for the next start, or for who takes the calls over, to carry out
        self._dispatching.cancel()
        staying = []
        for call_id, kept in self._kept.items():
            if kept.profile.on_shutdown == "hang_up":
                kept.observer.hang_up("shutdown")
            else:
                staying.append(call_id)
        await self._ownership.hand_over(self, staying)
        # what is missed of the calls that are left from now on is for the next start to declare
        self._beating.cancel()
        now = self._clock.now_us()
        mark = self._mark(now)
        for kept in list(self._kept.values()):
            if kept.profile.on_shutdown != "hang_up":
                kept.observer.drain()
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                await self._none.wait()
        except TimeoutError:
            self.leave()
            await self._none.wait()
        if not self._undeclared:
            stopped = self._writer.note(unfinished.beat(self._ownership.replica_id, mark, stopped_at=now))
            stopped.add_done_callback(_hear)
        self._sharing.cancel()
        await self._ownership.resign(now)

    def leave(self) -> None:
        """Leave all calls as they are, even those that should have been hung up."""
        self._leaving.set()
        for kept in list(self._kept.values()):
            kept.observer.leave()

    def refused(self, rows: list[EntryRow]) -> None:
        """Tell observers of entries that the database would not store for what they hold."""
        by_call: dict[CallRef, list[EntryRow]] = {}
        for row in rows:
            by_call.setdefault(row[0], []).append(row)
        for call, lost in by_call.items():
            if observer := self.find(call.call_id):
                observer.refused(lost)
            else:
                log.error("entries_refused_after_end", call_id=call.call_id, count=len(lost))

    def live(self) -> Live:
        """Point at the calls under observation, with what writes their rows again; any thread may ask."""
        return {
            kept.observer.call: registration.again(kept.observer.call, kept.row, kept.observer.machine.ledger.epoch)
            for kept in list(self._kept.values())
        }

    # --- for who shares calls with other replicas ------------------------------------------------

    def refs(self) -> list[CallRef]:
        """Point at the calls under observation."""
        return [kept.observer.call for kept in self._kept.values()]

    def knows(self, call_id: str) -> bool:
        """Say whether a call is observed, or is being taken up."""
        return call_id in self._kept or call_id in self._taking

    def row(self, call_id: str) -> NewCall | None:
        """Give the row of an observed call as it was registered."""
        return kept.row if (kept := self._kept.get(call_id)) else None

    def take_over(self, claim: Claim, joined: Joined | None = None, *, is_handed_over: bool = False) -> None:
        """Take up a call that another replica had; `joined` is its sideband, where that is open already."""
        self._taking[claim.ref.call_id] = claim
        work = self._take_over(claim, joined, is_handed_over=is_handed_over)
        self._tasks.create_task(work, name=f"take over {claim.ref.call_id}")

    def resign(self, call_ids: Collection[str]) -> None:
        """Act on these calls no more, and go on recording them."""
        for call_id in call_ids:
            if observer := self.find(call_id):
                observer.resign()

    async def let_go(self, call_ids: Collection[str]) -> None:
        """Leave these calls as they are; returns when they are not observed any more."""
        leaving = [kept for call_id in call_ids if (kept := self._kept.get(call_id))]
        for kept in leaving:
            kept.observer.leave()
        for kept in leaving:
            await kept.gone.wait()

    def begun_anew(self, losses: Mapping[CallRef, Sequence[Loss]]) -> None:
        """Tell observers that the database is another file, and what it lacks of their calls' entries."""
        for call, lost in losses.items():
            if lost and (kept := self._kept.get(call.call_id)):
                kept.observer.damaged(lost)

    def policies_changed(self) -> None:
        """Tell observers that other policies are in force."""
        for kept in list(self._kept.values()):
            kept.observer.policies_changed()

    # --- one call -------------------------------------------------------------------------------

    def _keep(
        self,
        ref: CallRef,
        machine: Machine,
        profile: sections.Profile,
        row: NewCall,
        failures: int = 0,
        joined: Joined | None = None,
    ) -> _Kept:
        observer = Observer(
            ref,
            machine,
            attach=self._attach,
            rest=self._rest,
            recorder=self._recorder,
            clock=self._clock,
            metrics=self._metrics,
            hearing=self._hearing,
            finished=self._finished,
            outbound=self._outbound,
            may_act=self._ownership.may_act,
            joined=joined,
        )
        kept = self._kept[ref.call_id] = _Kept(observer, profile, row.user, row, failures)
        self._some.set()
        self._none.clear()
        self._metrics.live_calls.set(len(self._kept))
        return kept

    async def _run(self, ref: CallRef, kept: _Kept) -> None:
        """Be the boundary of one call: nothing that goes wrong in it reaches another."""
        try:
            await kept.observer.run()
            if not self._leaving.is_set():
                # the writer may yet refuse one of its last entries, and then the observer must hear of it
                await self._writer.kept()
            failed = False
        except Exception:
            log.exception("observer_failed", call_id=ref.call_id)
            self._undeclared.add(ref.call_id)
            failed = True
        finally:
            del self._kept[ref.call_id]
            kept.gone.set()
            self._quota.ended(kept.user)
            self._metrics.live_calls.set(len(self._kept))
            if not self._kept:
                self._some.clear()
                self._none.set()
        if kept.observer.machine.phase is Phase.ENDED and not failed:
            self._ownership.over(ref)
        if failed and not self._leaving.is_set() and kept.failures <= RETRIES:
            await self._take_up_again(ref, kept)

    async def _take_up_again(self, ref: CallRef, kept: _Kept) -> None:
        try:
            await self._writer.readable()
            found = [call for call in await unfinished.calls(self._database) if call.ref.call_id == ref.call_id]
        except Exception:
            log.exception("call_left_alone", call_id=ref.call_id)
            return
        for call in found:
            # what was received and not recorded came after its last entry
            failures, age = kept.failures + 1, kept.observer.machine.ledger.age
            await self._adopt(call, Left(mark=None, age=age, failures=failures, is_hopeless=failures > RETRIES))

    async def _adopt(self, call: Unfinished, left: Left) -> None:
        """Take up a call; where that fails it is left alone, and so are its fellows from its trouble."""
        async with self._turns:
            if self._leaving.is_set():
                return
            try:
                owner = self._ownership.replica_id
                call.ref.epoch = await self._ownership.next_epoch(call.ref)
                kept = await self._taken_up(call, owner, left)
            except Exception:
                log.exception("call_left_alone", call_id=call.ref.call_id)
                return
            self._quota.resumed(call.user)
        await self._go_on(call.ref, kept)

    async def _take_over(self, claim: Claim, joined: Joined | None, *, is_handed_over: bool) -> None:
        """Take up a call that another replica had; where that fails, it still has an owner, who sees that."""
        ref, kept, call = claim.ref, None, None
        try:
            if (before := self._kept.get(ref.call_id)) is not None:
                before.observer.drain()
                await before.gone.wait()
            # it is heard before what is stored of it is read: frames can wait, and the gap ends here
            joined = joined or await self._joined(ref)
            async with self._turns:
                call = await unfinished.call(self._database, ref) or unfinished.unwritten(ref, claim.registration)
                if call.is_over:
                    self._ownership.over(ref)
                elif not self._leaving.is_set():
                    self._writer.note(registration.again(ref, row_of(call), ref.epoch)).add_done_callback(_hear)
                    self._writer.fact(tables.call, ref, {"epoch": ref.epoch})
                    left = Left(mark=await self._mark_left(claim, call), is_handed_over=is_handed_over)
                    kept = await self._taken_up(call, claim.owner, left, None if call.is_given_up else joined)
                    self._quota.resumed(call.user, of=claim.previous)
        except Exception:
            log.exception("call_left_alone", call_id=ref.call_id)
        if self._taking.get(ref.call_id) is claim:
            del self._taking[ref.call_id]
        if joined is not None and (kept is None or (call is not None and call.is_given_up)):
            await joined.sideband.close()
        if kept is not None:
            await self._go_on(ref, kept)

    async def _joined(self, ref: CallRef) -> Joined | None:
        if self._attach.held:
            return None
        began = self._clock.mono()
        try:
            sideband = await self._attach.open(ref.call_id)
        except UpstreamError as exc:
            # what that means is for the machine to find out
            log.info("attach_failed", call_id=ref.call_id, problem=str(exc))
            return None
        self._hearing.joined(began)
        return Joined(sideband, self._clock.now_us(), self._clock.mono())

    async def _mark_left(self, claim: Claim, call: Unfinished) -> Mark | None:
        """Give the mark of who had the call, if that one has come as far as to declare what it did not hear itself."""
        epoch = int((call.last_position or "0:0").partition(":")[0])
        if claim.previous is None or epoch < claim.ref.epoch - 1:
            return None
        return await unfinished.mark_of(self._database, claim.previous)

    async def _taken_up(self, call: Unfinished, owner: str, left: Left, joined: Joined | None = None) -> _Kept:
        machine = await self._machines.resume(call, call.ref.epoch, left)
        if owner != self._ownership.replica_id:
            raise StoreError("all calls were let go meanwhile, and others may have this one")
        log.info("call_taken_up", call_id=call.ref.call_id, epoch=call.ref.epoch)
        return self._keep(call.ref, machine, self._machines.profile(call.profile), row_of(call), left.failures, joined)

    async def _go_on(self, ref: CallRef, kept: _Kept) -> None:
        if self._leaving.is_set():
            kept.observer.drain()
        # its gap is the first thing that the observer records, before anything else can run
        self._undeclared.discard(ref.call_id)
        await self._run(ref, kept)

    def _finished(self, ref: CallRef, machine: Machine, finish: Finish) -> None:
        """Write the one line that sums a call up."""
        totals = machine.state.totals()
        log.info(
            "call_finished",
            call_id=ref.call_id,
            status=finish.status,
            outcome=finish.outcome,
            seconds=round(machine.ledger.age(self._clock.mono()), 3),
            entries=machine.ledger.entry_count,
            gaps=machine.ledger.gaps.count,
            turns=totals.turn_count,
            interruptions=totals.interruption_count,
            errors=totals.error_count,
            tokens=totals.usage.total_tokens,
            cost_usd=None if totals.cost_usd is None else str(totals.cost_usd),
        )

    async def _beat(self) -> None:
        while True:
            await self._some.wait()
            if not (self._undeclared or any(kept.observer.machine.is_unaccounted for kept in self._kept.values())):
                mark = self._mark(self._clock.now_us())
                try:
                    await self._writer.note(unfinished.beat(self._ownership.replica_id, mark))
                except StoreUnavailable:
                    return  # the writer has ended, and the daemon ends because of that
            self._tidy()
            await self._clock.sleep(BEAT_SECONDS)

    def _tidy(self) -> None:
        """Collect what ended calls and connections have left: they refer to themselves.

        The collector is told to look seldom (`terminal/running.py`), and after minutes they are old to it: by itself it
        would look at them after millions of new objects. What a look costs grows with the calls that go on, so
        it is taken the more seldom the more they are.
        """
        opened = self._attach.opened
        if opened - self._tidied >= max(TIDY_AFTER, len(self._kept)):
            self._tidied = opened
            gc.collect()

    def _mark(self, now: int) -> Mark:
        """Say up to when all that upstream sent has been received, or will be found missing by its own mark."""
        longest, doubts = 0.0, {}
        for call_id, kept in self._kept.items():
            silent = kept.observer.silent
            if silent >= DOUBT_SECONDS:
                doubts[call_id] = now - int(silent * 1e6)
            else:
                longest = max(longest, silent)
        up = self._wall_clock.compared(now)
        if up is not None:
            up = replace(up, us=up.us - int(longest * 1e6))
        return Mark(now - int(longest * 1e6), doubts, up, self._wall_clock.was_set_back)


def _hear(future: asyncio.Future[Any]) -> None:
    """Take note of how something ended that nobody waits for."""
    if not future.cancelled():
        future.exception()
