"""One sideband websocket as upstream holds it.

Frames go straight to the transport, framed once for all sidebands of a call; those of one turn of
the loop in one write. A sideband that does not read is dropped when `send_buffer` bytes wait for it.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import WSMsgType, web

_TEXT, _BINARY = 0x1, 0x2


def framed(payload: bytes, *, text: bool) -> bytes:
    """Give a payload as one unmasked websocket frame (RFC 6455, 5.2)."""
    first = 0x80 | (_TEXT if text else _BINARY)
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """Hold a message that a client sent."""

    sideband: str
    """The sideband's name, or `browser` for the data channel."""
    message: str | bytes
    at: float
    """Unix seconds."""


@dataclass(slots=True, eq=False)
class Sideband:
    """Hold one connection."""

    name: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport
    attached_at: float
    """Unix seconds."""
    buffer_limit: int
    last_frame_mono: float
    """When something went either way, on the loop's clock."""
    sent_count: int = 0
    client_events: list[ClientEvent] = field(default_factory=list)
    end: Literal["", "detached", "closed", "aborted"] = ""
    """Empty while it is open."""
    close_code: int | None = None
    """The code that either side closed with."""
    _pending: list[bytes] = field(default_factory=list)
    _pending_bytes: int = 0

    @property
    def is_open(self) -> bool:
        """Say whether frames can be sent."""
        return not self.end and not self.transport.is_closing() and not self.socket.closed

    def send(self, frame: bytes, now_mono: float, count: int = 1) -> None:
        """Write a frame that `framed` has made, or several on end; never waits."""
        if not self.is_open:
            return
        if self.unsent_bytes > self.buffer_limit:
            self.abort()
            return
        self.sent_count += count
        self.last_frame_mono = now_mono
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(frame)
        self._pending_bytes += len(frame)

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._pending_bytes = 0
            if not self.transport.is_closing():
                self.transport.write(b"".join(pending))

    @property
    def unsent_bytes(self) -> int:
        """Count what waits for a peer that reads slowly."""
        return self.transport.get_write_buffer_size() + self._pending_bytes

    async def close(self, code: int, reason: str = "") -> None:
        """Close with a code and wait a little for the peer's own close."""
        if self.is_open:
            self._flush()
            self.end, self.close_code = "closed", code
            await self.socket.close(code=code, message=reason.encode())

    def abort(self) -> None:
        """Drop the TCP connection."""
        self.end = self.end or "aborted"
        self._flush()
        self.transport.abort()


async def read(sideband: Sideband) -> str | bytes | None:
    """Give the next message, or None when the connection is over."""
    message = await sideband.socket.receive()
    if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
        data: str | bytes = message.data
        return data
    if not sideband.end:
        sideband.end, sideband.close_code = "detached", sideband.socket.close_code
    return None
