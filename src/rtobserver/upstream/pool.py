"""Keep connections to upstream open between requests, and let go of those whose peer may have left.

A peer may close an idle connection at the very moment when it is used again. The request is then
lost without an answer, and nobody can tell whether it was read: most requests are sent again, but
one that creates a call must not be (reliability.md A09). Such a request therefore only gets a
connection that served another one within the last second, which no server's idle time-out comes
near, or a new one. Since a negotiation mints right before it calls, that costs no handshake.
"""

from __future__ import annotations

import functools
import select
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler

from rtobserver.clock import Clock

LIMIT = 200
"""Connections at a time; who finds none waits, within the time allowed for connecting."""
KEEP_ALIVE_SECONDS = 60.0
FRESH_SECONDS = 1.0
"""Idle time up to which a connection may carry what must not be sent twice."""


class Pool(aiohttp.TCPConnector):
    """Hand out connections; `once_only` is the address, without query, of what must not be sent twice."""

    def __init__(self, clock: Clock, *, once_only: str) -> None:
        super().__init__(limit=LIMIT, keepalive_timeout=KEEP_ALIVE_SECONDS)
        self._clock = clock
        self._once_only = once_only
        self._released: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Take a connection from the pool, or open one."""
        patience = FRESH_SECONDS if str(req.url.with_query(None)) == self._once_only else KEEP_ALIVE_SECONDS
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            released = self._released.get(protocol) if protocol is not None else None
            if protocol is None or released is None:
                break
            if self._clock.mono() - released <= patience and not _is_readable(connection):
                break
            connection.close()
        if protocol is not None:
            connection.add_callback(functools.partial(self._note, protocol))
        return connection

    def _note(self, protocol: ResponseHandler) -> None:
        self._released[protocol] = self._clock.mono()


def _is_readable(connection: aiohttp.connector.Connection) -> bool:
    """Ask the kernel for what the loop has not seen yet; on an idle connection that is its end."""
    held = connection.transport.get_extra_info("socket") if connection.transport is not None else None
    if held is None or held.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(held.fileno(), select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))
