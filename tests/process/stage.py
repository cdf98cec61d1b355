"""The installed command in processes of its own, before a simulator that runs in the test's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from rtobserver.clock import SystemClock
from rtobserver.simulator.server import Simulator
from rtobserver.store import keys
from tests.support import blank
from tests.support.stage import OFFER, Entry, read_entry
from tests.support.watch import Watch as Watch

COMMAND = Path(sys.executable).parent / "rtobserver"
PATIENCE = 40.0
"""Seconds that anything may take whose speed is not what a test is about."""

Json = dict[str, Any]
T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T | None]], patience: float = PATIENCE) -> T:
    """Ask again and again until the answer is there."""
    async with asyncio.timeout(patience):
        while True:
            # no pause: whoever asks the API waits for a flush, because the look itself is recorded
            if answer := await condition():
                return answer


class Command:
    """Be one run of the command."""

    def __init__(self, process: Process, watch: Watch) -> None:
        self.process = process
        self.watch = watch
        """Runs since the command was given."""
        self.lines: list[str] = []

    async def logged(self, event: str, **fields: object) -> Json:
        """Read the log up to the next line about an event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stderr.readline()).decode():
                self.lines.append(line)
                if line.startswith("{"):
                    logged: Json = json.loads(line)
                    if logged["event"] == event and fields.items() <= logged.items():
                        return logged
        raise AssertionError(f"it never said {event}: {''.join(self.lines)}")

    async def printed(self, beginning: str) -> str:
        """Read stdout up to a line that begins so; gives what follows."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith(beginning):
                    return line.removeprefix(beginning).strip()
        raise AssertionError(f"it never printed {beginning}")

    async def ended(self, patience: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for the end; gives the exit code, the rest of stdout and all of stderr."""
        async with asyncio.timeout(patience):
            out, err = await self.process.communicate()
        self.lines.append(err.decode())
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), "".join(self.lines)

    async def stopped(self, patience: float = PATIENCE) -> float:
        """Stop it with SIGTERM; gives the seconds that it took. It must end well and quietly."""
        watch = Watch()
        self.process.send_signal(signal.SIGTERM)
        code, _, log = await self.ended(patience)
        seconds = watch.seconds()
        assert code == 0, log
        assert "Traceback" not in log
        return seconds


@asynccontextmanager
async def command(*words: str | Path, folder: Path | None = None, **environ: str) -> AsyncIterator[Command]:
    """Run `rtobserver` with these words; it is killed if it outlives the block."""
    async with spawned(COMMAND, *words, folder=folder, **environ) as begun:
        yield begun


@asynccontextmanager
async def spawned(*words: str | Path, folder: Path | None = None, **environ: str) -> AsyncIterator[Command]:
    """Run a program; it is killed if it outlives the block."""
    watch = Watch()
    process = await asyncio.create_subprocess_exec(
        *map(str, words),
        cwd=folder,
        env=os.environ | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield Command(process, watch)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*words: str | Path, folder: Path | None = None, **environ: str) -> tuple[int, str, str]:
    """Run `rtobserver` to its end; gives exit code, stdout and stderr."""
    async with command(*words, folder=folder, **environ) as begun:
        return await begun.ended()


@dataclass
class Daemon:
    """Be a running `rtobserver serve`."""

    command: Command
    http: aiohttp.ClientSession
    public: str
    operator: str
    key: str
    adopted: int

    @property
    def process(self) -> Process:
        return self.command.process

    async def place(self) -> str:
        """Place a call as a browser does; gives its id."""
        status, location = await self.offer()
        assert status == 201
        return location.rpartition("/")[2]

    async def offer(self) -> tuple[int, str]:
        """Post an offer; gives the answer's status and its Location, or the body's code."""
        headers = {"Content-Type": "application/sdp"}
        async with self.http.post(f"{self.public}/connect", data=OFFER.encode(), headers=headers) as answer:
            if answer.status == 201:
                return answer.status, answer.headers["Location"]
            return answer.status, str((await answer.json())["error"]["code"])

    async def get(self, path: str, key: str | None = None) -> Json:
        """Read from the API."""
        async with self.http.get(f"{self.operator}/api/v1{path}", headers=_bearer(key or self.key)) as answer:
            assert answer.status == 200, await answer.text()
            document: Json = await answer.json()
            return document

    async def status(self, path: str, key: str | None = None) -> int:
        """Ask for something and give only the answer's status."""
        async with self.http.get(f"{self.operator}{path}", headers=_bearer(key or self.key)) as answer:
            return answer.status

    async def entries(self, call_id: str) -> list[Entry]:
        """Read all that is committed of a call."""
        headers = _bearer(self.key) | {"Accept": "application/x-ndjson"}
        async with self.http.get(f"{self.operator}/api/v1/calls/{call_id}/entries", headers=headers) as answer:
            assert answer.status == 200
            return [read_entry(line) for line in (await answer.read()).split(b"\n")[:-1]]

    async def gaps(self, call_id: str) -> list[Json]:
        """Read a call's gaps."""
        found: list[Json] = (await self.get(f"/calls/{call_id}/gaps"))["data"]
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over what the simulator has seen."""

        async def asked() -> bool:
            await self.get("/calls?limit=1")
            return condition()

        await until(asked)

    async def call_with(self, call_id: str, **fields: object) -> Json:
        """Wait until a call is as wanted; gives it."""

        async def asked() -> Json | None:
            call = await self.get(f"/calls/{call_id}")
            return call if fields.items() <= call.items() else None

        return await until(asked)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass
class Ground:
    """Be the folder, the upstream and the key that several daemons have one after the other."""

    folder: Path
    simulator: Simulator
    http: aiohttp.ClientSession
    config: Path = field(init=False)

    def __post_init__(self) -> None:
        self.config = configure(self.folder, self.simulator.base_url)

    @property
    def store(self) -> Path:
        return self.folder / "calls.db"

    def _make_key(self) -> str:
        if not self.store.exists():
            return blank.with_a_key(self.store)
        return keys.create(self.store, name="test", scopes=["admin"], now_us=SystemClock().now_us())

    @asynccontextmanager
    async def starting(self, **environ: str) -> AsyncIterator[Command]:
        """Start a daemon; it is killed at the end of the block unless it has ended."""
        words = ("serve", "--config", self.config, "--log-format", "json")
        async with command(*words, folder=self.folder, **environ) as begun:
            yield begun

    @asynccontextmanager
    async def serving(self, **environ: str) -> AsyncIterator[Daemon]:
        """Run a daemon, and have a key for it."""
        key = await asyncio.to_thread(self._make_key)
        async with self.starting(**environ) as begun:
            said = await begun.logged("listening")
            yield Daemon(begun, self.http, said["public"], said["operator"], key, said["adopted"])


@asynccontextmanager
async def ground(folder: Path, simulator: Simulator) -> AsyncIterator[Ground]:
    """Lay the ground for daemons in a folder."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(simulator)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Ground(folder, simulator, http)


def configure(folder: Path, base_url: str, *, more: str = "", profile: str = "") -> Path:
    """Write a configuration; `profile` are further lines of the one profile."""
    path = folder / "config.toml"
    path.write_text(
        f"""
[upstream]
provider = "azure"
base_url = "{base_url}"
auth = "api-key"
api_key = "sim-key"

[public]
port = 0

[operator]
port = 0

[store]
url = "sqlite:///calls.db"

{more}

[[profile]]
name = "default"
{profile}
[profile.session]
model = "gpt-realtime"
"""
    )
    return path
