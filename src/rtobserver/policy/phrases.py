"""Find phrases in text that is still growing, wherever it is cut. Pure.

Text is compared character by character in NFKC and casefold, so nothing that is still to come can
change what was compared, and nothing has to be held back: the delta with the last letter completes
the match. What composes across characters (`e` and its accent, the parts of a Hangul syllable) is
met from the other side: a phrase is looked for composed and decomposed.

Runs of space and punctuation count as one space. A word starts where a letter, digit or symbol
follows something that is no part of its word. Scripts that put no space between words (Han, kana,
Thai, Lao, Khmer, Myanmar) have a start at each character, so that phrases are found in running
text; spaces between such characters mean nothing.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import ahocorasick

MAX_PHRASE = 500
"""Longest phrase, in characters."""
MAX_QUOTE = 1024
"""Longest text before a delta, in characters, that the words of a match are quoted from."""
MAX_WASTED = 10_000
"""Times that phrases may be met again in one text before a new automaton is made without them."""

SPACE = " "
_UNSPACED = (
    *((0x0E01, 0x0EDF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x19E0, 0x19FF)),
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3041, 0x30FF)),
    *((0x3105, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xAA80, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D)),
    *((0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF)),
)
"""Code points of scripts that put no space between words."""

_REMEMBERED = 32_768
"""Characters whose sort and fold are remembered."""
_PIECE = 256
"""Characters that are spelled at a time to find a quotation."""
_NEVER = "\0"
"""A key that no spelling holds."""
_GAP, _MARK, _LETTER, _ALONE, _NOTHING = range(5)


class PhraseError(ValueError):
    """Say why something cannot be looked for."""


def words(text: str) -> str:
    """Normalise text for comparison: NFKC, casefold, one space for runs of space and punctuation."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = "".join(SPACE if kind == _GAP else each for each in folded if (kind := _KINDS[each]) != _NOTHING)
    return SPACE.join(spaced.split())


def keys(phrase: str) -> tuple[str, ...]:
    """Give the texts that stand for a phrase in a `Stream`: composed, and decomposed if that differs."""
    composed = words(phrase)
    found = (_spelled(composed), _spelled(unicodedata.normalize("NFKD", composed)))
    return tuple(dict.fromkeys(found))


class Phrases:
    """Be phrases that are ready to be looked for.

    Raises `PhraseError` for a phrase without a word, or longer than `MAX_PHRASE`.
    """

    __slots__ = ("keys", "twins", "whole")

    def __init__(self, phrases: Sequence[str], *, whole: bool) -> None:
        self.whole = whole
        self.twins: dict[str, str] = {}
        """Of phrases that are spelled in two ways, the other spelling of each."""
        gathered: dict[str, None] = {}
        for phrase in phrases:
            if len(phrase) > MAX_PHRASE:
                raise PhraseError(f"the phrase {phrase[:40]!r}… is longer than {MAX_PHRASE} characters")
            if not words(phrase):
                raise PhraseError(f"there is no word in the phrase {phrase!r}")
            spellings = [SPACE + key + SPACE * whole for key in keys(phrase)]
            gathered.update(dict.fromkeys(spellings))
            if len(spellings) > 1:
                self.twins.update(zip(spellings, reversed(spellings), strict=True))
        self.keys = tuple(gathered) if whole else _shortest(gathered)
        """What is looked for, each in the spelling of a `Stream`."""


def _shortest(keys_: Iterable[str]) -> tuple[str, ...]:
    """Leave out what begins with another key: the shorter one is always there first."""
    kept: list[str] = []
    for key in sorted(keys_):
        # in this order whatever begins with a key comes right behind it
        if not kept or not key.startswith(kept[-1]):
            kept.append(key)
    return tuple(kept)


class Lexicon:
    """Be the phrases of many rules in one automaton; each rule is known by its number."""

    __slots__ = ("automaton", "longest", "rules", "twins")

    def __init__(self, phrases: Iterable[tuple[int, Phrases]]) -> None:
        rules: dict[str, list[int]] = {}
        self.twins: dict[str, str] = {}
        """The other spelling of keys that have one: both are the same phrase, which is told of once."""
        for number, each in phrases:
            self.twins.update(each.twins)
            for key in each.keys:
                rules.setdefault(key, []).append(number)
        self.rules = rules
        """Numbers of the rules that look for a key."""
        self.longest = max(map(len, rules))
        self.automaton = _automaton(rules)


def _automaton(looked_for: Iterable[str]) -> ahocorasick.Automaton:
    made = ahocorasick.Automaton()
    for key in looked_for:
        made.add_word(key, key)
    made.make_automaton()
    return made


class Search:
    """Look for the phrases of a lexicon in one text while it grows; each is found once.

    What is found, and after which character, does not depend on how the text was cut.
    """

    __slots__ = ("_cursor", "_length", "_lexicon", "_raw", "_recent", "_stream", "_wasted", "found")

    def __init__(self, lexicon: Lexicon, found: set[str] | None = None) -> None:
        self.found = set() if found is None else found
        """Keys that are not looked for any more; texts that belong together may share them."""
        self._lexicon = lexicon
        self.restart()

    def restart(self) -> None:
        """Begin the text again, for instance because it turns out to be another one."""
        self._stream = Stream()
        self._raw = ""
        self._recent = SPACE
        self._wasted = 0
        self._follow(self._lexicon.automaton, SPACE)

    def move(self, lexicon: Lexicon) -> None:
        """Go on at the same place with another lexicon."""
        self._lexicon = lexicon
        self._wasted = 0
        self._follow(lexicon.automaton, self._recent)

    def add(self, text: str) -> list[tuple[int, str]]:
        """Take in more text; give what it completes: number of the rule, and the words as they were said."""
        found = self._feed(self._stream.spell(text))
        told = self._quote(found, text) if found else []
        self._raw = (self._raw + text)[-MAX_QUOTE:]
        return told

    def end(self) -> list[tuple[int, str]]:
        """Take note that the text is complete; give what that completes."""
        return self.add(SPACE)

    def _follow(self, automaton: ahocorasick.Automaton, before: str) -> None:
        """Go on with an automaton, as if it had seen `before`."""
        self._cursor = automaton.iter(before)
        for _ in self._cursor:
            pass
        self._length = len(before)

    def _feed(self, spelled: str) -> list[tuple[str, int]]:
        """Give the keys that more of the spelling completes, each with what is left of it from there on."""
        found: list[tuple[str, int]] = []
        if not spelled:
            return found
        done, twins, start = self.found, self._lexicon.twins, 0
        while start < len(spelled):
            rest = spelled[start:] if start else spelled
            base = self._length
            self._cursor.set(rest, False)
            self._length += len(rest)
            start = len(spelled)
            for end, key in self._cursor:
                if key not in done:
                    done.add(key)
                    if twins.get(key) not in done:
                        found.append((key, base + len(rest) - end - 1))
                elif (wasted := self._wasted + 1) < MAX_WASTED:
                    self._wasted = wasted
                else:
                    # a text that says the same again and again: look only for what it did not say yet
                    start = len(spelled) - (base + len(rest) - end)
                    self._shed((self._recent + spelled[:start])[-self._lexicon.longest :])
                    break
        self._recent = (self._recent + spelled)[-self._lexicon.longest :]
        if len(spelled) > MAX_QUOTE:
            self._cursor.set("", False)  # it holds on to what it was given last
        return found

    def _shed(self, before: str) -> None:
        self._wasted = 0
        left = [key for key in self._lexicon.rules if key not in self.found]
        self._follow(_automaton(left or [_NEVER]), before)

    def _quote(self, found: list[tuple[str, int]], text: str) -> list[tuple[int, str]]:
        """Give the words of each key as they were said."""
        spelling = _Spelling(self._raw + text)
        told = []
        for key, after in found:
            words_said = spelling.quote(len(key.strip()), after + (key[-1] == SPACE))
            told += [(number, words_said) for number in self._lexicon.rules.get(key, ())]
        return told


class _Spelling:
    """Know which characters of a text became which of its spelling."""

    __slots__ = ("_pieces", "_places", "_starts", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        stream = Stream()
        self._pieces: list[Stream] = []
        """What spells each piece of the text."""
        self._starts = [0]
        """Where the spelling of each piece starts, and the last one ends."""
        for start in range(0, len(text), _PIECE):
            self._pieces.append(stream.copy())
            self._starts.append(self._starts[-1] + len(stream.spell(text[start : start + _PIECE])))
        self._places: dict[int, list[int]] = {}

    def quote(self, length: int, after: int) -> str:
        """Give the text that so many characters of the spelling stand for, so many before its end."""
        end = self._starts[-1] - after
        if end <= 0:
            return ""
        return self._text[self._place(max(end - length, 0)) : self._place(end - 1) + 1]

    def _place(self, index: int) -> int:
        piece = bisect_right(self._starts, index) - 1
        places = self._places.get(piece)
        start = piece * _PIECE
        if places is None:
            places = self._places[piece] = []
            spelled = self._pieces[piece].copy().spell_each(self._text[start : start + _PIECE])
            for place, each in enumerate(spelled, start):
                places += [place] * len(each)
        return places[index - self._starts[piece]]


class Stream:
    """Spell growing text so that there is one space wherever a word starts or ends.

    The pieces that `spell` gives, put together, depend on the text alone and not on how it was cut.
    A space stands before the first of them.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = _GAP

    def copy(self) -> Stream:
        """Give another that goes on from the same place."""
        other = Stream()
        other._last = self._last
        return other

    def spell(self, text: str) -> str:
        """Take in more text; give more of the spelling."""
        if text.isascii():
            return self._spell_ascii(text)
        return "".join(self._spell(text.translate(_FOLDED)))

    def spell_each(self, text: str) -> Iterable[str]:
        """Spell more text, a piece for each character."""
        for each in text:
            yield "".join(self._spell(each.translate(_FOLDED)))

    def end(self) -> str:
        """Give the end of the spelling."""
        return self.spell(SPACE)

    def _spell_ascii(self, text: str) -> str:
        if not text:
            return ""
        last = self._last
        spaced = text.translate(_ASCII)
        pieces = spaced.split()
        if not pieces:
            self._last = _GAP
            return "" if last == _GAP else SPACE
        spelled = SPACE.join(pieces)
        # symbols have spaces beside them there, which are no gaps
        if last != _GAP and (last != _LETTER or spaced[0] == SPACE):
            spelled = SPACE + spelled
        kind = self._last = _KINDS[text[-1]]
        return spelled + SPACE if kind == _GAP else spelled

    def _spell(self, folded: str) -> Iterable[str]:
        last = self._last
        for each in folded:
            kind = _KINDS[each]
            if kind == _NOTHING:
                continue
            if each > "\uffff":
                each = _halves(each)
            if kind == _GAP:
                if last != _GAP:
                    yield SPACE
            elif last == _GAP:
                yield each
                kind = _LETTER if kind == _MARK else kind
            elif kind == _MARK:
                yield each
                kind = last
            else:
                if kind == _ALONE or last == _ALONE:
                    yield SPACE
                yield each
            last = kind
        self._last = last


def _spelled(text: str) -> str:
    return Stream().spell(text).strip()


class _Kinds(dict[str, int]):
    """Sort characters as they are met, and remember them."""

    def __missing__(self, character: str) -> int:
        kind = _sort(character)
        if len(self) >= _REMEMBERED:
            self.clear()
        self[character] = kind
        return kind


def _sort(character: str) -> int:
    code = ord(character)
    place = bisect_right(_UNSPACED_STARTS, code) - 1
    is_unspaced = place >= 0 and code <= _UNSPACED[place][1]
    if character.isalnum():
        return _ALONE if is_unspaced else _LETTER
    category = unicodedata.category(character)
    if category == "Cf" and character != "\u200b":
        return _NOTHING  # it only shapes what stands beside it
    if category[0] in "ZP" or category in ("Cc", "Cf", "Cs"):
        return _GAP
    if category[0] == "M":
        return _NOTHING if "\ufe00" <= character <= "\ufe0f" else _MARK
    return _ALONE if is_unspaced or category[0] == "S" else _LETTER


def _halves(character: str) -> str:
    # pyahocorasick 2.3.1 corrupts memory when an iterator is given strings with and without such characters
    code = ord(character) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


class _Folded(dict[int, str]):
    """Fold characters as they are met, and remember them."""

    def __missing__(self, code: int) -> str:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", chr(code)).casefold())
        if len(self) >= _REMEMBERED:
            self.clear()
        self[code] = folded
        return folded


_FOLDED = _Folded()
_KINDS = _Kinds()
_UNSPACED_STARTS = [first for first, _ in _UNSPACED]


def _ascii(character: str) -> str:
    kind = _KINDS[character]
    if kind == _GAP:
        return SPACE
    return f" {character} " if kind == _ALONE else character.casefold()


_ASCII = {code: _ascii(chr(code)) for code in range(128)}
"""ASCII characters as they are compared, symbols apart from what stands beside them."""
