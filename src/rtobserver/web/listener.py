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

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        """The real one, where 0 was asked for."""
        name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        self.url = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
        """Where it can be reached from this machine, without a path."""


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

    `wire_cap` bounds the bytes of one request, framing and unread rest included.

    Raises:
        OSError: the address cannot be bound.

    """
    patience = patience or Patience()
    closing = app[CLOSING] = asyncio.Event()
    app.on_response_prepare.append(_dress)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        loop = asyncio.get_running_loop()
        crowd = Crowd(connection_cap or _default_cap())
        manager = cast("web.Server", runner.server)
        try:
            server = await loop.create_server(
                lambda: Connection(manager, crowd=crowd, patience=patience, wire_cap=wire_cap, loop=loop),
                host or None,
                port,
                backlog=_BACKLOG,
            )
        except OSError as exc:
            # a name that is not found has a number of its own kind, below 0
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
            raise OSError(f"{host or 'any address'}:{port} cannot be listened on: {reason}") from exc
        try:
            yield Listener(host, server.sockets[0].getsockname()[1])
        finally:
            server.close()
            closing.set()
            await crowd.finish(patience.close)
    finally:
        await runner.cleanup()


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
