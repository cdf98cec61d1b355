"""Search by PostgreSQL; the only module that knows its text search.

The words of a line stand beside it (`item.words`, made by the database itself, see the first
migration). They are read from the newest day backwards, in stretches of days that grow: what a page
costs depends on how far back its hits lie, and one visit bounds it in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.ext.asyncio import AsyncConnection

from rtobserver.store import calls, folds, tables
from rtobserver.store.calls import Before, Call, Filter
from rtobserver.store.database import Database
from rtobserver.store.hits import Hit, HitPlace
from rtobserver.store.identity import day_of
from rtobserver.store.phrases import Phrase
from rtobserver.store.snippets import snippet

PLACE_NUMBERS = 4
"""Of a place: when the call began, its key, epoch and seq of the line."""
GROWTH = 8
"""How many times more days each stretch has than the one before."""

_call, _item = tables.call, tables.item
_words = sa.literal_column("item.words", TSVECTOR())
_own = sa.and_(_item.c.call_key == _call.c.call_key, _item.c.day == _call.c.day)
_ID = 100
"""Characters of an item's id that tell items of one position apart; a cursor has no room for more."""
_ORDER = (_call.c.started_at, _call.c.call_key, _item.c.epoch, _item.c.seq, sa.func.left(_item.c.item_id, _ID))
_COLUMNS = [column.label(f"call_{column.name}") for column in calls.COLUMNS]


async def page(
    database: Database, phrases: Sequence[Phrase], wanted: Filter, *, before: HitPlace | None = None, limit: int
) -> tuple[list[Hit], HitPlace | None]:
    """Read a page of hits, as `search.page` says."""
    found: list[Hit] = []
    latest = None if before is None else day_of(before.numbers[0])
    async with database.reading() as connection:
        async for stretch in _stretches(connection, wanted, latest):
            statement = hits_statement(phrases, wanted, stretch, before, limit + 1 - len(found))
            found += [_hit(row, phrases) for row in (await connection.execute(statement)).mappings()]
            if len(found) > limit:
                break
    shown = found[:limit]
    return shown, shown[-1].place if len(found) > limit else None


async def call_page(
    database: Database, phrases: Sequence[Phrase], wanted: Filter, *, before: Before | None = None, limit: int
) -> tuple[list[Call], Before | None]:
    """Read a page of calls, as `search.call_page` says."""
    found: list[Call] = []
    latest = None if before is None else day_of(before.started_at)
    async with database.reading() as connection:
        async for stretch in _stretches(connection, wanted, latest):
            statement = calls_statement(phrases, wanted, stretch, before, limit + 1 - len(found))
            found += [calls.call_of(row) for row in (await connection.execute(statement)).mappings()]
            if len(found) > limit:
                break
    shown = found[:limit]
    return shown, Before(shown[-1].started_at, shown[-1].key) if len(found) > limit else None


async def newest_hits(database: Database, phrases: Sequence[Phrase], found: Sequence[Call]) -> dict[int, Hit]:
    """Read the newest hit of each call, as `search.newest_hits` says."""
    if not found:
        return {}
    newest = (_item.c.call_key, _item.c.epoch.desc(), _item.c.seq.desc(), _item.c.item_id.desc())
    statement = (
        sa.select(_item, *_COLUMNS)
        .distinct(_item.c.call_key)
        .join_from(_item, _call, _own)
        .where(_item.c.call_key.in_([call.key for call in found]), _words.op("@@")(query(phrases)))
        .order_by(*newest)
    )
    async with database.reading() as connection:
        hits = [_hit(row, phrases) for row in (await connection.execute(statement)).mappings()]
    return {hit.call.key: hit for hit in hits}


def hits_statement(
    phrases: Sequence[Phrase], wanted: Filter, days: tuple[int, int], before: HitPlace | None, limit: int
) -> sa.Select[Any]:
    """Write the statement that finds the newest lines of some days."""
    statement = (
        sa.select(_item, *_COLUMNS)
        .join_from(_item, _call, _own)
        .where(_words.op("@@")(query(phrases)), _item.c.day.between(*days), *calls.conditions(wanted))
    )
    if before is not None:
        values = zip(_ORDER, (*before.numbers, before.item_id), strict=True)
        place = sa.tuple_(*(sa.literal(value, column.type) for column, value in values))
        statement = statement.where(sa.tuple_(*_ORDER) < place)
    return statement.order_by(*(column.desc() for column in _ORDER)).limit(limit)


def calls_statement(
    phrases: Sequence[Phrase], wanted: Filter, days: tuple[int, int], before: Before | None, limit: int
) -> sa.Select[Any]:
    """Write the statement that finds the newest calls of some days in which something was said."""
    said = sa.exists().where(_own, _words.op("@@")(query(phrases)), _item.c.day.between(*days))
    return calls.page_statement(wanted, before, limit).where(said, _call.c.day.between(*days))


def query(phrases: Sequence[Phrase]) -> sa.ColumnElement[Any]:
    """Write what finds all phrases."""
    found = [
        sa.func.rtobserver_query(each.text.replace("\0", " "), each.is_prefix, type_=TSQUERY()) for each in phrases
    ]
    whole: sa.ColumnElement[Any] = found[0]
    for each in found[1:]:
        whole = whole.op("&&", return_type=TSQUERY())(each)
    return whole


async def _stretches(connection: AsyncConnection, wanted: Filter, latest: int | None) -> AsyncIterator[tuple[int, int]]:
    """Give the first and the last day of each stretch, the newest first."""
    range_ = sa.select(sa.func.min(_item.c.day), sa.func.max(_item.c.day)).where(_words.is_not(None))
    first, last = (await connection.execute(range_)).one()
    if first is None:
        return
    bounds = [last] if latest is None else [last, latest]
    if wanted.until is not None:
        bounds.append(day_of(wanted.until))
    last = min(bounds)
    if wanted.since is not None:
        first = max(first, day_of(wanted.since))
    width = 1
    while last >= first:
        yield max(first, last - width + 1), last
        last, width = last - width, width * GROWTH


def _hit(row: Any, phrases: Sequence[Phrase]) -> Hit:
    call = calls.call_of({column.name: row[f"call_{column.name}"] for column in calls.COLUMNS})
    item = folds.item_of(row)
    place = HitPlace((call.started_at, call.key, item.epoch, item.seq), item.item_id[:_ID])
    return Hit(place=place, call=call, item=item, snippet=snippet(item.text, phrases))
