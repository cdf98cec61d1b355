"""Daemons on one PostgreSQL database, in this process, before a simulated upstream."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from rtobserver.clock import SystemClock
from rtobserver.config.sections import FilePath, Store
from rtobserver.daemon import running
from rtobserver.simulator.server import Simulator
from rtobserver.store import keys, sqlite, tables
from rtobserver.store.places import Server
from tests.store.stored import fresh_server
from tests.support import postgres
from tests.support.stage import Setting, Stage, config_for


@dataclass
class Replica(Stage):
    """A daemon on PostgreSQL; `path` is its journal's folder."""

    server: Server = field(default_factory=lambda: Server(""))

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in postgres.shared().execute(statement, url=self.server.url)]


async def database() -> tuple[Server, str]:
    """Make a database of its own with one key for everything; gives it and the key."""
    server = await asyncio.to_thread(fresh_server)
    return server, await asyncio.to_thread(_key, server)


def _key(server: Server) -> str:
    scopes: tuple[keys.Scope, ...] = ("admin",)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.db"
        key = keys.create(path, name="test", scopes=scopes, now_us=SystemClock().now_us())
        with sqlite.transaction(path) as connection:
            [row] = connection.execute(tables.api_key.select())
    postgres.shared().execute("INSERT INTO api_key VALUES ($1, $2, $3, $4, $5, $6, $7)", *row, url=server.url)
    return key


@asynccontextmanager
async def replica(
    simulator: Simulator, server: Server, key: str, folder: Path, setting: Setting | None = None, **store: Any
) -> AsyncIterator[Replica]:
    """Run a daemon whose journal lies in a folder."""
    setting = setting or Setting()
    section = Store(url=server.url, journal_dir=FilePath(str(folder)), migrate_on_start=False, **store)
    config = replace(config_for(simulator, folder, setting), store=section)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        running(config, setting.policies) as daemon,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        yield Replica(simulator, daemon, http, key, folder, config, server)
