"""Several daemons in processes of their own, on one PostgreSQL and before one upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from rtobserver.clock import SystemClock
from rtobserver.simulator.call import Call
from rtobserver.simulator.scenario import Flood, Scenario
from rtobserver.simulator.server import Simulator, SimulatorOptions
from rtobserver.store import keys, schema
from rtobserver.store.places import Server
from tests.process.stage import PATIENCE, Daemon, command, configure, until
from tests.support import postgres
from tests.support.replicas import database

STREAM = Scenario(name="stream", steps=(Flood(rate=10, seconds=0),))
"""A call that says something ten times a second until it is ended."""


@dataclass
class Replicas:
    """Be the folder, the database and the upstream that they share."""

    folder: Path
    simulator: Simulator
    server: Server
    key: str
    http: aiohttp.ClientSession
    more: str = ""
    """Further lines of the configuration."""

    @asynccontextmanager
    async def serving(self, name: str, **environ: str) -> AsyncIterator[Daemon]:
        """Run a replica with a journal of its own; it is killed at the end of the block unless it has ended."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        config = configure(folder, self.simulator.base_url, more=self.more)
        text = config.read_text().replace("sqlite:///calls.db", self.server.url)
        config.write_text(text.replace("[public]", f'[public]\ntoken_key = "{"A" * 43}"', 1))
        words = ("serve", "--config", config, "--log-format", "json")
        async with command(*words, folder=folder, **environ) as begun:
            said = await begun.logged("listening")
            yield Daemon(begun, self.http, said["public"], said["operator"], self.key, said["adopted"])

    def calls(self, call_ids: Sequence[str]) -> list[Call]:
        """Give upstream's side of calls."""
        return [self.simulator.calls[call_id] for call_id in call_ids]


@asynccontextmanager
async def replicas(
    folder: Path, *, more: str = "", scenario: Scenario = STREAM, cluster: postgres.Cluster | None = None
) -> AsyncIterator[Replicas]:
    """Lay the ground for replicas in a folder, on a `cluster` that may be stopped or on the one of all tests."""
    chosen = {"scenario_for": lambda _offer, _number: scenario, "begin": "attached"}
    async with AsyncExitStack() as stack:
        server, key = await (database() if cluster is None else asyncio.to_thread(_database, cluster))
        simulator = await stack.enter_async_context(Simulator(SimulatorOptions(**chosen)))  # type: ignore[arg-type]
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield Replicas(folder, simulator, server, key, http, more)


def _database(cluster: postgres.Cluster) -> tuple[Server, str]:
    server = Server(cluster.create())
    schema.migrate(server)
    scopes: tuple[keys.Scope, ...] = ("admin",)
    return server, keys.create(server, name="test", scopes=scopes, now_us=SystemClock().now_us())


async def placed(daemon: Daemon, count: int) -> list[str]:
    """Place calls, ten at a time."""
    found: list[str] = []
    while len(found) < count:
        found += await asyncio.gather(*(daemon.place() for _ in range(min(10, count - len(found)))))
    return found


async def heard(simulator: Simulator, call_ids: Sequence[str], sidebands: int = 1) -> None:
    """Wait until each call has so many open sidebands."""
    await simulator.until(
        lambda: all(len(simulator.calls[call_id].open_sidebands) == sidebands for call_id in call_ids), PATIENCE
    )


async def live(them: Replicas, daemon: Daemon, call_ids: Sequence[str]) -> None:
    """Wait until a replica knows from the database that these calls are live, and whose they are."""

    async def asked() -> bool:
        found = {call["call_id"] for call in (await daemon.get("/calls?status=live&limit=1000"))["data"]}
        leases = await asyncio.to_thread(postgres.shared().execute, "SELECT call_id FROM lease", url=them.server.url)
        return found & {row[0] for row in leases} >= set(call_ids)

    await until(asked)
