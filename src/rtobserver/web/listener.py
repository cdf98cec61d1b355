"""Serve one aiohttp application on one address, under deadlines that aiohttp does not have.

A head must be whole 5 s after its first byte (a fresh connection that says nothing is
closed as soon), a body 10 s after the request's first byte; an answer that the peer does
not read is cut off. When the connections reach their cap, the one that has waited longest without
a whole request makes room, so that a flood of half requests starves nobody but itself. Requests
are not decompressed, and a handler is never cancelled because its caller left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator
from typing import cast

from aiohttp import web

from rtobserver.web.connection import Connection, Crowd, Patience

_MAX_CONNECTIONS = 4096
_BACKLOG = 512
_WIRE_CAP = 8 * 1024 * 1024

CLOSING: web.AppKey[asyncio.Event] = web.AppKey("closing", asyncio.Event)
"""Set when the application's listener begins to close; endless answers end then by themselves."""


def _default_cap() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The store, upstream and the other listener need files of their own.
    return _MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, files // 2)


class Listener:
    """Be one address that is being served."""

    def __init__(
        self,
        host: str,
        port: int,
        patience: Patience | None = None,
        connection_cap: int | None = None,
        wire_cap: int = _WIRE_CAP,
    ) -> None:
        self._host = host
        self._patience, self._wire_cap = patience or Patience(), wire_cap
        self._crowd = Crowd(connection_cap or _default_cap())
        self._server: asyncio.Server | None = None
        self._serving: web.AppRunner | None = None
        self.port = port
        """The real one, where 0 was asked for."""

    @property
    def url(self) -> str:
        """Give where it can be reached from this machine, without a path."""
        wildcards = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        name = wildcards.get(self._host, self._host)
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    @contextlib.asynccontextmanager
    async def serving(self, app: web.Application) -> AsyncIterator[None]:
        """Serve an application instead of the one before it, whose connections are closed; ends with the listener."""
        app[CLOSING] = asyncio.Event()
        app.on_response_prepare.append(_dress)
        runner = web.AppRunner(app, shutdown_timeout=0.05)
        await runner.setup()
        try:
            before, self._serving = self._serving, runner
            if before is not None:
                await before.cleanup()
            if self._server is None:
                await self._bind()
            yield
        finally:
            await self._close()
            await runner.cleanup()

    async def _bind(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connection, self._host or None, self.port, backlog=_BACKLOG)
        except OSError as exc:
            # a name that is not found has a number of its own kind, below 0
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
            where = f"{self._host or 'any address'}:{self.port}"
            raise OSError(f"{where} cannot be listened on: {reason}") from exc
        self.port = self._server.sockets[0].getsockname()[1]

    def _connection(self) -> Connection:
        manager = cast("web.Server", cast("web.AppRunner", self._serving).server)
        loop = asyncio.get_running_loop()
        return Connection(manager, crowd=self._crowd, patience=self._patience, wire_cap=self._wire_cap, loop=loop)

    async def _close(self) -> None:
        if self._server is None or self._serving is None or self._crowd.is_closing:
            return
        self._server.close()
        self._serving.app[CLOSING].set()
        await self._crowd.finish(self._patience.close)


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    *,
    host: str,
    port: int,
    patience: Patience | None = None,
    connection_cap: int | None = None,
    wire_cap: int = _WIRE_CAP,
) -> AsyncIterator[Listener]:
    """Serve an application until the block ends; then accept no more and finish what is under way.

    Another one may take its place meanwhile (`Listener.serving`); the listener closes when the first of their
    blocks ends. `wire_cap` bounds the bytes of one request, framing and unread rest included.

    Raises:
        OSError: the address cannot be bound.

    """
    listener = Listener(host, port, patience, connection_cap, wire_cap)
    async with listener.serving(app):
        yield listener


def is_gone(request: web.BaseRequest) -> bool:
    """Say whether the request's peer has closed its connection."""
    transport = request.transport
    return transport is None or transport.is_closing()


async def _dress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["Server"] = "rtobserver"
    if not request.content.is_eof():
        # The rest of the body would be taken for the next request.
        response.force_close()
        response.headers["Connection"] = "close"
