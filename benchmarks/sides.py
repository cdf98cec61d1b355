"""Start what is compared, each in a process of its own, and watch it from outside.

CPU is the process's own clock, read by its id, so that whoever is measured does nothing for it: user
and system time of all its threads, to the nanosecond. What was recorded is read from the database.
Linux only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

from benchmarks import article
from rtobserver.store import schema, sqlite
from rtobserver.store.identity import call_key

Name = Literal["floor", "daemon", "article", "reacting", "unrecorded"]
_SERVING: dict[str, str] = {"daemon": "rtobserver", "unrecorded": "benchmarks.unrecorded"}
"""Modules of those that negotiate calls themselves."""

PATIENCE = 120.0
"""Seconds that anything may take."""
CONNECTING = 20
"""Calls that are negotiated at once."""
POLL = 0.01
LOG_SHOWN = 2_000
"""Characters of a log that are shown where a side failed."""

_ROOT = Path(__file__).resolve().parents[1]
_OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
_KEY = "bench-key"


class Void(Exception):
    """Report that a figure would mean nothing: something was lost, or took too long."""


class Servant:
    """Be a process that obeys orders on stdin, and answers each with a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, order: str) -> Any:
        _tell(self._process, order)
        return json.loads(await _line(self._process))


class Sender(Servant):
    """Order the process that plays upstream."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        super().__init__(process)
        self.port = port


@asynccontextmanager
async def sending(calls: int, events: int, certificate: Path | None = None) -> AsyncIterator[Sender]:
    """Run a sender that has so many events for each call."""
    given = [] if certificate is None else [str(certificate)]
    async with spawned(["benchmarks.sender", str(calls), str(events), *given]) as (process, said):
        yield Sender(process, said["port"])


@asynccontextmanager
async def spawned(arguments: list[str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """Run a process that obeys, and give what it said first; it is killed at the end."""
    process = await _spawn(arguments, pipes=True)
    try:
        yield process, json.loads(await _line(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Side:
    """Be one of what is compared, while it runs."""

    name: Name
    process: asyncio.subprocess.Process
    path: Path
    """Its SQLite file."""
    calls: int
    url: str = ""
    """Where calls are negotiated; empty where it joins them by itself."""

    def cpu(self) -> float:
        """Give the seconds of CPU that it has used: the clock that the kernel keeps for that process."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def resident(self) -> int:
        """Give its resident memory in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cached(self) -> int:
        """Give the bytes of its database that SQLite holds in memory: all of it, up to the cache's size."""
        with closing(_reader(self.path)) as connection:
            [pages] = connection.execute("PRAGMA page_count").fetchone()
            [size] = connection.execute("PRAGMA page_size").fetchone()
        return min(int(pages) * int(size), -int(sqlite.PRAGMAS["cache_size"]) * 1024)

    @property
    def entries_before(self) -> int:
        """Count the entries that stand before the first event: the daemon begins each call with a gap."""
        return self.calls if self.name == "daemon" else 0

    async def place_calls(self) -> None:
        """Negotiate all calls, as browsers would; who knows the calls by itself is told to join them."""
        if not self.url:
            _tell(self.process, "join")
            return
        turns = asyncio.Semaphore(CONNECTING)
        async with aiohttp.ClientSession(headers={"Content-Type": "application/sdp"}) as client:

            async def place() -> None:
                async with turns, client.post(f"{self.url}/connect", data=_OFFER) as answer:
                    if answer.status != 201:
                        raise Void(f"/connect answered {answer.status}: {await answer.text()}")

            async with asyncio.TaskGroup() as tasks:
                for number in range(self.calls):
                    tasks.create_task(place(), name=f"place call {number}")

    async def stored(self, events: int) -> None:
        """Wait until so many events are committed.

        Raises:
            Void: they never came.

        """
        wanted = events + self.entries_before
        table = "event" if self.name == "article" else "entry"
        deadline = time.monotonic() + PATIENCE
        with closing(_reader(self.path)) as connection:
            while True:
                [found] = connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()
                if (found or 0) >= wanted:
                    return
                if time.monotonic() > deadline:
                    raise Void(f"{self.name}: {found} entries were stored, {wanted} were expected")
                await asyncio.sleep(POLL)

    def verify(self, sent: dict[str, list[int]]) -> None:
        """Compare what is stored with what was sent: events and bytes of each call.

        Raises:
            Void: they differ.

        """
        if self.name == "article":
            sql = "SELECT call_id, count(*), sum(length(payload)) FROM event GROUP BY call_id"
            wanted: dict[Any, list[int]] = dict(sent)
        else:
            sql = "SELECT call_key, count(*), sum(length(payload)) FROM entry WHERE kind = 1 GROUP BY call_key"
            wanted = {call_key(name): counts for name, counts in sent.items()}
        with closing(_reader(self.path)) as connection:
            found = {call: [count, size] for call, count, size in connection.execute(sql)}
        if found != wanted:
            wrong = sum(found.get(call) != counts for call, counts in wanted.items())
            raise Void(f"{self.name}: what is stored of {wrong} calls differs from what was sent")


@asynccontextmanager
async def running(
    name: Name, sender: Sender, calls: int, folder: Path, *, tls: Path | None = None, more: str = ""
) -> AsyncIterator[Side]:
    """Run one side on a fresh database, attached to all calls of the sender; `more` is for the daemon's settings."""
    path = folder / f"{name}.db"
    log = await asyncio.to_thread(_clean, folder, name)
    # the certificate names the host; without one, no name has to be looked up
    host = f"{'localhost' if tls else '127.0.0.1'}:{sender.port}/openai/v1"
    env = {} if tls is None else {"SSL_CERT_FILE": str(tls)}
    if name in _SERVING:
        config = _configure(folder / f"{name}.toml", f"http{'s' if tls else ''}://{host}", path, more)
        arguments = [_SERVING[name], "serve", "--log-format", "json", "--config", str(config)]
    else:
        await asyncio.to_thread(article.prepare if name == "article" else schema.migrate, path)
        arguments = [f"benchmarks.{name}", f"ws{'s' if tls else ''}://{host}", str(calls), str(path)]
    process = await _spawn(arguments, log=log, env=env, pipes=name not in _SERVING)
    try:
        url = await _listening(process, log) if name in _SERVING else ""
        if not url:
            await _line(process)
        yield Side(name, process, path, calls, url)
    except (TimeoutError, Void):
        sys.stderr.write((await asyncio.to_thread(log.read_text))[-LOG_SHOWN:])
        raise
    finally:
        if process.returncode is None:
            process.terminate() if name in _SERVING else process.kill()
        await process.wait()


def _configure(file: Path, upstream: str, path: Path, more: str) -> Path:
    """Write the configuration of a daemon that has nothing special about it but `more`."""
    file.write_text(f"""
[upstream]
provider = "azure"
base_url = "{upstream}"
auth = "api-key"
api_key = "{_KEY}"
[public]
port = 0
[operator]
port = 0
[store]
url = "sqlite:///{path}"
[[profile]]
name = "default"
session = {{ type = "realtime", model = "gpt-realtime" }}
{more}
""")
    file.chmod(0o600)
    return file


def _clean(folder: Path, name: str) -> Path:
    """Take away what an earlier round left; gives a new log."""
    for stale in folder.glob(f"{name}.*"):
        stale.unlink()
    log = folder / f"{name}.log"
    log.touch()
    return log


async def _listening(process: asyncio.subprocess.Process, log: Path) -> str:
    async with asyncio.timeout(PATIENCE):
        while process.returncode is None:
            told = await asyncio.to_thread(log.read_text)
            for line in told.splitlines(keepends=True):
                if '"listening"' in line and line.endswith("\n"):
                    return str(json.loads(line)["public"])
            await asyncio.sleep(POLL)
    raise Void("the daemon did not start")


async def _spawn(
    arguments: list[str],
    *,
    pipes: bool,
    log: Path | None = None,
    env: dict[str, str] | None = None,
) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE if pipes else asyncio.subprocess.DEVNULL
    error = None if log is None else log.open("wb")
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            cwd=_ROOT,
            env=os.environ | (env or {}),
            stdin=pipe,
            stdout=pipe,
            stderr=error,
            limit=2**24,
        )
    finally:
        if error is not None:
            error.close()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise TypeError("no pipe")
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    if not line:
        raise Void("a process of the benchmark is gone")
    return line


def _tell(process: asyncio.subprocess.Process, order: str) -> None:
    if process.stdin is None:
        raise TypeError("no pipe")
    process.stdin.write(f"{order}\n".encode())


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)
