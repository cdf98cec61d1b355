"""Know what policies go by in one call: their engine, the expected session, and what came of whom. Pure.

It is made before the machine, so that a take-over can put into it what is stored of the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from rtobserver.observation.causes import Causes
from rtobserver.policy.active import Active
from rtobserver.policy.engine import MET, Engine
from rtobserver.policy.guard import RESTORING
from rtobserver.policy.rules import Json
from rtobserver.policy.tampering import Tampering
from rtobserver.policy.verdicts import Past, Verdict
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import COMMAND, EVENT, DecisionRow
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.placeholders import is_placeholder, outline

UNKNOWN = Subject(call_id="", profile="", model="", started_at=0)


class Stored(Protocol):
    """Be an entry as it is stored."""

    @property
    def epoch(self) -> int:
        """Give its epoch."""

    @property
    def seq(self) -> int:
        """Give its number in that."""

    @property
    def kind(self) -> int:
        """Say what sort of entry it is."""

    @property
    def at(self) -> int:
        """Give when it was recorded."""

    @property
    def offset_us(self) -> int:
        """Give the call's age at that time."""

    @property
    def type(self) -> str | None:
        """Give its type."""

    @property
    def payload(self) -> bytes:
        """Give what is stored of it."""


class Watch:
    """Watch one call for one epoch."""

    def __init__(
        self,
        state: CallState,
        *,
        active: Active | None = None,
        subject: Subject = UNKNOWN,
        session: Mapping[str, Json] | None = None,
        tampered: bool = False,
    ) -> None:
        self._active = active
        self.state = state
        """What the record amounts to."""
        self.live = state
        """What policies go by: the same, until something was heard that must not be stored."""
        self.subject = subject
        self.is_tampered = tampered
        """What the call's row says."""
        self.tampering = Tampering(session or {})
        self.causes = Causes()
        self.restored: Counter[str] = Counter()
        """How often each policy restored the session."""
        self.answered: dict[str, str] = {}
        """Function calls that policies answered in earlier epochs."""
        self.hidden: set[str] = set()
        """Policies that created items of which nothing is stored, so that nobody knows what they answered."""
        self.unsettled: list[DecisionRow] = []
        """Decisions of which the epoch that took them did not learn what came."""
        self.view: Callable[[float], Mapping[str, Json]] = lambda _: {}
        """Shows the call at an age; whoever has the figures sets it."""
        self.engine: Engine | None = None
        if active is not None:
            self.engine = Engine(
                active,
                call_id=subject.call_id,
                profile=subject.profile,
                started_at=subject.started_at,
                state=state,
                view=self._shown,
            )

    def order(self, verdict: Verdict) -> int:
        """Give the place of a verdict's policy in the file."""
        found = self._active.policies.policies if self._active is not None else ()
        return next((number for number, policy in enumerate(found) if policy.id == verdict.policy.id), len(found))

    @property
    def is_apart(self) -> bool:
        """Say whether policies know more than the record does, so that frames must be shown to `keep_up`."""
        return self.live is not self.state

    def keep_up(self, event: Event, frame: bytes, at: int, epoch: int, seq: int) -> None:
        """Take in a frame as it came, where the record has it otherwise, and each one after such a frame."""
        if self.live is self.state:
            self.live = self.state.fork()
            if self.engine is not None:
                self.engine.state = self.live
        self.live.apply(event, frame, at, epoch, seq)

    def release(self) -> None:
        """Let go of what was said in the call."""
        self.live.release()

    def is_response_done(self, response_id: str) -> bool:
        """Say whether a response ended; true also for one that is not known, or no longer."""
        return self.live.is_response_done(response_id)

    def is_response_over(self, response_id: str) -> bool:
        """Say whether a response is known to have ended."""
        return self.live.knows(response_id) and self.live.is_response_done(response_id)

    def _shown(self, age: float) -> Mapping[str, Json]:
        return self.view(age)

    def recall(self, entry: Stored, event: Event, policy: str | None = None) -> None:
        """Take in a stored entry that `state` has taken in, in order; `policy` is who had a command sent."""
        payload, age = entry.payload, entry.offset_us / 1e6
        if entry.kind == EVENT:
            self.tampering.heard(event, payload, age=age)
            is_outline = is_placeholder(payload)
            if is_outline:
                event, payload = outline(entry.type, payload)
            if is_outline or self.is_apart:
                self.keep_up(event, payload, entry.at, entry.epoch, entry.seq)
            causes = self.causes.of(event, payload)
            if self.engine is not None and self.engine.owes():
                self.engine.recall(event, payload, age=age, causes=causes)
        elif entry.kind == COMMAND:
            self._recall_command(entry.type, fields(payload), age, policy)

    def _recall_command(self, type_: str | None, command: dict[str, Json], age: float, policy: str | None) -> None:
        if type_ == "session.update" and "session" not in command:
            # it was sent in a pause, so that nobody can know what is expected since
            self.tampering.forget()
        self.tampering.sent(command, age)
        if type_ == MET and policy is not None and self.engine is not None:
            self.engine.met_before(policy)
        if policy is not None:
            self.causes.recall(command, policy)
            item = command.get("item")
            if type_ == "conversation.item.create" and not isinstance(item, dict):
                self.hidden.add(policy)
            if isinstance(item, dict) and item.get("type") == "function_call_output":
                self.answered[str(item.get("call_id"))] = policy

    def is_unanswered(self, function_call_id: str, row: DecisionRow) -> bool:
        """Say whether a decision was to answer a function call, and gave it no output."""
        is_asked = row.acted and "answer_tool" in row.actions
        return is_asked and function_call_id not in self.answered and row.policy not in self.hidden

    def recall_decisions(self, rows: Iterable[DecisionRow]) -> None:
        """Take in what was decided in earlier epochs, after all entries."""
        self.tampering.lost()
        past = []
        for row in rows:
            age = max(0, row.received_at - self.subject.started_at) / 1e6
            past.append(
                Past(
                    policy=row.policy,
                    age=age,
                    is_fault=row.outcome == "fault",
                    acted=row.acted,
                    actions=len(row.actions),
                )
            )
            if row.outcome is None:
                self.unsettled.append(row)
            if row.acted and "restore_session" in row.actions and RESTORING not in (row.detail or ""):
                self.restored[row.policy] += 1
        if self.engine is not None:
            self.engine.restore(past)
