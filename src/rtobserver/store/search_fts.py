"""Search by SQLite; the only module that knows its FTS5.

The index is kept by triggers on `item` (see the first migration). A line's number in it sorts by
the beginning of its call, so hits are read newest first in chunks, and the filters of calls are
applied to each chunk: what a page costs depends on how far back its hits lie, not on how many
calls there are. One visit of the database bounds it all in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rtobserver.store import calls, folds, tables
from rtobserver.store.calls import Before, Call, Filter
from rtobserver.store.database import Database
from rtobserver.store.hits import CLOSES, ELLIPSIS, OPENS, SNIPPET_WORDS, Hit, HitPlace
from rtobserver.store.phrases import Phrase

PLACE_NUMBERS = 1
"""Of a place: the line's number in the index."""
CHUNK_FIRST, CHUNK_LAST = 64, 2048
"""Hits that are read at once: few at first, more when filters refuse most of them."""

_BLOCK = 1 << 21  # lines of all calls that began in the same millisecond
_LAST = (1 << 63) - 1  # what a rowid can be; the milliseconds of 2109 reach it

_index = sa.table("search_index", sa.column("rowid", sa.BigInteger), sa.column("search_index", sa.Text))
_line = sa.table(
    "search_line",
    sa.column("line_id", sa.BigInteger),
    sa.column("call_key", sa.BigInteger),
    sa.column("day", sa.Integer),
    sa.column("item_id", sa.Text),
)


class _Found(NamedTuple):
    line_id: int
    call_key: int
    day: int
    item_id: str


async def page(
    database: Database, phrases: Sequence[Phrase], wanted: Filter, *, before: HitPlace | None = None, limit: int
) -> tuple[list[Hit], HitPlace | None]:
    """Read a page of hits, as `search.page` says; the newest line is the one that became final last."""
    chosen: list[tuple[_Found, Call]] = []
    first = None if before is None else before.numbers[0]
    async with database.reading() as connection:
        async for chunk in _chunks(connection, phrases, wanted, first, limit + 1):
            passing = await _passing(connection, chunk, wanted)
            chosen += [(found, passing[found.call_key]) for found in chunk if found.call_key in passing]
            if len(chosen) > limit:
                break
        shown = chosen[:limit]
        hits = await _hits(connection, phrases, shown)
    return hits, HitPlace((shown[-1][0].line_id,)) if len(chosen) > limit else None


async def call_page(
    database: Database, phrases: Sequence[Phrase], wanted: Filter, *, before: Before | None = None, limit: int
) -> tuple[list[Call], Before | None]:
    """Read a page of calls, as `search.call_page` says."""
    chosen: list[Call] = []
    behind: set[int] = set()
    # several calls may begin in one millisecond, so a page begins with all lines of that one
    first = None if before is None else _line_from(before.started_at // 1000 + 1)
    async with database.reading() as connection:
        async for chunk in _chunks(connection, phrases, wanted, first, limit + 1):
            fresh = [found for found in chunk if found.call_key not in behind]
            behind.update(found.call_key for found in fresh)
            for call in (await _passing(connection, fresh, wanted)).values():
                if before is None or (call.started_at, call.key) < before:
                    chosen.append(call)
            # the last millisecond read may go on in the next chunk, and bring a call that comes first
            reached = chunk[-1].line_id // _BLOCK
            if sum(call.started_at // 1000 > reached for call in chosen) > limit:
                break
    chosen.sort(key=lambda call: (call.started_at, call.key), reverse=True)
    shown = chosen[:limit]
    return shown, Before(shown[-1].started_at, shown[-1].key) if len(chosen) > limit else None


async def newest_hits(database: Database, phrases: Sequence[Phrase], found: Sequence[Call]) -> dict[int, Hit]:
    """Read the newest hit of each call, as `search.newest_hits` says."""
    missing = {call.key: call for call in found}
    if not missing:
        return {}
    began = [call.started_at for call in found]
    chosen: list[tuple[_Found, Call]] = []
    async with database.reading() as connection:
        async for chunk in _chunks(connection, phrases, Filter(since=min(began), until=max(began) + 1), None, 0):
            chosen += [(each, missing.pop(each.call_key)) for each in chunk if each.call_key in missing]
            if not missing:
                break
        return {hit.call.key: hit for hit in await _hits(connection, phrases, chosen)}


def found_statement(
    phrases: Sequence[Phrase], *, first: int | None = None, least: int | None = None, limit: int
) -> sa.Select[Any]:
    """Write the statement that finds the newest lines below `first`, down to `least`, in no order."""
    statement = sa.select(_index.c.rowid).where(_index.c.search_index.op("MATCH")(match(phrases)))
    if first is not None:
        statement = statement.where(_index.c.rowid < first)
    if least is not None:
        statement = statement.where(_index.c.rowid >= least)
    found = statement.order_by(_index.c.rowid.desc()).limit(limit).subquery("found")
    # the limit keeps the planner from turning the join round
    return sa.select(_line.c.line_id, _line.c.call_key, _line.c.day, _line.c.item_id).join_from(
        found, _line, _line.c.line_id == found.c.rowid
    )


def match(phrases: Sequence[Phrase]) -> str:
    """Write an FTS5 query that finds all phrases; quoted, so that no text of theirs can be an operator."""
    return " ".join('"{}"{}'.format(each.text.replace('"', '""'), " *" * each.is_prefix) for each in phrases)


async def _chunks(
    connection: AsyncConnection, phrases: Sequence[Phrase], wanted: Filter, first: int | None, size: int
) -> AsyncIterator[list[_Found]]:
    if wanted.until is not None:
        latest = _line_from((wanted.until - 1) // 1000 + 1)
        first = latest if first is None else min(first, latest)
    least = None if wanted.since is None else _line_from(wanted.since // 1000)
    size = max(size, CHUNK_FIRST)
    while True:
        rows = await connection.execute(found_statement(phrases, first=first, least=least, limit=size))
        chunk = sorted((_Found(*row) for row in rows), reverse=True)
        if chunk:
            yield chunk
        if len(chunk) < size:
            return
        first, size = chunk[-1].line_id, min(size * 4, CHUNK_LAST)


def _line_from(milliseconds: int) -> int:
    return min(milliseconds * _BLOCK, _LAST)


async def _passing(connection: AsyncConnection, chunk: Sequence[_Found], wanted: Filter) -> dict[int, Call]:
    keys = sorted({found.call_key for found in chunk})
    return {call.key: call for call in await calls.among(connection, keys, wanted)}


async def _hits(
    connection: AsyncConnection, phrases: Sequence[Phrase], chosen: Sequence[tuple[_Found, Call]]
) -> list[Hit]:
    numbers = [found.line_id for found, _ in chosen]
    snippets = {row[0]: row[1] for row in await connection.execute(snippet_statement(phrases, numbers))}
    items = {row["line_id"]: folds.item_of(row) for row in (await connection.execute(_items(numbers))).mappings()}
    # a line is gone only where it was erased since it was found
    return [
        Hit(place=HitPlace((number,)), call=call, item=items[number], snippet=snippets[number])
        for number, call in ((found.line_id, call) for found, call in chosen)
        if number in snippets and number in items
    ]


def snippet_statement(phrases: Sequence[Phrase], numbers: Sequence[int]) -> sa.Select[Any]:
    """Write the statement that shows what was found in these lines."""
    snippet = sa.func.snippet(sa.literal_column("search_index"), 0, OPENS, CLOSES, ELLIPSIS, SNIPPET_WORDS)
    return sa.select(_index.c.rowid, snippet).where(
        _index.c.search_index.op("MATCH")(match(phrases)), _index.c.rowid.in_(numbers)
    )


def _items(numbers: Sequence[int]) -> sa.Select[Any]:
    item = tables.item
    own = sa.and_(item.c.call_key == _line.c.call_key, item.c.day == _line.c.day, item.c.item_id == _line.c.item_id)
    return sa.select(_line.c.line_id, item).join_from(_line, item, own).where(_line.c.line_id.in_(numbers))
