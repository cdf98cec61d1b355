"""Export calls with all they have as one file, written while it is read: memory stays flat."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.store import calls, exports, search
from rtobserver.store.calls import Before, Call
from rtobserver.store.database import Database
from rtobserver.store.phrases import Phrase
from rtobserver.web import codings, parquet
from rtobserver.web.api_calls import CallFilter
from rtobserver.web.columns import COLUMNS, What, cell, line
from rtobserver.web.entry_lists import BUFFER_BYTES, KEY_SECONDS, LINES
from rtobserver.web.queries import WORDS, choice
from rtobserver.web.routes import PRIVATE, Answer, Ask, Route

MEDIA = {"ndjson": LINES, "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}

_TABLES: tuple[What, ...] = ("calls", "entries", "items", "responses")
_CELL_BYTES = 16
"""What a value counts for beside its text when the size of a group of rows is reckoned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(CallFilter):
    """Ask for an export."""

    q: Annotated[tuple[Phrase, ...] | None, WORDS, "Only calls in whose transcript this is found; as in a search."] = (
        None
    )
    format: Annotated[
        Literal["ndjson", "csv", "parquet"],
        choice(tuple(MEDIA), "ndjson"),
        "How it is written; Parquet needs the extra `parquet`, CSV does not do for entries.",
    ] = "ndjson"
    what: Annotated[What, choice(_TABLES, "calls"), "What of the calls is wanted."] = "calls"


def routes(database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def export(ask: Ask[Export, None]) -> web.StreamResponse:
        query = ask.query
        if query.format == "csv" and query.what == "entries":
            raise RequestError(400, "invalid_parameter", "Entries are no table for CSV: take ndjson or parquet.")
        if query.format == "parquet" and not parquet.is_installed():
            raise RequestError(
                501, "parquet_missing", 'This server cannot write Parquet: install "rtobserver[parquet]" there.'
            )
        names = sorted(set(ask.request.query) - {"what", "format"})
        await ask.record("&".join([f"what={query.what}", f"format={query.format}", *names]))

        async def pages(before: Before | None, limit: int) -> tuple[list[Call], Before | None]:
            if query.q is None:
                return await calls.page(database, query.wanted(), before=before, limit=limit)
            return await search.call_page(database, query.q, query.wanted(), before=before, limit=limit)

        return await _send(ask, _pieces(query, _rows(database, pages, query.what)), clock)

    return [
        Route(
            name="export",
            path="/api/v1/export",
            scope="export",
            summary="Export calls, or what belongs to them, as one file.",
            description="Takes the filters of the list of calls. Newest calls come first; the file is streamed, "
            "and has no entries that are recorded after the request.",
            query=Export,
            answers=tuple(
                Answer(
                    description="The file.",
                    media=media,
                    headers={"Content-Disposition": "A file name for whoever saves it."},
                )
                for media in MEDIA.values()
            ),
            problems={501: "The server has no pyarrow, which Parquet needs."},
            answer=export,
        )
    ]


async def _send(ask: Ask[Any, Any], pieces: AsyncGenerator[bytes], clock: Clock) -> web.StreamResponse:
    query = ask.query
    # Parquet is compressed inside
    coding = None if query.format == "parquet" else codings.choose(ask.request)
    response = web.StreamResponse(
        headers={
            "Content-Type": MEDIA[query.format],
            "Content-Disposition": f'attachment; filename="rtobserver-{query.what}.{query.format}"',
            **({} if query.format == "parquet" else codings.headers(coding)),
            **PRIVATE,
        }
    )
    checked = clock.mono()
    async with aclosing(pieces) as bytes_:
        # the first piece is there before the answer begins: a database that is away is then still a problem document
        first = await anext(bytes_, b"")
        await response.prepare(ask.request)
        await codings.write(response, coding, first)
        async for piece in bytes_:
            await codings.write(response, coding, piece)
            if clock.mono() - checked >= KEY_SECONDS:
                if not await ask.is_good():
                    # an orderly end would say that this was all
                    raise ConnectionError("the key was revoked")
                checked = clock.mono()
    return await codings.end(response, coding)


def _rows(database: Database, pages: exports.Pages, what: What) -> AsyncGenerator[Any]:
    match what:
        case "calls":
            return exports.each_call(pages)
        case "entries":
            return exports.each_entry(database, pages)
        case "items":
            return exports.each_item(database, pages)
        case "responses":
            return exports.each_response(database, pages)


async def _pieces(query: Export, rows: AsyncGenerator[Any]) -> AsyncGenerator[bytes]:
    async with aclosing(rows) as found:
        match query.format:
            case "ndjson":
                written = _ndjson(query.what, found)
            case "csv":
                written = _csv(query.what, found)
            case "parquet":
                written = _parquet(query.what, found)
        async with aclosing(written) as pieces:
            async for piece in pieces:
                yield piece


async def _ndjson(what: What, rows: AsyncIterator[Any]) -> AsyncGenerator[bytes]:
    buffer = bytearray()
    async for row in rows:
        buffer += line(what, row)
        buffer += b"\n"
        if len(buffer) >= BUFFER_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


async def _csv(what: What, rows: AsyncIterator[Any]) -> AsyncGenerator[bytes]:
    columns = COLUMNS[what]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([column.name for column in columns])
    async for row in rows:
        table.writerow([cell(column, row) for column in columns])
        if text.tell() >= BUFFER_BYTES:
            yield text.getvalue().encode("utf-8", "replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode("utf-8", "replace")


async def _parquet(what: What, rows: AsyncIterator[Any]) -> AsyncGenerator[bytes]:
    columns = COLUMNS[what]
    loop = asyncio.get_running_loop()
    # pyarrow is slow to load and its work is heavy: neither belongs on the loop. One thread, since what pyarrow's
    # allocator keeps for later it keeps for each thread that ever wrote a group.
    thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
    try:
        table = await loop.run_in_executor(thread, parquet.Table, columns)
        group: list[list[Any]] = []
        size = 0
        async for row in rows:
            values = [column.value(row) for column in columns]
            group.append(values)
            size += sum(len(value) if isinstance(value, str | bytes) else _CELL_BYTES for value in values)
            if len(group) >= parquet.GROUP_ROWS or size >= parquet.GROUP_BYTES:
                yield await loop.run_in_executor(thread, table.group, group)
                group, size = [], 0
        yield await loop.run_in_executor(thread, table.group, group)
        yield await loop.run_in_executor(thread, table.close)
    finally:
        thread.shutdown(wait=False)
