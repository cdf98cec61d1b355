"""Patterns are RE2's, bounded in size, and never match the empty text."""

from __future__ import annotations

import random

import pytest

from rtobserver.policy.regexes import MAX_SIZE, WINDOW, PatternError, compile_pattern
from tests.support.watch import quickest


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "RE2"),
        (r"(a)\1", "RE2"),
        ("a(?=b)", "RE2"),
        ("(?:a{0,500}){0,500}", "RE2"),
        (r"\pL{1000}", "RE2"),
        ("[ab]{900}[ab]{900}[ab]{900}", "too large"),
        ("a" * 2001, "longer"),
        ("\ud800", "RE2"),
        ("", "empty text"),
        ("x*", "empty text"),
        ("a|", "empty text"),
        ("^", "empty text"),
        ("$", "empty text"),
        (r"\b", "empty text"),
        (r"\B|foo", "empty text"),
        ("(?m)^", "empty text"),
    ],
)
def test_what_cannot_be_searched_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "looks"),
    [
        (r"\bref", True),
        (r"ref\b", True),
        (r"ref\B", True),
        ("ref$", True),
        (r"ref\z", True),
        ("(?m)a$", True),
        (r"\Q$a\E\b", True),
        ("[]$]x$", True),
        (r"[[:alpha:]$\]]$", True),
        (r"\$5", False),
        (r"\\b", False),
        ("[$]5", False),
        ("[^]$]5", False),
        (r"[[:alpha:]$\]]x", False),
        (r"\Qa$\b\Ex", False),
        (r"\Qa$", False),
        ("^refund", False),
    ],
)
def test_patterns_that_look_at_what_follows_are_known(pattern: str, looks: bool) -> None:
    assert compile_pattern(pattern).looks_ahead is looks


def test_a_match_is_told_in_bytes() -> None:
    assert compile_pattern("(?i)STRASSE|ü+").find("für".encode()) == (1, 3)
    assert compile_pattern("z").find(b"abc") is None


def test_what_stands_before_the_start_is_context() -> None:
    assert compile_pattern("^b").find(b"ab", 1) is None
    assert compile_pattern(r"\bb").find(b"ab", 1) is None
    assert compile_pattern("b").find(b"ab", 1) == (1, 2)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(?:a|b)*a(?:a|b){100}c", "[ab]*a[ab]{900}c", "(?:[ab]{0,30}){0,20}c", ".*.*.*.*.*=.*c$", r"\pL+c"],
)
def test_no_pattern_takes_long_over_a_window(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.size <= MAX_SIZE
    text = "".join(random.Random(7).choices("ab", k=WINDOW)).encode()
    assert quickest(lambda: compiled.find(text), 0.1) < 0.1
