"""Read what people type into a search box. Pure; knows no database's query language.

Words are AND-ed, quotes make a phrase, a star at the end finds whatever begins so. Every text is
read as something: what would be an operator elsewhere is a word here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PIECE = re.compile(r'"([^"]*)(?:"|$)(\*?)|([^\s"]+)')


class Phrase(NamedTuple):
    """Be one thing to find: words in a row."""

    text: str
    is_prefix: bool
    """Whether the last word may go on."""


def read(text: str) -> tuple[Phrase, ...] | None:
    """Give all phrases that a text asks for; None where nothing in it can be found."""
    found: dict[Phrase, None] = {}
    for quoted, star, word in _PIECE.findall(text):
        words = quoted or word
        # signs are no part of any word, so that alone they would find nothing
        if any(character.isalnum() for character in words):
            found[Phrase(words.rstrip("*") if word else words, bool(star) or (bool(word) and word.endswith("*")))] = (
                None
            )
    return tuple(found) or None
