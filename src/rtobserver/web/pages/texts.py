"""Make what callers and models said fit for a page: nothing unseen in it, what was found told apart. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle
from typing import Any, NamedTuple

from markupsafe import Markup

from rtobserver.store.search import CLOSES, OPENS

LONGEST_PIECE = 160
"""Characters of a snippet's piece that are shown; words can be of any length."""

_NAMES = {
    "\u200b": "ZWSP",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u061c": "ALM",
    "\u202a": "LRE",
    "\u202b": "RLE",
    "\u202c": "PDF",
    "\u202d": "LRO",
    "\u202e": "RLO",
    "\u2066": "LRI",
    "\u2067": "RLI",
    "\u2068": "FSI",
    "\u2069": "PDI",
    "\ufeff": "BOM",
}
# what changes the look of a text without being seen in it: controls but for line ends, and bidi controls
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Exact(str):
    """Be a text that goes onto a page as it is: a field gives it back, or a script compares it."""

    __slots__ = ()


class Piece(NamedTuple):
    """Be a part of a snippet."""

    text: str
    is_match: bool


def visible(text: object) -> str:
    """Write a text with marks in place of what cannot be seen, as `visible` of hostile.js does."""
    return _UNSEEN.sub(_mark, "" if text is None else str(text))


def written(value: Any) -> Any:
    """Take what a template writes, and let no text through with anything unseen in it but `Exact` ones and markup."""
    if isinstance(value, str) and not isinstance(value, Exact | Markup):
        return visible(value)
    return "" if value is None else value


def pieces(snippet: str) -> Iterator[Piece]:
    """Take a snippet apart at its marks; pieces that are too long are cut where they are farthest from a match."""
    found = re.split(f"[{OPENS}{CLOSES}]", snippet)
    kinds = cycle((False, True))
    for index, (text, is_match) in enumerate(zip(found, kinds, strict=False)):
        if not text:
            continue
        if len(text) > LONGEST_PIECE:
            half = LONGEST_PIECE // 2
            if not is_match and index == 0:
                text = f"…{text[-LONGEST_PIECE:]}"
            elif not is_match and index == len(found) - 1:
                text = f"{text[:LONGEST_PIECE]}…"
            else:
                text = f"{text[:half]}…{text[-half:]}"
        yield Piece(visible(text), is_match)


def _mark(found: re.Match[str]) -> str:
    character = found[0]
    if character < " ":
        return chr(0x2400 + ord(character))
    return "\u2421" if character == "\x7f" else f"[{_NAMES.get(character, f'U+{ord(character):04X}')}]"
