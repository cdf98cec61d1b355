"""Whatever happens to the daemon, to PostgreSQL or to the way between them: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from rtobserver.store import registration, schema, tables
from rtobserver.store.identity import CallRef
from rtobserver.store.journal import Journal
from rtobserver.store.places import Server
from tests.store.recording import NEW, PAYLOAD, journal
from tests.store.stored import START, fresh_server
from tests.support import postgres

PATIENCE = 60.0
KILLS = 8
SHIPPER = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rtobserver ship' AND datname = current_database()"


async def fetch(server: Server, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(server.url)
    try:
        return [tuple(row) for row in await connection.fetch(sql, *args)]
    finally:
        await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.01)


async def check(server: Server, epochs: dict[int, int]) -> None:
    """Make sure that each epoch is there without a hole, at least as far as it was said to be safe."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    for epoch, seq, payload in await fetch(server, "SELECT epoch, seq, payload FROM entry ORDER BY epoch, seq"):
        found.setdefault(epoch, []).append((seq, bytes(payload)))
    for epoch, last in epochs.items():
        rows = found.get(epoch, [])
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        assert len(rows) >= last
        assert all(payload == (PAYLOAD % (epoch, seq)).encode() for seq, payload in rows)


@contextmanager
def nothing_twice() -> Iterator[None]:
    with capture_logs() as logs:
        yield
    assert not [line for line in logs if line["event"] in ("entries_there_already", "shipping_failed")]


async def test_a_daemon_that_is_killed_at_any_moment_loses_nothing_that_was_safe(tmp_path: Path) -> None:
    server = await asyncio.to_thread(fresh_server)
    dice = random.Random(8)
    safe: dict[int, int] = {}
    said = b""
    for epoch in range(1, KILLS + 1):
        words = ("-m", "tests.store.recording", server.url, str(tmp_path), str(epoch), str(dice.choice((3, 40, 400))))
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            for _ in range(dice.randint(1, 25)):
                line = await process.stdout.readline()
                assert line, (await process.stderr.read()).decode()
                safe[epoch] = int(line)
        process.kill()
        out, err = await process.communicate()
        said += err
        safe[epoch] = int((out.split(b"\n")[:-1] or [str(safe[epoch]).encode()])[-1])
    with nothing_twice():
        last, database = journal(server, tmp_path)
        await last.open()
        await last.readable(PATIENCE)
        await last.close()
        await database.close()
    await check(server, safe)
    assert b"entries_there_already" not in said
    assert b"Traceback" not in said
    [(count, epoch)] = await fetch(server, "SELECT entry_count, epoch FROM call")
    assert epoch == KILLS
    assert count >= KILLS * 1_000_000 + safe[KILLS]


class Recording:
    """A journal into which entries are recorded all the time."""

    def __init__(self, made: Journal) -> None:
        self.journal = made
        self.ref: CallRef = NEW.ref()
        self.seq = 0
        self.is_over = False

    async def run(self) -> None:
        self.journal.note(registration.register(self.ref, NEW))
        while not self.is_over:
            for _ in range(20):
                self.seq += 1
                payload = (PAYLOAD % (1, self.seq)).encode()
                self.journal.entry((self.ref, 1, self.seq, 1, START, 0, "a", None, payload, 0))
            self.journal.fact(tables.call, self.ref, {"entry_count": self.seq})
            await asyncio.sleep(0.01)

    async def later(self, rows: int) -> None:
        """Wait until so many more rows were recorded."""
        wanted = self.seq + rows
        await until(lambda: self.seq >= wanted)


@asynccontextmanager
async def recording(server: Server, folder: Path, reached: Server | None = None) -> AsyncIterator[Recording]:
    """Record for the length of the block; all of it must then be in the database."""
    made, database = journal(reached or server, folder, file_bytes=500_000)
    await made.open()
    going_on = Recording(made)
    with nothing_twice():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(going_on.run())
            try:
                yield going_on
            finally:
                going_on.is_over = True
        await made.readable(PATIENCE)
        await made.close()
        await database.close()
    await check(server, {1: going_on.seq})
    assert await fetch(server, "SELECT entry_count FROM call") == [(going_on.seq,)]


async def test_a_connection_that_is_killed_again_and_again_costs_nothing(tmp_path: Path) -> None:
    server = await asyncio.to_thread(fresh_server)
    killed = 0
    async with recording(server, tmp_path) as going_on:
        for _ in range(10):
            await going_on.later(200)
            killed += len(await fetch(server, f"SELECT pg_terminate_backend(pid) FROM ({SHIPPER}) AS its"))
    assert killed >= 5


class Relay:
    """Stand between the shipper and the server, and break the connection when a commit was done and not yet said."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._parts = parts
        self.cuts = 0
        self.each = 3
        self._commits = 0

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._parts.username}@" if self._parts.username else ""
        return Server(urlunsplit(self._parts._replace(netloc=f"{user}127.0.0.1:{port}")))

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(*self._target)
        asked = asyncio.Event()

        async def up() -> None:
            while piece := await reader.read(65536):
                if b"COMMIT" in piece:
                    self._commits += 1
                    if self._commits % self.each == 0:
                        asked.set()
                far.write(piece)
            far.close()

        async def down() -> None:
            while piece := await far_reader.read(65536):
                if asked.is_set() and b"COMMIT" in piece:
                    self.cuts += 1
                    break
                writer.write(piece)
            writer.transport.abort()
            far.transport.abort()

        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(up())
                ways.create_task(down())
        except* OSError:
            writer.transport.abort()
            far.transport.abort()


async def test_a_commit_whose_reply_is_lost_is_not_done_again(tmp_path: Path) -> None:
    server = await asyncio.to_thread(fresh_server)
    relay = Relay(server.url)
    async with relay as reached, recording(server, tmp_path, reached) as going_on:
        await until(lambda: relay.cuts >= 5)
        await going_on.later(100)
        relay.each = 10**9
    assert relay.cuts >= 5


BEGGING = 64
"""More than the bytes of a connection that only asks for another one's statement to be given up."""


class Choking:
    """Stand between the shipper and the server, and take nothing more of the first connection that brings much."""

    def __init__(self, url: str, takes: int) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._parts, self._takes = parts, takes
        self.choked, self.left = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Server:
        listening = socket.create_server(("127.0.0.1", 0))
        # or the kernel alone would take a whole batch
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._server = await asyncio.start_server(self._serve, sock=listening)
        port = listening.getsockname()[1]
        user = f"{self._parts.username}@" if self._parts.username else ""
        return Server(urlunsplit(self._parts._replace(netloc=f"{user}127.0.0.1:{port}")))

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(*self._target)

        async def up() -> None:
            taken = 0
            while piece := await reader.read(65536):
                far.write(piece)
                taken += len(piece)
                if self.choked.is_set() and taken > BEGGING:
                    self.left.set()
                if taken > self._takes and not self.choked.is_set():
                    self.choked.set()
                    # until the shipper comes another way, which it alone can find out that it must
                    await self.left.wait()
                    writer.transport.abort()
            far.close()

        async def down() -> None:
            while piece := await far_reader.read(65536):
                writer.write(piece)
            writer.close()

        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(up())
                ways.create_task(down())
        except* OSError:
            writer.transport.abort()
        far.transport.abort()


async def test_a_server_that_takes_nothing_more_in_the_middle_of_a_batch_is_left_in_time(tmp_path: Path) -> None:
    server = await asyncio.to_thread(fresh_server)
    nowhere, database = journal(Server("postgresql://127.0.0.1:1/away"), tmp_path, file_bytes=10**9)
    await nowhere.open()
    ref = NEW.ref()
    nowhere.note(registration.register(ref, NEW))
    payloads = {seq: b"%d:" % seq + b"x" * 3_000 for seq in range(1, 3_001)}
    for seq, payload in payloads.items():
        nowhere.entry((ref, 1, seq, 1, START, 0, "a", None, payload, 0))
    await nowhere.kept()
    nowhere.hurry()
    await nowhere.close()
    await database.close()
    choking = Choking(server.url, 1_000_000)
    async with choking as reached:
        with nothing_twice():
            made, database = journal(reached, tmp_path)
            await made.open()
            async with asyncio.timeout(PATIENCE):
                await choking.choked.wait()
            await made.readable(PATIENCE)
            await made.close()
            await database.close()
    found = await fetch(server, "SELECT seq, payload FROM entry ORDER BY seq")
    assert {seq: bytes(payload) for seq, payload in found} == payloads
    assert len(found) == len(payloads)


async def test_a_table_that_somebody_holds_is_waited_for(tmp_path: Path) -> None:
    server = await asyncio.to_thread(fresh_server)
    async with recording(server, tmp_path) as going_on:
        await going_on.later(200)
        connection = await asyncpg.connect(server.url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE entry IN ACCESS EXCLUSIVE MODE")
            await going_on.later(2_000)
            await until(lambda: going_on.journal.waiting > 1_000)
        await connection.close()
        await until(lambda: going_on.journal.waiting < 1_000)


@pytest.mark.parametrize("how", ["immediate", "fast"])
async def test_a_server_that_goes_and_comes_back_has_everything(tmp_path: Path, how: Any) -> None:
    with postgres.running(durable=True) as cluster:
        server = Server(cluster.create())
        await asyncio.to_thread(schema.migrate, server)
        async with recording(server, tmp_path) as going_on:
            for _ in range(2):
                await going_on.later(500)
                await asyncio.to_thread(cluster.stop, how)
                await going_on.later(1_000)
                assert going_on.journal.waiting > 500
                assert going_on.journal.oldest_at is not None
                await asyncio.to_thread(cluster.start)
                await until(lambda: going_on.journal.waiting < 500)
