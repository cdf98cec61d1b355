"""Decide what an observer does: frames, timers, answers and orders in; effects out.

Pure: it is told the time and never waits. Inputs are in the past tense and give the effects in the
order in which they must be done, so that the record of a frame precedes whatever the frame caused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtobserver.observation import verdict
from rtobserver.observation.commands import Author, HungUpBy
from rtobserver.observation.control import Control, Order
from rtobserver.observation.effects import Alarm, CloseSideband, Effect, Finish, HangUp, Probe, RefreshCredential
from rtobserver.observation.enforcement import Enforcement
from rtobserver.observation.healing import Healing
from rtobserver.observation.ledger import Ledger
from rtobserver.observation.pause import plain_type
from rtobserver.observation.phases import GONE, Phase
from rtobserver.observation.plan import Plan, Resumption
from rtobserver.observation.probing import Probing
from rtobserver.observation.watch import Watch
from rtobserver.policy.tampering import WATCHED
from rtobserver.realtime import shedding
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import (
    JSON,
    STRIPPED,
    Changed,
    CommandRow,
    GapReason,
    GapRow,
    Recordable,
    Rows,
    Sums,
)
from rtobserver.realtime.events import Event, read
from rtobserver.realtime.holes import Loss
from rtobserver.realtime.redaction import AUDIO_DELTAS, MIN_AUDIO_CHARS, strip_audio
from rtobserver.upstream import backoff

SUMS_EVERY = 1.0
"""Seconds between writes of one call's sums."""
HANG_UP_RETRY = 30.0
"""Seconds until a failed hang-up is tried again."""
CLOSE_PATIENCE = 5.0
"""Seconds that upstream has to close the sideband after it accepted a hang-up."""
SHORT_LIVED = 5.0
"""A sideband that lasted less than this many seconds does not reset the back-off."""


class Machine:
    """Observe one call for one epoch."""

    def __init__(
        self,
        plan: Plan,
        state: CallState,
        *,
        epoch: int,
        at: int,
        mono: float,
        resumption: Resumption | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._plan = plan
        self.state = state
        self._resumption, self.phase = resumption, Phase.ATTACHING
        self.attach_due: float | None = mono
        """Monotonic time of the next attempt to attach; None while there is none to make."""
        earlier = resumption or Resumption(watermark=at, last_position=None, was_live=False)
        self._missed_since = mono - earlier.seconds_ago(at)
        self.ledger = Ledger(
            epoch=epoch,
            started_at=plan.started_at,
            at=earlier.unset(plan.started_at, at),
            mono=mono,
            last_position=earlier.last_position,
            entry_count=earlier.entry_count,
            counts=earlier.counts,
            earlier=earlier.gaps,
        )
        self.control = Control(
            self.ledger,
            state,
            audio_key=plan.audio_key,
            hang_up=self.hang_up_ordered,
            tags=earlier.tags,
            pause=earlier.pause,
        )
        self._healing = Healing(state, self.control, earlier.asked)
        self.enforcement = Enforcement(watch or Watch(state), self.ledger, self.control)
        self._deadline = mono + plan.attach_timeout
        self._attempts = 0
        self._refreshed = False
        self._attached_mono = mono
        self._detached_at: int | None = None
        self._detached_mono = mono
        self._why_detached: GapReason = "reattach"
        self._was_silent = False
        self._absence: GapRow | None = None
        self._sums_due = False
        self._sums_mono = mono - SUMS_EVERY
        self._probing = Probing(plan.idle_probe, mono)
        self._expired = self.has_resigned = False
        self._hung_up_by: HungUpBy | None = None
        self._found_over = self.is_ending = False
        self._author = Author("system")
        """Who has the call hung up."""
        self._hanging_up: CommandRow | None = None
        self._hang_up_due: float | None = None
        self._close_due: float | None = None
        self._given_up: tuple[str, str | None] | None = None

    # --- attaching ------------------------------------------------------------------------------

    def started(self, at: int, mono: float) -> list[Effect]:
        """Begin: what is missed from now on stands in a gap until the attach."""
        if self._resumption is None:
            return self._be_absent("before_attach", self._plan.asked_at, at, mono, None)
        if self._resumption.given_up is not None:
            self.phase, self.attach_due = Phase.WAITING, None
            self._given_up = (self._resumption.given_up, None)
            return []
        since = self._resumption.watermark
        effects: list[Effect] = list(self.ledger.gaps.bound_open(since, keep=self.control.gap))
        effects += [*self.control.started(since, self._missed_since, at, mono), *self.enforcement.started(at, mono)]
        self.control.pause.miss()
        effects += self.damaged(self._resumption.losses, at, mono)
        if not self._resumption.is_handed_over:
            effects += self._be_absent("takeover", since, at, mono, self._missed_since)
        return effects + self._give_up(at, mono) if self._resumption.is_hopeless else effects

    def attached(self, at: int, mono: float, heard: float | None = None) -> list[Effect]:
        """Take note that a sideband is open; frames follow.

        `heard` is the monotonic time since when frames wait in one that was opened before.
        """
        if self.phase not in (Phase.ATTACHING, Phase.REATTACHING):
            return [CloseSideband()]
        effects: list[Effect] = []
        if self.is_unaccounted:
            effects += self._declare(at, mono)
        self._healing.attached(self._absence, mono)
        effects += self._be_present(mono if heard is None else heard)
        if self.phase is Phase.ATTACHING:
            values: dict[str, Any] = {"status": "live"}
            if self._resumption is None or not self._resumption.was_live:
                values["attach_latency_ms"] = max(0, at - self._plan.started_at) // 1000
            effects.append(Changed(values))
        self.phase, self.attach_due = Phase.ATTACHED, None
        self._attached_mono = mono
        self._probing.attached(mono)
        self._refreshed = False
        return effects + self.control.attached(at, mono)

    def attach_failed(
        self, status: int | None, retry_after: float | None, at: int, mono: float, jitter: float
    ) -> list[Effect]:
        """Take note that an attempt failed: `status` is upstream's answer, or None where there was none."""
        if self.phase not in (Phase.ATTACHING, Phase.REATTACHING):
            return []
        effects: list[Effect] = []
        is_over = status == 404 and self._was_live()
        if self.is_unaccounted and (self._was_silent or not is_over):
            effects += self._declare(at, mono)
        if is_over:
            return effects + self._end(at, mono)
        if status in (401, 403) and not self._refreshed:
            self._refreshed = True
            self.attach_due = mono
            return [*effects, RefreshCredential()]
        if status in (401, 403) or mono >= self._deadline:
            return effects + self._give_up(at, mono)
        due = mono + backoff.delay(self._attempts, jitter, retry_after=retry_after)
        self._attempts += 1
        # upstream's own wish may reach past the deadline; then one more attempt is made at that time
        is_last = not retry_after and self._deadline - due < self._plan.attach_timeout / 15
        self.attach_due = self._deadline if is_last else due
        return effects

    def detached(
        self, code: int | None, reason: str, *, oversize: bool, at: int, mono: float, silent: float = 0.0
    ) -> list[Effect]:
        """Take note that the sideband is over; what that means, the next attach tells.

        It was dead for `silent` seconds before that was noticed: what came then is lost.
        """
        if self.phase is not Phase.ATTACHED:
            return []
        self._expired = self._expired or "maximum duration" in reason
        is_first = self._detached_at is None
        self._detached_at, self._detached_mono, self._missed_since = at - int(silent * 1e6), mono, mono - silent
        self._was_silent = silent > 0
        self._why_detached = "oversize" if oversize else "protocol" if code in (1002, 1007) else "reattach"
        effects: list[Effect] = [*self.ledger.end_shedding()]
        self.phase = Phase.REATTACHING
        self._healing.detached(oversize=oversize)
        effects += self.control.detached(at, mono)
        self.enforcement.detached()
        if self._close_due is not None:
            return effects + self._end(at, mono)
        self._deadline = mono + self._plan.attach_timeout
        self._attempts = 0 if mono - self._attached_mono >= SHORT_LIVED else self._attempts + 1
        # the first re-attach is made at once; a sideband that keeps dying is not hammered
        at_once = is_first or not self._attempts
        self.attach_due = mono if at_once else mono + backoff.delay(self._attempts - 1, 0.5)
        return effects

    @property
    def is_unaccounted(self) -> bool:
        """Say whether nobody listens and no gap says so yet, since the call may just be over."""
        return self.phase is Phase.REATTACHING and self._absence is None

    def _declare(self, at: int, mono: float) -> list[Effect]:
        return self._be_absent(self._why_detached, self._detached_at or at, at, mono, self._missed_since)

    def _was_live(self) -> bool:
        return self.phase is Phase.REATTACHING or (self._resumption is not None and self._resumption.was_live)

    def _give_up(self, at: int, mono: float) -> list[Effect]:
        lost = self._resumption is not None or self.phase is Phase.REATTACHING
        status, outcome = ("lost", "lost") if lost else ("unobserved", "attach_failed")
        self._given_up = (status, outcome)
        self.phase, self.attach_due = Phase.WAITING, None
        effects: list[Effect] = [Alarm(f"call_{status}", {"attempts": self._attempts})]
        effects += self.control.given_up(at, mono)
        effects += self._settle(status, outcome, mono)
        if self._plan.hang_up_unobserved or self._resumption is not None:
            # the hang-up is an entry of the call's as well
            return [*effects, *self.hang_up_ordered("given_up", at, mono), self._sums(mono)]
        if not self._plan.max_duration:
            return effects + self._leave()
        return effects

    # --- frames ---------------------------------------------------------------------------------

    def frame_received(self, frame: bytes, at: int, mono: float, pressure: int = 0) -> list[Effect]:
        """Record a frame; classes up to `pressure` (`realtime/shedding.py`) are shed instead."""
        event, embeddable = read(frame)
        type_ = event.type
        ledger, enforcement = self.ledger, self.enforcement
        effects: list[Effect] = []
        if enforcement.wake is not None:
            effects += enforcement.woken(at, mono)
        self._probing.frame_mono = mono
        ledger.seq += 1
        seq = ledger.seq
        came, seen, conceals = event, frame, False
        watched = enforcement.is_needed or type_ in WATCHED
        if attentive := self.control.is_attentive:
            hidden = self.control.conceal(event, frame)
            if hidden is not None:
                # from here on there is only the placeholder, for the fold too
                event, frame, embeddable, type_, conceals = Event(), hidden, True, plain_type(type_), True
        if pressure and shedding.gives_up(type_, pressure):
            effects += ledger.shed(type_, at, mono, shedding.reason(pressure))
        else:
            flags = JSON if embeddable else 0
            key = self._plan.audio_key
            if key is not None and (len(frame) > MIN_AUDIO_CHARS or type_ in AUDIO_DELTAS):
                frame, stripped = strip_audio(frame, type_, key)
                if stripped:
                    flags |= STRIPPED
                    event, _ = read(frame)
            effects.append(ledger.event(type_, event.event_id, frame, flags, at, mono))
            changes = self.state.apply(event, frame, at, ledger.epoch, seq)
            if ledger.shedding and not pressure:
                effects += ledger.end_shedding()
            if type_ == "error" and verdict.is_expiry(seen):
                self._expired = True
            if changes is not None:
                if changes.items or changes.responses:
                    effects.append(Rows(changes.items, changes.responses))
                self._sums_due = self._sums_due or changes.settled
            if self._sums_due and mono - self._sums_mono >= SUMS_EVERY:
                effects.append(self._sums(mono))
        if conceals or enforcement.is_apart:
            enforcement.keep_up(came, seen, at, seq)
        if attentive:
            effects += self.control.heard(came, seen, at, mono)
        if watched:
            # told last: an acknowledgement of ours has told its causes by now
            effects += enforcement.heard(came, seen, seq, at, mono, conceals=conceals)
        return effects

    def refused(self, lost: list[tuple[int, str | None, int]], at: int, mono: float) -> list[Recordable]:
        """Take note of entries, as (seq, type, at), that the database would not store for what they hold."""
        effects = self.ledger.refused(lost, at, mono)
        if self.phase in GONE and self._given_up is not None:
            effects += [self._sums(mono), self._verdict(self._given_up[0])]
        return effects

    def damaged(self, losses: Sequence[Loss], at: int, mono: float) -> list[Recordable]:
        """Take note that some of the call's stored entries are so no longer."""
        return [effect for loss in losses for effect in self.ledger.damaged(loss, self._plan.started_at, at, mono)]

    # --- orders ---------------------------------------------------------------------------------

    def ordered(self, order: Order, at: int, mono: float) -> list[Effect]:
        """Begin to carry out an operator's order."""
        return self.control.ordered(order, at, mono)

    def unsent(self, event_id: str, problem: str, at: int, mono: float, *, never: bool = False) -> list[Effect]:
        """Take note that a command could not be sent; it may have arrived all the same unless it `never` left."""
        return self.control.unsent(event_id, problem, at, mono, never=never)

    def tool_answered(self, key: str, output: str | None, problem: str | None, at: int, mono: float) -> list[Effect]:
        """Take note of what a tool's endpoint said, or why it said nothing."""
        return [] if self.phase in GONE else self.enforcement.tool_answered(key, output, problem, at, mono)

    def policies_changed(self) -> None:
        """Take note that other policies may be in force."""
        if self.phase not in GONE and not self.has_resigned:
            self.enforcement.policies_changed()

    # --- time -----------------------------------------------------------------------------------

    def wake_at(self) -> float | None:
        """Give the monotonic time at which `woken` may have something to do; frames only move it later."""
        if self.phase in GONE:
            return None
        moments = (self._hang_up_due, self._close_due, self.control.wake_at(), self._healing.due)
        due = [moment for moment in moments if moment is not None]
        if self._plan.max_duration and self._hung_up_by is None and not self.has_resigned:
            due.append(self.ledger.due(self._plan.max_duration))
        if self.enforcement.wake is not None:
            due.append(self.ledger.due(self.enforcement.wake))
        if self._probes():
            due.append(self._probing.look_at())
        if self._sums_due:
            due.append(self._sums_mono + SUMS_EVERY)
        return min(due, default=None)

    def woken(self, at: int, mono: float) -> list[Effect]:
        """Do what has become due."""
        if self.phase in GONE:
            return []
        if self._close_due is not None and mono >= self._close_due:
            return self._end(at, mono)
        effects: list[Effect] = [*self.control.woken(at, mono), *self.enforcement.woken(at, mono)]
        effects += self._healing.woken(at, mono)
        if self._hang_up_due is not None and mono >= self._hang_up_due:
            effects += self._hang_up(at, mono)
        elif self._plan.max_duration and self.ledger.age(mono) >= self._plan.max_duration:
            effects += self.hang_up_ordered("max_duration", at, mono)
        if self._probes() and self._probing.is_due(mono):
            effects.append(Probe())
        if self._sums_due and mono - self._sums_mono >= SUMS_EVERY:
            effects.append(self._sums(mono))
        return effects

    def _probes(self) -> bool:
        return self.phase is Phase.ATTACHED and not self._probing.is_asking and self._plan.idle_probe > 0

    def probed(self, alive: bool | None, at: int, mono: float) -> list[Effect]:
        """Take note of what a probe found; None where it found nothing out."""
        self._probing.is_asking = False
        if self.phase is not Phase.ATTACHED:
            return []
        if alive is False:
            return self._end(at, mono)
        self._probing.answered(mono, alive=bool(alive))
        return []

    # --- ending ---------------------------------------------------------------------------------

    def hang_up_ordered(self, by: HungUpBy, at: int, mono: float, author: Author | None = None) -> list[Effect]:
        """Begin to end the call; a second order changes nothing."""
        if self.phase in GONE or self.has_resigned or self._hung_up_by is not None:
            return []
        self._hung_up_by, self._author = by, author or self._author
        return self._hang_up(at, mono)

    def _hang_up(self, at: int, mono: float) -> list[Effect]:
        self._hang_up_due = None
        self.is_ending = True
        body = {"type": "hangup", "reason": self._hung_up_by}
        row, effects = self.control.hang_up(body, self._author, at, mono)
        self._hanging_up = row
        return [*effects, HangUp(row, self._author.decision)]

    def hung_up(self, ended: bool | None, at: int, mono: float, problem: str = "") -> list[Effect]:
        """Take note of upstream's answer to a hang-up: ended now, over already (False), or no answer (None)."""
        command, self._hanging_up = self._hanging_up, None
        if command is None:
            return []
        told: list[Effect] = [command, *self.control.hung_up(at, problem or "no answer" if ended is None else None)]
        if ended is None:
            command.state, command.error = "failed", problem
            self.is_ending = False
            if self.phase in GONE:
                return told
            alarm = Alarm("hang_up_failed", {"problem": problem, "reason": self._hung_up_by})
            if self._hung_up_by == "given_up" and self._resumption is not None:
                # a call found at start-up gets one hang-up and is then let go (design, section 5)
                return [*told, alarm, *self._leave()]
            self._hang_up_due = mono + HANG_UP_RETRY
            return [*told, alarm]
        command.state, command.acknowledged_at = "acknowledged", at
        if self.phase in GONE:
            return told
        self._found_over = not ended
        if self.phase is Phase.ATTACHED:
            # the last events may still be on their way; the close that follows ends the call
            self._close_due = mono + CLOSE_PATIENCE
            return told
        return [*told, *self._end(at, mono)]

    def resigned(self, at: int, mono: float) -> list[Effect]:
        """Act no more, and go on recording until somebody else hears the call."""
        if self.phase in GONE or self.has_resigned:
            return []
        self.has_resigned, self._hang_up_due = True, None
        self.enforcement.drained()
        return self.control.drained(at, mono)

    def drained(self, at: int, mono: float) -> list[Effect]:
        """Leave the call as it is: the next start, or another replica, takes over."""
        if self.phase in GONE:
            return []
        effects: list[Effect] = [*self.ledger.end_shedding(), *self.control.drained(at, mono)]
        if self.is_unaccounted:
            effects += self._declare(at, mono)
        self.enforcement.drained()
        if self._given_up is None:
            effects.append(self._sums(mono))
        self.phase, self.attach_due = Phase.DETACHED, None
        return [*effects, CloseSideband()]

    def left(self, mono: float) -> list[Effect]:
        """Take note that no frame will come any more; to a call that was left, some came after `drained`."""
        sums = [self._sums(mono)] if self.phase is Phase.DETACHED and self._given_up is None else []
        self.state.release()
        self.enforcement.release()
        return [*sums]

    def _end(self, at: int, mono: float) -> list[Effect]:
        settled = [*self.control.ended(at, mono), *self.enforcement.ended("the call ended before the tool answered")]
        if self._given_up is not None:
            return [*settled, Changed({"ended_at": self._time(mono)}), *self._leave()]
        # what a hang-up did not end was ended by somebody else; that nobody got the answer stays true
        was_over = self._found_over or not self.is_ending
        ours = self._hung_up_by == "undelivered" or not was_over
        outcome = verdict.outcome(self._hung_up_by if ours else None, expired=self._expired)
        over_mono = self._detached_mono if self.phase is Phase.REATTACHING else mono
        effects: list[Effect] = [*self.ledger.end_shedding(), *settled]
        if was_over and self._absence is not None and self._absence.reason == "takeover":
            # nobody was there to see when; until then at least it went on
            over_mono = self._missed_since
            self._absence.reason, self._absence = "unknown_end", None
        elif self._absence is not None:
            effects += self._be_present(mono)
        effects += self._settle("ended", outcome, mono, self._time(over_mono))
        self._given_up = ("ended", outcome)
        return effects + self._leave()

    def _time(self, mono: float) -> int:
        """Give the time of a monotonic moment, as if nobody had set the wall clock since the call began."""
        return self._plan.started_at + int(self.ledger.age(mono) * 1e6)

    def _settle(self, status: str, outcome: str, mono: float, ended_at: int | None = None) -> list[Effect]:
        last = self.state.finish()
        effects: list[Effect] = []
        if last is not None and (last.items or last.responses):
            effects.append(Rows(last.items, last.responses))
        totals = self.state.totals()
        missed = totals.missed or status == "unobserved"
        effects += self.ledger.gaps.close(missed=missed, heard_nothing=not self.ledger.counts)
        ending = Changed({"status": status, "outcome": outcome, "ended_at": ended_at})
        return [*effects, self._sums(mono), ending, self._verdict(status)]

    def _verdict(self, status: str) -> Changed:
        totals = self.state.totals()
        completeness, checks = verdict.judge(status, totals, self.ledger.gaps.count, self.ledger.counts)
        return Changed({"completeness": completeness, "checks": checks})

    def _leave(self) -> list[Effect]:
        status, outcome = self._given_up or ("ended", None)
        self.phase, self.attach_due = Phase.ENDED, None
        return [CloseSideband(), Finish(status, outcome)]

    def _be_absent(self, reason: GapReason, from_at: int, at: int, mono: float, since: float | None) -> list[Effect]:
        record, gap = self.ledger.open_gap(reason, from_at, at, mono, since=since)
        self._absence = gap
        if reason != "before_attach":
            self.enforcement.missed(record.offset_us / 1e6)
        return [record, gap]

    def _be_present(self, mono: float) -> list[Effect]:
        gap, self._absence = self._absence, None
        if gap is None:
            return []
        self.ledger.gaps.bound(gap, mono)
        return [gap]

    def _sums(self, mono: float) -> Sums:
        self._sums_due, self._sums_mono = False, mono
        return Sums(self.state.totals(), self.ledger.entry_count, self.ledger.gaps.count)
