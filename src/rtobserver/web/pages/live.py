"""Show the calls that go on: a page, and the stream of updates that its script reads.

The page itself holds nothing of any call. The stream begins with the whole board and goes on with
what changes (`board.py`). It ends by itself now and then, so that whoever reads on is let in anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.store.database import Database
from rtobserver.store.signal import Signal
from rtobserver.web import queries, sse
from rtobserver.web.pages import wording
from rtobserver.web.pages.board import Board, Whole
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.routes import PRIVATE, Answer, Ask, Route
from rtobserver.web.streams import Streams

COMMENT_SECONDS = 15.0
STREAM_SECONDS = 900.0
"""A sign-in that expired meanwhile is noticed after so long; a revoked key is within a second."""

WORDS = {"statuses": wording.STATUSES, "outcomes": wording.OUTCOMES}
"""For the script, which writes what the stream tells."""

_HEADERS = {"Content-Type": sse.MEDIA, "X-Accel-Buffering": "no", **PRIVATE}


class Live:
    """Give the routes, and run what is behind them for as long as the application is served."""

    def __init__(
        self, rendering: Rendering, *, database: Database, clock: Clock, commits: Signal, front: Callable[[], str]
    ) -> None:
        self._rendering = rendering
        self._front = front
        self._clock = clock
        self._board = Board(database=database, clock=clock, commits=commits)
        self._streams = Streams(self._board, names="live pages", database=database, clock=clock)

    def install(self, app: web.Application) -> None:
        """Begin with the application and end with it; streams end when its listener closes."""
        self._streams.install(app)

    def routes(self) -> list[Route[Any, Any]]:
        """Give the routes."""
        return [
            Route(
                name="pages.live",
                path="/",
                page=True,
                summary="Show the calls that go on.",
                query=queries.Nothing,
                answers=(Answer(description="The page.", media="text/html"),),
                answer=self._page,
            ),
            Route(
                name="live.stream",
                path="/live/stream",
                summary="Follow the calls that go on, for the page of them.",
                query=queries.Nothing,
                answers=(Answer(description="Events without end.", media=sse.MEDIA, body=Whole),),
                answer=self._stream,
            ),
        ]

    async def _page(self, ask: Ask[queries.Nothing, None]) -> web.Response:
        return self._rendering.page(ask, "live.html", front=self._front(), words=WORDS)

    async def _stream(self, ask: Ask[queries.Nothing, None]) -> web.StreamResponse:
        await ask.record("")
        until = self._clock.mono() + STREAM_SECONDS
        watcher = self._board.join()
        try:
            with self._streams.admitted(ask, watcher.end):
                response = web.StreamResponse(headers=_HEADERS)
                await response.prepare(ask.request)
                await response.write(sse.COMMENT)
                while not watcher.has_ended and self._clock.mono() < until:
                    await watcher.wait(COMMENT_SECONDS)
                    block = self._board.take(watcher)
                    if not watcher.has_ended:
                        await response.write(block or sse.COMMENT)
                await response.write_eof()
                return response
        finally:
            self._board.leave(watcher)
