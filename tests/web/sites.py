"""What the tests of listeners and their connections share: an application with an answer for every situation."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from rtobserver.web import problems
from rtobserver.web.connection import Patience
from rtobserver.web.listener import CLOSING, Listener, listening


class Site:
    """An application with an answer for every situation."""

    def __init__(self) -> None:
        self.app = web.Application()
        problems.install(self.app)
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.finished = 0
        self.app.router.add_get("/hi", self.hi)
        self.app.router.add_post("/echo", self.echo)
        self.app.router.add_post("/refuse", self.refuse)
        self.app.router.add_get("/wait", self.wait)
        self.app.router.add_get("/flood", self.flood)
        self.app.router.add_get("/stream", self.stream)

    async def hi(self, request: web.Request) -> web.Response:
        return web.Response(text="hi")

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def refuse(self, request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    async def wait(self, request: web.Request) -> web.Response:
        self.started.set()
        await self.go_on.wait()
        self.finished += 1
        return web.Response(text="done")

    async def flood(self, request: web.Request) -> web.StreamResponse:
        self.started.set()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            self.finished += 1

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        self.started.set()
        await request.app[CLOSING].wait()
        await response.write_eof(b"ended")
        return response


@asynccontextmanager
async def serving(
    site: Site,
    patience: Patience | None = None,
    *,
    connection_cap: int | None = None,
    wire_cap: int = 1_000_000,
) -> AsyncIterator[Listener]:
    async with listening(
        site.app,
        host="127.0.0.1",
        port=0,
        patience=patience,
        connection_cap=connection_cap,
        wire_cap=wire_cap,
    ) as listener:
        yield listener
