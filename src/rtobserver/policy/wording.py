"""Say in few words what a policy waits for, does, and is limited to. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rtobserver.config.sections import Seconds
from rtobserver.config.values import format_duration
from rtobserver.policy import rules
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, Limit, Policy, Trigger

SHOWN = 3
"""Words or types that are named; of more, only the number is."""


def trigger(policy: Policy) -> str:
    """Say what it waits for, the trigger's own word first."""
    return f"{TRIGGER_NAMES[type(policy.trigger)]}: {awaited(policy.trigger)}"


def awaited(waits: Trigger) -> str:
    """Say what a trigger waits for."""
    match waits:
        case rules.On():
            return some(waits.types)
        case rules.Phrase():
            whole = ", whole" if waits.whole else ""
            return f"{waits.speaker} says {some([repr(each) for each in waits.phrases])}{whole}"
        case rules.Regex():
            return f"{waits.speaker} says /{waits.pattern}/"
        case rules.Tool():
            given = ", ".join(f"{name}={value!r}" for name, value in waits.arguments.items())
            return f"{waits.name}({given})" if given else waits.name
        case rules.After():
            return f"{_lasting(waits.seconds)} of call"
        case rules.Idle():
            return f"{_lasting(waits.seconds)} without an event"
        case rules.DeadAir():
            return f"{_lasting(waits.seconds)} of silence"
        case rules.UnansweredTool():
            return f"{_lasting(waits.seconds)} without output"
        case rules.Absent():
            return f"not within {_lasting(waits.within)}: {TRIGGER_NAMES[type(waits.what)]} {awaited(waits.what)}"
        case rules.Count():
            return f"{waits.at_least} times {some(waits.on.types)} within {_lasting(waits.within)}"
        case rules.Usage():
            return f"{waits.meter} {waits.at_least}"
        case rules.Turns():
            return f"turn {waits.at_least}"
        case rules.Tampered():
            return "anything" if waits.keys is None else some(waits.keys)


def actions(policy: Policy) -> str:
    """Say what it does."""
    return ", ".join(action_names(policy.actions))


def action_names(done: Sequence[rules.Action]) -> tuple[str, ...]:
    """Give the names of actions, in their order."""
    return tuple(ACTION_NAMES[type(action)] for action in done)


def mode(policy: Policy) -> str:
    """Say whether it acts."""
    return f"canary {policy.canary_percent} %" if policy.mode == "canary" else policy.mode


def profiles(policy: Policy) -> str:
    """Say in calls of which profiles it holds."""
    return "all" if policy.profiles is None else ", ".join(policy.profiles)


def limits(limit: Limit) -> str:
    """Say what bounds it."""
    found = []
    if limit.per_call:
        found.append(f"{limit.per_call} per call")
    if limit.cooldown:
        found.append(f"cooldown {_lasting(limit.cooldown)}")
    if limit.consecutive > 1:
        found.append(f"{limit.consecutive} turns in a row")
    if limit.per_minute:
        found.append(f"{limit.per_minute} per minute")
    return ", ".join(found) or "none"


def some(words: Sequence[str]) -> str:
    """Name a few, and count the rest."""
    shown = ", ".join(words[:SHOWN])
    return f"{shown} and {len(words) - SHOWN} more" if len(words) > SHOWN else shown


def _lasting(seconds: float) -> str:
    return format_duration(Seconds(seconds))
