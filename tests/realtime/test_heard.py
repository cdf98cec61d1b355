from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.realtime.heard import cut, played_ms, spoken_ms

TEXT = "one two three four five six seven eight"


@pytest.mark.parametrize(
    ("played_ms", "total_ms", "heard", "confidence"),
    [
        (0, 4000, "", "exact"),
        (-5, None, "", "exact"),
        (4000, 4000, TEXT, "exact"),
        (9000, 4000, TEXT, "exact"),
        (2000, 4000, "one two three four", "estimated"),
        (10, 4000, "", "estimated"),
        (9000, None, TEXT, "estimated"),
        (1300, None, "one two three four", "estimated"),
    ],
)
def test_what_was_heard_ends_with_a_whole_word(
    played_ms: int, total_ms: int | None, heard: str, confidence: str
) -> None:
    assert cut(TEXT, played_ms, total_ms) == (heard, confidence)


def test_writing_without_spaces_is_cut_between_characters() -> None:
    assert cut("今日は晴れです", 1000, 2000) == ("今日は", "estimated")


def test_an_empty_text_was_heard_as_it_is() -> None:
    assert cut("", 100, 0) == ("", "exact")
    assert cut("", 100, None) == ("", "estimated")


def test_speech_has_a_usual_pace() -> None:
    assert spoken_ms("x" * 30) == 2000


def test_words_are_heard_from_when_those_before_them_were_spoken() -> None:
    before, length = 30, 15  # two seconds, then one
    assert [played_ms(before, length, ms) for ms in (0, 2000, 2400, 3000, 9000)] == [0, 0, 400, 1000, 1000]
    assert played_ms(0, 0, 500) == 0


@given(before=st.integers(0, 10_000), length=st.integers(0, 1_000), elapsed=st.integers(-1_000, 2_000_000))
def test_no_more_is_heard_than_there_is(before: int, length: int, elapsed: int) -> None:
    assert 0 <= played_ms(before, length, elapsed) <= spoken_ms("x" * length) + 1
