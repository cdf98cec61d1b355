"""Play upstream, in a process of its own: negotiate calls, accept sidebands, send events at a given pace.

    python -m benchmarks.sender CALLS EVENTS_PER_CALL [CERTIFICATE]

Orders come on stdin, a line each, and are answered on stdout by a line of JSON once they are done:
`attached` (wait for all calls), `warm`, `paced RATE COUNT`, `burst COUNT`, `sent`. Whatever is sent was
spelled out before the first order.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
import ssl
import struct
import sys
import time
from typing import Any, cast

import uvloop

from benchmarks.talk import TURN_EVENTS, Talk

NAP = 0.0005
"""Seconds between two looks at the clock; it leaves the core to whoever is measured."""
WARM_RATE = 10_000
UNSENT_BYTES = 64 * 1024

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


def call_id(number: int) -> str:
    """Name a call."""
    return f"rtc_bench_{number:05}"


class Sideband:
    """Hold what one call will say, and how much of it was said."""

    def __init__(self, number: int, events: int) -> None:
        texts = list(itertools.islice(Talk(number).frames(), events))
        self.call_id = call_id(number)
        self.warm_events = 1 + number * 37 % TURN_EVENTS
        """What is sent before anything is measured, so that each call stands elsewhere in its turn."""
        self.frames = [spell_frame(text) for text in texts]
        self.sizes = [len(text) for text in texts]
        self.sent = 0
        self.transport: asyncio.Transport | None = None
        self.paused = False

    @property
    def is_over(self) -> bool:
        return self.sent >= len(self.frames)

    def put(self) -> None:
        if self.transport is None:
            raise RuntimeError(f"{self.call_id} was left")
        self.transport.write(self.frames[self.sent])
        self.sent += 1


class Peer(asyncio.Protocol):
    """Answer one connection: HTTP requests, until one of them makes it a sideband."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._sideband: Sideband | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        if self._sideband:
            self._sideband.paused = True

    def resume_writing(self) -> None:
        if self._sideband:
            self._sideband.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sideband:
            self._sideband.transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_frame() if self._sideband else self._take_request():
            pass

    def _take_request(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if not end or len(rest) < size:
            return False
        self._buffer = rest[size:]
        _, target, _ = head.split(b" ", 2)
        if key := re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)", head):
            self._upgrade(target.rpartition(b"call_id=")[2].decode(), key[1])
        elif target.endswith(b"/client_secrets"):
            secret = {"value": "ek_bench", "expires_at": int(time.time()) + 60, "session": {"type": "realtime"}}
            self._answer("200 OK", json.dumps(secret).encode())
        elif target.endswith(b"/calls"):
            number = next(self._upstream.numbers)
            self._answer("201 Created", _SDP, f"Location: /v1/realtime/calls/{call_id(number)}\r\n")
        else:
            self._answer("200 OK", b"{}")
        return True

    def _answer(self, status: str, body: bytes, header: str = "") -> None:
        self._transport.write(f"HTTP/1.1 {status}\r\n{header}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def _upgrade(self, name: str, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest()).decode()
        self._transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._sideband = self._upstream.sidebands[name]
        self._sideband.transport = self._transport
        if all(each.transport for each in self._upstream.sidebands.values()):
            self._upstream.attached.set()

    def _take_frame(self) -> bool:
        """Answer a ping or a close; a client masks what it sends, and these are short."""
        if len(self._buffer) < 6 or len(self._buffer) < 6 + (self._buffer[1] & 127):
            return False
        size = self._buffer[1] & 127
        opcode, mask, body = self._buffer[0] & 15, self._buffer[2:6], self._buffer[6 : 6 + size]
        self._buffer = self._buffer[6 + size :]
        text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
        if opcode in (8, 9):
            self._transport.write(spell_frame(text, 0x88 if opcode == 8 else 0x8A))
        if opcode == 8:
            self._transport.close()
        return True


class Upstream:
    """Obey the orders."""

    def __init__(self, calls: int, events: int) -> None:
        self.numbers = itertools.count()
        self.attached = asyncio.Event()
        self.sidebands = {each.call_id: each for each in (Sideband(number, events) for number in range(calls))}

    async def warm(self) -> dict[str, Any]:
        began = time.perf_counter()
        sent = 0
        for sideband in self.sidebands.values():
            for _ in range(sideband.warm_events):
                sideband.put()
                sent += 1
            await asyncio.sleep(max(NAP, began + sent / WARM_RATE - time.perf_counter()))
        return {"sent": sent}

    async def paced(self, rate: int, count: int) -> dict[str, Any]:
        """Send to one call after another, each frame at its time."""
        turns = itertools.cycle(self.sidebands.values())
        began = time.perf_counter()
        sent = 0
        while sent < count:
            due = min(count, int((time.perf_counter() - began) * rate))
            while sent < due:
                next(turns).put()
                sent += 1
            await asyncio.sleep(NAP)
        return {"sent": sent}

    async def burst(self, count: int) -> dict[str, Any]:
        """Send as fast as it goes, to all calls alike."""
        sent = 0
        while sent < count:
            before = sent
            for sideband in self.sidebands.values():
                if not sideband.paused and not sideband.is_over and sent < count:
                    sideband.put()
                    sent += 1
            await asyncio.sleep(0 if sent > before else NAP)
        return {"sent": sent}

    async def obey(self, order: list[str]) -> dict[str, Any]:
        match order:
            case ["attached"]:
                await self.attached.wait()
                return {"attached": len(self.sidebands)}
            case ["warm"]:
                return await self.warm()
            case ["paced", rate, count]:
                return await self.paced(int(rate), int(count))
            case ["burst", count]:
                return await self.burst(int(count))
            case ["sent"]:
                calls = self.sidebands.values()
                return {each.call_id: [each.sent, sum(each.sizes[: each.sent])] for each in calls}
            case _:
                raise ValueError(order)


async def listen(upstream: Upstream, certificate: str | None) -> None:
    """Take connections and orders until stdin ends."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(upstream), "127.0.0.1", 0, ssl=context, backlog=2048)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while line := await orders.readline():
        print(json.dumps(await upstream.obey(line.decode().split())), flush=True)


def spell_frame(text: bytes, first: int = 0x81) -> bytes:
    size = len(text)
    return (struct.pack("!BB", first, size) if size < 126 else struct.pack("!BBH", first, 126, size)) + text


if __name__ == "__main__":
    uvloop.run(listen(Upstream(int(sys.argv[1]), int(sys.argv[2])), sys.argv[3] if len(sys.argv) > 3 else None))
