"""Do what the machine decides, for one call: read frames, record, attach again, hang up.

No decisions are taken here. Whatever happens is told to the machine, and its effects are carried
out in their order before the next thing is told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Secret
from rtobserver.errors import CredentialError, RtobserverError, UpstreamError
from rtobserver.metrics import Metrics
from rtobserver.observation.commands import HungUpBy
from rtobserver.observation.control import Order
from rtobserver.observation.effects import (
    Alarm,
    AskTool,
    CloseSideband,
    Effect,
    Finish,
    HangUp,
    Notify,
    Probe,
    RefreshCredential,
    Send,
)
from rtobserver.observation.hearing import Hearing
from rtobserver.observation.machine import Machine
from rtobserver.observation.phases import Phase
from rtobserver.realtime import shedding
from rtobserver.realtime.entries import DecisionRow, GapRow, Record, Rows, Sums
from rtobserver.realtime.holes import Loss
from rtobserver.recorder import Recorder
from rtobserver.store.identity import CallRef
from rtobserver.store.writer import EntryRow
from rtobserver.upstream import backoff
from rtobserver.upstream.attach import Attach, AttachRefused, Detached, Sideband

log = structlog.get_logger()

FENCED = "this replica was no longer sure that the call was its own"
"""What a command is told that was not sent for that reason."""


class HangsUp(Protocol):
    """Ask upstream to end calls (`upstream/rest.py`)."""

    async def hang_up(self, call_id: str, may: Callable[[], bool]) -> bool:
        """End a call, as long as that may be asked for; False if it was over already."""


class Reaches(Protocol):
    """Reach addresses of the configuration (`outbound.py`)."""

    async def ask(self, url: str, body: bytes, *, timeout: float, secret: Secret | None) -> str:
        """Ask a tool's endpoint, once."""

    def notify(self, webhook: str, payload: Mapping[str, Any]) -> None:
        """Notify an address; never waits."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Be a sideband that was opened before its observer was there; frames wait in it."""

    sideband: Sideband
    since: int
    """When it was opened, by the wall clock: nothing is missed from then on."""
    mono: float
    """The same by the monotonic clock."""
    first: bytes | None = None
    """The first frame, where somebody has looked at it."""


class Observer:
    """Observe one call until it is over or this process leaves it."""

    def __init__(
        self,
        call: CallRef,
        machine: Machine,
        *,
        attach: Attach,
        rest: HangsUp,
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
        hearing: Hearing,
        finished: Callable[[CallRef, Machine, Finish], None],
        outbound: Reaches | None = None,
        may_act: Callable[[], bool] = lambda: True,
        joined: Joined | None = None,
    ) -> None:
        self.call = call
        self.machine = machine
        self._attach = attach
        self._rest = rest
        self._recorder = recorder
        self._clock = clock
        self._metrics, self._hearing = metrics, hearing
        self._finished = finished
        self._outbound = outbound
        self._may_act = may_act
        """Is asked right before anything leaves: commands, hang-ups, questions to tools, notifications."""
        self._joined = joined
        """A sideband that is open already, for the first attach."""
        self._sideband: Sideband | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._asking: set[asyncio.Task[None]] = set()
        """Questions to upstream that are under way; with their repetitions they may take minutes."""
        self._asking_tools: set[asyncio.Task[None]] = set()
        """Tools that are being asked; nobody needs their answers when the call is over or left."""
        self._unsent = 0
        """Commands that wait for the socket; none overtakes them."""
        self._declared: set[int] = set()
        """Numbers of this epoch's gaps that the figures have."""
        self._over = self._told_to_end = False
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._refresh = False
        self._early: list[Callable[[], Sequence[Effect]]] = []
        self._changed = asyncio.Event()

    # --- told from outside ----------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether the call is over, or a hang-up is on its way that has not failed."""
        return self._told_to_end or self.machine.is_ending or self.machine.phase is Phase.ENDED

    @property
    def may_end(self) -> bool:
        """Whether a hang-up is this one's to send, and not that of whoever hears the call next."""
        return self.machine.phase is not Phase.DETACHED and not self.machine.has_resigned

    def hang_up(self, by: HungUpBy) -> None:
        """End the call; what comes of it is recorded."""

        def told() -> Sequence[Effect]:
            self._told_to_end = False
            return self.machine.hang_up_ordered(by, *self._now())

        self._told_to_end = True
        self._tell(told)

    def order(self, order: Order) -> None:
        """Carry out an operator's order; what comes of it is recorded."""
        self._tell(lambda: self.machine.ordered(order, *self._now()))

    def resign(self) -> None:
        """Act no more, and go on recording."""
        self._tell(lambda: self.machine.resigned(*self._now()))

    def drain(self) -> None:
        """Leave the call to the next start."""
        self._tell(lambda: self.machine.drained(*self._now()))

    def leave(self) -> None:
        """Leave the call now, without waiting for an answer of upstream's."""
        for task in self._asking:
            task.cancel()
        self.drain()

    @property
    def is_attached(self) -> bool:
        """Say whether there is a sideband."""
        return self._sideband is not None

    @property
    def silent(self) -> float:
        """Seconds since the last sign of life of the sideband; 0 while there is none."""
        return 0.0 if self._sideband is None else self._sideband.silent

    def prove(self) -> None:
        """Ask the sideband for a sign of life."""
        if self._sideband is not None:
            self._sideband.prove()

    def policies_changed(self) -> None:
        """Take note that other policies are in force."""

        def changed() -> Sequence[Effect]:
            self.machine.policies_changed()
            return ()

        self._tell(changed)

    def refused(self, rows: list[EntryRow]) -> None:
        """Take note that the database would not store these entries for what they hold."""
        lost = [(row[2], row[6], row[4]) for row in rows]
        self._tell(lambda: self.machine.refused(lost, *self._now()))

    def damaged(self, losses: Sequence[Loss]) -> None:
        """Take note that some of the call's stored entries are so no longer."""
        # what was declared before may be lost too, and only this observer knows of it
        self._tell(lambda: [*self.machine.ledger.gaps.rows, *self.machine.damaged(losses, *self._now())])

    def _tell(self, told: Callable[[], Sequence[Effect]]) -> None:
        # in a task of the call's own, so that a fault in it is the call's and nobody else's
        async def perform() -> None:
            self._perform(told())

        if self._tasks is None:
            self._early.append(told)
        elif self._over:
            self._perform(told())
        else:
            self._start(perform(), "tell")

    # --- the call -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Observe until the machine has ended or was drained; the last effects are then done."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    self._perform(self.machine.started(*self._now()))
                    for told in self._early:
                        self._perform(told())
                    while self.machine.phase not in (Phase.ENDED, Phase.DETACHED):
                        await self._advance()
                finally:
                    if self._timer is not None:
                        self._timer.cancel()
                    for task in self._asking_tools:
                        task.cancel()
            self._perform(self.machine.left(self._clock.mono()))
        finally:
            self._over = True

    async def _advance(self) -> None:
        due = self.machine.attach_due
        if due is None:
            await self._wait(None)
        elif due > (now := self._clock.mono()):
            await self._wait(due - now)
        elif not self._joined and (held := self._attach.held) and (left := due + backoff.LONGEST - now) > 0:
            # spread, as what upstream asks of this call itself is; no secret depends on it
            await self._wait(min(left, backoff.delay(0, random.random(), retry_after=held)))  # noqa: S311
        else:
            await self._join()

    async def _wait(self, seconds: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _join(self) -> None:
        if self._refresh:
            self._refresh = False
            await self._attach.refresh_credential()
        first, began = self.machine.phase is Phase.ATTACHING, self._clock.mono()
        try:
            joined, self._joined = self._joined, None
            sideband = joined.sideband if joined else await self._attach.open(self.call.call_id)
        except UpstreamError as exc:
            refused = exc if isinstance(exc, AttachRefused) else None
            status = refused.status if refused else 401 if isinstance(exc, CredentialError) else None
            self._metrics.upstream_requests.labels("attach", str(status or "error")).inc()
            log.info("attach_failed", call_id=self.call.call_id, status=status, problem=str(exc))
            retry_after = refused.retry_after if refused else None
            # spread, so that many calls do not come back at once; no secret depends on it
            jitter = random.random()  # noqa: S311
            effects = self.machine.attach_failed(status, retry_after, *self._now(), jitter)
            self._perform(effects)
            if not self._refresh:
                never_heard = any(isinstance(effect, Alarm) and effect.event == "call_unobserved" for effect in effects)
                self._hearing.missed(self.call.call_id, exc, began, is_given_up=never_heard)
            return
        if joined is None:
            self._hearing.joined(began)
        self._metrics.attaches.labels("first" if first else "again").inc()
        self._sideband = sideband
        at, mono = self._now()
        self._perform(self.machine.attached(joined.since if joined else at, mono, joined.mono if joined else None))
        try:
            await self._receive(sideband, joined.first if joined else None)
        finally:
            self._sideband = None
            await sideband.close()

    async def _receive(self, sideband: Sideband, first: bytes | None = None) -> None:
        frame_received, record, pressure = self.machine.frame_received, self._recorder.record, self._recorder.pressure
        call, now_us, mono = self.call, self._clock.now_us, self._clock.mono
        enforcement = self.machine.enforcement

        def take(frame: bytes) -> None:
            effects = frame_received(frame, now_us(), mono(), pressure(call))
            if len(effects) == 1 and isinstance(effects[0], Record):
                record(call, effects[0])
            elif effects:
                self._perform(effects)
            if enforcement.is_sooner:
                # a lone record rearms nothing
                enforcement.is_sooner = False
                self._arm()

        try:
            if first is not None:
                take(first)
            await sideband.deliver(take)
        except Detached as exc:
            log.info("detached", call_id=call.call_id, code=exc.code, by_us=exc.by_us)
            told = self.machine.detached(
                exc.code, exc.reason, oversize=exc.oversize, at=now_us(), mono=mono(), silent=exc.silent
            )
            self._perform(told)

    def _perform(self, effects: Sequence[Effect]) -> None:
        acts = any(isinstance(effect, Send | HangUp | DecisionRow) for effect in effects)
        unsent, fenced = self._act(effects) if acts else ([], [])
        for effect in effects:
            match effect:
                case Record() | Rows() | Sums():
                    self._recorder.record(self.call, effect)
                case RefreshCredential():
                    self._refresh = True
                case Probe():
                    self._ask(self._probe(), "probe")
                case HangUp():
                    self._ask(self._hang_up(), "hang up")
                case Send():
                    pass  # it has left
                case AskTool():
                    task = self._start(self._ask_tool(effect), "ask a tool")
                    self._asking_tools.add(task)
                    task.add_done_callback(self._asking_tools.discard)
                case Notify():
                    if not self._may_act():
                        log.warning("notification_fenced", call_id=self.call.call_id, webhook=effect.webhook)
                    elif self._outbound is not None:
                        self._outbound.notify(effect.webhook, effect.body)
                case CloseSideband():
                    if self._sideband is not None:
                        self._start(self._sideband.close(), "close")
                case Alarm():
                    log.warning(effect.event, call_id=self.call.call_id, **effect.details)
                case Finish():
                    self._finished(self.call, self.machine, effect)
                case _:
                    if isinstance(effect, GapRow):
                        self._count(effect)
                    self._recorder.record(self.call, effect)
        for command in unsent:
            self._perform(self.machine.unsent(command.event_id, "the sideband was closed", *self._now()))
        for command in fenced:
            self._perform(self.machine.unsent(command.event_id, FENCED, *self._now(), never=True))
        self._arm()
        self._changed.set()

    def _act(self, effects: Sequence[Effect]) -> tuple[list[Send], list[Send]]:
        """Send what is to be sent before anything is recorded, and take the times.

        Gives what had nowhere to go, and what must not leave any more.
        """
        matched_at = self._clock.now_us()
        unsent, fenced, new = [], [], []
        for effect in effects:
            match effect:
                case DecisionRow() if not effect.matched_at:
                    effect.matched_at = matched_at
                    new.append(effect)
                case Send():
                    if self._sideband is None:
                        unsent.append(effect)
                        continue
                    if not self._may_act():
                        fenced.append(effect)
                        continue
                    if self._unsent or not self._sideband.send_now(effect.text):
                        self._unsent += 1
                        self._start(self._send(self._sideband, effect), "send")
                    self._left(effect)
                case HangUp():
                    self._left(effect)
                case _:
                    pass
        for decision in new:
            self._count_decision(decision)
        return unsent, fenced

    def _left(self, effect: Send | HangUp) -> None:
        sent_at = effect.row.sent_at = self._clock.now_us()
        if effect.decision is not None and effect.decision.sent_at is None:
            effect.decision.sent_at = sent_at

    def _count_decision(self, decision: DecisionRow) -> None:
        self._metrics.policy_decisions.labels(decision.policy, decision.mode, "yes" if decision.acted else "no").inc()
        if decision.outcome == "fault":
            self._metrics.policy_faults.labels(decision.policy).inc()
        if decision.sent_at is not None:
            # what has to wait for something else, as `say` does for a response, left later and is no reaction
            self._metrics.reaction_seconds.observe((decision.sent_at - decision.received_at) / 1e6)

    def _count(self, gap: GapRow) -> None:
        # the row of a gap may come again with what became of it, and one that ends as it begins comes ended
        if gap.epoch == self.machine.ledger.epoch and gap.seq not in self._declared:
            self._declared.add(gap.seq)
            self._metrics.gaps.labels(gap.reason).inc()
        if gap.reason in ("shed", "disk") and gap.state == "bounded":
            for type_, count in gap.lost_by_type.items():
                self._metrics.frames_shed.labels(shedding.NAMES[shedding.shed_class(type_)]).inc(count)

    def _ask(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._start(work, name)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._tasks is None:
            raise RuntimeError("the observer does not run")
        return self._tasks.create_task(work, name=f"{name} {self.call.call_id}")

    async def _probe(self) -> None:
        alive: bool | None = None
        if self._attach.held:
            self._perform(self.machine.probed(alive, *self._now()))
            return
        began = self._clock.mono()
        try:
            probe = await self._attach.open(self.call.call_id)
        except AttachRefused as exc:
            alive = False if exc.status == 404 else None
            self._hearing.missed(self.call.call_id, exc, began)
        except UpstreamError as exc:
            log.info("probe_failed", call_id=self.call.call_id, problem=str(exc))
            self._hearing.missed(self.call.call_id, exc, began)
        else:
            alive = True
            self._hearing.joined(began)
            self._metrics.attaches.labels("probe").inc()
            await probe.close()
        self._perform(self.machine.probed(alive, *self._now()))

    async def _ask_tool(self, ask: AskTool) -> None:
        output, problem = None, "no tool can be reached from here"
        if not self._may_act():
            problem = FENCED
        elif self._outbound is not None:
            body = msgspec.json.encode(ask.body)
            try:
                output = await self._outbound.ask(ask.url, body, timeout=ask.timeout, secret=ask.secret)
            except RtobserverError as exc:
                problem = str(exc)
        self._perform(
            self.machine.tool_answered(ask.key, output, None if output is not None else problem, *self._now())
        )

    async def _send(self, sideband: Sideband, command: Send) -> None:
        """Send what could not leave at once."""
        try:
            if self._may_act():
                await sideband.send(command.text)
            else:
                self._perform(self.machine.unsent(command.event_id, FENCED, *self._now(), never=True))
        except Detached as exc:
            self._perform(self.machine.unsent(command.event_id, str(exc), *self._now()))
        finally:
            self._unsent -= 1

    async def _hang_up(self) -> None:
        try:
            ended = await self._rest.hang_up(self.call.call_id, self._may_act)
        except UpstreamError as exc:
            self._perform(self.machine.hung_up(None, *self._now(), problem=str(exc)))
        else:
            self._perform(self.machine.hung_up(ended, *self._now()))

    # --- time -----------------------------------------------------------------------------------

    def _now(self) -> tuple[int, float]:
        return self._clock.now_us(), self._clock.mono()

    def _arm(self) -> None:
        """Set the one timer to the machine's next moment, or leave it if it fires before that: that does no harm."""
        due = self.machine.wake_at()
        if due == self._due or (due is not None and self._due is not None and due > self._due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, None
        if due is not None:
            delay = max(0.0, due - self._clock.mono())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._due = self._timer = None
        self._tell(lambda: self.machine.woken(*self._now()))
