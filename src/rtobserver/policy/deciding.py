"""Weigh a match: condition, limits, modes, templates; and make a verdict of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from rtobserver.policy.active import DEMOTED, Active, Faulted
from rtobserver.policy.book import Rule
from rtobserver.policy.cel import MAX_COST, MAX_EVENT, ConditionFault, Shown
from rtobserver.policy.limits import ACTIONS_PER_CALL, MAX_FAULTS, Ledger
from rtobserver.policy.rules import (
    Action,
    AnswerTool,
    DeadAir,
    Idle,
    Json,
    Mode,
    PauseRecording,
    Policy,
    ResumeRecording,
    Tag,
    Webhook,
)
from rtobserver.policy.templates import TemplateFault, fill
from rtobserver.policy.verdicts import Match, Past, Verdict
from rtobserver.realtime.events import Event, fields

CLOCKS_APART = 0.25
"""Seconds by which a stored decision may look earlier than its timer was due: it has the wall clock's time."""
_APART = (Tag, Webhook, PauseRecording, ResumeRecording)
"""Actions that nothing in the call comes of."""
_OVER_BUDGET = f"the call's budget of {ACTIONS_PER_CALL} actions is used up"


class Hit(NamedTuple):
    """Be a trigger that is true."""

    rule: Rule
    match: Match


@dataclass(slots=True)
class Moment:
    """Be the event that is decided about, and what was made of it for conditions and templates."""

    event: Event
    frame: bytes
    """Empty for timers."""
    at: int
    """Microseconds since 1970."""
    age: float
    """The call's age in seconds."""
    causes: frozenset[str]
    cost: int = 0
    """What conditions cost so far, in nanoseconds or so."""
    told: dict[str, Json] | None = None
    call: Mapping[str, Json] | None = None
    shown: dict[tuple[Match, frozenset[str]], Shown] = field(default_factory=dict)


class Scales:
    """Weigh the matches of one call."""

    def __init__(self, active: Active, call_id: str, view: Callable[[float], Mapping[str, Json]]) -> None:
        self._active = active
        self._call_id = call_id
        self._view = view
        self._percentile = int.from_bytes(sha256(call_id.encode("utf-8", "replace")).digest()[:8], "big") % 100
        self._ledgers: dict[str, Ledger] = {}
        self._actions = 0
        self._past_ages: dict[str, float] = {}

    def weigh(self, rule: Rule, match: Match, moment: Moment, turn: int, matched_turn: int) -> Verdict | None:
        """Decide about one match; None where nothing is decided.

        `turn` is how many turns of the user there were, `matched_turn` the one that what matched belongs to.
        """
        policy, standing = rule.policy, self._active.standing(rule.policy)
        ledger = self._ledger(policy.id)
        try:
            if not self._accepts(rule, match, moment):
                return None
        except ConditionFault as fault:
            return self._fault(policy, match, moment, ledger, turn, f"the condition failed: {fault}")
        standing.matched += 1
        if self._is_own_consequence(policy, ledger, match, moment, turn) or not ledger.hits(policy.limit, matched_turn):
            standing.limited += 1
            return None
        if not ledger.is_cool(policy.limit, moment.age):
            standing.limited += 1
            return None
        try:
            actions = self._fill(rule, match, moment)
        except TemplateFault as fault:
            return self._fault(policy, match, moment, ledger, turn, f"an action could not be filled in: {fault}")
        wants = policy.mode == "enforce" or (policy.mode == "canary" and self._percentile < policy.canary_percent)
        if wants and standing.demoted_at is None and self._actions + len(actions) > ACTIONS_PER_CALL:
            if ledger.is_over_budget:
                standing.limited += 1
                return None
            ledger.is_over_budget = True
            return self._fault(policy, match, moment, ledger, turn, _OVER_BUDGET)
        was_demoted = standing.demoted_at is not None
        acts = (policy.mode == "observe" or self._active.admit(policy, moment.at)) and wants
        note = DEMOTED if standing.demoted_at is not None and not was_demoted else None
        ledger.decided(moment.age, turn=turn)
        if acts:
            self._actions += len(actions)
            standing.acted += 1
        else:
            standing.would += 1
        return self._verdict(policy, match, moment, standing.mode, actions, acts=acts, note=note)

    def failed(self, rule: Rule, match: Match, moment: Moment, turn: int, error: Exception) -> Verdict | None:
        """Decide about a match of which the weighing failed inside: it is a fault, told by kind and place.

        What the error says may hold what was said in the call.
        """
        policy = rule.policy
        text = f"rtobserver failed inside: {type(error).__name__} {_place(error)}"
        return self._fault(policy, match, moment, self._ledger(policy.id), turn, text)

    def recall(self, hits: Iterable[Hit], moment: Moment, turn_of: Callable[[Match], int]) -> None:
        """Take in matches that an earlier epoch weighed, for policies that want several turns in a row."""
        for rule, match in hits:
            if rule.policy.limit.consecutive > 1:
                try:
                    if not self._accepts(rule, match, moment):
                        continue
                except ConditionFault:
                    continue
                self._ledger(rule.policy.id).hits(rule.policy.limit, turn_of(match))

    def restore(self, past: Past, policy: Policy | None, turn: int | None) -> None:
        """Take in a decision of an earlier epoch; `policy` is None where it is not in force any more."""
        ages = self._past_ages
        ages[past.policy] = max(past.age, ages.get(past.policy, past.age))
        if past.is_fault:
            self._ledger(past.policy).failed()
            return
        self._ledger(past.policy).decided(past.age, turn=turn)
        if past.acted:
            self._actions += past.actions

    def is_past(self, policy_id: str, due: float) -> bool:
        """Say whether an earlier epoch decided about what is due then."""
        return due <= self._past_ages.get(policy_id, -1.0) + CLOCKS_APART

    def _ledger(self, policy_id: str) -> Ledger:
        ledger = self._ledgers.get(policy_id)
        if ledger is None:
            ledger = self._ledgers[policy_id] = Ledger()
        return ledger

    def _is_own_consequence(self, policy: Policy, ledger: Ledger, match: Match, moment: Moment, turn: int) -> bool:
        if ledger.decided_turn != turn:
            return False
        if match.function_call_id is not None and any(isinstance(action, AnswerTool) for action in policy.actions):
            return False  # each function call matches once; that the model makes another is what the answer was for
        # a silence comes of whatever was done about the one before, until the user has had a turn
        is_silence = isinstance(policy.trigger, Idle | DeadAir)
        return policy.id in moment.causes or (
            is_silence and not all(isinstance(action, _APART) for action in policy.actions)
        )

    def _accepts(self, rule: Rule, match: Match, moment: Moment) -> bool:
        condition = rule.condition
        if condition is None:
            return True
        moment.cost += condition.cost(moment.frame)
        if moment.cost > MAX_COST:
            raise ConditionFault("the conditions of the policies would take too long over so large an event")
        return condition.matches(self._scope(match, moment, condition.names), frame=moment.frame)

    def _fill(self, rule: Rule, match: Match, moment: Moment) -> tuple[Action, ...]:
        if not rule.paths:
            return rule.policy.actions
        names = frozenset(path.partition(".")[0] for path in rule.paths)
        if "event" in names and len(moment.frame) > MAX_EVENT:
            raise TemplateFault(f"the event is too large: {len(moment.frame)} bytes, {MAX_EVENT} are taken")
        scope = self._scope(match, moment, names)
        return tuple(fill(action, scope) for action in rule.policy.actions)

    def _scope(self, match: Match, moment: Moment, names: frozenset[str]) -> Shown:
        shown = moment.shown.get((match, names))
        if shown is not None:
            return shown
        if "event" in names and moment.told is None:
            moment.told = fields(moment.frame) if len(moment.frame) <= MAX_EVENT else {}
        if "call" in names and moment.call is None:
            moment.call = self._view(moment.age)
        parts = {
            "text": match.text,
            "item_id": match.item_id,
            "response_id": match.response_id,
            "name": match.name,
            "arguments": match.arguments,
            "keys": list(match.keys) or None,
        }
        shown = moment.shown[match, names] = Shown(
            {
                "event": moment.told or {} if "event" in names else {},
                "call": moment.call or {} if "call" in names else {},
                "match": {name: value for name, value in parts.items() if value is not None},
            }
        )
        return shown

    def _fault(
        self, policy: Policy, match: Match, moment: Moment, ledger: Ledger, turn: int, text: str
    ) -> Verdict | None:
        if self._is_own_consequence(policy, ledger, match, moment, turn):
            return None
        if not ledger.is_cool(policy.limit, moment.age):
            return None
        standing = self._active.standing(policy)
        standing.faults += 1
        if ledger.faults >= MAX_FAULTS:
            return None
        standing.last_faults.append(Faulted(call_id=self._call_id, at=moment.at, age=moment.age, text=text))
        ledger.failed()
        return self._verdict(policy, match, moment, standing.mode, policy.actions, fault=text)

    def _verdict(
        self,
        policy: Policy,
        match: Match,
        moment: Moment,
        mode: Mode,
        actions: tuple[Action, ...],
        *,
        acts: bool = False,
        fault: str | None = None,
        note: str | None = None,
    ) -> Verdict:
        return Verdict(
            policy=policy,
            policy_set=self._active.policies.hash,
            match=match,
            mode=mode,
            acts=acts,
            actions=actions,
            causes=moment.causes | {policy.id},
            fault=fault,
            note=note,
        )


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
