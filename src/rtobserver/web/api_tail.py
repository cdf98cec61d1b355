"""Routes of the tails: what is recorded, as it is recorded, as server-sent events.

A viewer that names where it stopped gets the history from there, read from the store at its own
pace, and then what the shared follower (`follow.py`) gives. The history ends where the follower
stood when the viewer joined, so that nothing is given twice and nothing left out. The viewer of one
call gets the call's row right behind the history, so that one that says "ended" is the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from aiohttp import web
from msgspec import Meta

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.store import entries, feed
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.feed import Fed, Mark
from rtobserver.store.positions import Position
from rtobserver.store.signal import Signal
from rtobserver.web import cursors, queries, shapes, sse
from rtobserver.web.follow import Follower, Viewer, entry_block, entry_line
from rtobserver.web.routes import PRIVATE, Answer, Ask, Route
from rtobserver.web.streams import Streams

COMMENT_SECONDS = 15.0
HISTORY_ROWS = 500
BUFFER_BYTES = 64 * 1024

_LAST_SEEN = {"Last-Event-ID": "The `id` of the last event that was read: begin with the history behind it."}
_HEADERS = {"Content-Type": sse.MEDIA, "X-Accel-Buffering": "no", **PRIVATE}

T = TypeVar("T")


class TailedEntry(shapes.Entry, frozen=True, kw_only=True):
    """Be an entry that says of which call it is."""

    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TailCall:
    """Ask for the tail of one call."""

    after: Annotated[
        Position | None, queries.PLACE, "Begin with the history behind this position; `Last-Event-ID` goes before it."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TailAll:
    """Ask for the tail of all calls."""

    after: Annotated[
        Mark | None,
        queries.cursor(cursors.to_tail),
        "Begin with the history behind this `id` of an event; `Last-Event-ID` goes before it.",
    ] = None


class Tails:
    """Give the routes, and run what is behind them for as long as the application is served."""

    def __init__(self, *, database: Database, clock: Clock, commits: Signal) -> None:
        self._database = database
        self._follower = Follower(database=database, clock=clock, commits=commits)
        self._streams = Streams(self._follower, names="tails", database=database, clock=clock)

    def install(self, app: web.Application) -> None:
        """Begin with the application and end with it; streams end when its listener closes."""
        self._streams.install(app)

    def routes(self) -> list[Route[Any, Any]]:
        """Give the routes."""
        describes = (
            "`event: entry` (as a line of NDJSON, with `call_id`), `event: call` (the call, at each change), "
            '`event: missed` with `{"count"}` when the reader was too slow, and a comment every 15 s. '
        )
        events = Annotated[TailedEntry, Meta(description="The data of an `entry` event.")]
        return [
            Route(
                name="tail.call",
                path="/api/v1/calls/{id}/tail",
                summary="Follow a call as server-sent events.",
                description=f"{describes}The `id` of an entry is its position.",
                query=TailCall,
                headers=_LAST_SEEN,
                answers=(Answer(description="Events without end.", media=sse.MEDIA, body=events),),
                answer=self._one,
            ),
            Route(
                name="tail.all",
                path="/api/v1/tail",
                summary="Follow all calls as server-sent events.",
                description=f"{describes}The `id` of an entry is opaque.",
                query=TailAll,
                headers=_LAST_SEEN,
                answers=(Answer(description="Events without end.", media=sse.MEDIA, body=events),),
                answer=self._all,
            ),
        ]

    async def _one(self, ask: Ask[TailCall, None]) -> web.StreamResponse:
        after = _last_seen(ask, Position.parse) or ask.query.after
        call = await ask.call()
        viewer = Viewer(call.key)
        with self._viewing(ask, viewer):
            stream = await _Stream.open(ask.request, viewer)
            if after is not None:
                after = await self._send_history(stream, call, after, None)
            mark = await self._follower.join(viewer)
            if after is not None:
                await self._send_history(stream, call, after, mark)
            return await stream.follow()

    async def _send_history(self, stream: _Stream, call: Call, after: Position, until: Mark | None) -> Position:
        wanted = entries.Filter(until_number=None if until is None else until.number)
        async for entry in entries.read(self._database, call, wanted, after=after):
            line = entry_line(Fed(feed.START, call.key, call.call_id, entry))
            await stream.send(entry_block(entry, line))
            after = entry.position
            if stream.has_ended:
                break
        return after

    async def _all(self, ask: Ask[TailAll, None]) -> web.StreamResponse:
        after = _last_seen(ask, cursors.to_tail) or ask.query.after
        await ask.record("")
        viewer = Viewer(None)
        with self._viewing(ask, viewer):
            stream = await _Stream.open(ask.request, viewer)
            if after is not None:
                after = await feed.settle(self._database, after)
                after = await self._send_all(stream, after, await feed.newest(self._database))
            mark = await self._follower.join(viewer)
            if after is not None:
                await self._send_all(stream, after, mark)
            return await stream.follow()

    async def _send_all(self, stream: _Stream, after: Mark, until: Mark) -> Mark:
        while after < until and not stream.has_ended:
            found = await feed.behind(self._database, after, until=until, limit=HISTORY_ROWS)
            for fed in found:
                await stream.send(sse.event(b"entry", entry_line(fed), cursors.of_tail(fed.mark).encode()))
            after = found[-1].mark if len(found) == HISTORY_ROWS else until
        return after

    @contextmanager
    def _viewing(self, ask: Ask[Any, None], viewer: Viewer) -> Iterator[None]:
        with self._streams.admitted(ask, viewer.end):
            try:
                yield
            finally:
                self._follower.leave(viewer)


class _Stream:
    """Write to one viewer at the pace at which it reads."""

    def __init__(self, response: web.StreamResponse, viewer: Viewer) -> None:
        self._response = response
        self._viewer = viewer
        self._buffer = bytearray()

    @classmethod
    async def open(cls, request: web.Request, viewer: Viewer) -> _Stream:
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        await response.write(sse.COMMENT)
        return cls(response, viewer)

    @property
    def has_ended(self) -> bool:
        return self._viewer.has_ended

    async def send(self, block: bytes) -> None:
        """Write a block some time soon."""
        self._buffer += block
        if len(self._buffer) >= BUFFER_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what was gathered."""
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            await self._response.write(data)

    async def follow(self) -> web.StreamResponse:
        """Write what comes until the stream is to end."""
        await self.flush()
        while not self._viewer.has_ended:
            await self._viewer.wait(COMMENT_SECONDS)
            blocks = self._viewer.take()
            for block in blocks:
                await self._response.write(block)
            if not blocks and not self._viewer.has_ended:
                await self._response.write(sse.COMMENT)
        await self._response.write_eof()
        return self._response


def _last_seen(ask: Ask[Any, None], read: Callable[[str], T | None]) -> T | None:
    texts = ask.request.headers.getall("Last-Event-ID", [])
    if not texts or texts == [""]:
        return None
    seen = read(texts[0]) if len(texts) == 1 else None
    if seen is None:
        raise RequestError(400, "invalid_last_event_id", "`Last-Event-ID` is not one that this stream gave.")
    return seen
