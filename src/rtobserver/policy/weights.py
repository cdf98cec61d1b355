"""Bound what searching the patterns of a set costs, before it is taken. Pure.

All patterns of a speaker are searched at the event that brings the text, so that a match names that event. A
text can be made that keeps every place of a pattern at work, at some 6 ns for each place and byte: together
60 ms for a window in patterns that are large, and 250 ms in small ones if one text were the worst for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2

from rtobserver.policy import rules
from rtobserver.policy.regexes import compile_pattern
from rtobserver.policy.rules import Policy

MAX_TOGETHER = 2_500
"""What the patterns of one speaker may weigh in the calls of a profile."""

_SMALL = 500
"""Instructions up to which a pattern weighs a quarter: words that people say keep little of it at work."""


def weight(pattern: str) -> int:
    """Give what a pattern that RE2 takes weighs: about the number of its places, repetitions written out."""
    options = re2.Options()
    options.log_errors = False
    # in bytes, a class of characters is one place and not all the ranges that UTF-8 makes of it
    options.encoding = re2.Options.Encoding.LATIN1
    source = "".join(each if each < "\u0100" else "x" for each in pattern).encode("latin-1")
    try:
        places = _size(source, options)
    except re2.error:  # it names a character by a number that is no byte
        places = compile_pattern(pattern).size
    return places if places > _SMALL else max(places // 4, 1)


def _size(source: bytes, options: re2.Options) -> int:
    size: int = re2._Regexp._make(source, tuple(getattr(options, name) for name in re2.Options.NAMES)).programsize
    return size


def too_heavy(policies: Iterable[Policy]) -> list[tuple[int, rules.Speaker]]:
    """Name the first policy whose pattern is one too many, and its speaker; for each speaker at most one."""
    patterns = [
        (number, policy.profiles, what)
        for number, policy in enumerate(policies)
        if isinstance(what := _searched(policy), rules.Regex)
    ]
    profiles = {name for _, names, _ in patterns for name in names or ()} or {""}
    found: dict[rules.Speaker, int] = {}
    for profile in profiles:
        total = {"user": 0, "assistant": 0}
        for number, names, what in patterns:
            if names is None or profile in names:
                total[what.speaker] += weight(what.pattern)
                if total[what.speaker] > MAX_TOGETHER:
                    found[what.speaker] = min(number, found.get(what.speaker, number))
                    break
    return [(number, speaker) for speaker, number in found.items()]


def searched_at(policy: Policy) -> str:
    """Name the key in a policy's table where its pattern stands."""
    return "absent.regex.pattern" if isinstance(policy.trigger, rules.Absent) else "regex.pattern"


def heaviness(speaker: rules.Speaker) -> tuple[str, str]:
    """Say what is wrong, and what helps."""
    problem = f"is one too many: together the patterns for the {speaker} are too large to be searched at once"
    return problem, "repeat less in them, join some with |, or give them to fewer profiles"


def _searched(policy: Policy) -> rules.Trigger:
    return policy.trigger.what if isinstance(policy.trigger, rules.Absent) else policy.trigger
