"""Point out where good policies will probably not do what was meant. Pure.

Nothing here keeps a policy from running: what can never work is refused when it is compiled.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from rtobserver.config.sections import Config, Profile
from rtobserver.config.values import quoted
from rtobserver.policy import globs, rules, samples
from rtobserver.policy.cel import ConditionError, ConditionFault, compile_condition
from rtobserver.policy.phrases import words
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, Policy, PolicySet
from rtobserver.policy.written_actions import CLIENT_EVENTS
from rtobserver.policy.written_paths import asked, is_constant, unequal, unknown
from rtobserver.realtime.cost import Prices

_LONGEST_CALL = 3600.0
"""Seconds after which upstream ends every call."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Say what may be wrong with one policy."""

    policy: str
    """Its id."""
    problem: str
    help: str = ""

    def __str__(self) -> str:
        return f"{self.policy}: {self.problem}" + (f"\n    {self.help}" if self.help else "")


def review(
    policies: PolicySet, config: Config | None = None, prices: Prices | None = None, day: date = date.max
) -> list[Remark]:
    """Give what is worth a second look, in file order.

    With a configuration also what its profiles do not bring, and with prices what has none on that day.
    """
    found: list[Remark] = []
    for index, policy in enumerate(policies.policies):
        before = policies.policies[:index]
        for problem, remedy in (
            *_types(policy),
            *_phrases(policy, before),
            *_times(policy),
            *_reach(policy),
            *_condition(policy),
            *_actions(policy, before, policies.policies),
            *(() if config is None else _profiles(policy, config)),
            *(() if config is None or prices is None else _unpriced(policy, config, prices, day)),
        ):
            found.append(Remark(policy.id, problem, remedy))
    return found


_Found = Iterator[tuple[str, str]]


def _what(policy: Policy) -> rules.Trigger:
    match policy.trigger:
        case rules.Absent(what=what):
            return what
        case rules.Count(on=on):
            return on
    return policy.trigger


def _types(policy: Policy) -> _Found:
    what = _what(policy)
    for type_ in what.types if isinstance(what, rules.On) else ():
        known = samples.events()
        if found := [each for each in known if globs.matches(type_, each)]:
            if found == ["session.created"]:
                problem = "session.created never comes to the sideband of a call over WebRTC"
                yield problem, 'for the beginning of a call write after = "1s"'
            continue
        if type_ in CLIENT_EVENTS:
            answers = [each for each in known if each.startswith(type_)]
            remedy = f"the server answers with {answers[0]}" if answers else "wait for what the server answers"
            yield f"{type_} goes to upstream and never comes from it", remedy
        else:
            near = difflib.get_close_matches(type_, known, n=1)
            problem = f"no event that is known here is of type {type_}"
            yield problem, f"did you mean {near[0]}?" if near else "it will match if upstream comes to send it"


def _phrases(policy: Policy, before: tuple[Policy, ...]) -> _Found:
    what = _what(policy)
    if not isinstance(what, rules.Phrase):
        return
    mine: dict[str, str] = {}
    for phrase in what.phrases:
        normal = words(phrase)
        if normal in mine:
            yield f"{quoted(phrase)} is {quoted(mine[normal])} once more", "spelling and punctuation do not count"
        mine.setdefault(normal, phrase)
    for normal, phrase in mine.items() if not what.whole else ():
        short = next((normal[:cut] for cut in range(1, len(normal)) if normal[:cut] in mine), None)
        if short is not None:
            yield f"{quoted(phrase)} is found as {quoted(mine[short])} already", "leave it out, or write whole = true"
    for other in before:
        theirs = _what(other)
        if not isinstance(theirs, rules.Phrase) or theirs.speaker != what.speaker or not _meet(policy, other):
            continue
        shared = [mine[normal] for normal in map(words, theirs.phrases) if normal in mine]
        if shared:
            yield f"looks for {quoted(shared[0])} as {other.id} does", "both will act, in file order"


def _times(policy: Policy) -> _Found:
    match policy.trigger:
        case rules.After(seconds=seconds) | rules.Idle(seconds=seconds) | rules.DeadAir(seconds=seconds):
            longest = seconds
        case rules.UnansweredTool(seconds=seconds) | rules.Absent(within=seconds):
            longest = seconds
        case _:
            return
    if longest >= _LONGEST_CALL:
        yield f"{TRIGGER_NAMES[type(policy.trigger)]} is never reached", "upstream ends every call after 60 minutes"


def _reach(policy: Policy) -> _Found:
    if policy.mode == "canary" and policy.canary_percent == 100:
        yield "its canary is every call", 'write mode = "enforce"'
    if policy.limit.cooldown >= _LONGEST_CALL and policy.limit.per_call != 1:
        yield "its cooldown outlasts every call", "write per_call = 1"
    if policy.limit.per_call == 1 and policy.limit.cooldown:
        yield "its cooldown has no effect: it acts once in a call", "leave one of them out"


def _condition(policy: Policy) -> _Found:
    if policy.when is None:
        return
    for steps in dict.fromkeys(asked(policy.when)):
        if wrong := unknown(policy.trigger, steps):
            yield f"its condition {wrong[0]}", wrong[1]
    for root, (problem, remedy) in dict.fromkeys(unequal(policy.when, policy.trigger)):
        if root == "event":
            yield f"its condition {problem}", remedy
    if not is_constant(policy.when):
        return
    try:
        is_true = compile_condition(policy.when).matches({})
    except (ConditionError, ConditionFault):
        is_true = False
    if is_true:
        yield "its condition is always true", "leave it out"
    else:
        yield "its condition is never true, so it never matches", 'ask for something, as in "call.turn_count > 1"'


def _actions(policy: Policy, before: tuple[Policy, ...], every: tuple[Policy, ...]) -> _Found:
    kinds = [type(action) for action in policy.actions]
    # beside restore_session it is the last resort, and done at times only
    if rules.HangUp in kinds and kinds[-1] is not rules.HangUp and rules.RestoreSession not in kinds:
        after = kinds[kinds.index(rules.HangUp) + 1]
        if after not in (rules.Tag, rules.Webhook):
            yield f"{ACTION_NAMES[after]} comes after hang_up", "put it before"
    for kind in set(kinds):
        if kinds.count(kind) > 1 and kind in _ONCE:
            yield f"does {ACTION_NAMES[kind]} {kinds.count(kind)} times", "once is enough"
    if rules.MuteModel in kinds and not any(isinstance(a, rules.UnmuteModel) for each in every for a in each.actions):
        yield "mutes the model, and no policy unmutes it", "somebody else has to, or the caller waits in vain"
    if _asks(policy) and _hears_responses(policy.trigger) and not policy.limit.per_call and not policy.limit.cooldown:
        yield "asks for a response at each response, without a limit", "write limit = { per_call = 1 } or a cooldown"
    for action in policy.actions:
        if isinstance(action, rules.UpdateSession) and _has(action.session, "audio", "output", "voice"):
            yield "changes the voice, which upstream refuses after the first sound", "set it in the profile"
    if rules.AnswerTool in kinds and isinstance(policy.trigger, rules.Tool):
        for other in before:
            theirs = other.trigger
            answers = any(isinstance(action, rules.AnswerTool) for action in other.actions)
            if answers and isinstance(theirs, rules.Tool) and _meet(policy, other) and theirs == policy.trigger:
                yield f"answers the same function calls as {other.id}", "leave one of them out"


def _profiles(policy: Policy, config: Config) -> _Found:
    what = _what(policy)
    if isinstance(what, rules.Phrase | rules.Regex) and what.speaker == "user":
        deaf = [profile.name for profile in _of(policy, config) if not _has(profile.session, *_TRANSCRIPTION)]
        if deaf:
            problem = f"nothing transcribes what the user says in profile {', '.join(deaf)}"
            yield problem, "set audio.input.transcription.model in its session"
    if isinstance(policy.trigger, rules.After):
        over = [profile.name for profile in _of(policy, config) if 0 < profile.max_duration <= policy.trigger.seconds]
        if over:
            yield f"max_duration ends the calls of profile {', '.join(over)} before", "write a longer max_duration"


def _unpriced(policy: Policy, config: Config, prices: Prices, day: date) -> _Found:
    if not isinstance(policy.trigger, rules.Usage) or policy.trigger.meter != "cost_usd":
        return
    for profile in _of(policy, config):
        transcription: Any = profile.session
        for step in _TRANSCRIPTION:
            transcription = transcription.get(step) if isinstance(transcription, Mapping) else None
        models = [profile.session.get("model")]
        models += [transcription.get("model")] if isinstance(transcription, Mapping) else []
        for model in models:
            if isinstance(model, str) and not prices.knows(model, day):
                problem = f"{quoted(model)} of profile {profile.name} has no price, so what its calls cost is not known"
                yield problem, "set pricing.aliases or pricing.file; until then it never matches there"


_TRANSCRIPTION = ("audio", "input", "transcription")
_ONCE = (
    rules.CancelResponse,
    rules.RestoreSession,
    rules.MuteModel,
    rules.UnmuteModel,
    rules.PauseRecording,
    rules.ResumeRecording,
    rules.HangUp,
)
"""Actions of which a second one in the same decision does nothing."""


def _of(policy: Policy, config: Config) -> Iterator[Profile]:
    return (profile for profile in config.profiles if policy.profiles is None or profile.name in policy.profiles)


def _meet(one: Policy, two: Policy) -> bool:
    """Say whether both hold in the calls of some profile."""
    return one.profiles is None or two.profiles is None or bool(set(one.profiles) & set(two.profiles))


def _asks(policy: Policy) -> bool:
    return any(
        isinstance(action, rules.Say)
        or (isinstance(action, rules.Send) and action.event.get("type") == "response.create")
        for action in policy.actions
    )


def _hears_responses(trigger: rules.Trigger) -> bool:
    return isinstance(trigger, rules.On) and any(
        globs.matches(type_, each) for type_ in trigger.types for each in ("response.created", "response.done")
    )


def _has(value: Mapping[str, Any], *path: str) -> bool:
    inner: Any = value
    for step in path:
        inner = inner.get(step) if isinstance(inner, Mapping) else None
    return bool(inner)
