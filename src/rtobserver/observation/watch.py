"""Know what policies go by in one call: their engine, the expected session, and what came of whom. Pure.

It is made before the machine, so that a take-over can put into it what is stored of the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from rtobserver.observation.causes import Causes
from rtobserver.policy.active import Active
from rtobserver.policy.engine import Engine
from rtobserver.policy.rules import Json
from rtobserver.policy.tampering import Tampering
from rtobserver.policy.verdicts import Past, Verdict
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import COMMAND, EVENT, DecisionRow
from rtobserver.realtime.events import Event, fields

RESTORING = "an earlier restoration of the session was not answered yet"
"""What a decision says that did not restore the session, since that was under way."""
UNKNOWN = Subject(call_id="", profile="", model="", started_at=0)


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
            from rtobserver.policy.engine import Engine

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

    def _shown(self, age: float) -> Mapping[str, Json]:
        return self.view(age)

    def recall(
        self, kind: int, type_: str | None, event: Event, payload: bytes, offset_us: int, policy: str | None
    ) -> None:
        """Take in a stored entry, in order; `policy` is who had a command sent."""
        if kind == EVENT:
            self.tampering.heard(event, payload, age=offset_us / 1e6)
            if self.engine is not None and self.engine.owes():
                self.engine.recall(event, payload, age=offset_us / 1e6)
        elif kind == COMMAND:
            self._recall_command(type_, fields(payload), offset_us / 1e6, policy)

    def _recall_command(self, type_: str | None, command: dict[str, Json], age: float, policy: str | None) -> None:
        if type_ == "session.update" and "session" not in command:
            # it was sent in a pause, so that nobody can know what is expected since
            self.tampering.forget()
        self.tampering.sent(command, age)
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
