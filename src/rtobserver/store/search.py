"""Search the final lines of conversations, newest call first.

SQLite finds them by FTS5 (`search_fts.py`), PostgreSQL by a text search of its own (`search_words.py`),
of the same words: letters and digits, whatever their case and their marks.
"""

from __future__ import annotations

from collections.abc import Sequence

from rtobserver.store import search_fts, search_words
from rtobserver.store.calls import Before, Call, Filter
from rtobserver.store.database import Database
from rtobserver.store.hits import CLOSES, OPENS, SNIPPET_WORDS, Hit, HitPlace
from rtobserver.store.phrases import Phrase

__all__ = ["CLOSES", "OPENS", "SNIPPET_WORDS", "Hit", "HitPlace", "call_page", "newest_hits", "page"]


async def page(
    database: Database, phrases: Sequence[Phrase], wanted: Filter, *, before: HitPlace | None = None, limit: int
) -> tuple[list[Hit], HitPlace | None]:
    """Read a page of hits in calls that pass the filter, and where the next one begins (None at the end).

    Newest call first; within a call the newest line comes first. Behind a place of another database there is nothing.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    is_fts = database.dialect == "sqlite"
    if before is not None and len(before.numbers) != (search_fts if is_fts else search_words).PLACE_NUMBERS:
        return [], None
    look = search_fts.page if is_fts else search_words.page
    return await look(database, phrases, wanted, before=before, limit=limit)


async def call_page(
    database: Database, phrases: Sequence[Phrase], wanted: Filter, *, before: Before | None = None, limit: int
) -> tuple[list[Call], Before | None]:
    """Read a page of calls in which something is found, as `calls.page` does: same order, same places.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    look = search_fts.call_page if database.dialect == "sqlite" else search_words.call_page
    return await look(database, phrases, wanted, before=before, limit=limit)


async def newest_hits(database: Database, phrases: Sequence[Phrase], found: Sequence[Call]) -> dict[int, Hit]:
    """Read, of calls in which something is found, the newest line of each in which it is; by their keys.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    look = search_fts.newest_hits if database.dialect == "sqlite" else search_words.newest_hits
    return await look(database, phrases, found)
