"""Run policies over a recorded call, on the recording's own clock. Pure.

Entries go in, in order; decisions come out, as the machine takes them live: timers that are due before an
entry decide first, each at its own age; then the entry's event is folded and the policies see it. What a
policy's own acting led to is told from its recorded commands. Nothing is done and nothing is sent: what the
recording holds stands as it was, also where other policies would have changed it.

What was never stored cannot be replayed: what was said in a pause, frames that were shed, audio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Decided, Place
from rtobserver.policy.engine import Engine
from rtobserver.policy.recordings import Line, RecordingError, microseconds
from rtobserver.policy.rules import TRIGGER_NAMES, Json, PolicySet
from rtobserver.policy.tampering import WATCHED, Tampering
from rtobserver.policy.timers import TOLERANCE
from rtobserver.policy.traces import NOBODY, Traces
from rtobserver.policy.verdicts import Verdict
from rtobserver.policy.view import Subject, view
from rtobserver.policy.wording import action_names
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import COMMAND, EVENT, GAP, OVERLAP
from rtobserver.realtime.events import Event, fields, read
from rtobserver.realtime.values import mapping, text

LONGEST_MATCH = 1_000
"""Characters of the matched words that are kept."""
MOST_RESTORED = 3
"""How often a policy restores the session of one call (docs/decisions/0070)."""
MAX_TIMERS = 10_000
"""Timers that may decide between two entries."""
_LOSING = ("reattach", "takeover", "oversize", "protocol")
"""Gaps at which the sideband was lost."""


class Ruling(NamedTuple):
    """Be a verdict, and where it was reached."""

    place: Place
    verdict: Verdict
    age: float


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
        self.engine = Engine(
            active,
            call_id=subject.call_id,
            profile=subject.profile,
            started_at=subject.started_at,
            state=state,
            view=self.view,
        )
        self.tampering = Tampering(session or {})
        self._traces = Traces(commands or {})
        self._latest: dict[str, frozenset[str]] = {}
        self._placed: dict[str, Place] = {}
        """Where each policy decided last."""
        self._order = {policy.id: number for number, policy in enumerate(active.policies.policies)}
        self._restored: Counter[str] = Counter()
        self._owned: set[str] = set()
        """Function calls whose output is ours to give."""
        self._answered: set[str] = set()
        """Function calls that somebody else answered."""

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
        age = line.offset_us / 1e6
        found = self.pass_time(age if line.epoch == self.place.epoch else self._left(line, age))
        self.age = max(self.age, age)
        self.place = Place(line.epoch, line.seq)
        self.at = line.at
        self.causes, self.keys = NOBODY, ()
        self.event, self.frame = Event(), b""
        self.entry_count += 1
        if line.kind == EVENT:
            found += self._hear(line)
        elif line.kind == COMMAND:
            self._note(fields(line.payload), line.type)
        elif line.kind == GAP:
            self._miss(fields(line.payload).get("reason"))
        return found

    def pass_time(self, until: float) -> list[Ruling]:
        """Let the clock go on; give what timers decide meanwhile."""
        found: list[Ruling] = []
        for _ in range(MAX_TIMERS):
            due = self.engine.wake_at()
            if due is None or due > until + 2 * TOLERANCE:
                break
            self.age = max(self.age, due)
            at = self.subject.started_at + round(self.age * 1e6)
            found += self._rulings(self.engine.woken(at=at, age=self.age), by_timer=True)
        return found

    def _left(self, line: Line, age: float) -> float:
        """Give the age at which an epoch was left; what became due after it is decided in the next one."""
        try:
            left = microseconds(fields(line.payload).get("from"))
        except RecordingError:
            return self.age
        return min(age, (left - self.subject.started_at) / 1e6)

    def _hear(self, line: Line) -> list[Ruling]:
        frame = self.frame = line.payload
        event, _ = read(frame)
        self.event = event
        self.state.apply(event, frame, line.at, line.epoch, line.seq)
        self.heard_age = self.age
        if not self.is_blind:
            self.causes = self._traces.of(event, frame, self.age)
        if event.type in WATCHED:
            self.keys = self.tampering.heard(event, frame, self._owned.__contains__, age=self.age)
            self._look_at_output(frame)
        verdicts = self.engine.heard(event, frame, at=line.at, age=self.age, causes=self.causes)
        if self.keys:
            self.is_tampered = True
            verdicts += self.engine.tampered(self.keys, event, frame, at=line.at, age=self.age, causes=self.causes)
            verdicts.sort(key=lambda verdict: self._order.get(verdict.policy.id, 0))
        return self._rulings(verdicts) if verdicts else []

    def _note(self, command: Mapping[str, Json], type_: str | None) -> None:
        if type_ == "tags":
            self._tag(command)
        elif type_ is not None and "." in type_:
            policy = self._traces.policy_of(command)
            causes = NOBODY if policy is None else self._latest.get(policy, frozenset({policy}))
            self._traces.issued(command, causes, self.age)
            if type_ == "session.update" and "session" not in command:
                # it was sent in a pause: what should be is not known any more
                self.tampering.forget()
            self.tampering.sent(command, self.age)

    def _tag(self, command: Mapping[str, Json]) -> None:
        removed, added = command.get("remove"), command.get("add")
        if isinstance(removed, list):
            self.tags = [tag for tag in self.tags if tag not in removed]
        if isinstance(added, list):
            self.tags += [tag for tag in map(str, added) if tag not in self.tags]

    def _miss(self, reason: Json) -> None:
        self.gap_count += reason != "before_attach"
        if reason in _LOSING:
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
            found.append(Ruling(place, verdict, self.age))
        return found

    def _do(self, verdict: Verdict) -> Verdict:
        """Take note of what an action changes without an entry of its own; gives the verdict as it is recorded."""
        for action in verdict.actions:
            if isinstance(action, rules.Tag):
                self.tags += [action.tag] if action.tag not in self.tags else []
            elif isinstance(action, rules.AnswerTool) and (call := verdict.match.function_call_id) is not None:
                self._owned |= {call} - self._answered
        if any(isinstance(action, rules.RestoreSession) for action in verdict.actions):
            self._restored[verdict.policy.id] += 1
            only = all(isinstance(action, rules.RestoreSession) for action in verdict.actions)
            if only and self._restored[verdict.policy.id] > MOST_RESTORED:
                return replace(
                    verdict, acts=False, fault=f"the session was restored {MOST_RESTORED} times in this call"
                )
        return verdict


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
