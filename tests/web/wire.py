"""Speak HTTP byte by byte, as clients do that mean no good."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

DEADLINE = 20.0


@dataclass(frozen=True)
class Reply:
    """What came back on a connection until the server closed it."""

    raw: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self.raw
        document = json.loads(self.body)
        assert isinstance(document, dict)
        assert document["status"] == self.status
        return document

    @property
    def code(self) -> str:
        return str(self.problem["error"]["code"])


def parse(raw: bytes) -> Reply:
    if not raw:
        return Reply(raw)
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Reply(raw, int(first.split()[1]), headers, body)


def request(method: str, path: str, body: bytes = b"", /, *, host: str = "localhost", **headers: str) -> bytes:
    fields = {"Host": host, "Connection": "close", **{name.replace("_", "-"): headers[name] for name in headers}}
    if body or method == "POST":
        fields.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(port: int, data: bytes) -> Reply:
    """Send bytes, then read until the server closes."""
    async with asyncio.timeout(DEADLINE), connected(port) as (reader, writer):
        writer.write(data)
        return parse(await rest(reader))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes; a reset at the end takes nothing away that came before it."""
    pieces = []
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            pieces.append(piece)
    return b"".join(pieces)


async def drip(port: int, data: bytes, every: float) -> Reply:
    """Send bytes one by one until the server has closed."""
    async with asyncio.timeout(DEADLINE), connected(port) as (reader, writer), asyncio.TaskGroup() as group:
        answer = group.create_task(rest(reader), name="read the answer")
        for at in range(len(data)):
            writer.write(data[at : at + 1])
            done, _ = await asyncio.wait({answer}, timeout=every)
            if done:
                break
        return parse(await answer)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait for the server to close; true if it did so without a word."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)
