"""Take a condition apart, to show which part of it is true and what it saw. Pure.

Only what can be told from the text is taken apart: the operands of `&&` and `||` at the top, and the paths
that begin with `event`, `call` or `match`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rtobserver.policy.cel import ConditionError, ConditionFault, compile_condition
from rtobserver.policy.rules import Json

_PATH = re.compile(r"(?<![\w.])(?:event|call|match)(?:\.[A-Za-z_]\w*(?!\w|\s*\()|\[\d+\])*")
_STEP = re.compile(r"\w+")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Part:
    """Be an operand of a condition, or the whole of it."""

    source: str
    holds: bool
    fault: str | None = None


def evaluate(source: str, scope: Mapping[str, Json], frame: bytes = b"") -> Part:
    """Evaluate a condition, or a part of one."""
    try:
        return Part(source, compile_condition(source).matches(scope, frame=frame))
    except (ConditionError, ConditionFault) as exc:
        return Part(source, holds=False, fault=str(exc))


def parts(source: str) -> list[str]:
    """Divide a condition at its topmost `&&` and `||`; a condition without any is no part of itself."""
    plain = _without_strings(source)
    found: list[str] = []
    depth = start = 0
    for place, sign in enumerate(plain):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(sign, 0)
        if depth == 0 and plain[place : place + 2] in ("&&", "||"):
            found.append(source[start:place].strip())
            start = place + 2
    if not found:
        inner = source.strip()
        return parts(inner[1:-1]) if _is_bracketed(_without_strings(inner)) else []
    return [each for each in (*found, source[start:].strip()) if each]


def paths(source: str) -> list[str]:
    """List the paths that a condition names, each once."""
    named = (match[0] for match in _PATH.finditer(_without_strings(source)))
    return list(dict.fromkeys(path for path in named if path not in ("event", "call", "match")))


def values(source: str, scope: Mapping[str, Json]) -> dict[str, Json]:
    """Give the values of those paths; what is not there is left out."""
    found = {path: _lookup(scope, path) for path in paths(source)}
    return {path: value for path, value in found.items() if value is not _ABSENT}


def _lookup(scope: Mapping[str, Json], path: str) -> Json:
    value: Json = scope
    for step in _STEP.findall(path):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _ABSENT
    return value


def _is_bracketed(text: str) -> bool:
    if not (text.startswith("(") and text.endswith(")")):
        return False
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and place < len(text) - 1:
            return False
    return True


def _without_strings(source: str) -> str:
    """Blank out what stands in quotes; every other character keeps its place."""
    shown: list[str] = []
    quote = ""
    place = 0
    while place < len(source):
        sign = source[place]
        if quote and sign == "\\":
            shown.append("  "[: len(source) - place])
            place += 2
            continue
        if quote:
            shown.append(" ")
            quote = "" if sign == quote else quote
        else:
            shown.append(" " if sign in "'\"" else sign)
            quote = sign if sign in "'\"" else ""
        place += 1
    return "".join(shown)
