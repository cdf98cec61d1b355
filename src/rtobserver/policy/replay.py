"""Run policies over a recorded call, on the recording's own clock. Pure.

Entries go in, in order; decisions come out, as the machine takes them live: timers that are due before an
entry decide first, each at its own age; then the entry's event is folded and the policies see it. What a
policy's own acting led to is told from its recorded commands. Nothing is done and nothing is sent: what the
recording holds stands as it was, also where other policies would have changed it.

Where another run of the daemon took the call over, policies go on from what is recorded of it and from
nothing else, here as there: `epochs` says how often. What the run before was told while it left, it decided
nothing about.

What was never stored cannot be replayed: what was said in a pause, frames that were shed, audio.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rtobserver.policy import guard, rules
from rtobserver.policy.active import Active
from rtobserver.policy.descent import NOBODY
from rtobserver.policy.difference import Decided, Place
from rtobserver.policy.engine import MET, Engine
from rtobserver.policy.recordings import Line, RecordingError, microseconds
from rtobserver.policy.rules import TRIGGER_NAMES, Json, PolicySet
from rtobserver.policy.tampering import WATCHED, Tampering
from rtobserver.policy.timers import TOLERANCE
from rtobserver.policy.traces import Traces
from rtobserver.policy.verdicts import Past, Verdict
from rtobserver.policy.view import Subject, view
from rtobserver.policy.wording import action_names
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import COMMAND, EVENT, GAP, OVERLAP
from rtobserver.realtime.events import Event, fields, read
from rtobserver.realtime.placeholders import is_placeholder, outline
from rtobserver.realtime.values import mapping, text

LONGEST_MATCH = 1_000
"""Characters of the matched words that are kept."""
MAX_TIMERS = 10_000
"""Timers that may decide between two entries."""
MAX_LATE = 0.25
"""Seconds by which a timer may have decided late; what was decided later than that was decided about something else."""
_LOSING = ("reattach", "takeover", "oversize", "protocol")
"""Gaps at which the sideband was lost."""


class Ruling(NamedTuple):
    """Be a verdict, and where it was reached."""

    place: Place
    verdict: Verdict
    age: float


@dataclass(frozen=True, slots=True)
class Watched:
    """Be what is known of when policies were at work in a call; all times are the call's age in seconds."""

    epochs: int = 1
    stops: Sequence[float] = ()
    """When runs began to leave the call, in order; from then on their policies decided nothing."""
    moments: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """When timers decided in each epoch, in order: a little after they were due."""


class Replay:
    """Replay one call.

    `state` is new. `session` is the one that was minted. `commands` names the policies of recorded
    commands by their `event_id`, as far as the store knows them.
    """

    def __init__(
        self,
        active: Active,
        subject: Subject,
        state: CallState,
        *,
        session: Mapping[str, Json] | None = None,
        commands: Mapping[str, str] | None = None,
        watched: Watched = Watched(),
    ) -> None:
        self.subject = subject
        self.state = state
        self.age = 0.0
        """Seconds since the call began, as far as it was replayed."""
        self.place = Place(1, 0)
        """Of the last entry."""
        self.causes = NOBODY
        """Policies whose acting led to the last entry."""
        self.keys: tuple[str, ...] = ()
        """What the last entry tampered with."""
        self.event, self.frame = Event(), b""
        """The last entry's event."""
        self.at = subject.started_at
        """Of the last entry, in microseconds since 1970."""
        self.heard_age = 0.0
        """Age at the last event."""
        self.is_tampered = False
        self.is_blind = False
        """Whether policies are not told what came of them, so that nothing keeps them from matching again."""
        self.tags: list[str] = []
        self.entry_count = self.gap_count = 0
        self.entry_age = 0.0
        """Age at the last entry."""
        self.looked: Callable[[], None] = lambda: None
        """Told of each entry when it was taken in and nothing was decided about it yet."""
        self._watched = watched
        self._fresh = [self._new_engine(active) for _ in range(max(0, watched.epochs - 1))]
        """For each later epoch the engine that it begins with; until then it is told what was recorded."""
        self.engine = self._new_engine(active)
        self._past: list[Past] = []
        """What was decided, as a take-over finds it."""
        self._stop: float | None = None
        """When the run of this epoch began to leave, or a later one, which is as good."""
        self._is_beginning = False
        """Whether an epoch has begun that did not yet say since when nobody observed."""
        self.tampering = Tampering(session or {})
        self._traces = Traces(commands or {})
        self._latest: dict[str, frozenset[str]] = {}
        self._placed: dict[str, Place] = {}
        """Where each policy decided last."""
        self._order = {policy.id: number for number, policy in enumerate(active.policies.policies)}
        self._restoring: dict[str, str] = {}
        """Each policy's last update of the session."""
        self._restored: Counter[str] = Counter()
        self._restored_before: Counter[str] = Counter()
        """Likewise, as a take-over counts."""
        self._owned: set[str] = set()
        """Function calls whose output is ours to give."""
        self._answered: set[str] = set()
        """Function calls that somebody else answered."""
        self._outputs: set[str] = set()
        """Function calls that were answered by a recorded command of a policy's."""

    def view(self, age: float) -> dict[str, Json]:
        """Show the call as it was at an age."""
        return view(
            self.subject,
            self.state,
            age=age,
            tags=self.tags,
            entry_count=self.entry_count,
            gap_count=self.gap_count,
            tampered=self.is_tampered,
        )

    def take(self, line: Line) -> list[Ruling]:
        """Take in the next entry; give what is decided before it and at it."""
        if line.flags & OVERLAP:
            return []
        return [*self.pass_time(self.until(line)), *self.enter(line)]

    def until(self, line: Line) -> float:
        """Give the age until which timers decide before an entry."""
        age = line.offset_us / 1e6
        if line.epoch != self.place.epoch:
            age = self._left(line, age)
        elif self._is_beginning:
            # a run begins by saying what it missed, before anything else
            return 0.0
        return age if self._stop is None else min(age, self._stop)

    def enter(self, line: Line) -> list[Ruling]:
        """Take in the next entry after time has passed; give what is decided at it."""
        age = line.offset_us / 1e6
        if line.epoch != self.place.epoch and self.entry_count:
            self._take_over()
        if line.epoch != self.place.epoch or not self.entry_count:
            self._stop = next((stop for stop in self._watched.stops if stop >= age), None)
        self.age = self.entry_age = max(self.age, age)
        self.place = Place(line.epoch, line.seq)
        self.at = line.at
        self.causes, self.keys = NOBODY, ()
        self.event, self.frame = Event(), b""
        self.entry_count += 1
        if line.kind == EVENT:
            return self._hear(line)
        if line.kind == COMMAND:
            self._note(fields(line.payload), line.type)
        elif line.kind == GAP:
            self._miss(fields(line.payload).get("reason"))
        self.looked()
        return []

    def wake_at(self) -> float | None:
        """Give the age at which timers may decide next."""
        return None if self._is_leaving else self.engine.wake_at()

    def pass_time(self, until: float) -> list[Ruling]:
        """Let the clock go on; give what timers decide meanwhile."""
        found: list[Ruling] = []
        for _ in range(MAX_TIMERS):
            due = self.wake_at()
            if due is None or due > until + 2 * TOLERANCE:
                break
            self.age = max(self.age, self.moment(due, until))
            at = self.subject.started_at + round(self.age * 1e6)
            found += self._rulings(self.engine.woken(at=at, age=self.age), by_timer=True)
        return found

    def over_at(self, ended: float) -> float:
        """Give the age until which timers decided, of a call that ended at an age.

        That it had ended was known a little later: until then they went on.
        """
        moments = self._watched.moments.get(self.place.epoch) or (ended,)
        return max(ended, moments[-1])

    @property
    def _is_leaving(self) -> bool:
        """Say whether the run had begun to leave, so that nothing was decided any more."""
        return self._stop is not None and self.age > self._stop

    def moment(self, due: float, until: float) -> float:
        """Give the age at which a timer decided that was due then."""
        moments = self._watched.moments.get(self.place.epoch, ())
        number = bisect_left(moments, due - TOLERANCE)
        if number == len(moments) or moments[number] > min(due + MAX_LATE, until + TOLERANCE):
            return due
        return max(due, moments[number])

    def _left(self, line: Line, age: float) -> float:
        """Give the age at which an epoch was left; what became due after it is decided in the next one."""
        moments = self._watched.moments.get(self.place.epoch) or (0.0,)
        decided = max(self.age, moments[-1])
        try:
            left = microseconds(fields(line.payload).get("from"))
        except RecordingError:
            return min(age, decided)
        return min(age, max(decided, (left - self.subject.started_at) / 1e6))

    def _new_engine(self, active: Active) -> Engine:
        engine: Engine
        recalled: dict[str, Json] = {}

        def view(age: float) -> Mapping[str, Json]:
            # who takes a call over has no figures yet while it reads what was recorded
            return self.view(age) if engine is self.engine else recalled

        subject = self.subject
        engine = Engine(
            active,
            call_id=subject.call_id,
            profile=subject.profile,
            started_at=subject.started_at,
            state=self.state,
            view=view,
        )
        return engine

    def _take_over(self) -> None:
        """Go on as the next run did, which knew what was recorded and nothing else."""
        if not self._fresh:
            return
        self.engine = self._fresh.pop(0)
        self.engine.restore(self._past)
        self._traces.taken_over()
        self.tampering.lost()
        self._latest.clear()
        self._restored = self._restored_before.copy()
        self._owned, self._answered = set(self._outputs), set()
        self._is_beginning = True

    def _hear(self, line: Line) -> list[Ruling]:
        frame, is_outline = line.payload, is_placeholder(line.payload)
        event, frame = outline(line.type, frame) if is_outline else (read(frame)[0], frame)
        self.event, self.frame = event, frame
        self.state.apply(event, frame, line.at, line.epoch, line.seq)
        causes = self._traces.recorded_of(event, frame) if self._fresh else NOBODY
        for engine in self._fresh:
            if engine.owes():
                engine.recall(event, frame, age=line.offset_us / 1e6, causes=causes)
        self.heard_age = self.age
        if not self.is_blind:
            self.causes = self._traces.of(event, frame, self.age)
        if event.type in WATCHED and not is_outline:
            self.keys = self.tampering.heard(event, frame, self._owned.__contains__, age=self.age)
            self._look_at_output(frame)
        if self._is_leaving:
            self.looked()
            return []
        self.is_tampered = self.is_tampered or bool(self.keys)
        self.looked()
        verdicts = self.engine.heard(event, frame, at=line.at, age=self.age, causes=self.causes)
        if self.keys:
            verdicts += self.engine.tampered(self.keys, event, frame, at=line.at, age=self.age, causes=self.causes)
            verdicts.sort(key=lambda verdict: self._order.get(verdict.policy.id, 0))
        return self._rulings(verdicts) if verdicts else []

    def _note(self, command: Mapping[str, Json], type_: str | None) -> None:
        if type_ == "tags":
            self._tag(command)
        elif type_ == MET:
            for engine in (self.engine, *self._fresh):
                engine.met_before(str(command.get("policy")))
        elif type_ is not None and "." in type_:
            policy = self._traces.policy_of(command)
            causes = NOBODY if policy is None else self._latest.get(policy, frozenset({policy}))
            self._traces.issued(command, causes, self.age, policy)
            item = mapping(command.get("item"))
            if policy is not None and item.get("type") == "function_call_output":
                self._outputs.add(str(item.get("call_id")))
                # it may be the next run that answers what one before had begun to ask
                self._owned.add(str(item.get("call_id")))
            if type_ == "session.update" and "session" not in command:
                # it was sent in a pause; what should be is not known any more
                self.tampering.forget()
            self.tampering.sent(command, self.age)
            if policy is not None and type_ == "session.update":
                self._restoring[policy] = str(command.get("event_id"))

    def _tag(self, command: Mapping[str, Json]) -> None:
        removed, added = command.get("remove"), command.get("add")
        if isinstance(removed, list):
            self.tags = [tag for tag in self.tags if tag not in removed]
        if isinstance(added, list):
            self.tags += [tag for tag in map(str, added) if tag not in self.tags]

    def _miss(self, reason: Json) -> None:
        self._is_beginning = self._is_beginning and reason != "takeover"
        self.gap_count += reason != "before_attach"
        if reason in _LOSING:
            self.engine.missed(age=self.age)
            self._traces.lost()
            self.tampering.lost()

    def _look_at_output(self, frame: bytes) -> None:
        item = mapping(fields(frame).get("item"))
        call, item_id = item.get("call_id"), item.get("id")
        if item.get("type") != "function_call_output" or not isinstance(call, str) or call in self._owned:
            return
        if not (isinstance(item_id, str) and self.tampering.is_ours(item_id)):
            self._answered.add(call)

    def _rulings(self, verdicts: list[Verdict], *, by_timer: bool = False) -> list[Ruling]:
        found: list[Ruling] = []
        for verdict in verdicts:
            policy, place = verdict.policy.id, self.place
            if by_timer and self._placed.get(policy) == place:
                # live, such a decision gets an entry of its own
                place = Place(place.epoch, place.seq + 1)
            self._placed[policy] = place
            self._latest[policy] = verdict.causes
            if verdict.acts:
                verdict = self._do(verdict)
            self._past.append(
                Past(
                    policy=policy,
                    age=self.age,
                    is_fault=verdict.fault is not None,
                    acted=verdict.acts,
                    actions=len(verdict.actions),
                )
            )
            found.append(Ruling(place, verdict, self.age))
        return found

    def _do(self, verdict: Verdict) -> Verdict:
        """Take note of what an action changes without an entry of its own; gives the verdict as it is recorded."""
        for action in verdict.actions:
            if isinstance(action, rules.Tag):
                self.tags += [action.tag] if action.tag not in self.tags else []
            elif isinstance(action, rules.AnswerTool) and (call := verdict.match.function_call_id) is not None:
                self._owned |= {call} - self._answered
        if not guard.restores(verdict.actions):
            return verdict
        # live, it waits for the answer to the one before
        is_waiting = self.tampering.awaits(self._restoring.get(verdict.policy.id, ""))
        self._restored[verdict.policy.id] += not is_waiting
        actions, words = guard.kept(verdict.actions, is_waiting=is_waiting, times=self._restored[verdict.policy.id])
        if not actions and not is_waiting:
            return replace(verdict, acts=False, fault=words[0])
        self._restored_before[verdict.policy.id] += not is_waiting
        return replace(verdict, actions=tuple(actions))


def decided(ruling: Ruling) -> Decided:
    """Say what was decided in few words."""
    verdict = ruling.verdict
    said = verdict.match.text
    return Decided(
        policy=verdict.policy.id,
        position=ruling.place,
        trigger=TRIGGER_NAMES[type(verdict.policy.trigger)],
        mode=verdict.mode,
        acts=verdict.acts,
        would_act=verdict.fault is None,
        actions=action_names(verdict.actions),
        match=None if said is None else (text(said) or "")[:LONGEST_MATCH],
        fault=verdict.fault,
    )


def uncapped(policies: PolicySet) -> PolicySet:
    """Leave out the cap on all calls together: calls are replayed one after another, and not as they came."""
    kept = tuple(replace(policy, limit=replace(policy.limit, per_minute=0)) for policy in policies.policies)
    return replace(policies, policies=kept)
