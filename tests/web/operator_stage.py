"""Serve the operator's application on a real socket, over a real database and what writes to it."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import sqlalchemy as sa
from aiohttp import web
from yarl import URL

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Config, Operator, Profile, Retention, Upstream
from rtobserver.housekeeping import Housekeeping
from rtobserver.metrics import Metrics
from rtobserver.outbound import HookState
from rtobserver.policy.active import Active
from rtobserver.policy.rules import PolicySet
from rtobserver.reloading import Reloading
from rtobserver.settings import Settings
from rtobserver.store import keys, sqlite, tables
from rtobserver.store.audit import Audit, insertion
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from rtobserver.store.writing import Writing
from rtobserver.web.health import Health
from rtobserver.web.listener import listening
from rtobserver.web.operator import operator_app
from rtobserver.web.pages.login import FORM
from rtobserver.web.vitals import Checkup
from tests.store import stored
from tests.support import blank


class Clock(SystemClock):
    """Tell the machine's time, moved forward at will."""

    ahead = 0.0

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead * 1_000_000)

    def mono(self) -> float:
        return super().mono() + self.ahead


@dataclass
class Facts:
    draining: bool = False
    broken: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    since: int | None = None
    front: str = ""
    webhooks: list[HookState] = field(default_factory=list)


@dataclass
class Files:
    """What a reload finds; raised if it is an error."""

    found: Settings | Exception

    def read(self) -> Settings:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def settings(policies: PolicySet) -> Settings:
    upstream = Upstream(provider="azure", base_url="https://example.com/openai/v1", auth="entra")
    return Settings(Config(upstream=upstream, profiles=(Profile(name="default"),)), policies, ())


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["Content-Type"].startswith("application/problem+json")
        return str(self.json["error"]["code"])


@dataclass
class Stage:
    place: Place
    folder: Path
    url: str
    client: aiohttp.ClientSession
    writer: Writing
    database: Database
    clock: Clock
    facts: Facts
    metrics: Metrics
    housekeeping: Housekeeping
    key: str
    active: Active
    reloads: Reloading
    files: Files
    app: web.Application

    @property
    def path(self) -> Path:
        """Give the file, where it is one."""
        assert isinstance(self.place, Path)
        return self.place

    def make_key(self, *scopes: keys.Scope, expires_at: int | None = None) -> str:
        return make_key(self.place, name="test", scopes=scopes, expires_at=expires_at, now_us=self.clock.now_us())

    async def get(self, path: str, *, key: str | None = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {self.key if key is None else key}"} if key != "" else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.get(f"{self.url}{path}", headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def delete(self, path: str, *, key: str | None = None) -> Answer:
        sent = {"Authorization": f"Bearer {self.key if key is None else key}"} if key != "" else {}
        async with self.client.delete(f"{self.url}{path}", headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def send(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> Answer:
        """Send a request with these headers and no others; no redirect is followed and no cookie kept."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"{self.url}{path}", encoded=True)
        async with self.client.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read())

    async def sign_in(self, key: str | None = None, **headers: str) -> str:
        """Sign in as the form does, and give the cookie as it is sent back."""
        body = urlencode({"key": self.key if key is None else key, "next": "/"}).encode()
        answer = await self.send("POST", "/login", body, **({"Origin": self.url, "Content_Type": FORM} | headers))
        assert answer.status == 303, answer.body
        return str(answer.headers["Set-Cookie"]).partition(";")[0]

    async def all_pages(self, path: str) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            join = "&" if "?" in path else "?"
            answer = await self.get(f"{path}{join}cursor={cursor}" if cursor else path)
            assert answer.status == 200, answer.body
            found += answer.json["data"]
            cursor = answer.json["next_cursor"]
        return found

    def insert(self, table: sa.Table, *rows: dict[str, Any]) -> None:
        stored.insert(self.place, table, *rows)

    def select(self, statement: sa.Select[Any]) -> list[Any]:
        return stored.select(self.place, statement)

    def revoke_key(self, key: str, *, now_us: int | None = None) -> bool:
        now = self.clock.now_us() if now_us is None else now_us
        return stored.apart(lambda: keys.revoke(self.place, key[4:14], now_us=now))

    def entomb(self, *call_ids: str) -> None:
        stored.entomb(self.place, *call_ids)


@functools.cache
def _reader() -> tuple[str, dict[str, Any]]:
    """Make a key as anybody does, in a database of its own; gives it and the row that is kept of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.db"
        blank.migrated(path)
        key = keys.create(path, name="reader", now_us=SystemClock().now_us())
        with sqlite.transaction(path) as connection:
            return key, dict(connection.execute(sa.select(tables.api_key)).mappings().one())


def _with_a_reader(place: Place, now_us: int) -> str:
    """Put a key into a database as if it were made now: to make one takes longer than most tests."""
    key, row = _reader()

    def work(connection: sa.Connection) -> None:
        connection.execute(tables.api_key.insert().values(row | {"created_at": now_us}))
        connection.execute(insertion(now_us, action="keys.create", object_=row["key_id"], status=200))

    stored.visit(place, work)
    return key


def make_key(place: Place, **values: Any) -> str:
    """Make a key, though a loop runs here."""
    if isinstance(place, Path):
        return keys.create(place, **values)
    return stored.apart(lambda: keys.create(place, **values))


@asynccontextmanager
async def stage(
    folder: Path,
    policies: PolicySet | None = None,
    section: Operator | None = None,
    *,
    kind: str = "sqlite",
) -> AsyncIterator[Stage]:
    clock, facts, metrics = Clock(), Facts(), Metrics()
    begun = settings(policies or PolicySet())
    active, files = Active(begun.policies), Files(begun)

    async def adopt(found: Settings) -> None:
        active.replace(found.policies)

    reloads = Reloading(begun, read=files.read, adopt=adopt, clock=clock, metrics=metrics)
    with stored.lent(kind, folder) as place:
        async with stored.writing_to(place, folder) as writer, stored.reads_of(place, clock) as database:
            housekeeping = Housekeeping(
                database=database, writer=writer, clock=clock, metrics=metrics, retention=Retention()
            )
            health = Health(
                draining=lambda: facts.draining,
                broken=lambda: dict.fromkeys(facts.broken),
                degraded=lambda: dict.fromkeys(facts.degraded, facts.since),
            )
            app = operator_app(
                section=section or Operator(),
                database=database,
                writer=writer,
                # a disk that others use makes nobody here unavailable
                audit=Audit(writer, clock=clock, patience=30),
                housekeeping=housekeeping,
                checkup=Checkup(
                    replica_id="rep_1",
                    started_at=clock.now_us(),
                    health=health,
                    metrics=metrics,
                    writer=writer,
                    clock=clock,
                    settings={"public": {"port": 8080}},
                    webhooks=lambda: facts.webhooks,
                ),
                metrics=metrics,
                health=health,
                clock=clock,
                active=active,
                reloading=reloads,
                login_key=bytes(32),
                front=lambda: facts.front,
            )
            key = _with_a_reader(place, clock.now_us())
            async with listening(app, host="127.0.0.1", port=0) as listener, aiohttp.ClientSession() as client:
                yield Stage(
                    place,
                    folder,
                    listener.url,
                    client,
                    writer,
                    database,
                    clock,
                    facts,
                    metrics,
                    housekeeping,
                    key,
                    active,
                    reloads,
                    files,
                    app,
                )
