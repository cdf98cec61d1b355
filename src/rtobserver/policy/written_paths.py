"""Judge the paths that templates and conditions name, and where text from outside may go. Pure.

A rule that can never work is refused at load. Where a path may exist after all, in types of events
that are not known here, it is accepted: then its absence is a fault of the call that lacks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rtobserver.config.shape import join
from rtobserver.policy import rules, samples
from rtobserver.policy.cel import CelMissing, Condition, ConditionError, ConditionFault, compile_condition
from rtobserver.policy.findings import Findings
from rtobserver.policy.rules import ACTION_NAMES, Action, Json, Trigger
from rtobserver.policy.templates import ROOTS, Reference, TemplateFault, parse, strings
from rtobserver.policy.written_trust import is_trusted, stranger


def check_templates(found: Findings, action: Action, trigger: Trigger | None, path: str) -> bool:
    """Judge the templates of an action at a key path; without a trigger as far as that can be."""
    good = True
    for place, text in strings(action):
        at = _joined(_at(path, action), place)
        try:
            parts = parse(text)
        except TemplateFault as fault:
            found.wrong(at, str(fault), "write it as in {{ call.call_id }}; the roots are event, call, match")
            good = False
            continue
        references = [part for part in parts if isinstance(part, Reference)]
        for reference in references:
            source = stranger(reference.steps)
            if source and is_trusted(action, place, is_whole=len(parts) == 1):
                problem = f"puts text from {source} where the model takes it for your own instructions"
                found.wrong(at, problem, "a caller could write instructions; call.call_id or a number could stand here")
                good = False
            if wrong := unknown(trigger, reference.steps):
                found.wrong(at, *wrong)
                good = False
    return good


def check_condition(found: Findings, source: str, trigger: Trigger | None, path: str) -> bool:
    """Compile a condition and try it on samples; without a trigger only its paths are judged."""
    try:
        condition = compile_condition(source)
    except CelMissing as error:
        found.wrong(path, str(error), "or leave out every `when`")
        return False
    except ConditionError as error:
        found.wrong(path, f"is no condition: {error}", 'conditions are CEL, as in "call.turn_count > 1"')
        return False
    problems = [problem for steps in named(source) if (problem := unknown(trigger, steps))]
    problems += [problem for root, problem in unequal(source, trigger) if root != "event"]
    for problem in dict.fromkeys(problems):
        found.wrong(path, *problem)
    if problems or trigger is None:
        return not problems
    if fault := _always_fails(condition, trigger):
        found.wrong(path, f"can never be evaluated: {fault}", "compare values of one type")
        return False
    if _never_tells(condition, trigger):
        found.wrong(path, "is never true or false", "compare it with something, as in call.turn_count > 1")
        return False
    return True


def unknown(trigger: Trigger | None, steps: Sequence[str]) -> tuple[str, str] | None:
    """Give what is wrong with a path that no event, call or match of a trigger's can have, and the remedy.

    Without a trigger it is what no trigger's can have.
    """
    root, rest, dotted = steps[0], steps[1:], ".".join(steps)
    if root != "event":
        known = samples.CALL if root == "call" else _match(trigger)
        if samples.has(known, rest):
            return None
        if trigger is not None and rest and root == "match" and rest[0] in samples.MATCH:
            trigger_name = rules.TRIGGER_NAMES[type(trigger)]
            return f"names {dotted}, and a match of {trigger_name} has none", "use another trigger, or leave it out"
        meant = samples.nearest([known], rest)
        remedy = f"did you mean {meant}?" if meant else f"there is {', '.join(known)}"
        return f"names {dotted}, and no {root} has it", remedy
    if trigger is None:
        trigger = rules.On(types=("*",))
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
    of = "no event" if wanted == ("*",) else of
    return f"names {dotted}, and {of} has it", f"did you mean {meant}?" if meant else "look at a recorded event"


def is_constant(source: str) -> bool:
    """Say whether a condition looks at nothing."""
    return not set(_tokens(source)) & set(ROOTS)


def named(source: str) -> Iterator[tuple[str, ...]]:
    """Give the paths that a condition names and does not ask for with `has()`; methods are no part of them."""
    guards = list(asked(source))
    for steps, _, is_asked in _paths(list(_tokens(source))):
        if len(steps) > 1 and not is_asked and not any(steps[: len(guard)] == guard for guard in guards):
            yield steps


def asked(source: str) -> Iterator[tuple[str, ...]]:
    """Give the paths that a condition asks for with `has()`."""
    return (steps for steps, _, is_asked in _paths(list(_tokens(source))) if is_asked)


def unequal(source: str, trigger: Trigger | None) -> Iterator[tuple[str, tuple[str, str]]]:
    """Give comparisons of a path with a literal of another type, which is never equal: its root, problem and remedy."""
    tokens = list(_tokens(source))
    for steps, (start, end), _ in _paths(tokens):
        after = tokens[end : end + 2] in _EQUATIONS
        first, last = (start, end + 3) if after else (start - 3, end)
        if first < 0 or not (after or tokens[start - 2 : start] in _EQUATIONS):
            continue
        # a longer expression on either side may have another type than its part
        if not (set(tokens[max(first - 1, 0) : first]) <= _BEFORE and set(tokens[last : last + 1]) <= _AFTER):
            continue
        literal = _literal(tokens, last - 1 if after else first)
        kinds = {_kind(each) for each in _values(steps, trigger)}
        if literal and kinds and "" not in kinds and literal not in kinds:
            problem = f"compares {'.'.join(steps)}, which is {' or '.join(sorted(kinds))}, with {literal}"
            yield steps[0], (problem, "they are never equal")


_EQUATIONS = (["=", "="], ["!", "="])
_BEFORE, _AFTER = frozenset("(&|?:,["), frozenset(")&|?:,]")
"""Where an expression can begin and end."""
_Path = tuple[tuple[str, ...], tuple[int, int], bool]
"""Its steps, its first token and the one after it, and whether it is asked for with `has()`."""


def _paths(tokens: Sequence[str]) -> Iterator[_Path]:
    for index, token in enumerate(tokens):
        if token in ROOTS and tokens[index - 1 : index] != ["."]:
            steps, end = _steps(tokens, index + 1)
            yield (token, *steps), (index, end), tokens[max(index - 2, 0) : index] == ["has", "("]


def _values(steps: Sequence[str], trigger: Trigger | None) -> Iterator[Json]:
    """Give what samples have at a path."""
    root, rest = steps[0], list(steps[1:])
    known: Iterable[Json] = (samples.CALL,) if root == "call" else (_match(trigger),)
    if root == "event":
        known = samples.of(trigger) if trigger is not None and samples.are_complete(trigger) else ()
    for value in known:
        yield from _found(value, rest)


def _found(value: Json, steps: list[str]) -> Iterator[Json]:
    if not steps:
        yield value
    elif value is None or value in ({}, []):
        yield None  # it can hold anything
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _found(value[steps[0]], steps[1:])
    elif isinstance(value, list) and steps[0].isdecimal():
        for each in value:
            yield from _found(each, steps[1:])


def _kind(value: Json) -> str:
    """Name a value's type; empty where it can be any."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case Mapping() if value:
            return "a table"
    return ""


def _literal(tokens: Sequence[str], at: int) -> str:
    """Name the type of a literal; empty for anything else."""
    token = tokens[at] if 0 <= at < len(tokens) else ""
    if token in ("true", "false"):
        return "true or false"
    if token[:1] in ("'", '"'):
        return "a text"
    return "a number" if token[:1].isdecimal() else ""


def _match(trigger: Trigger | None) -> Mapping[str, Json]:
    return samples.MATCH if trigger is None else samples.match_of(trigger)


def _scopes(trigger: Trigger) -> Iterator[Mapping[str, Json]]:
    call = {name: value for name, value in samples.CALL.items() if value is not None}
    for event in samples.of(trigger) or ({},):
        yield {"event": event, "call": call, "match": samples.match_of(trigger)}


def _never_tells(condition: Condition, trigger: Trigger) -> bool:
    """Say whether a condition gives something else than true or false wherever it gives anything."""
    try:
        telling, other = (
            compile_condition(f"type({condition.source}\n) {tail}") for tail in ("in [bool, null_type]", "!= bool")
        )
    except ConditionError:
        return False  # it is too long to be asked
    is_other = False
    for scope in _scopes(trigger):
        try:
            if telling.matches(scope):
                return False
            is_other = other.matches(scope) or is_other
        except ConditionFault:
            continue
    # events that are not known here may have something else there
    return is_other and ("event" not in condition.names or samples.are_complete(trigger))


def _always_fails(condition: Condition, trigger: Trigger) -> str:
    """Give the fault that a condition ends in whatever it is shown; empty if it can be evaluated."""
    fault = ""
    for scope in _scopes(trigger):
        try:
            condition.matches(scope)
        except ConditionFault as caught:
            fault = str(caught)
        else:
            return ""
    # events that are not known here may have what it needs
    return fault if samples.are_complete(trigger) else ""


def _at(path: str, action: Action) -> str:
    """Give the key path of what an action says."""
    name = ACTION_NAMES[type(action)]
    return f"{path}.{name}.goodbye" if isinstance(action, rules.HangUp) else f"{path}.{name}"


def _joined(path: str, place: Sequence[str | int]) -> str:
    for step in place:
        path = f"{path}[{step}]" if isinstance(step, int) else join(path, step)
    return path


def _steps(tokens: Sequence[str], at: int) -> tuple[list[str], int]:
    """Give the steps of a path, and the token after it."""
    steps: list[str] = []
    while at + 1 < len(tokens):
        after = tokens[at + 1]
        if tokens[at] == "." and _is_name(after) and tokens[at + 2 : at + 3] != ["("]:
            steps.append(after)
            at += 2
        elif tokens[at] == "[" and tokens[at + 2 : at + 3] == ["]"] and (after.isdecimal() or after[0] in "'\""):
            steps.append(after.strip("'\""))
            at += 3
        else:
            break
    return steps, at


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
