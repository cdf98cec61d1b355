"""A TCP proxy that does to connections what networks do; every fault can be switched while they run.

`Proxy.up` is the way from the daemon to upstream, `Proxy.down` the way back. A fault holds for what
is read from then on, on all connections or only on those whose first bytes `concerns` picks.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from typing import Self

CHUNK = 64 * 1024


@dataclass(slots=True)
class Way:
    """Say what happens to bytes on their way; the default is nothing."""

    delay: float = 0.0
    """Seconds that each piece waits."""
    rate: float = 0.0
    """Bytes a second; 0 is as fast as it goes."""
    swallow: bool = False
    """Take everything and pass nothing on: a black hole."""
    stall: bool = False
    """Do not even read, so that the sender's buffers fill."""
    slices: int = 0
    """Pass pieces of so many bytes, each in a segment of its own; 0 passes them as they came."""
    flip_every: int = 0
    """Turn over one bit of every so many bytes; 0 leaves them alone."""

    def heal(self) -> None:
        """Do no more harm."""
        for each in fields(self):
            setattr(self, each.name, each.default)


@dataclass(eq=False)
class Link:
    """Be one connection through the proxy."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    head: bytes = b""
    """The first bytes that the daemon sent."""
    is_half_closed: bool = False

    def reset(self) -> None:
        """Break both ends with RST."""
        for writer in (self.near, self.far):
            end = writer.get_extra_info("socket")
            if end is not None and not writer.transport.is_closing():
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def half_close(self) -> None:
        """Say towards the daemon that nothing more will come, and go on taking what it sends."""
        self.is_half_closed = True
        self.near.write_eof()


class Proxy:
    """Stand between a daemon and an upstream while entered."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.up, self.down = Way(), Way()
        self.refuses = False
        """New connections are broken at once."""
        self.concerns: Callable[[bytes], bool] = lambda _head: True
        """Picks connections by the first bytes of the daemon; the faults of the others are none."""
        self.links: list[Link] = []
        self.count = 0
        """Connections so far."""
        self.port = 0
        self._calm = Way()
        self._tasks = asyncio.TaskGroup()
        self._serving: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        # the connections that were broken are told so in the loop's next turn
        await asyncio.sleep(0)

    def picked(self) -> list[Link]:
        """Give the open connections that `concerns` picks."""
        return [link for link in self.links if self.concerns(link.head)]

    def switched(self) -> None:
        """Have those who stand still look at the faults again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.count += 1
        task = self._tasks.create_task(self._serve(reader, near), name=f"connection {self.count}")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self.refuses:
            near.transport.abort()
            return
        try:
            far_reader, far = await asyncio.open_connection(*self._target)
        except OSError:
            near.transport.abort()
            return
        link = Link(near, far)
        self.links.append(link)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(link, reader, far, self.up), name="up")
                ways.create_task(self._carry(link, far_reader, near, self.down), name="down")
        finally:
            self.links.remove(link)
            for writer in (near, far):
                writer.transport.abort()

    async def _carry(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        count = 0
        with suppress(OSError, asyncio.IncompleteReadError):
            while piece := await reader.read(CHUNK):
                if way is self.up and not link.head:
                    link.head = piece
                while self._fault(link, way).stall:
                    await self._changed.wait()
                fault = self._fault(link, way)
                if fault.swallow or (way is self.down and link.is_half_closed):
                    continue
                if fault.delay:
                    await asyncio.sleep(fault.delay)
                if fault.flip_every:
                    piece = _flipped(piece, count, fault.flip_every)
                count += len(piece)
                await _pass_on(writer, piece, fault)
            while self._fault(link, way).swallow:
                # what is swallowed of an end is sent again, as TCP does, once there is a way
                await self._changed.wait()
            if not (way is self.down and link.is_half_closed):
                writer.write_eof()

    def _fault(self, link: Link, way: Way) -> Way:
        return way if self.concerns(link.head) else self._calm


async def _pass_on(writer: asyncio.StreamWriter, piece: bytes, fault: Way) -> None:
    size = fault.slices or len(piece)
    for place in range(0, len(piece), size):
        part = piece[place : place + size]
        writer.write(part)
        await writer.drain()
        if fault.rate:
            await asyncio.sleep(len(part) / fault.rate)
        elif fault.slices:
            await asyncio.sleep(0)


def _flipped(piece: bytes, before: int, every: int) -> bytes:
    changed = bytearray(piece)
    for index in range((-before - 1) % every, len(changed), every):
        changed[index] ^= 0x10
    return bytes(changed)


@asynccontextmanager
async def between(origin: str) -> AsyncIterator[Proxy]:
    """Put a proxy before `http://host:port`."""
    host, _, port = origin.removeprefix("http://").rpartition(":")
    async with Proxy(host, int(port)) as proxy:
        yield proxy
