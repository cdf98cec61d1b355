"""Follow what is said in each item while it grows, and search it. Pure.

An item's text is what its deltas say. The final text counts only for what the deltas did not say:
if it goes on where they stopped, the rest is more text; if it says something else (a transcription
that was made anew, deltas that were lost), it is searched as a whole, but not for what was found.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from rtobserver.policy.book import Book
from rtobserver.policy.phrases import Search
from rtobserver.policy.regexes import WINDOW
from rtobserver.policy.rules import Speaker
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import mapping, objects

MAX_ITEMS = 64
"""Items whose text is followed at a time; the one that said something longest ago is forgotten."""
MAX_PIECE = 65_536
"""Longest ASCII text that is searched at one event, in characters, and the double of the longest other one.

Of a longer text the beginning and the end are searched.
"""
MAX_FINAL = 1 << 20
"""Largest event whose final text is looked at, in bytes; beyond it the text is what the deltas said."""
MAX_SEARCH = 4_000_000
"""What patterns may cost at one event, in instructions times bytes; the rest is searched at the next."""

_CONTEXT = 8
r"""Bytes kept before the window: `^` and `\\b` look at what stands before it."""
_COMPARED = 64
"""Characters by which a final text is known to go on where the deltas stopped."""


class Spoken(NamedTuple):
    """Be what a rule found."""

    number: int
    """The rule's."""
    text: str
    item_id: str


class _Final(msgspec.Struct, gc=False):
    transcript: str | None = None
    text: str | None = None


_decode_final = msgspec.json.Decoder(_Final).decode


class _Said:
    """Be the text of one item."""

    __slots__ = ("found", "is_cut", "search", "size", "speaker", "tail", "typed", "window")

    def __init__(self, speaker: Speaker, search: Search | None) -> None:
        self.speaker = speaker
        self.search = search
        self.found: set[str] = set()
        """Policies whose pattern was found."""
        self.typed = False
        self.begin()

    def begin(self) -> None:
        """Begin the text again."""
        self.size = 0
        """Characters of the part that is being said."""
        self.tail = ""
        self.window = b""
        self.is_cut = False


class Speech:
    """Follow the items of one call."""

    __slots__ = ("_book", "_items", "owed")

    def __init__(self, book: Book) -> None:
        self._book = book
        self._items: OrderedDict[str, _Said] = OrderedDict()
        self.owed: dict[str, int] = {}
        """Items that patterns are still to be searched in, and the first of these patterns."""

    def move(self, book: Book, kept: set[str]) -> None:
        """Go on with other rules; patterns of policies that are not among those kept begin anew."""
        self._book = book
        self.owed = dict.fromkeys(self.owed, 0)
        for said in self._items.values():
            lexicon = book.lexicons.get(said.speaker)
            said.found &= kept
            if lexicon is None:
                said.search = None
            elif said.search is None:
                said.search = Search(lexicon)
                said.search.add(said.tail)
            else:
                said.search.move(lexicon)

    def take(self, event: Event, frame: bytes, speaker: Speaker) -> list[Spoken]:
        """Take in an event that brings text; give what it completes."""
        found: list[Spoken] = []
        if event.item_id is not None and event.delta is not None:
            found = self._add(event.item_id, speaker, event.delta, is_end=False)
        elif event.type is not None:
            name = canonical(event.type)
            if name.startswith("conversation.item.") and name.endswith((".added", ".done")):
                found = self._type(frame)
            elif name.endswith((".done", ".completed")) and event.item_id is not None:
                found = self._finish(event.item_id, speaker, frame)
        return found

    def settle(self) -> list[Spoken]:
        """Go on with searches that would have taken too long at the event before."""
        found: list[Spoken] = []
        owed, self.owed = self.owed, {}
        cost = 0
        for item_id, first in owed.items():
            said = self._items.get(item_id)
            if said is not None:
                cost = self._match(item_id, said, found, first, cost)
        return found

    def _said(self, item_id: str, speaker: Speaker) -> _Said:
        said = self._items.get(item_id)
        if said is None:
            lexicon = self._book.lexicons.get(speaker)
            said = self._items[item_id] = _Said(speaker, None if lexicon is None else Search(lexicon))
            if len(self._items) > MAX_ITEMS:
                self._items.popitem(last=False)
        else:
            self._items.move_to_end(item_id)
        return said

    def _add(self, item_id: str, speaker: Speaker, text: str, *, is_end: bool) -> list[Spoken]:
        said = self._said(item_id, speaker)
        found: list[Spoken] = []
        if text:
            said.size += len(text)
            said.tail = (said.tail + text)[-_COMPARED:]
            text = _bounded(text)
        if said.search is not None:
            told = said.search.add(text)
            if is_end:
                told += said.search.end()
            for number, words in told:
                found.append(Spoken(number, words, item_id))
        if text and said.speaker in self._book.patterns:
            self._widen(said, text)
            self._match(item_id, said, found, 0, 0)
        if is_end:
            said.size, said.tail = 0, ""
        return found

    def _finish(self, item_id: str, speaker: Speaker, frame: bytes) -> list[Spoken]:
        try:
            told = _decode_final(frame) if len(frame) <= MAX_FINAL else _Final()
        except (ValueError, RecursionError):
            return []
        final = told.transcript if told.transcript is not None else told.text
        if final is None:
            return self._add(item_id, speaker, "", is_end=True)
        said = self._said(item_id, speaker)
        size = said.size
        if size <= len(final) and final[max(size - len(said.tail), 0) : size] == said.tail:
            return self._add(item_id, speaker, final[size:], is_end=True)
        said.begin()
        if said.search is not None:
            said.search.restart()
        return self._add(item_id, speaker, final, is_end=True)

    def _type(self, frame: bytes) -> list[Spoken]:
        """Take in an item that the user typed."""
        item = mapping(fields(frame).get("item")) if len(frame) <= MAX_FINAL else {}
        item_id = item.get("id")
        if item.get("role") != "user" or not isinstance(item_id, str):
            return []
        parts = [part.get("text") for part in objects(item.get("content")) if part.get("type") == "input_text"]
        text = "\n".join(part for part in parts if isinstance(part, str))
        if not text:
            return []
        said = self._said(item_id, "user")
        if said.typed:
            return []
        said.typed = True
        return self._add(item_id, "user", text, is_end=True)

    def _widen(self, said: _Said, text: str) -> None:
        window = said.window + text[-WINDOW:].encode("utf-8", "replace")
        if len(window) > WINDOW + _CONTEXT or len(text) > WINDOW:
            window = window[-WINDOW - _CONTEXT :]
            said.is_cut = True
        said.window = window

    def _match(self, item_id: str, said: _Said, found: list[Spoken], first: int, cost: int) -> int:
        patterns = self._book.patterns.get(said.speaker, ())
        start = max(len(said.window) - WINDOW, 0) if said.is_cut else 0
        while start < len(said.window) and said.is_cut and said.window[start] & 0xC0 == 0x80:
            start += 1  # not within a character
        for place in range(first, len(patterns)):
            rule = patterns[place]
            if rule.pattern is None or rule.policy.id in said.found:
                continue
            price = rule.pattern.size * (len(said.window) + 64)
            if cost and cost + price > MAX_SEARCH:
                self.owed[item_id] = place
                return cost
            cost += price
            match = rule.pattern.find(said.window, start)
            if match is not None and match[0] < match[1]:
                said.found.add(rule.policy.id)
                found.append(Spoken(rule.number, said.window[match[0] : match[1]].decode("utf-8", "replace"), item_id))
        return cost


def _bounded(text: str) -> str:
    most = MAX_PIECE if len(text) <= MAX_PIECE // 2 or text.isascii() else MAX_PIECE // 2
    return text if len(text) <= most else text[: most // 2] + "\n" + text[-most // 2 :]
