"""An upstream with a ledger, and daemons in processes of their own that are measured while they run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from rtobserver.clock import SystemClock
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.scenario import Flood, Scenario
from rtobserver.simulator.server import Simulator, SimulatorOptions
from rtobserver.store import keys
from tests.faults import oracle
from tests.faults.figures import Figures
from tests.faults.oracle import Json, Record, Span, Told
from tests.faults.proxy import Proxy, between
from tests.process.stage import PATIENCE, Command, Daemon, Watch, configure
from tests.support.stage import read_entry

Gap = tuple[float, float]
"""How long a loop did not turn, and how much of that something waited for a processor; both in ms."""
TOP = Path(__file__).resolve().parents[2]
SAMPLE = 0.1
"""Seconds between two looks at a process."""


def stream(rate: float = 10.0) -> Scenario:
    """Give a call that says something at a steady rate until it is ended."""
    return Scenario(name="stream", steps=(Flood(rate=rate, seconds=0),))


QUIET = Scenario(name="quiet", steps=(), ending="stay")


@dataclass
class Measured:
    """Hold the worst that was seen of all daemons of a case."""

    rss: float = 0.0
    """MiB."""
    loop_gap: Gap = (0.0, 0.0)
    descriptors: int = 0
    deaths: list[Span] = field(default_factory=list)
    """For each daemon that was killed, when it was last seen alive and first seen dead."""
    waits: list[tuple[float, float]] = field(default_factory=list)
    """At these times, for how many seconds since it was begun somebody had waited for a processor, a disk or memory."""
    _watch: Watch = field(default_factory=Watch)

    def note_waits(self) -> None:
        """Take note of how long somebody has waited up to now."""
        self.waits.append((time.time(), self._watch.starved()))

    def waited(self, since: float, until: float) -> float:
        """Give the seconds in which somebody waited between two times, or a look more on either side."""
        before = max((told for at, told in self.waits if at <= since), default=0.0)
        behind = min((told for at, told in self.waits if at >= until), default=self._watch.starved())
        return behind - before


class Look(threading.Thread):
    """Look at a process now and then, and keep the most that was seen."""

    def __init__(self, pid: int, measured: Measured) -> None:
        super().__init__(name=f"look at {pid}", daemon=True)
        self._home = Path(f"/proc/{pid}")
        self._measured = measured
        self._over = threading.Event()
        self._alive = time.time()
        self._dead = 0.0

    @property
    def death(self) -> Span:
        """Give when it was last seen alive, and first seen dead."""
        return self._alive, self._dead or time.time()

    def run(self) -> None:
        while not self._over.wait(SAMPLE):
            now = time.time()
            self._measured.note_waits()
            try:
                status = (self._home / "status").read_text()
                if "\nState:\tZ" in status:
                    raise ProcessLookupError(self.name)
                count = sum(1 for _ in (self._home / "fd").iterdir())
            except OSError:
                self._dead = self._dead or now
                continue  # it has ended, or is about to
            self._alive = now
            if found := re.search(r"VmHWM:\s+(\d+)", status):
                self._measured.rss = max(self._measured.rss, int(found[1]) / 1024)
            self._measured.descriptors = max(self._measured.descriptors, count)

    def stop(self) -> None:
        self._over.set()
        self.join()


class Logged(Command):
    """Be a run whose log goes to a file: a pipe that nobody reads would hold it up."""

    def __init__(self, process: Process, watch: Watch, log: Path) -> None:
        super().__init__(process, watch)
        self.log = log
        self._read = 0

    async def logged(self, event: str, **fields: object) -> Json:
        """Wait for the next line about an event."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self._whole_lines():
                    self._read += len(line) + 1
                    found = json.loads(line) if line.startswith(b"{") else {}
                    if found.get("event") == event and fields.items() <= found.items():
                        return dict(found)
                if self.process.returncode is not None:
                    raise AssertionError(f"it never said {event}: {self.log.read_text()}")
                await asyncio.sleep(0.02)

    def _whole_lines(self) -> list[bytes]:
        return self.log.read_bytes()[self._read :].split(b"\n")[:-1]

    def events(self, event: str) -> list[Json]:
        """Give what was logged about an event so far."""
        lines = self.log.read_bytes().split(b"\n")[:-1]
        found: list[Json] = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [line for line in found if line.get("event") == event]

    async def ended(self, patience: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for the end; gives the exit code, nothing, and the log."""
        async with asyncio.timeout(patience):
            code = await self.process.wait()
        return code, "", self.log.read_text()


@dataclass
class Site:
    """Be the folder, the upstream and the measures of one case."""

    folder: Path
    simulator: Simulator
    http: aiohttp.ClientSession
    ledger: Path
    proxy: Proxy | None = None
    migrations: Path | None = None
    """Scripts of the release that what is started from now on is; None is this one."""
    measured: Measured = field(default_factory=Measured)
    config: Path = field(init=False)
    _runs: int = 0

    def __post_init__(self) -> None:
        self.configure()

    @property
    def store(self) -> Path:
        return self.folder / "calls.db"

    def configure(self, *, more: str = "", profile: str = "", entra: bool = False) -> None:
        """Write the configuration anew."""
        url = self.simulator.base_url
        if self.proxy is not None:
            url = url.replace(self.simulator.origin, f"http://127.0.0.1:{self.proxy.port}")
        self.config = configure(self.folder, url, more=more, profile=profile)
        if entra:
            text = self.config.read_text().replace('auth = "api-key"\napi_key = "sim-key"', 'auth = "entra"')
            self.config.write_text(text)

    @asynccontextmanager
    async def starting(
        self, *failpoints: str, prefix: Sequence[str] = (), words: Sequence[str] = ("serve",), **environ: str
    ) -> AsyncIterator[Logged]:
        """Start a command of rtobserver; it is killed at the end of the block unless it has ended."""
        self._runs += 1
        log = self.folder / f"daemon-{self._runs}.log"
        gap = self.folder / f"daemon-{self._runs}.gap"
        runner = [sys.executable, "-m", "tests.faults.run", "--loop-gap", str(gap)]
        runner += [part for order in failpoints for part in ("--failpoint", order)]
        runner += [] if self.migrations is None else ["--migrations", str(self.migrations)]
        formatted = ["--log-format", "json"] if words[0] == "serve" else []
        with log.open("wb") as file:
            watch = Watch()
            process = await asyncio.create_subprocess_exec(
                *prefix,
                *runner,
                "--",
                *words,
                "--config",
                str(self.config),
                *formatted,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": f"{TOP / 'src'}:{TOP}"} | environ,
                stdin=DEVNULL,
                stdout=DEVNULL if words[0] == "serve" else PIPE,
                stderr=file,
            )
        look = Look(process.pid, self.measured)
        look.start()
        try:
            yield Logged(process, watch, log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await asyncio.to_thread(look.stop)
            if process.returncode == -signal.SIGKILL:
                self.measured.deaths.append(look.death)
            self.measured.loop_gap = max(self.measured.loop_gap, _gap(gap))

    @asynccontextmanager
    async def serving(self, *failpoints: str, prefix: Sequence[str] = (), **environ: str) -> AsyncIterator[Daemon]:
        """Run a daemon, and have a key for it."""
        now = SystemClock().now_us()
        scopes: tuple[keys.Scope, ...] = ("admin",)
        key = await asyncio.to_thread(lambda: keys.create(self.store, name="test", scopes=scopes, now_us=now))
        async with self.starting(*failpoints, prefix=prefix, **environ) as begun:
            yield await self.listening(begun, key)

    async def listening(self, begun: Logged, key: str) -> Daemon:
        """Wait until a daemon listens; `key` is one that it knows."""
        said = await begun.logged("listening")
        return Daemon(begun, self.http, said["public"], said["operator"], key, said["adopted"])

    # --- what became of it ----------------------------------------------------------------------

    async def end(self, daemon: Daemon, call_ids: Iterable[str], status: str = "ended") -> None:
        """Have the callers leave, and wait until their records are whole."""
        call_ids = list(call_ids)
        for call_id in call_ids:
            await self.simulator.end_call(call_id)
        for call_id in call_ids:
            await daemon.call_with(call_id, status=status)

    async def figures(
        self, daemon: Daemon, call_ids: Iterable[str], *, cut: Sequence[Span] = (), excuse: str = ""
    ) -> Figures:
        """Compare the ledger with what the daemon gives back: of these calls, and of all others that upstream made.

        The others it may have forgotten, which is counted, or erased.
        """
        told = await asyncio.to_thread(oracle.read_ledger, self.ledger)
        records = {call_id: await record(daemon, call_id) for call_id in call_ids}
        for call_id in [call_id for call_id in told if call_id not in records]:
            match await daemon.status(f"/api/v1/calls/{call_id}"):
                case 200:
                    records[call_id] = await record(daemon, call_id)
                case 410:
                    del told[call_id]
                case status:
                    assert status == 404, status
        return self._verified(told.values(), records, cut=cut, excuse=excuse)

    async def figures_of(self, daemon: Daemon, call_ids: Iterable[str]) -> Figures:
        """Compare the ledger with what the daemon gives back of these calls alone."""
        told = await asyncio.to_thread(oracle.read_ledger, self.ledger)
        records = {call_id: await record(daemon, call_id) for call_id in call_ids}
        return self._verified([told[call_id] for call_id in records], records)

    def _verified(self, told: Iterable[Told], records: dict[str, Record], **more: Any) -> Figures:
        loop_gap, starved = self.measured_loop_gap()
        return oracle.verify(
            told,
            records,
            rss=self.measured.rss,
            loop_gap=loop_gap,
            starved=starved,
            deaths=self.measured.deaths,
            **more,
        )

    def measured_loop_gap(self) -> Gap:
        """Give the longest gap so far, that of a running daemon included."""
        return max(self.measured.loop_gap, _gap(self.folder / f"daemon-{self._runs}.gap"))


def _gap(path: Path) -> Gap:
    words = path.read_text().split() if path.exists() else []
    return (float(words[0]), float(words[1])) if len(words) == 2 else (0.0, 0.0)


async def record(daemon: Daemon, call_id: str) -> Record:
    """Read all that the API gives of a call's entries and gaps."""
    headers = {"Authorization": f"Bearer {daemon.key}", "Accept": "application/x-ndjson"}
    path = f"{daemon.operator}/api/v1/calls/{call_id}"
    async with daemon.http.get(f"{path}/entries", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        entries = [read_entry(line) for line in (await answer.read()).split(b"\n")[:-1]]
    page = await daemon.get(f"/calls/{call_id}/gaps?limit=1000")
    assert page["next_cursor"] is None
    # its sums are never older than what was read before
    return Record(entries, page["data"], await daemon.get(f"/calls/{call_id}"))


@asynccontextmanager
async def site(
    folder: Path, *, faults: Faults | None = None, proxied: bool = False, **options: Any
) -> AsyncIterator[Site]:
    """Run an upstream that keeps a ledger, behind a fault proxy if that is wanted."""
    ledger = folder / "ledger.ndjson"
    chosen: Json = {"pace": 1.0, "begin": "attached", "scenario": QUIET, **options}
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(SimulatorOptions(ledger=ledger, faults=faults or Faults(), **chosen))
        )
        proxy = await stack.enter_async_context(between(simulator.origin)) if proxied else None
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield Site(folder, simulator, http, ledger, proxy)
