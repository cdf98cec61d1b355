"""Explain why policies did or did not decide anything at one entry of a recorded call. Pure.

Beside the policies as they are, the call is replayed with their triggers alone: without condition, limits,
profiles and loop breaker. So each term is known by itself, whatever stopped the policy first. Values are
those at the moment of the decision: what is done about an entry has not been done then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import NamedTuple

from rtobserver.config.sections import Secret
from rtobserver.policy import conditions, rules, wording
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Decided, Place
from rtobserver.policy.recordings import Line
from rtobserver.policy.replay import MAX_TIMERS, Replay, Ruling, decided, uncapped
from rtobserver.policy.rules import ACTION_NAMES, Json, Limit, Policy, PolicySet
from rtobserver.policy.sights import Sight, sight
from rtobserver.policy.templates import TemplateFault, fill
from rtobserver.policy.timers import TOLERANCE
from rtobserver.policy.verdicts import Match
from rtobserver.policy.wording import action_names
from rtobserver.realtime import events
from rtobserver.realtime.entries import OVERLAP

_WHAT = " what"
"""Ends the ids of shadows that look for the inner part of a trigger."""


class NoSuchEntry(ValueError):
    """Say that the call has no entry at that position."""


class Term(NamedTuple):
    """Be one thing that a policy depends on."""

    name: str
    holds: bool | None
    """None where it stops nothing and proves nothing."""
    says: str
    values: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Be why one policy decided what it did."""

    policy: Policy
    decided: Decided | None
    verdict: str
    """In a few words."""
    terms: tuple[Term, ...]
    actions: tuple[Mapping[str, Json], ...]
    """Filled in, as far as that can be done."""


class Explainer:
    """Replay a call up to an entry, and explain."""

    def __init__(self, policies: PolicySet, begin: Callable[[Active], Replay], at: Place) -> None:
        self._policies = policies.policies
        self._at = at
        self._real = begin(Active(uncapped(policies)))
        self._bare = begin(Active(PolicySet(policies=tuple(_shadows(policies)))))
        self._bare.is_blind = True
        self._history: dict[str, list[Ruling]] = {}
        """Decisions before the entry."""
        self._hits: dict[str, list[_Hit]] = {}
        """Triggers that were true, up to the entry and in the time that follows it."""
        self._found: list[Ruling] = []
        self._snapshot: _Snapshot | None = None
        self._conditions = {policy.id: policy.when for policy in self._policies}

    @property
    def is_done(self) -> bool:
        """Say whether no further line is needed."""
        return self._snapshot is not None and self._snapshot.until is not None

    def take(self, line: Line) -> None:
        """Take in the next entry."""
        if line.flags & OVERLAP or self.is_done:
            return
        self._pass(self._real.until(line))
        if self._snapshot is not None:
            self._snapshot.until = line.offset_us / 1e6
            return
        self._real.looked = lambda: self._look(line)
        self._note(self._real.enter(line))

    def finish(self, age: float | None = None) -> list[Explanation]:
        """Explain; `age` is the call's when it ended, where no further line came.

        Raises:
            NoSuchEntry: there is none at that position.

        """
        if self._snapshot is None:
            raise NoSuchEntry(f"there is no entry at {self._at}")
        if not self.is_done:
            self._snapshot.until = max(self._real.over_at(age or 0.0), self._snapshot.age)
            self._pass(self._snapshot.until)
        return [self._explain(policy, self._snapshot) for policy in self._policies]

    def _look(self, line: Line) -> None:
        """Look at an entry, of which nothing has come yet."""
        real = self._real
        hits = self._bare.enter(line)
        is_wanted = real.place == self._at
        if not (hits or is_wanted):
            return
        seen = _Seen(real.frame, real.view(real.age), real.age, real.state.turn_count)
        self._hit(hits, seen)
        if is_wanted:
            sights = {policy.id: sight(policy.trigger, real, real.age) for policy in self._policies}
            self._snapshot = _Snapshot(seen, real.causes, sights)

    def _pass(self, until: float) -> None:
        """Let time pass: what timers decide until the next entry, they decide at the last one."""
        real, bare = self._real, self._bare
        for _ in range(MAX_TIMERS):
            due = min((at for at in (real.wake_at(), bare.wake_at()) if at is not None), default=None)
            if due is None or due > until + 2 * TOLERANCE:
                return
            age = max(real.age, real.moment(due, until))
            seen = _Seen(b"", real.view(age), age, real.state.turn_count)
            hits = bare.pass_time(age)
            sights = {
                hit.verdict.policy.id: sight(hit.verdict.policy.trigger, real, age)
                for hit in hits
                if hit.place == self._at
            }
            self._hit(hits, seen, sights)
            self._note(real.pass_time(age))

    def _hit(self, hits: Iterable[Ruling], seen: _Seen, sights: Mapping[str, Sight] | None = None) -> None:
        for ruling in hits:
            id_ = ruling.verdict.policy.id
            when = self._conditions.get(id_)
            holds = True
            if when is not None:
                scope = _scope(events.fields(seen.frame), seen.call, ruling.verdict.match)
                holds = conditions.evaluate(when, scope, seen.frame).holds
            self._hits.setdefault(id_, []).append(_Hit(ruling, seen, holds, (sights or {}).get(id_)))

    def _note(self, found: Iterable[Ruling]) -> None:
        for ruling in found:
            if ruling.place == self._at:
                self._found.append(ruling)
            else:
                self._history.setdefault(ruling.verdict.policy.id, []).append(ruling)

    # --- one policy -------------------------------------------------------------------------------

    def _explain(self, policy: Policy, at: _Snapshot) -> Explanation:
        hits = self._hits.get(policy.id, [])
        hit = next((each for each in hits if each.ruling.place == self._at), None)
        ruling = next((each for each in self._found if each.verdict.policy.id == policy.id), None)
        match = Match() if hit is None else hit.ruling.verdict.match
        seen = at.seen if hit is None else hit.seen
        scope = _scope(events.fields(seen.frame), seen.call, None if hit is None else match)
        terms = [
            self._profile(policy),
            self._trigger(policy, at, hit, hits),
            *self._condition(policy, seen, scope),
            *self._loop(policy, at),
            *self._limits(policy, seen.age, seen.turn, hits),
            *self._canary(policy),
            Term("mode", None, wording.mode(policy), {}),
        ]
        filled = () if hit is None else _filled(policy, scope)
        return Explanation(
            policy, None if ruling is None else decided(ruling), _verdict(ruling, terms), tuple(terms), filled
        )

    def _profile(self, policy: Policy) -> Term:
        profile = self._real.subject.profile
        holds = policy.profiles is None or profile in policy.profiles
        return Term("profile", holds, f"{wording.profiles(policy)}; the call's is {profile}", {"call.profile": profile})

    def _trigger(self, policy: Policy, at: _Snapshot, hit: _Hit | None, hits: list[_Hit]) -> Term:
        seen = at.sights[policy.id] if hit is None or hit.sight is None else hit.sight
        says, values = [wording.trigger(policy), seen.says], dict(seen.values)
        if hit is not None:
            match = hit.ruling.verdict.match
            said = {field.name: getattr(match, field.name) for field in fields(match)}
            values |= {f"match.{name}": list(v) if isinstance(v, tuple) else v for name, v in said.items() if v}
            if match.text is not None:
                says.append(f"matched {match.text!r}")
        else:
            earlier = [each for each in hits if each.ruling.place < self._at]
            if earlier:
                says.append(f"it matched {len(earlier)} times before, last at {earlier[-1].ruling.place}")
        says += self._inner(policy, at)
        return Term("trigger", hit is not None, "; ".join(each for each in says if each), values)

    def _inner(self, policy: Policy, at: _Snapshot) -> list[str]:
        """Say what came of the inner part of a trigger: what should not be absent, what is counted."""
        happened = [each.ruling for each in self._hits.get(policy.id + _WHAT, []) if each.ruling.place <= self._at]
        match policy.trigger:
            case rules.Absent(within=within):
                in_time = [each for each in happened if each.age <= within]
                if in_time:
                    return [f"it happened at {in_time[0].place}, {in_time[0].age:.3f} s into the call"]
                return ["it has not happened" if not happened else f"it happened too late, at {happened[0].place}"]
            case rules.Count(within=within, at_least=least):
                recent = sum(each.age >= at.age - within for each in happened)
                return [f"{recent} of {least} came in the last {within:g} s, those counted before among them"]
        return []

    def _condition(self, policy: Policy, seen: _Seen, scope: Mapping[str, Json]) -> list[Term]:
        if policy.when is None:
            return []
        whole = conditions.evaluate(policy.when, scope, seen.frame)
        terms = [_term("when", whole, conditions.values(policy.when, scope))]
        for source in conditions.parts(policy.when):
            part = conditions.evaluate(source, scope, seen.frame)
            terms.append(_term("  part", part, {}))
        return terms

    def _loop(self, policy: Policy, at: _Snapshot) -> list[Term]:
        if not at.causes:
            return []
        own = policy.id in at.causes
        last = self._history.get(policy.id, [])
        says = f"the entry came of {', '.join(sorted(at.causes))}"
        if own:
            says += ", so the policy does not match again in the same turn"
        return [Term("loop", None if not own or not last else False, says, {"causes": sorted(at.causes)})]

    def _limits(self, policy: Policy, age: float, turn: int, hits: list[_Hit]) -> list[Term]:
        limit, before = policy.limit, self._history.get(policy.id, [])
        terms = []
        if limit.per_call:
            used = len(before)
            says = f"{used} of {limit.per_call} in this call are used"
            terms.append(Term("per_call", used < limit.per_call, says, {"used": used, "left": limit.per_call - used}))
        if limit.cooldown:
            left = max(0.0, before[-1].age + limit.cooldown - age) if before else 0.0
            says = f"{left:.3f} s of {limit.cooldown:g} s are left" if left else "over, or not begun"
            terms.append(Term("cooldown", not left, says, {"left_seconds": round(left, 6)}))
        if limit.consecutive > 1:
            row = _row([each.seen.turn for each in hits if each.holds and each.ruling.place <= self._at], turn)
            row = (row - 1) % limit.consecutive + 1 if row else 0
            says = f"{row} of {limit.consecutive} turns in a row matched"
            terms.append(Term("consecutive", row >= limit.consecutive, says, {"turns": row, "call.turn_count": turn}))
        return terms

    def _canary(self, policy: Policy) -> list[Term]:
        if policy.mode != "canary":
            return []
        number = canary_number(self._real.subject.call_id)
        holds = number < policy.canary_percent
        says = f"the call's number is {number}, {'below' if holds else 'not below'} {policy.canary_percent}"
        return [Term("canary", None, says, {"number": number, "canary_percent": policy.canary_percent})]


def canary_number(call_id: str) -> int:
    """Give the number from 0 to 99 by which canaries choose calls."""
    return int.from_bytes(hashlib.sha256(call_id.encode("utf-8", "replace")).digest()[:8], "big") % 100


@dataclass(frozen=True, slots=True)
class _Seen:
    """Be what policies were shown at a moment."""

    frame: bytes
    """Empty for timers."""
    call: Mapping[str, Json]
    age: float
    turn: int


@dataclass(frozen=True, slots=True)
class _Hit:
    ruling: Ruling
    seen: _Seen
    holds: bool
    """Whether the condition was true."""
    sight: Sight | None
    """What a timer's trigger saw; None for those that look at entries."""


@dataclass(slots=True)
class _Snapshot:
    seen: _Seen
    causes: frozenset[str]
    sights: Mapping[str, Sight]
    until: float | None = None
    """Age at the next entry."""

    @property
    def age(self) -> float:
        return self.seen.age


def _shadows(policies: PolicySet) -> Iterable[Policy]:
    for policy in policies.policies:
        bare = replace(policy, mode="observe", profiles=None, when=None, limit=Limit(per_minute=0), actions=())
        yield bare
        match policy.trigger:
            case rules.Absent(what=inner):
                yield replace(bare, id=policy.id + _WHAT, trigger=inner)
            case rules.Count(on=inner):
                yield replace(bare, id=policy.id + _WHAT, trigger=inner)


def _verdict(ruling: Ruling | None, terms: list[Term]) -> str:
    if ruling is not None:
        verdict = ruling.verdict
        if verdict.fault is not None:
            return f"fault: {verdict.fault}"
        if verdict.acts:
            done = action_names(verdict.actions)
            left = [name for name in action_names(verdict.policy.actions) if name not in done]
            return "acts" + (f", but for {', '.join(left)}: the guard of restorations" if left else "")
        return "would act, outside the canary" if verdict.mode == "canary" else "would act, but only observes"
    for term in terms:
        if term.holds is False and not term.name.startswith(" "):
            return f"does nothing: {term.name}"
    return "does nothing: it had matched before, or the call's budget of actions is used up"


def _term(name: str, part: conditions.Part, values: Mapping[str, Json]) -> Term:
    says = part.source if part.fault is None else f"{part.source}; fault: {part.fault}"
    return Term(name, part.holds, says, values)


def _scope(event: Mapping[str, Json], call: Mapping[str, Json], match: Match | None) -> dict[str, Json]:
    seen = None
    if match is not None:
        seen = {
            "text": match.text,
            "item_id": match.item_id,
            "response_id": match.response_id,
            "name": match.name,
            "arguments": match.arguments,
            "keys": list(match.keys),
        }
    return {"event": event, "call": call, "match": seen}


def _row(turns: list[int], turn: int) -> int:
    """Count the turns in a row, up to this one, that matched."""
    matched = set(turns)
    row = 0
    while turn - row in matched:
        row += 1
    return row


def _filled(policy: Policy, scope: Mapping[str, Json]) -> tuple[Mapping[str, Json], ...]:
    filled: list[Mapping[str, Json]] = []
    for action in policy.actions:
        name = ACTION_NAMES[type(action)]
        try:
            filled.append({"action": name, **_plain(fill(action, scope))})
        except TemplateFault as exc:
            filled.append({"action": name, "fault": str(exc)})
    return tuple(filled)


def _plain(value: Json) -> Json:
    if isinstance(value, Secret):
        return "***"
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
