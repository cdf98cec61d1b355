"""Daemons whose store is a PostgreSQL server that a case may break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from rtobserver.clock import SystemClock
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.server import Simulator, SimulatorOptions
from rtobserver.store import keys, schema
from rtobserver.store.places import Server
from tests.faults.ground import QUIET, Site
from tests.process.stage import Daemon
from tests.support.postgres import Cluster, running

Json = dict[str, Any]

SQLITE = '[store]\nurl = "sqlite:///calls.db"\n'
TOKEN_KEY = "A" * 43


@dataclass
class ServerSite(Site):
    """A site whose daemons share a server; each has a journal of its own."""

    cluster: Cluster | None = None
    server: Server = field(default_factory=lambda: Server(""))
    journal: str = "journal"
    """Folder of the journal of the next daemon."""
    key: str = ""
    url: str = ""
    """Where daemons reach the server, if not at its own address."""

    def configure(self, *, more: str = "", profile: str = "", entra: bool = False, store: str = "") -> None:
        """Write the configuration anew; `store` are further lines of its section."""
        super().configure(more=more, profile=profile, entra=entra)
        section = f'[store]\nurl = "{self.url or self.server.url}"\njournal_dir = "{self.journal}"\n{store}\n'
        text = self.config.read_text().replace(SQLITE, section)
        self.config.write_text(text.replace("[public]\n", f'[public]\ntoken_key = "{TOKEN_KEY}"\n'))

    @asynccontextmanager
    async def serving(self, *failpoints: str, prefix: Sequence[str] = (), **environ: str) -> AsyncIterator[Daemon]:
        """Run a daemon."""
        async with self.starting(*failpoints, prefix=prefix, **environ) as begun:
            said = await begun.logged("listening")
            yield Daemon(begun, self.http, said["public"], said["operator"], self.key, said["adopted"])

    async def readiness(self, daemon: Daemon) -> tuple[int, Json]:
        """Ask whether a daemon is ready, which needs no key and no database."""
        async with self.http.get(f"{daemon.operator}/readyz") as answer:
            return answer.status, json.loads(await answer.text())


@asynccontextmanager
async def server_site(folder: Path, *, faults: Faults | None = None, **options: Any) -> AsyncIterator[ServerSite]:
    """Run a server that keeps what it promises, and an upstream that keeps a ledger."""
    ledger = folder / "ledger.ndjson"
    chosen: Json = {"pace": 1.0, "begin": "attached", "scenario": QUIET, **options}
    scopes: tuple[keys.Scope, ...] = ("admin",)
    async with AsyncExitStack() as stack:
        cluster = await asyncio.to_thread(stack.enter_context, running(durable=True))
        server = Server(await asyncio.to_thread(cluster.create))
        await asyncio.to_thread(schema.migrate, server)
        now = SystemClock().now_us()
        key = await asyncio.to_thread(lambda: keys.create(server, name="test", scopes=scopes, now_us=now))
        simulator = await stack.enter_async_context(
            Simulator(SimulatorOptions(ledger=ledger, faults=faults or Faults(), **chosen))
        )
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield ServerSite(folder, simulator, http, ledger, cluster=cluster, server=server, key=key)
