"""Evaluate conditions written in CEL. Pure.

A thin adapter over `cel-expr-python`, which is an extra. A condition sees three names: `event`, the
event as it came; `call`, the API's fields of the call; `match`. Nothing that is evaluated may take
long: what could multiply is refused when it is compiled, or bounded by the size of what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from rtobserver.policy.regexes import PatternError, compile_pattern
from rtobserver.policy.rules import Json

NAMES = ("event", "call", "match")
"""What a condition can speak of."""
MAX_SOURCE = 2_000
"""Longest condition, in characters."""
MAX_EVENT = 65_536
"""Largest event that a condition looks at, in bytes."""
MAX_STEPS = 10_000
"""Steps of a loop after which the library gives up."""
MAX_COST = 15_000_000
"""Nanoseconds, or so, that an evaluation may take."""

_LOOPS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_PROBLEMS = (RuntimeError, ValueError, TypeError, OverflowError)
_MISSING = (
    "NOT_FOUND: Key not found in map",
    "Applying SELECT to non-message type",
    "Index error: index=",
    "Invalid container type: 'null_type'",
    "(null_type",
    ", null_type",
)
"""What the library says when a field is not there, is null, or is asked of something without fields."""

_UNTOLD = ("out of range for '", "construction from null")
"""What the library says of a number or a text that it cannot hold, wherever in the event that stands."""


class ConditionError(ValueError):
    """Say why a condition cannot be used."""


class CelMissing(ConditionError):
    """Say that the extra is not installed."""

    def __init__(self) -> None:
        super().__init__("conditions need CEL, which is an extra: install `rtobserver[cel]`")


class ConditionFault(Exception):
    """Say why a condition could not be evaluated."""


class Condition:
    """Be a compiled condition."""

    __slots__ = ("_expression", "_loops", "_regexes", "_terms", "names", "source")

    def __init__(self, source: str, expression: Any, outline: _Outline) -> None:
        self.source = source
        self._expression = expression
        self._loops = outline.loops
        self._regexes = outline.regexes
        self._terms = outline.terms
        self.names = outline.names
        """Which of event, call and match it speaks of."""

    def matches(self, scope: Mapping[str, Json], *, frame: bytes = b"") -> bool:
        """Say whether the condition is true; raise `ConditionFault` when it cannot be evaluated.

        A field that is missing or null is no fault: then the condition is not true, unless CEL can
        tell without the field (`a || b`). `frame` is the event as bytes; by its size a condition
        that would take long is not evaluated, which is a fault.
        """
        if "event" in self.names and len(frame) > MAX_EVENT:
            raise ConditionFault(f"the event is too large for a condition: {len(frame)} bytes, {MAX_EVENT} are taken")
        if self.cost(frame) > MAX_COST:
            raise ConditionFault("the event is too large for what the condition does with it")
        told, problem = self._evaluate(scope)
        if problem is not None and any(sign in problem for sign in _UNTOLD):
            told, problem = self._evaluate({name: _tellable(value) for name, value in scope.items()})
        if problem is None:
            return told is True
        if any(sign in problem for sign in _MISSING):
            return False
        raise ConditionFault(_sentence(problem))

    def _evaluate(self, scope: Mapping[str, Json]) -> tuple[object, str | None]:
        """Give the value, or what was wrong."""
        try:
            value = self._expression.eval(_shown(scope))
            told = value.value()
            return told, str(told) if value.type().name() == "ERROR" else None
        except _PROBLEMS as problem:
            return None, str(problem) or type(problem).__name__

    def cost(self, frame: bytes) -> int:
        """Bound from above what an evaluation costs, in nanoseconds or so."""
        values, length = 60 + len(self.source) // 2, 1024 + len(self.source)
        if self.names & {"event", "match"}:
            length += len(frame)
        if "event" in self.names and len(frame) <= MAX_EVENT:
            values += frame.count(b",") + frame.count(b"{") + frame.count(b"[")
        once = self._terms * (20 * values + length) + 5 * length * self._regexes
        return 20_000 + once * (min(values, MAX_STEPS) if self._loops else 1)


class Shown(dict[str, Json]):
    """Be a scope that several conditions look at; it is made ready for the library once."""

    __slots__ = ("activation",)

    def __init__(self, names: Mapping[str, Json]) -> None:
        super().__init__(names)
        self.activation: Any = None


def _shown(scope: Mapping[str, Json]) -> Any:
    if isinstance(scope, Shown) and scope.activation is not None:
        return scope.activation
    data = {"event": scope.get("event") or {}, "call": scope.get("call") or {}}
    data["match"] = {name: each for name, each in (scope.get("match") or {}).items() if each is not None}
    activation = _environment().Activation(data=data)
    if isinstance(scope, Shown):
        scope.activation = activation
    return activation


def _tellable(value: Json) -> Json:
    """Make numbers that are no 64-bit integers floats, and give texts with half a character a whole one."""
    if isinstance(value, Mapping):
        return {_tellable(name): _tellable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tellable(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 10**300 else math.copysign(math.inf, 1 if value > 0 else -1)
    return value


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        from cel_expr_python import cel
    except ImportError:
        raise CelMissing from None
    return cel.NewEnv(variables=dict.fromkeys(NAMES, cel.Type.DYN))


def compile_condition(source: str) -> Condition:
    """Compile and type-check a condition; raise `ConditionError`, or `CelMissing` without the extra."""
    environment = _environment()
    if len(source) > MAX_SOURCE:
        raise ConditionError(f"it is longer than {MAX_SOURCE} characters")
    outline = _outline(source)
    try:
        expression = environment.compile(source)
        kind = expression.return_type().name()
    except _PROBLEMS as problem:
        raise ConditionError(_sentence(problem)) from None
    if kind not in ("BOOL", "DYN"):
        raise ConditionError(f"it gives {kind}, and a condition has to give BOOL")
    return Condition(source, expression, outline)


class _Outline(NamedTuple):
    loops: bool
    regexes: int
    """Instructions of all programs."""
    terms: int
    """Steps that may take time in proportion to what they look at."""
    names: frozenset[str]


def _outline(source: str) -> _Outline:
    """Read what may take long: loops, which must not stand in loops, and patterns, which must be literal."""
    tokens = _tokens(source)
    depth, opened, loops, regexes = 0, 0, False, 0
    for index, sign in enumerate(tokens):
        if sign == "(":
            depth += 1
            if index >= 2 and tokens[index - 1] in _LOOPS and tokens[index - 2] == ".":
                if opened:
                    raise ConditionError(f"a loop stands in a loop: .{tokens[index - 1]}(…) inside another")
                loops, opened = True, depth
        elif sign == ")":
            if depth == opened:
                opened = 0
            depth -= 1
        elif sign == "matches" and tokens[index + 1 : index + 2] == ["("]:
            regexes += _pattern_size(tokens, index + 2)
    terms = 1 + sum(sign in ("=", "!", "+", "in", "(", "[", "{") for sign in tokens)
    return _Outline(loops, regexes, terms, frozenset(NAMES) & frozenset(tokens))


def _pattern_size(tokens: list[str], start: int) -> int:
    # `text.matches('x')` or `matches(text, 'x')`: the last literal before the bracket closes
    depth, last = 1, ""
    for place in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place], 0)
        if depth == 0:
            break
        last = tokens[place]
    before = tokens[place - 2] if place > start else ""
    if last[-1:] not in ("'", '"') or before not in ("(", ","):
        raise ConditionError("the pattern of matches() has to be a literal string")
    try:
        return compile_pattern(_unquoted(last)).size
    except PatternError as problem:
        raise ConditionError(f"the pattern {last[:40]}: {problem}") from None


def _tokens(source: str) -> list[str]:
    """Divide a condition into names, literal strings and single characters; spaces are left out."""
    tokens: list[str] = []
    place, end = 0, len(source)
    while place < end:
        start = place
        while place < end and (source[place].isalnum() or source[place] == "_"):
            place += 1
        prefix = source[start:place]
        if place < end and source[place] in "'\"" and prefix.lower() in ("", "r", "b", "br", "rb"):
            place = _string_end(source, place, is_raw="r" in prefix.lower())
            tokens.append(source[start:place])
        elif prefix:
            tokens.append(prefix)
        elif source.startswith("//", place):
            place = (source + "\n").index("\n", place)
        else:
            if not source[place].isspace():
                tokens.append(source[place])
            place += 1
    return tokens


def _string_end(source: str, start: int, *, is_raw: bool) -> int:
    quote = source[start]
    mark = quote * 3 if source.startswith(quote * 3, start) else quote
    place = start + len(mark)
    while place < len(source):
        if source[place] == "\\" and not is_raw:
            place += 2
        elif source.startswith(mark, place):
            return place + len(mark)
        else:
            place += 1
    raise ConditionError("a string has no end")


def _unquoted(literal: str) -> str:
    is_raw = literal[0] in "rR"
    body = literal[1:] if is_raw else literal
    if body[0] not in "'\"":
        raise ConditionError("the pattern of matches() has to be a literal string")
    mark = 3 if body[:3] in ("'''", '"""') else 1
    body = body[mark:-mark]
    if is_raw or "\\" not in body:
        return body
    pieces = iter(body.split("\\"))
    text = next(pieces)
    for piece in pieces:
        # only what patterns need; the size is what counts here, and CEL reads the string itself
        text += ("\\" + next(pieces, "")) if piece == "" else piece
    return text


def _sentence(problem: object) -> str:
    return " ".join(str(problem).split())[:300]
