from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.store.phrases import Phrase, read


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("refund", [("refund", False)]),
        ("refund please", [("refund", False), ("please", False)]),
        ('"money back" now', [("money back", False), ("now", False)]),
        ("refu*", [("refu", True)]),
        ('"money ba"*', [("money ba", True)]),
        ('an "unclosed phrase', [("an", False), ("unclosed phrase", False)]),
        ('he"llo"', [("he", False), ("llo", False)]),
        ("-x col:x NEAR(a,b) a OR b", [(word, False) for word in ("-x", "col:x", "NEAR(a,b)", "a", "OR", "b")]),
        ("wörter 東京 7", [("wörter", False), ("東京", False), ("7", False)]),
        ("twice twice", [("twice", False)]),
        ("! refund ?", [("refund", False)]),
    ],
)
def test_a_text_is_read_as_words_phrases_and_beginnings(text: str, found: list[tuple[str, bool]]) -> None:
    assert read(text) == tuple(Phrase(*each) for each in found)


@pytest.mark.parametrize("text", ["", " ", "*", '""', '"*"', "-- !! ()", "\U0001f600", '" '])
def test_a_text_without_a_word_asks_for_nothing(text: str) -> None:
    assert read(text) is None


@given(st.text(max_size=60))
def test_every_text_is_read_as_something(text: str) -> None:
    for phrase in read(text) or ():
        assert '"' not in phrase.text
        assert any(character.isalnum() for character in phrase.text)
