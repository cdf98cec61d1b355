"""Be what a search finds, whichever database looks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rtobserver.realtime.rows import ItemRow
from rtobserver.store.calls import Call

OPENS, CLOSES = "\u27e6", "\u27e7"
"""What stands around each match in a snippet: no markup anywhere, and kept out of the text itself."""
ELLIPSIS = "\u2026"
SNIPPET_WORDS = 24


class HitPlace(NamedTuple):
    """Be a place in the order of hits; its numbers mean something to the database that gave them, and to no other."""

    numbers: tuple[int, ...]
    item_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Be one line in which something was found."""

    place: HitPlace
    """Its place in the order of hits, for the next page."""
    call: Call
    item: ItemRow
    snippet: str
