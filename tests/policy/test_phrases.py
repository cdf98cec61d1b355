"""Phrases are found in growing text, however it is cut."""

# ruff: noqa: RUF001
from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.policy import phrases as room
from rtobserver.policy.phrases import Lexicon, PhraseError, Phrases, Search, Stream, words

ALPHABET = "abß İi\u0307e\u0301éﬁfi.,-' $+\u200b\u00ad各각\u1100\u1161\u11a8退款のカ\u3099ガｶﾞไทย์１1²\U0001f600\n"
TEXTS = st.text(alphabet=ALPHABET, max_size=40)


def found(deltas: list[str], *any_of: str, whole: bool = False) -> list[tuple[int, str]]:
    """Give which delta completed a match (the end counts as one more), and the words."""
    search = Search(Lexicon([(0, Phrases(any_of, whole=whole))]))
    told = [(place, text) for place, delta in enumerate(deltas) for _, text in search.add(delta)]
    return told + [(len(deltas), text) for _, text in search.end()]


@pytest.mark.parametrize(
    ("text", "phrase", "said"),
    [
        ("Two REFUNDS, please", "refund", "REFUND"),
        ("your money --  back!", "Money back", "money --  back"),
        ("die STRASSE", "straße", "STRASSE"),
        ("die Straße", "strasse", "Straße"),
        ("ｒｅｆｕｎｄ", "refund", "ｒｅｆｕｎｄ"),
        ("a ﬁne day", "fine", "ﬁne"),
        ("un cafe\u0301 noir", "café", "cafe\u0301"),
        ("un café noir", "cafe\u0301", "café"),
        ("바보 같은", unicodedata.normalize("NFD", "바보"), "바보"),
        (unicodedata.normalize("NFD", "바보 같은"), "바보", unicodedata.normalize("NFD", "바보")),
        ("我想要退款谢谢", "退款", "退款"),
        ("返金をお願いします", "お願い", "お願い"),
        ("ขอคืนเงินครับ", "คืนเงิน", "คืนเงิน"),
        ("请refund我", "refund", "refund"),
        ("it costs $100", "100", "100"),
        ("I don’t know", "don't know", "don’t know"),
        ("C++ is fine", "c++", "C++"),
        ("re\u00adfund", "refund", "re\u00adfund"),
    ],
)
def test_a_phrase_is_found_as_it_was_said(text: str, phrase: str, said: str) -> None:
    assert [words_said for _, words_said in found([text], phrase)] == [said]
    assert [words_said for _, words_said in found(list(text), phrase)] == [said]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [("prefund", "refund"), ("re fund", "refund"), ("resume\u0301", "résumé"), ("Réfund", "refund"), ("", "a")],
)
def test_a_match_starts_at_a_word_start_and_has_the_same_letters(text: str, phrase: str) -> None:
    assert found([text], phrase) == []


def test_the_delta_with_the_last_letter_completes_the_match() -> None:
    assert found(["a ref", "u", "nd", "s"], "refund") == [(2, "refund")]


def test_a_whole_word_waits_for_its_boundary() -> None:
    assert found(["refund", "s and refund", "."], "refund", whole=True) == [(2, "refund")]
    assert found(["refund"], "refund", whole=True) == [(1, "refund")]
    assert found(["refund\u0301 refunds"], "refund", whole=True) == []
    assert found(["退款", "了"], "退款", whole=True) == [(1, "退款")]


def test_a_phrase_is_found_once_in_a_text() -> None:
    assert found(["refund refund", " refund"], "refund") == [(0, "refund")]


def test_a_phrase_that_begins_with_another_is_not_found_again() -> None:
    assert found(["ref", "und", "s all"], "refunds", "refund") == [(1, "refund")]


@pytest.mark.parametrize("phrase", ["", " ", "…?!", "\u200b", "\u00ad", "a" * 501])
def test_what_cannot_be_said_is_refused(phrase: str) -> None:
    with pytest.raises(PhraseError):
        Phrases([phrase], whole=False)


@given(TEXTS, st.lists(st.integers(0, 40), max_size=6))
def test_the_spelling_does_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    stream, whole = Stream(), Stream()
    pieces = [stream.spell(text[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join(pieces) + stream.end() == whole.spell(text) + whole.end() == "".join(Stream().spell_each(text + " "))


@given(TEXTS, st.lists(TEXTS.filter(lambda text: bool(words(text))), min_size=1, max_size=6), st.booleans())
def test_matches_and_their_places_are_those_of_a_naive_search(text: str, any_of: list[str], whole: bool) -> None:
    # a phrase is there as soon as the text so far, spelled from its start, holds it
    keys = Phrases(any_of, whole=whole).keys
    naive: dict[str, int] = {}
    for place in range(len(text) + 1):
        spelled = " " + Stream().spell(text[: place + 1]) if place < len(text) else " " + Stream().spell(text + " ")
        naive.update((key, place) for key in keys if key not in naive and key in spelled)
    for cuts in (1, 3, 50):
        search = Search(Lexicon([(0, Phrases(any_of, whole=whole))]))
        places: dict[str, int] = {}
        for start in range(0, len(text), cuts):
            search.add(text[start : start + cuts])
            places.update((key, start) for key in search.found if key not in places)
        search.end()
        places.update((key, len(text)) for key in search.found if key not in places)
        expected = {key: at if at == len(text) else at - at % cuts for key, at in naive.items()}
        assert places == expected


@given(st.text(max_size=60))
def test_any_text_is_found_in_itself(text: str) -> None:
    if words(text):
        assert [said for _, said in found(["x " + text + " y"], text)]
        assert [said for _, said in found(["x ", *text, " y"], words(text))] or unicodedata.normalize(
            "NFC", text
        ) != text


def test_the_quoted_words_are_a_slice_of_what_was_said() -> None:
    assert found(["x" * 5000 + " my money", " " * 100, "back now"], "money back") == [(2, "money" + " " * 100 + "back")]
    assert found(["money", " " * 5000, "back now"], "money back") == [(2, "back")]


def test_a_text_that_repeats_itself_costs_no_more_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_WASTED", 10)
    any_of = [" ".join("a" * length) for length in range(1, 30)] + ["b b", "a b", "b a c"]
    lexicon = Lexicon([(number, Phrases([phrase], whole=False)) for number, phrase in enumerate(any_of)])
    search = Search(lexicon)
    told = [number for text in ("a " * 500, "b ", "b a", " c") for number, _ in search.add(text)]
    assert sorted(told) == list(range(len(any_of)))
