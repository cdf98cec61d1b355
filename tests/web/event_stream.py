"""Read server-sent events as a browser does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

DEADLINE = 20.0


@dataclass(frozen=True)
class Event:
    name: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Stream:
    """Parse what comes by the rules of the HTML standard: fields line by line, an empty line ends an event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0
        self.last_id = ""

    async def next(self, *names: str, deadline: float = DEADLINE) -> Event:
        """Give the next event, of these names if any are given."""
        async with asyncio.timeout(deadline):
            while True:
                event = await self._read()
                assert event is not None, "the stream ended"
                if not names or event.name in names:
                    return event

    async def take(self, count: int, name: str = "entry", deadline: float = DEADLINE) -> list[Event]:
        async with asyncio.timeout(deadline):
            return [await self.next(name, deadline=deadline) for _ in range(count)]

    async def rest(self, deadline: float = DEADLINE) -> list[Event]:
        """Give all events until the server ends the stream."""
        found = []
        async with asyncio.timeout(deadline):
            while (event := await self._read()) is not None:
                found.append(event)
        return found

    async def _read(self) -> Event | None:
        fields: dict[str, list[str]] = {}
        while line := (await self.response.content.readline()).decode():
            line = line.rstrip("\n")
            assert "\r" not in line
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
            elif fields:
                self.last_id = fields.get("id", [self.last_id])[-1]
                return Event(fields["event"][-1], "\n".join(fields["data"]), fields.get("id", [""])[-1])
        return None


@asynccontextmanager
async def streaming(
    client: aiohttp.ClientSession, url: str, key: str, *, last_event_id: str | None = None
) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {key}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    timeout = aiohttp.ClientTimeout(total=None)
    async with client.get(url, headers=headers, timeout=timeout, read_bufsize=2**22) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        yield Stream(response)
