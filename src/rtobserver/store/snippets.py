"""Cut what was found out of a text and mark it, as SQLite's `snippet()` does. Pure.

Written after the description of FTS5's auxiliary functions: of all stretches of so many words, the one
with the most different phrases is shown, best from the beginning of a sentence on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rtobserver.store.hits import CLOSES, ELLIPSIS, OPENS, SNIPPET_WORDS
from rtobserver.store.phrases import Phrase

_WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+")
_MARKS = re.compile(r"[\u0300-\u036f]")
_SENTENCE = re.compile(r"[.:]\s*$")
_NEW, _AGAIN, _FIRST, _SENTENCE_START = 1000, 1, 120, 100


class _Match(NamedTuple):
    phrase: int
    first: int
    """Which word of the text it begins with."""
    last: int


def snippet(text: str, phrases: Sequence[Phrase], words: int = SNIPPET_WORDS) -> str:
    """Give the best stretch of a text, each match between `OPENS` and `CLOSES`, which the text itself loses."""
    text = text.replace(OPENS, "[").replace(CLOSES, "]")
    places = [match.span() for match in _WORD.finditer(text)]
    folded = [fold(text[first:last]) for first, last in places]
    found = sorted(_matches(folded, phrases), key=lambda each: (each.first, each.phrase))
    begin = _best_start(text, places, found, words)
    end = min(begin + words, len(places))
    shown = text[places[begin][0] if begin else 0 : places[end - 1][1] if end < len(places) else len(text)]
    offset = places[begin][0] if begin else 0
    for first, last in reversed(_merged(found, begin, end)):
        opens, closes = places[first][0] - offset, places[last][1] - offset
        shown = f"{shown[:opens]}{OPENS}{shown[opens:closes]}{CLOSES}{shown[closes:]}"
    return f"{ELLIPSIS if begin else ''}{shown}{ELLIPSIS if end < len(places) else ''}"


def fold(word: str) -> str:
    """Take away what makes no difference: marks and case."""
    return _MARKS.sub("", unicodedata.normalize("NFD", word)).lower()


def _matches(folded: Sequence[str], phrases: Sequence[Phrase]) -> Iterator[_Match]:
    for number, phrase in enumerate(phrases):
        wanted = [fold(word) for word in _WORD.findall(phrase.text)]
        if not wanted:
            continue
        *whole, last = wanted
        for first in range(len(folded) - len(whole)):
            there = folded[first + len(whole)]
            if folded[first : first + len(whole)] == whole and (
                there.startswith(last) if phrase.is_prefix else there == last
            ):
                yield _Match(number, first, first + len(whole))


def _best_start(text: str, places: Sequence[tuple[int, int]], found: Sequence[_Match], words: int) -> int:
    best, most = 0, 0
    for match in found:
        score, start = _score(found, match.first, words, len(places))
        if score > most:
            best, most = start, score
        sentence = _sentence(text, places, match.first)
        if len(places) > words and sentence < match.first:
            score, _ = _score(found, sentence, words, len(places))
            score += _SENTENCE_START if sentence else _FIRST
            if score > most:
                best, most = sentence, score
    return best


def _score(found: Sequence[_Match], start: int, words: int, size: int) -> tuple[int, int]:
    """Rate the stretch that begins here; gives where it would begin to have what it shows in its middle."""
    inside = [match for match in found if start <= match.first < start + words]
    different = len({match.phrase for match in inside})
    score = different * _NEW + (len(inside) - different) * _AGAIN
    if not inside:
        return 0, start
    span = inside[-1].last + 1 - inside[0].first
    middle = inside[0].first - (words - span) // 2
    return score, max(0, min(middle, size - words))


def _sentence(text: str, places: Sequence[tuple[int, int]], word: int) -> int:
    for number in range(word, 0, -1):
        if _SENTENCE.search(text, places[number - 1][1], places[number][0]):
            return number
    return 0


def _merged(found: Sequence[_Match], begin: int, end: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for _, first, last in found:
        first, last = max(first, begin), min(last, end - 1)
        if first > last:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
