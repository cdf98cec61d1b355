"""Whatever happens to the daemon, to PostgreSQL or to the way between them: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from rtobserver.store import registration, schema, tables
from rtobserver.store.identity import CallRef
from rtobserver.store.journal import Journal
from rtobserver.store.places import Server
from tests.store.recording import NEW, PAYLOAD, Deaf, journal
from tests.store.relays import Link, Relay
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


class Cutting(Relay):
    """Break the connection when a commit was done and not yet said."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.cuts = 0
        self.each = 3
        self._commits = 0

    async def there(self, link: Link, piece: bytes) -> bool:
        if b"COMMIT" in piece:
            self._commits += 1
            link.is_asked |= self._commits % self.each == 0
        return True

    async def back(self, link: Link, piece: bytes) -> bool:
        is_cut = link.is_asked and b"COMMIT" in piece
        self.cuts += is_cut
        return not is_cut


async def test_a_commit_whose_reply_is_lost_is_not_done_again(tmp_path: Path) -> None:
    server = await asyncio.to_thread(fresh_server)
    async with Cutting(server.url) as between, recording(server, tmp_path, between.reached) as going_on:
        await until(lambda: between.cuts >= 5)
        await going_on.later(100)
        between.each = 10**9
    assert between.cuts >= 5


BEGGING = 64
"""More than the bytes of a connection that only asks for another one's statement to be given up."""


class Choking(Relay):
    """Take nothing more of the first connection that brings much."""

    def __init__(self, url: str, takes: int) -> None:
        super().__init__(url)
        self._takes = takes
        self.choked, self.left = asyncio.Event(), asyncio.Event()

    async def there(self, link: Link, piece: bytes) -> bool:
        if self.choked.is_set():
            if link.sent > BEGGING:
                self.left.set()
        elif link.sent > self._takes:
            self.choked.set()
            # until the shipper comes another way, which it alone can find out that it must
            await self.left.wait()
            return False
        return True


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
    async with Choking(server.url, 1_000_000) as between:
        with nothing_twice():
            made, database = journal(between.reached, tmp_path)
            await made.open()
            async with asyncio.timeout(PATIENCE):
                await between.choked.wait()
            await made.readable(PATIENCE)
            await made.close()
            await database.close()
    found = await fetch(server, "SELECT seq, payload FROM entry ORDER BY seq")
    assert {seq: bytes(payload) for seq, payload in found} == payloads
    assert len(found) == len(payloads)


NOTICED = 12.0
"""Seconds within which a server that answers nothing is known to be away."""


class Silent(Relay):
    """Let nothing come back any more from a certain piece of a transaction on, and of no new connection."""

    def __init__(self, url: str, piece: int) -> None:
        super().__init__(url)
        self._piece = piece
        self._count: int | None = None
        self.may_begin = False
        self.began_at: float | None = None

    async def there(self, link: Link, piece: bytes) -> bool:
        if self.may_begin and self.began_at is None:
            if b"BEGIN" in piece:
                self._count = 0
            elif self._count is not None:
                self._count += 1
            if self._count == self._piece:
                self.began_at = time.monotonic()
        return True

    async def back(self, link: Link, piece: bytes) -> bool:
        if self.began_at is not None:
            await asyncio.Event().wait()
        return True


class Noticing(Deaf):
    """Take the time when the database was first said to be away."""

    at: float | None = None

    def away(self, problem: str) -> None:
        self.at = self.at or time.monotonic()


async def time_to_notice(server: Server, folder: Path, piece: int) -> float:
    """Give the seconds until a silent server is known to be one."""
    async with Silent(server.url, piece) as between:
        noticing = Noticing()
        made, database = journal(between.reached, folder / str(piece), file_bytes=500_000, ships=noticing)
        await made.open()
        going_on = Recording(made)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(going_on.run())
            await going_on.later(200)
            await made.readable(PATIENCE)
            between.may_begin = True
            await until(lambda: noticing.at is not None)
            going_on.is_over = True
        made.hurry()
        await made.close()
        await database.close()
        assert between.began_at is not None
        assert noticing.at is not None
        return noticing.at - between.began_at


async def test_a_server_that_goes_silent_at_any_moment_is_known_to_be_away_in_time(tmp_path: Path) -> None:
    # side by side, since all of it is waiting: the begin, the position, the rows, what they end with, the commit
    servers = [await asyncio.to_thread(fresh_server) for _ in range(6)]
    took = await asyncio.gather(*(time_to_notice(server, tmp_path, piece) for piece, server in enumerate(servers)))
    assert max(took) <= NOTICED, took


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
