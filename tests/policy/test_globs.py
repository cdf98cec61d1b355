from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.policy.globs import is_glob, matches


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("response.done", "response.done", True),
        ("response.done", "response.done.more", False),
        ("response.*", "response.done", True),
        ("response.*", "response", False),
        ("*", "", True),
        ("*.done", "response.output_text.done", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("", "", True),
        ("", "a", False),
        ("Error", "error", False),
    ],
)
def test_a_pattern_stands_for_whole_names(pattern: str, name: str, is_match: bool) -> None:
    assert matches(pattern, name) is is_match
    assert is_glob(pattern) is ("*" in pattern or "?" in pattern)


@given(st.text(alphabet="ab*?.", max_size=12), st.text(alphabet="ab.", max_size=12))
def test_patterns_mean_what_they_mean_to_shells(pattern: str, name: str) -> None:
    assert matches(pattern, name) is fnmatchcase(name, pattern)


def test_a_pattern_full_of_stars_takes_no_longer_than_its_lengths_allow() -> None:
    assert not matches("*a" * 500, "a" * 499 + "b" * 500)
