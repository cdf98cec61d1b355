"""Stand between a shipper and its server, and do harm at a moment of one's choosing."""

from __future__ import annotations

import asyncio
import socket
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from rtobserver.store.places import Server

CHUNK = 65_536


class Link:
    """One connection."""

    def __init__(self) -> None:
        self.sent = 0
        """Bytes that the shipper has sent on it."""
        self.is_asked = False
        """For whoever stands between: whether its moment has come on this connection."""
        self.is_broken = False


class Relay:
    """Pass everything on; what a subclass returns False for is where a connection breaks."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)

    async def there(self, link: Link, piece: bytes) -> bool:
        """Hear what goes to the server."""
        return True

    async def back(self, link: Link, piece: bytes) -> bool:
        """Hear what comes from the server."""
        return True

    @property
    def reached(self) -> Server:
        """Give the server as it is reached this way."""
        user = f"{self._parts.username}@" if self._parts.username else ""
        return Server(urlunsplit(self._parts._replace(netloc=f"{user}127.0.0.1:{self._port}")))

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        # or the kernel alone would take a whole batch
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        self._port: int = listening.getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, sock=listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._join(reader, writer), name="connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        link = Link()

        async def up() -> None:
            while piece := await reader.read(CHUNK):
                link.sent += len(piece)
                far.write(piece)
                if not await self.there(link, piece):
                    break
            else:
                far.close()
                return
            writer.transport.abort()
            far.transport.abort()

        async def down() -> None:
            while piece := await far_reader.read(CHUNK):
                if not await self.back(link, piece):
                    break
                writer.write(piece)
            writer.transport.abort()
            far.transport.abort()

        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(up(), name="up")
                ways.create_task(down(), name="down")
        except* OSError:
            link.is_broken = True
        finally:
            writer.transport.abort()
            far.transport.abort()
