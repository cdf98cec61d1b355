"""Send entries, as a page of JSON or as lines, without holding more than one of them and a buffer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.store.entries import Entry
from rtobserver.store.positions import Position
from rtobserver.web import codings, cursors, shapes
from rtobserver.web.codings import Coding

LINES = "application/x-ndjson"
BUFFER_BYTES = 64 * 1024
KEY_SECONDS = 1.0
"""How long a stream may go on with a key that was revoked meanwhile."""

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def wants_lines(request: web.Request) -> bool:
    """Tell whether the caller asks for NDJSON."""
    accepted = ",".join(request.headers.getall("Accept", [])).lower().split(",")
    return any(item.partition(";")[0].strip() == LINES for item in accepted)


async def send_lines(
    request: web.Request,
    rows: AsyncIterator[Entry],
    *,
    is_good: Callable[[], Awaitable[bool]],
    clock: Clock,
) -> web.StreamResponse:
    """Send one line for each entry; cut the connection off when the key is good no more."""
    coding = codings.choose(request)
    response = web.StreamResponse(headers={"Content-Type": LINES, **_HEADERS, **codings.headers(coding)})
    await response.prepare(request)
    checked = clock.mono()
    buffer = bytearray()
    async for row in rows:
        buffer += shapes.entry(row)
        buffer += b"\n"
        if len(buffer) < BUFFER_BYTES:
            continue
        await codings.write(response, coding, bytes(buffer))
        buffer.clear()
        if clock.mono() - checked >= KEY_SECONDS:
            if not await is_good():
                # an orderly end would say that these were all
                raise ConnectionError("the key was revoked")
            checked = clock.mono()
    return await codings.end(response, coding, bytes(buffer))


async def send_page(request: web.Request, rows: AsyncIterator[Entry], limit: int) -> web.StreamResponse:
    """Send at most `limit` entries as a list; a further one makes its cursor.

    A small page is one plain answer; a large one is sent while it is read.
    """
    response: web.StreamResponse | None = None
    coding: Coding | None = None
    buffer = bytearray(b'{"data":[')
    last: Position | None = None
    count = 0
    async for row in rows:
        if count == limit:
            break
        buffer += b"," if count else b""
        buffer += shapes.entry(row)
        count, last = count + 1, row.position
        if len(buffer) >= BUFFER_BYTES:
            if response is None:
                coding = codings.choose(request)
                headers = {"Content-Type": "application/json", **_HEADERS, **codings.headers(coding)}
                response = web.StreamResponse(headers=headers)
                await response.prepare(request)
            await codings.write(response, coding, bytes(buffer))
            buffer.clear()
    else:
        last = None
    buffer += b'],"next_cursor":%b}' % shapes.encode(cursors.of_positions(last))
    if response is None:
        return web.Response(body=bytes(buffer), content_type="application/json", headers=_HEADERS)
    return await codings.end(response, coding, bytes(buffer))
