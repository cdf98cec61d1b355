from __future__ import annotations

import pytest

from rtobserver.realtime.heard import cut, spoken_ms

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
