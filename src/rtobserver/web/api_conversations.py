"""Answer for what was folded from a call: its transcript, turns, usage, and the policies' decisions.

Lines and turns are computed from the rows of items and responses at each request, so that they are
never out of step with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from aiohttp import web

from rtobserver.errors import RequestError
from rtobserver.realtime.transcript import transcript
from rtobserver.realtime.turns import turns
from rtobserver.store import decisions, folds
from rtobserver.store.database import Database
from rtobserver.store.decisions import Place
from rtobserver.web import conversation, cursors, queries, shapes, transcript_texts
from rtobserver.web.parameters import LIMIT_DEFAULT
from rtobserver.web.queries import LIMIT, Nothing, choice
from rtobserver.web.routes import PRIVATE, Answer, Ask, Route

AT_ONCE = 300
"""Rows that are put in order between two looks of the event loop; more are left to a thread."""

_FORMATS = ("json", *transcript_texts.FORMATS)
_NEXT = "`next_cursor` of the page before, as it came."

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTranscript:
    """Ask for a transcript."""

    format: Annotated[
        str, choice(_FORMATS, "json"), "How to write it; only `json` has pages, the others are whole."
    ] = "json"
    limit: Annotated[int, LIMIT, "How many lines a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[str | None, queries.cursor(cursors.to_line), _NEXT] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTurns:
    """Ask for a page of turns."""

    limit: Annotated[int, LIMIT, "How many turns a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[int | None, queries.cursor(cursors.to_number), _NEXT] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDecisions:
    """Ask for a page of decisions."""

    limit: Annotated[int, LIMIT, "How many decisions a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[Place | None, queries.cursor(cursors.to_decisions), _NEXT] = None


def routes(database: Database) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""
    api = _Api(database)
    return [
        Route(
            name="transcript.get",
            path="/api/v1/calls/{id}/transcript",
            summary="Give what was said, typed and done by tools, in the order of the conversation.",
            description=(
                "In all formats but `json` a speech that was cut is written as far as it was heard, with a mark. "
                "Subtitles have what was said and typed by user and assistant, with times from the call's beginning."
            ),
            query=GetTranscript,
            answers=(
                Answer(description="A page of lines.", body=shapes.Listed[conversation.Line]),
                *(
                    Answer(description="The whole transcript.", media=media)
                    for media, _ in transcript_texts.FORMATS.values()
                ),
            ),
            answer=api.transcript,
        ),
        Route(
            name="turns.list",
            path="/api/v1/calls/{id}/turns",
            summary="List the turns of a call with their latencies and tools.",
            description="A call whose transcript retention took away has none.",
            query=ListTurns,
            answers=(Answer(description="A page of turns.", body=shapes.Listed[conversation.Turn]),),
            answer=api.turns,
        ),
        Route(
            name="usage.get",
            path="/api/v1/calls/{id}/usage",
            summary="Give what a call used and cost, and each of its responses.",
            query=Nothing,
            answers=(Answer(description="The usage.", body=conversation.CallUsage),),
            answer=api.usage,
        ),
        Route(
            name="decisions.list",
            path="/api/v1/calls/{id}/decisions",
            summary="List what policies decided in a call.",
            query=ListDecisions,
            answers=(Answer(description="A page of decisions.", body=shapes.Listed[conversation.Decision]),),
            answer=api.decisions,
        ),
    ]


class _Api:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def transcript(self, ask: Ask[GetTranscript, None]) -> shapes.Listed[conversation.Line] | web.Response:
        query = ask.query
        call = await ask.call()
        items = await folds.items(self._database, call)
        lines = await apart(len(items), lambda: transcript(items))
        if query.format != "json":
            media, write = transcript_texts.FORMATS[query.format]
            text = await apart(len(items), lambda: write(lines, call.started_at))
            return web.Response(text=text, content_type=media, charset="utf-8", headers=PRIVATE)
        first = 0
        if query.cursor is not None:
            marks = (cursors.line_mark(line.item_id) for line in lines)
            first = 1 + next((index for index, mark in enumerate(marks) if mark == query.cursor), -1)
            if not first:
                raise RequestError(400, "invalid_cursor", "`cursor` names a line that this transcript does not have.")
        shown, more = _page(lines, first, query.limit)
        return shapes.Listed(
            [conversation.line(line) for line in shown], cursors.of_line(shown[-1].item_id if more else None)
        )

    async def turns(self, ask: Ask[ListTurns, None]) -> shapes.Listed[conversation.Turn]:
        query = ask.query
        call = await ask.call()
        if call.purged_at is not None:
            # the figures of its responses are kept, but without items no turn can be made of them
            return shapes.Listed([], None)
        items = await folds.items(self._database, call)
        responses = await folds.responses(self._database, call)
        found = await apart(len(items) + len(responses), lambda: turns(items, responses))
        shown, more = _page(found, 0 if query.cursor is None else query.cursor + 1, query.limit)
        return shapes.Listed(
            [conversation.turn(turn) for turn in shown], cursors.of_number(shown[-1].index if more else None)
        )

    async def usage(self, ask: Ask[Nothing, None]) -> conversation.CallUsage:
        call = await ask.call()
        return conversation.usage(call, await folds.responses(self._database, call))

    async def decisions(self, ask: Ask[ListDecisions, None]) -> shapes.Listed[conversation.Decision]:
        query = ask.query
        rows = await decisions.page(self._database, await ask.call(), after=query.cursor, limit=query.limit + 1)
        shown, more = _page(rows, 0, query.limit)
        return shapes.Listed(
            [conversation.decision(row) for row in shown], cursors.of_decisions(shown[-1].place if more else None)
        )


def _page(rows: Sequence[T], first: int, limit: int) -> tuple[Sequence[T], bool]:
    """Give one page, and whether another one follows."""
    return rows[first : first + limit], len(rows) > first + limit


async def apart(size: int, work: Callable[[], T]) -> T:
    """Do work on so many rows, in a thread if it is long: observers share the event loop, and must not wait."""
    return work() if size <= AT_ONCE else await asyncio.to_thread(work)
