"""Run what open streams follow, and the watch over their keys, for as long as the application is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import StoreUnavailable
from rtobserver.store.database import Database
from rtobserver.web.listener import CLOSING
from rtobserver.web.routes import Ask
from rtobserver.web.vigil import Vigil


class Followed(Protocol):
    """Be what many streams are given from."""

    async def follow(self) -> None:
        """Go on until cancelled."""

    def end(self) -> None:
        """End every stream."""


class Streams:
    """Be the streams that follow one thing; they end when the listener of their application closes."""

    def __init__(self, followed: Followed, *, names: str, database: Database, clock: Clock) -> None:
        self._followed = followed
        self._names = names
        self._vigil = Vigil(database=database, clock=clock)

    def install(self, app: web.Application) -> None:
        """Begin with the application and end with it."""

        async def run(app: web.Application) -> AsyncIterator[None]:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._followed.follow(), name=f"follow for {self._names}"),
                    tasks.create_task(self._vigil.keep(), name=f"watch the keys of {self._names}"),
                    tasks.create_task(self._end_with(app[CLOSING]), name=f"end {self._names}"),
                ]
                yield
                for task in running:
                    task.cancel()

        app.cleanup_ctx.append(run)

    async def _end_with(self, closing: asyncio.Event) -> None:
        await closing.wait()
        self._followed.end()

    @contextmanager
    def admitted(self, ask: Ask[Any, None], end: Callable[[], None]) -> Iterator[None]:
        """Call `end` once who asked is let in no more, as long as the block lasts.

        Raises:
            StoreUnavailable: the listener is closing.

        """
        if ask.request.app[CLOSING].is_set():
            raise StoreUnavailable("the server is closing")
        with self._vigil.watching(ask.actor, end, until=ask.until):
            yield
