"""Decide what the policies do about one call. Pure: rules, the call's state, events and ages in, verdicts out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping

import msgspec

from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.book import Plan, Rule
from rtobserver.policy.deciding import Hit, Moment, Scales
from rtobserver.policy.rules import Json
from rtobserver.policy.spoken import Speech
from rtobserver.policy.timers import TOLERANCE, Timers
from rtobserver.policy.tools import Called, Tools, read_call
from rtobserver.policy.verdicts import Match, Past, Verdict
from rtobserver.realtime.call import CallState
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.heard import AUDIO_TOKEN_MS
from rtobserver.realtime.values import identifier, mapping

_ADDED = ("conversation.item.added", "conversation.item.created")
_BEGUN = (*_ADDED, "input_audio_buffer.committed", "response.output_item.added")
"""Events that say of which turn an item is."""
MET = "met"
"""Type of the entry that says that something was not absent, where what it was must not be stored."""
MAX_ITEMS = 1_000
"""Items whose turn is remembered."""


class Engine:
    """Decide for one call, in one epoch.

    `view` gives what conditions and templates see as `call`, at an age. `state` has already taken in
    an event when the engine is shown it.
    """

    def __init__(
        self,
        active: Active,
        *,
        call_id: str,
        profile: str,
        started_at: int,
        state: CallState,
        view: Callable[[float], Mapping[str, Json]],
    ) -> None:
        self.started_at = started_at
        self._active = active
        self._profile = profile
        self.state = state
        """May be another one later, which knows at least as much."""
        self._generation = active.generation
        self._book = active.book(profile)
        self._plans = self._book.plans
        self._scales = Scales(active, call_id, view)
        self._speech = Speech(self._book)
        self._timers = Timers()
        self._tools = Tools()
        self._windows: dict[str, list[float]] = {}
        """For policies that count, the ages of what they counted."""
        self._spent: set[str] = set()
        """Policies that are true once in a call, and were."""
        self.met: list[str] = []
        """Policies of which it became certain since this was emptied last that what they are about was not absent."""
        self._own_turns = 0
        """User items that policies made: they begin no turn, or a policy could give itself one."""
        self._has_begun = False
        self._turns = state.turn_count
        """Turns at the event before."""
        self._turn_ages: list[float] = []
        """When turns began, as far as they were recalled."""
        self._item_turns: dict[str, int] = {}
        """Turns that items belong to; what the user said is known later than that it was said."""

    def owes(self) -> bool:
        """Say whether any policy is for this call."""
        if self._generation != self._active.generation:
            self._renew()
        return bool(self._book.rules)

    def heard(
        self, event: Event, frame: bytes, *, at: int, age: float, causes: frozenset[str] = frozenset()
    ) -> list[Verdict]:
        """Take in an event; give what the policies decide about it, in file order."""
        if self._generation != self._active.generation:
            self._renew()
        if not self._has_begun:
            self._has_begun = True
            self._timers.begin(age)
        self._timers.heard_age = age
        plan = self._plans.get(event.type, _UNSEEN)
        if plan is _UNSEEN:
            plan = self._book.plan(event.type or "")
        self._count_own(event, frame, causes)
        if self._book.wants_turns and event.type in _BEGUN:
            self._place(event, frame)
        if plan is None:
            return []
        hits = self._look(plan, event, frame, age, causes)
        return self._decide(hits, Moment(event, frame, at, age, causes)) if hits else []

    def tampered(
        self,
        keys: tuple[str, ...],
        event: Event,
        frame: bytes,
        *,
        at: int,
        age: float,
        causes: frozenset[str] = frozenset(),
    ) -> list[Verdict]:
        """Take in that an event shows that somebody else changed these keys; give what the policies decide."""
        if self._generation != self._active.generation:
            self._renew()
        hits = []
        for rule in self._book.tampered:
            named = rule.what.keys if isinstance(rule.what, rules.Tampered) else None
            touched = tuple(key for key in keys if named is None or key.split(".")[0] in named)
            if touched:
                hits.append(Hit(rule, self._match(event, frame, keys=touched)))
        return self._decide(hits, Moment(event, frame, at, age, causes)) if hits else []

    def missed(self, *, age: float) -> None:
        """Take in that events were missed: the end of a sound may be among them."""
        self._timers.miss(age)

    def wake_at(self) -> float | None:
        """Give the age at which `woken` may decide something; None where nothing waits for time."""
        if self._generation != self._active.generation:
            self._renew()
        soonest: float | None = None
        for rule in self._book.timed:
            if rule.policy.id not in self._spent and (due := self._timers.due(rule)) is not None:
                soonest = due[0] if soonest is None else min(soonest, due[0])
        return soonest

    def woken(self, *, at: int, age: float) -> list[Verdict]:
        """Take in that time passed; give what the policies decide about it, in file order."""
        if self._generation != self._active.generation:
            self._renew()
        hits = []
        for rule in self._book.timed:
            due = self._timers.due(rule)
            if rule.policy.id in self._spent or due is None or due[0] > age + TOLERANCE:
                continue
            match = self._due_match(due[1])
            self._timers.mark(rule, due[1])
            if not self._scales.is_past(rule.policy.id, due[0]):
                hits.append(Hit(rule, match))
        told: list[Verdict] = []
        for hit in hits:
            # what a policy has the model call waits because of the policy
            causes = self._timers.causes(hit.match.function_call_id)
            told += self._decide([hit], Moment(Event(), b"", at, age, causes))
        return told

    def recall(self, event: Event, frame: bytes, *, age: float, causes: frozenset[str] = frozenset()) -> None:
        """Take in an event that an earlier epoch decided about: texts, windows and timers go on from it."""
        if self._generation != self._active.generation:
            self._renew()
        hits: list[Hit] = []
        for rule in self._book.timed:
            hits += [Hit(rule, Match())] * self._timers.lapse(rule, age)
        self._count_own(event, frame, causes)
        self._scales.recall(hits, Moment(Event(), b"", 0, age, frozenset()), lambda _: len(self._turn_ages))
        self._turn_ages += [age] * (self._turn - len(self._turn_ages))
        if not self._has_begun:
            self._has_begun = True
            self._timers.begin(age)
        self._timers.heard_age = age
        if self._book.wants_turns and event.type in _BEGUN:
            self._place(event, frame)
        plan = self._plans.get(event.type, _UNSEEN)
        if plan is _UNSEEN:
            plan = self._book.plan(event.type or "")
        if plan is not None:
            hits = self._look(plan, event, frame, age, causes)
            self._scales.recall(hits, Moment(event, frame, 0, age, frozenset()), self._turn_of)

    def met_before(self, policy_id: str) -> None:
        """Take in that an earlier epoch was certain that what a policy is about was not absent."""
        if any(
            rule.policy.id == policy_id and isinstance(rule.policy.trigger, rules.Absent) for rule in self._book.timed
        ):
            self._spent.add(policy_id)

    def restore(self, past: Iterable[Past]) -> None:
        """Let limits go on from decisions of earlier epochs."""
        once = (rules.After, rules.Absent, rules.Usage, rules.Turns)
        policies = {rule.policy.id: rule.policy for rule in self._book.rules.values()}
        for each in past:
            policy = policies.get(each.policy)
            # before the first turn it is the turn number 0, unless turns there were could not be recalled
            is_known = bool(self._turn_ages) or not self._turn
            self._scales.restore(each, policy, bisect_right(self._turn_ages, each.age) if is_known else None)
            if policy is not None and isinstance(policy.trigger, once):
                self._spent.add(policy.id)

    # --- what is true -----------------------------------------------------------------------------

    def _look(
        self, plan: Plan, event: Event, frame: bytes, age: float, causes: frozenset[str] = frozenset()
    ) -> list[Hit]:
        """Give the triggers that an event makes true, in file order."""
        hits: list[Hit] = []
        if plan.speaker is not None:
            self._listen(hits, self._speech.take(event, frame, plan.speaker), event, frame)
        if plan.on:
            match = self._match(event, frame)
            hits += [Hit(rule, match) for rule in plan.on if self._counts(rule, age)]
        if plan.tools:
            called = self._tools.take(frame) if self._is_called(event, frame) else None
            if called is not None:
                match = self._match(event, frame, called)
                hits += [Hit(rule, match) for rule in plan.tools if called.suits(rule.what)]
        if plan.usage:
            hits += [Hit(rule, self._match(event, frame)) for rule in plan.usage if self._is_used(rule)]
        if plan.turns:
            hits += [Hit(rule, self._match(event, frame)) for rule in plan.turns if self._is_turn(rule)]
        if plan.waits:
            waiting = {
                call_id: each
                for call_id, each in self.state.waiting_tools.items()
                if self.state.response_of(each[0]) is not None
            }
            self._timers.look_at_tools(waiting, read_call(frame), age, causes)
        if plan.sounds:
            is_start = event.type is not None and event.type.endswith("started")
            self._timers.look_at_sound(self.state.quiet_since, age, is_start=is_start)
        if len(hits) > 1:
            hits.sort(key=lambda hit: hit.rule.number)
        return [hit for hit in hits if not self._is_absent(hit.rule, age)] if hits else hits

    def _is_called(self, event: Event, frame: bytes) -> bool:
        """Say whether it is a response that calls a function: any page can put such an item into the conversation."""
        if event.type is not None and event.type.startswith("response."):
            return True
        item_id = event.item_id or _named(frame)[0]
        return item_id is not None and self.state.response_of(item_id) is not None

    def _listen(self, hits: list[Hit], found: Iterable[tuple[int, str, str]], event: Event, frame: bytes) -> None:
        for number, text, item_id in found:
            rule = self._book.rules.get(number)
            if rule is not None:
                hits.append(Hit(rule, self._match(event, frame, text=text, item_id=item_id)))

    def _is_absent(self, rule: Rule, age: float) -> bool:
        """Note that what was to be absent happened, where a rule is about that."""
        trigger = rule.policy.trigger
        if not isinstance(trigger, rules.Absent):
            return False
        if age <= trigger.within + TOLERANCE and rule.policy.id not in self._spent:
            self._spent.add(rule.policy.id)
            self.met.append(rule.policy.id)
        return True

    def _counts(self, rule: Rule, age: float) -> bool:
        what = rule.what
        if not isinstance(what, rules.Count):
            return True
        ages = self._windows.setdefault(rule.policy.id, [])
        ages.append(age)
        while ages and ages[0] < age - what.within - TOLERANCE:
            del ages[0]
        if len(ages) < what.at_least:
            return False
        ages.clear()
        return True

    def _is_used(self, rule: Rule) -> bool:
        what, usage = rule.what, self.state.usage
        if not isinstance(what, rules.Usage) or rule.policy.id in self._spent:
            return False
        if what.meter == "cost_usd":
            cost = self.state.cost_usd
            reached = cost is not None and cost >= what.at_least
        elif what.meter == "total_tokens":
            reached = usage.total_tokens >= what.at_least
        else:
            reached = usage.output_audio * AUDIO_TOKEN_MS >= what.at_least * 1000
        if reached:
            self._spent.add(rule.policy.id)
        return reached

    def _is_turn(self, rule: Rule) -> bool:
        what = rule.what
        if not isinstance(what, rules.Turns) or rule.policy.id in self._spent:
            return False
        reached = self.state.turn_count >= what.at_least
        if reached:
            self._spent.add(rule.policy.id)
        return reached

    def _due_match(self, function_call_id: str | None) -> Match:
        item_id, called = self._timers.waiting(function_call_id)
        response_id = None if item_id is None else self.state.response_of(item_id)
        return Match(
            item_id=item_id,
            response_id=response_id or self.state.active_response_id,
            function_call_id=function_call_id,
            name=None if called is None else called.name,
            arguments=None if called is None else called.arguments,
        )

    def _match(
        self,
        event: Event,
        frame: bytes,
        called: Called | None = None,
        *,
        text: str | None = None,
        item_id: str | None = None,
        keys: tuple[str, ...] = (),
    ) -> Match:
        item_id = item_id or event.item_id
        response_id = event.response_id
        if item_id is None and event.type is not None:
            item_id, named = _named(frame)
            response_id = response_id or named
        if response_id is None and item_id is not None:
            response_id = self.state.response_of(item_id)
        return Match(
            text=text,
            item_id=item_id,
            response_id=response_id or self.state.active_response_id,
            function_call_id=None if called is None else called.id,
            name=None if called is None else called.name,
            arguments=None if called is None else called.arguments,
            keys=keys,
        )

    # --- what is decided --------------------------------------------------------------------------

    def _decide(self, hits: list[Hit], moment: Moment) -> list[Verdict]:
        verdicts: list[Verdict] = []
        decided: set[str] = set()
        turn = self._turn
        for rule, match in hits:
            if rule.policy.id not in decided:
                try:
                    verdict = self._scales.weigh(rule, match, moment, turn, self._turn_of(match))
                except Exception as exc:  # noqa: BLE001 - whatever it is, it is this policy's and no other's
                    verdict = self._scales.failed(rule, match, moment, turn, exc)
                if verdict is not None:
                    decided.add(rule.policy.id)
                    verdicts.append(verdict)
        return verdicts

    @property
    def _turn(self) -> int:
        return self.state.turn_count - self._own_turns

    def _turn_of(self, match: Match) -> int:
        """Give the turn that what matched belongs to; it is the present one where nothing says so."""
        return self._turn if match.item_id is None else self._item_turns.get(match.item_id, self._turn)

    def _count_own(self, event: Event, frame: bytes, causes: frozenset[str]) -> None:
        """Count a user item that a policy made."""
        turns, self._turns = self._turns, self.state.turn_count
        if causes and event.type in _ADDED and self._turns > turns and _role(frame) == "user":
            self._own_turns += 1

    def _place(self, event: Event, frame: bytes) -> None:
        """Note in which turn an item begins."""
        item_id = event.item_id or _named(frame)[0]
        if item_id is not None and item_id not in self._item_turns:
            self._item_turns[item_id] = self._turn
            if len(self._item_turns) > MAX_ITEMS:
                del self._item_turns[next(iter(self._item_turns))]

    def _renew(self) -> None:
        """Go on with the set that is in force now; policies with the same trigger keep what they wait for."""
        before = {rule.policy.id: rule.policy.trigger for rule in self._book.rules.values()}
        self._generation = self._active.generation
        self._book = self._active.book(self._profile)
        self._plans = self._book.plans
        after = {rule.policy.id: rule.policy for rule in self._book.rules.values()}
        kept = {policy_id for policy_id, policy in after.items() if before.get(policy_id) == policy.trigger}
        self._speech.move(self._book, kept)
        for policy_id in (before.keys() | after.keys()) - kept:
            self._timers.forget(policy_id)
            self._windows.pop(policy_id, None)
            self._spent.discard(policy_id)
            policy = after.get(policy_id)
            if policy is not None and isinstance(policy.trigger, rules.Absent):
                # it was not there from the start, so it cannot say what was absent
                self._spent.add(policy_id)


def _role(frame: bytes) -> object:
    return mapping(fields(frame).get("item")).get("role")


class _Id(msgspec.Struct, gc=False):
    id: str | None = None


class _Ids(msgspec.Struct, gc=False):
    item: _Id | None = None
    response: _Id | None = None


_decode_ids = msgspec.json.Decoder(_Ids).decode


def _named(frame: bytes) -> tuple[str | None, str | None]:
    """Give the ids of the item and the response that a frame holds."""
    try:
        ids = _decode_ids(frame)
    except (ValueError, RecursionError):
        return None, None
    item_id = None if ids.item is None else identifier(ids.item.id)
    return item_id, None if ids.response is None else identifier(ids.response.id)


_UNSEEN = Plan()
"""A type of event that was not looked up before."""
