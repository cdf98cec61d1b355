"""A peer that is told, request by request and byte by byte, what to answer; and a clock that is told the time."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from rtobserver.clock import SystemClock


@dataclass
class Asked:
    connection: int
    line: str
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Step = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    host: str = "127.0.0.1"
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    opened: int = 0
    steps: deque[Step] = field(default_factory=deque)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/openai/v1"

    def will(self, *steps: Step) -> None:
        self.steps.extend(steps)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        connection = self.opened
        self.writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, *lines = head.decode("latin-1").split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append(Asked(connection, line, headers, body, head + body))
                await self.steps.popleft()(writer)
                async with self.changed:
                    self.changed.notify_all()
                if writer.is_closing():
                    return
        writer.close()


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    server = await asyncio.start_server(made.serve, made.host, 0, limit=1 << 20)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in made.writers:
            writer.transport.abort()
        await server.wait_closed()


def answer(status: int, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> Step:
    async def step(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *(f"{n}: {v}" for n, v in headers)]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await writer.drain()

    return step


def raw(data: bytes) -> Step:
    """Write exactly these bytes, leave the connection open and say nothing more."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return step


def cut(data: bytes = b"") -> Step:
    """Write these bytes and close."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    return step


def flood(head: bytes, chunk: bytes, count: int) -> Step:
    """Write a head and so many chunks, as far as the other side takes them."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with suppress(ConnectionError):
            for _ in range(count):
                writer.write(chunk)
                await writer.drain()

    return step


silence = raw(b"")


class HandClock(SystemClock):
    """Tell the time that it was told; sleeping takes no time and is noted."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.slept: list[float] = []

    def now_us(self) -> int:
        return 1_795_400_000_000_000 + int(self.elapsed * 1e6)

    def mono(self) -> float:
        return 1000.0 + self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed += seconds
