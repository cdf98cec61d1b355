"""Follow what is said in each item while it grows, and search it. Pure.

The parts of an item are texts of their own, in which the same is found once. A text is what its deltas say. The final
text counts only for what the deltas did not say:
if it goes on where they stopped, the rest is more text; if it says something else (a transcription
that was made anew, deltas that were lost), it is searched as a whole, but not for what was found.

A pattern that looks at what stands behind its match is told of when that is known: at the next text, or at the end.
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
MAX_PARTS = 4
"""Parts of one item whose text is followed at a time."""
MAX_TYPED = 64
"""Parts of a typed item that are searched apart; what is in further ones is searched together."""
MAX_PIECE = 65_536
"""Longest ASCII text that is searched at one event, in characters, and the double of the longest other one.

Of a longer text the beginning and the end are searched.
"""
MAX_FINAL = 1 << 20
"""Largest event whose final text is looked at, in bytes; beyond it the text is what the deltas said."""

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


class _Place(msgspec.Struct, gc=False):
    content_index: int | None = None


_decode_final = msgspec.json.Decoder(_Final).decode
_decode_place = msgspec.json.Decoder(_Place).decode


class _Item:
    """Be what one item says."""

    __slots__ = ("found", "keys", "parts", "typed")

    def __init__(self) -> None:
        self.parts: OrderedDict[int, _Said] = OrderedDict()
        self.keys: set[str] = set()
        """Phrases that were found."""
        self.found: set[str] = set()
        """Policies whose pattern was found."""
        self.typed = False


class _Said:
    """Be the text of one part of an item."""

    __slots__ = ("found", "is_cut", "is_over", "search", "size", "speaker", "tail", "waiting", "window")

    def __init__(self, speaker: Speaker, search: Search | None, found: set[str]) -> None:
        self.speaker = speaker
        self.search = search
        self.found = found
        """The item's policies whose pattern was found."""
        self.begin()

    def begin(self) -> None:
        """Begin the text again."""
        self.size = 0
        """Characters of the part that is being said."""
        self.tail = ""
        self.window = b""
        self.is_cut = False
        self.is_over = False
        """Whether nothing more is said."""
        self.waiting = False
        """Whether a pattern waits for what stands behind its match."""


class Speech:
    """Follow the items of one call."""

    __slots__ = ("_book", "_items")

    def __init__(self, book: Book) -> None:
        self._book = book
        self._items: OrderedDict[str, _Item] = OrderedDict()

    def move(self, book: Book, kept: set[str]) -> None:
        """Go on with other rules; patterns of policies that are not among those kept begin anew."""
        self._book = book
        for item in self._items.values():
            item.found &= kept
            for said in item.parts.values():
                lexicon = book.lexicons.get(said.speaker)
                if lexicon is None:
                    said.search = None
                elif said.search is None:
                    said.search = Search(lexicon, item.keys)
                    said.search.add(said.tail)
                else:
                    said.search.move(lexicon)

    def take(self, event: Event, frame: bytes, speaker: Speaker) -> list[Spoken]:
        """Take in an event that brings text; give what it completes."""
        found: list[Spoken] = []
        if event.item_id is not None and event.delta is not None:
            found = self._add(event.item_id, _part(frame), speaker, event.delta, is_end=False)
        elif event.type is not None:
            name = canonical(event.type)
            if name.startswith("conversation.item.") and name.endswith((".added", ".done")):
                found = self._type(frame)
            elif name.endswith((".done", ".completed")) and event.item_id is not None:
                found = self._finish(event.item_id, _part(frame), speaker, frame)
        return found

    def _item(self, item_id: str) -> _Item:
        item = self._items.get(item_id)
        if item is None:
            item = self._items[item_id] = _Item()
            if len(self._items) > MAX_ITEMS:
                self._items.popitem(last=False)
        else:
            self._items.move_to_end(item_id)
        return item

    def _said(self, item_id: str, part: int, speaker: Speaker) -> _Said:
        item = self._item(item_id)
        said = item.parts.get(part)
        if said is None:
            lexicon = self._book.lexicons.get(speaker)
            search = None if lexicon is None else Search(lexicon, item.keys)
            said = item.parts[part] = _Said(speaker, search, item.found)
            if len(item.parts) > MAX_PARTS:
                item.parts.popitem(last=False)
        return said

    def _add(self, item_id: str, part: int, speaker: Speaker, text: str, *, is_end: bool) -> list[Spoken]:
        said = self._said(item_id, part, speaker)
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
        said.is_over = is_end
        if said.speaker in self._book.patterns and (text or (is_end and said.waiting)):
            self._widen(said, text)
            self._match(item_id, said, found)
        if is_end:
            said.size, said.tail = 0, ""
        return found

    def _finish(self, item_id: str, part: int, speaker: Speaker, frame: bytes) -> list[Spoken]:
        try:
            told = _decode_final(frame) if len(frame) <= MAX_FINAL else _Final()
        except (ValueError, RecursionError):
            return []
        final = told.transcript if told.transcript is not None else told.text
        if final is None:
            return self._add(item_id, part, speaker, "", is_end=True)
        said = self._said(item_id, part, speaker)
        size = said.size
        if size <= len(final) and final[max(size - len(said.tail), 0) : size] == said.tail:
            return self._add(item_id, part, speaker, final[size:], is_end=True)
        self._restart(said)
        return self._add(item_id, part, speaker, final, is_end=True)

    def _restart(self, said: _Said) -> None:
        said.begin()
        if said.search is not None:
            said.search.restart()

    def _type(self, frame: bytes) -> list[Spoken]:
        """Take in an item that the user typed."""
        told = mapping(fields(frame).get("item")) if len(frame) <= MAX_FINAL else {}
        item_id = told.get("id")
        if told.get("role") != "user" or not isinstance(item_id, str):
            return []
        parts = [part.get("text") for part in objects(told.get("content")) if part.get("type") == "input_text"]
        texts = [part for part in parts if isinstance(part, str) and part]
        item = self._item(item_id) if texts else None
        if item is None or item.typed:
            return []
        item.typed = True
        found: list[Spoken] = []
        for text in (*texts[: MAX_TYPED - 1], *filter(None, ["\n".join(texts[MAX_TYPED - 1 :])])):
            self._restart(self._said(item_id, 0, "user"))
            found += self._add(item_id, 0, "user", text, is_end=True)
        return found

    def _widen(self, said: _Said, text: str) -> None:
        window = said.window + text[-WINDOW:].encode("utf-8", "replace")
        if len(window) > WINDOW + _CONTEXT or len(text) > WINDOW:
            window = window[-WINDOW - _CONTEXT :]
            said.is_cut = True
        said.window = window

    def _match(self, item_id: str, said: _Said, found: list[Spoken]) -> None:
        said.waiting = False
        start = max(len(said.window) - WINDOW, 0) if said.is_cut else 0
        while start < len(said.window) and said.is_cut and said.window[start] & 0xC0 == 0x80:
            start += 1  # not within a character
        for rule in self._book.patterns.get(said.speaker, ()):
            if rule.pattern is None or rule.policy.id in said.found:
                continue
            match = rule.pattern.find(said.window, start)
            if match is None or match[0] == match[1]:
                continue
            if rule.pattern.looks_ahead and match[1] == len(said.window) and not said.is_over:
                said.waiting = True
            else:
                said.found.add(rule.policy.id)
                found.append(Spoken(rule.number, said.window[match[0] : match[1]].decode("utf-8", "replace"), item_id))


def _part(frame: bytes) -> int:
    try:
        return _decode_place(frame).content_index or 0
    except (ValueError, RecursionError):
        return 0


def _bounded(text: str) -> str:
    most = MAX_PIECE if len(text) <= MAX_PIECE // 2 or text.isascii() else MAX_PIECE // 2
    return text if len(text) <= most else text[: most // 2] + "\n" + text[-most // 2 :]
