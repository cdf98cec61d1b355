"""The page of the search: what was said, in whichever call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.store import search
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.search import Hit
from rtobserver.web import cursors
from rtobserver.web.api_search import Search
from rtobserver.web.pages import filters
from rtobserver.web.pages.calls import tidied, vocabulary
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.pages.texts import Piece, pieces
from rtobserver.web.queries import Anything
from rtobserver.web.routes import Answer, Ask, Route


@dataclass(frozen=True, slots=True)
class Found:
    """Be one line in which something was found."""

    item_id: str
    role: str
    pieces: list[Piece]


def routes(rendering: Rendering, database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the route."""

    async def answer(ask: Ask[Anything, None]) -> web.Response:
        values = ask.query.values
        tidied(values, "/search")
        asked = filters.read(Search, values, clock.now_us())
        await ask.record("&".join(sorted(set(values))))
        hits: list[Hit] = []
        older: str | None = None
        if (query := asked.query) is not None:
            hits, behind = await search.page(database, query.q, query.wanted(), before=query.cursor, limit=query.limit)
            older = cursors.of_hits(behind)
        # not to have asked for anything yet is no mistake
        is_wrong = any(asked.wrong.values())
        return rendering.page(
            ask,
            "search.html",
            status=400 if is_wrong else 200,
            asked=asked,
            is_wrong=is_wrong,
            found=list(by_call(hits)),
            older=older,
            **vocabulary(),
        )

    return [
        Route(
            name="pages.search",
            path="/search",
            page=True,
            summary="Show where something was said.",
            query=Anything,
            answers=(Answer(description="The page.", media="text/html"),),
            answer=answer,
        )
    ]


def by_call(hits: Sequence[Hit]) -> Iterator[tuple[Call, list[Found]]]:
    """Put the lines of each call together; they follow each other."""
    for _, lines in groupby(hits, key=lambda hit: hit.call.key):
        together = list(lines)
        yield together[0].call, [_found(hit) for hit in together]


def _found(hit: Hit) -> Found:
    return Found(hit.item.item_id, hit.item.role, list(pieces(hit.snippet)))
