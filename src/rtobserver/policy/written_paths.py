"""Judge the paths that templates and conditions name, and where text from outside may go. Pure.

A rule that can never work is refused at load. Where a path may exist after all, in types of events
that are not known here, it is accepted: then its absence is a fault of the call that lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rtobserver.config.shape import join
from rtobserver.policy import rules, samples
from rtobserver.policy.cel import CelMissing, Condition, ConditionError, ConditionFault, compile_condition
from rtobserver.policy.findings import Findings
from rtobserver.policy.rules import ACTION_NAMES, Action, Json, Trigger
from rtobserver.policy.templates import ROOTS, Reference, TemplateFault, parse, strings

_TRUSTED = ("instructions", "tools", "prompt", "role")
"""Keys under which the model takes what it reads for the operator's word."""
_WHOLE = ("item", "session", "response", "input")
"""Keys whose whole value would bring its own instructions, tools or role along."""
_SPOKEN = (rules.Say, rules.HangUp)
"""Actions whose text goes into instructions."""


def check_templates(found: Findings, action: Action, trigger: Trigger | None, path: str) -> bool:
    """Judge the templates of an action at a key path; without a trigger only their spelling."""
    good = True
    for place, text in strings(action):
        at = _joined(_at(path, action), place)
        try:
            parts = parse(text)
        except TemplateFault as fault:
            found.wrong(at, str(fault), "write it as in {{ call.user }}; the roots are event, call, match")
            good = False
            continue
        references = [part for part in parts if isinstance(part, Reference)]
        for reference in references:
            if reference.steps[0] != "call" and _is_trusted(action, place, is_whole=len(parts) == 1):
                problem = f"puts text from {reference.steps[0]} where the model takes it for your own instructions"
                found.wrong(at, problem, "a caller could write instructions; templates of call can stand here")
                good = False
            elif trigger is not None and (wrong := unknown(trigger, reference.steps)):
                found.wrong(at, *wrong)
                good = False
        if isinstance(action, rules.Send) and place == ("type",) and references:
            found.wrong(at, "takes no templates", "write one of the client events")
            good = False
    return good


def check_condition(found: Findings, source: str, trigger: Trigger | None, path: str) -> bool:
    """Compile a condition and try it on samples; without a trigger it is only compiled."""
    try:
        condition = compile_condition(source)
    except CelMissing as error:
        found.wrong(path, str(error), "or leave out every `when`")
        return False
    except ConditionError as error:
        found.wrong(path, f"is no condition: {error}", 'conditions are CEL, as in "call.turn_count > 1"')
        return False
    if trigger is None:
        return True
    problems = [problem for steps in named(source) if (problem := unknown(trigger, steps))]
    for problem in dict.fromkeys(problems):
        found.wrong(path, *problem)
    if not problems and (fault := _always_fails(condition, trigger)):
        found.wrong(path, f"can never be evaluated: {fault}", "compare values of one type")
        return False
    return not problems


def unknown(trigger: Trigger, steps: Sequence[str]) -> tuple[str, str] | None:
    """Give what is wrong with a path that no event, call or match of a trigger's can have, and the remedy."""
    root, rest, dotted = steps[0], steps[1:], ".".join(steps)
    if root != "event":
        known: Mapping[str, Json] = samples.CALL if root == "call" else samples.match_of(trigger)
        if samples.has(known, rest):
            return None
        if rest and root == "match" and rest[0] in samples.MATCH:
            trigger_name = rules.TRIGGER_NAMES[type(trigger)]
            return f"names {dotted}, and a match of {trigger_name} has none", "use another trigger, or leave it out"
        meant = samples.nearest([known], rest)
        remedy = f"did you mean {meant}?" if meant else f"there is {', '.join(known)}"
        return f"names {dotted}, and no {root} has it", remedy
    wanted = samples.types(trigger)
    if wanted == ():
        return f"names {dotted}, and this trigger has no event", "use call"
    events = samples.of(trigger)
    if not events or any(samples.has(event, rest) for event in events):
        return None
    if isinstance(trigger, rules.Phrase | rules.Regex) and any(samples.has(event, rest) for event in samples.every()):
        return None  # the end of an item can show in another item's event
    meant = samples.nearest(events, rest)
    if not meant and not samples.are_complete(trigger):
        return None
    of = f"no event of type {' or '.join(wanted[:3])}" if wanted and len(wanted) <= 3 else "no event of this trigger"
    return f"names {dotted}, and {of} has it", f"did you mean {meant}?" if meant else "look at a recorded event"


def is_constant(source: str) -> bool:
    """Say whether a condition looks at nothing."""
    return not set(_tokens(source)) & set(ROOTS)


def named(source: str) -> Iterator[tuple[str, ...]]:
    """Give the paths that a condition names and does not ask for with `has()`; methods are no part of them."""
    tokens = list(_tokens(source))
    paths: list[tuple[str, ...]] = []
    asked: list[tuple[str, ...]] = []
    for index, token in enumerate(tokens):
        if token not in ROOTS or tokens[index - 1 : index] == ["."]:
            continue
        steps = (token, *_steps(tokens, index + 1))
        is_asked = tokens[max(index - 2, 0) : index] == ["has", "("]
        (asked if is_asked else paths).append(steps)
    for steps in paths:
        if len(steps) > 1 and not any(steps[: len(guard)] == guard for guard in asked):
            yield steps


def _always_fails(condition: Condition, trigger: Trigger) -> str:
    """Give the fault that a condition ends in whatever it is shown; empty if it can be evaluated."""
    fault = ""
    for event in samples.of(trigger) or ({},):
        try:
            condition.matches({"event": event, "call": samples.CALL, "match": samples.match_of(trigger)})
        except ConditionFault as caught:
            fault = str(caught)
        else:
            return ""
    # events that are not known here may have what it needs
    return fault if samples.are_complete(trigger) else ""


def _is_trusted(action: Action, place: Sequence[str | int], *, is_whole: bool) -> bool:
    if isinstance(action, _SPOKEN) or any(step in _TRUSTED for step in place):
        return True
    value: Json = getattr(action, "event", None) or getattr(action, "item", None) or getattr(action, "session", None)
    for step in place:
        if isinstance(value, Mapping) and value.get("role") == "system":
            return True
        value = value[step]
    last = next((step for step in reversed(place) if isinstance(step, str)), "")
    return is_whole and last in _WHOLE


def _at(path: str, action: Action) -> str:
    """Give the key path of what an action says."""
    name = ACTION_NAMES[type(action)]
    return f"{path}.{name}.goodbye" if isinstance(action, rules.HangUp) else f"{path}.{name}"


def _joined(path: str, place: Sequence[str | int]) -> str:
    for step in place:
        path = f"{path}[{step}]" if isinstance(step, int) else join(path, step)
    return path


def _steps(tokens: Sequence[str], at: int) -> Iterator[str]:
    while at + 1 < len(tokens):
        after = tokens[at + 1]
        if tokens[at] == "." and _is_name(after) and tokens[at + 2 : at + 3] != ["("]:
            yield after
            at += 2
        elif tokens[at] == "[" and tokens[at + 2 : at + 3] == ["]"] and (after.isdecimal() or after[0] in "'\""):
            yield after.strip("'\"")
            at += 3
        else:
            return


def _is_name(token: str) -> bool:
    return token.replace("_", "a").isalnum() and not token[0].isdecimal()


def _tokens(source: str) -> Iterator[str]:
    """Divide a condition that compiles into names, numbers, strings with their quotes, and single characters."""
    at = 0
    while at < len(source):
        start, first = at, source[at]
        if first.isalnum() or first == "_":
            while at < len(source) and (source[at].isalnum() or source[at] == "_"):
                at += 1
        elif first in "'\"":
            quote = first * 3 if source.startswith(first * 3, at) else first
            at += len(quote)
            while at < len(source) and not source.startswith(quote, at):
                at += 2 if source[at] == "\\" else 1
            at += len(quote)
        elif source.startswith("//", at):
            at = (source + "\n").index("\n", at)
            continue
        else:
            at += 1
        if not first.isspace():
            yield source[start:at]
