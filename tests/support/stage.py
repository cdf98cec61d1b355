"""A daemon in front of a simulated upstream, over real sockets and a real file, with a browser and an operator."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from rtobserver.clock import Clock
from rtobserver.config.sections import (
    Config,
    Limits,
    Observer,
    Operator,
    Profile,
    Public,
    Recording,
    Seconds,
    Secret,
    Store,
    Upstream,
    Webhook,
)
from rtobserver.daemon import Daemon, running
from rtobserver.policy.rules import PolicySet
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.options import SimulatorOptions
from rtobserver.simulator.server import Simulator
from rtobserver.store import sqlite
from tests.support import blank

Json = dict[str, Any]

PATIENCE = 20.0
"""Seconds until a condition that does not come true fails its test."""
API_KEY = "canary-upstream-key"
SESSION: Json = {"type": "realtime", "model": "gpt-realtime", "instructions": "Be kind."}
OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "a=rtpmap:111 opus/48000/2",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:canaryicepassword0123456",
        "a=fingerprint:sha-256 AA:BB",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:1",
        "",
    ]
)


@dataclass(frozen=True)
class Entry:
    """An entry as the API gives it, with the exact bytes of its payload."""

    fields: Json
    payload: bytes
    embedded: bool
    """Whether the payload stands in the line as it is, or in base64."""

    @property
    def position(self) -> tuple[int, int]:
        return self.fields["epoch"], self.fields["seq"]

    @property
    def kind(self) -> str:
        return str(self.fields["kind"])

    @property
    def type(self) -> str | None:
        found: str | None = self.fields["type"]
        return found

    @property
    def body(self) -> Any:
        return json.loads(self.payload)


def read_entry(line: bytes) -> Entry:
    """Read a line of NDJSON without parsing the payload."""
    head, mark, payload = line.partition(b',"payload":')
    if mark:
        return Entry(json.loads(head + b"}"), payload.removesuffix(b"}"), embedded=True)
    fields = json.loads(line)
    return Entry(fields, base64.b64decode(fields.pop("payload_base64"), validate=True), embedded=False)


@dataclass
class Stage:
    simulator: Simulator
    daemon: Daemon
    http: aiohttp.ClientSession
    key: str
    path: Path
    """The SQLite file."""
    config: Config

    # --- the browser ----------------------------------------------------------------------------

    async def offer(
        self, path: str = "/v1/realtime/calls", offer: str = OFFER, **headers: str
    ) -> aiohttp.ClientResponse:
        """Post an offer as a page does, and read the answer."""
        sent = {"Content-Type": "application/sdp"} | {name.replace("_", "-"): text for name, text in headers.items()}
        answer = await self.http.post(f"{self.daemon.public_url}{path}", data=offer.encode(), headers=sent)
        await answer.read()
        return answer

    async def call(self, path: str = "/v1/realtime/calls", **headers: str) -> str:
        """Place a call and give its id."""
        answer = await self.offer(path, **headers)
        assert answer.status == 201, await answer.text()
        return answer.headers["Location"].rpartition("/")[2]

    async def token(self, query: str = "", **headers: str) -> str:
        """Get a token and give it."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        async with self.http.get(f"{self.daemon.public_url}/token{query}", headers=sent) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["token"])

    async def hang_up(self, call_id: str, prefix: str = "/v1", **headers: str) -> int:
        """Ask for the end of a call and give the answer's status."""
        url = f"{self.daemon.public_url}{prefix}/realtime/calls/{call_id}/hangup"
        async with self.http.post(url, headers=headers) as answer:
            return answer.status

    # --- the operator ---------------------------------------------------------------------------

    async def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Read from the operator's API."""
        sent = {"Authorization": f"Bearer {self.key}"} | headers
        async with self.http.get(f"{self.daemon.operator_url}{path}", headers=sent) as answer:
            return answer.status, await answer.read()

    async def document(self, path: str) -> Any:
        """Read a JSON document from the operator's API."""
        status, body = await self.get(path)
        assert status == 200, body
        return json.loads(body)

    async def calls(self, query: str = "") -> list[Json]:
        """List calls, newest first."""
        return await self._all(f"/api/v1/calls?limit=1000{query}")

    async def row(self, call_id: str) -> Json:
        """Read a call."""
        found: Json = await self.document(f"/api/v1/calls/{call_id}")
        return found

    async def until(self, call_id: str, patience: float = PATIENCE, **wanted: Any) -> Json:
        """Wait until the fields of a call have these values; each look waits for a flush."""
        row: Json = {}
        try:
            async with asyncio.timeout(patience):
                while True:
                    status, body = await self.get(f"/api/v1/calls/{call_id}")
                    row = json.loads(body)
                    if status == 200 and all(row[name] == value for name, value in wanted.items()):
                        return row
        except TimeoutError:
            raise AssertionError(f"not {wanted} within {patience:g} s: {row}") from None

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so at the simulator."""
        await self.simulator.until(condition, PATIENCE)

    async def ended(self, call_id: str, outcome: str = "browser_left", patience: float = PATIENCE) -> Json:
        """Wait until a call has ended in this way."""
        return await self.until(call_id, patience, status="ended", outcome=outcome)

    async def until_stored(self, call_id: str, condition: Callable[[list[Entry]], bool]) -> list[Entry]:
        """Wait until the stored entries of a call are as wanted, and give them."""
        found: list[Entry] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await self.entries(call_id)
                    if condition(found):
                        return found
        except TimeoutError:
            seen = [(entry.kind, entry.type) for entry in found]
            raise AssertionError(f"the entries did not come: {seen}") from None

    async def lines(self, call_id: str, query: str = "") -> list[bytes]:
        """Stream the entries of a call as NDJSON."""
        status, body = await self.get(f"/api/v1/calls/{call_id}/entries{query}", Accept="application/x-ndjson")
        assert status == 200, body
        return body.split(b"\n")[:-1]

    async def entries(self, call_id: str, query: str = "") -> list[Entry]:
        """Read the entries of a call, with the bytes of their payloads."""
        return [read_entry(line) for line in await self.lines(call_id, query)]

    async def events(self, call_id: str) -> list[bytes]:
        """Read the stored frames of a call."""
        return [entry.payload for entry in await self.entries(call_id, "?kind=event")]

    async def decisions(self, call_id: str) -> list[Json]:
        """Read what policies decided in a call."""
        return await self._all(f"/api/v1/calls/{call_id}/decisions?limit=1000")

    async def gaps(self, call_id: str) -> list[Json]:
        """Read the gaps of a call."""
        return await self._all(f"/api/v1/calls/{call_id}/gaps?limit=1000")

    async def commands(self, call_id: str) -> list[Json]:
        """Read the commands of a call."""
        return await self._all(f"/api/v1/calls/{call_id}/commands?limit=1000")

    async def only_call(self) -> Json:
        """Read the one call there is, whatever its id."""
        [call] = await self.calls()
        return call

    async def until_only(self, **wanted: Any) -> Json:
        """Wait until the one call there is has these values."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for call in await self.calls():
                        if all(call[name] == value for name, value in wanted.items()):
                            return await self.only_call()
        except TimeoutError:
            raise AssertionError(f"not {wanted}: {await self.calls()}") from None

    async def _all(self, path: str) -> list[Json]:
        page = await self.document(path)
        found: list[Json] = page["data"]
        while page["next_cursor"] is not None:
            page = await self.document(f"{path}&cursor={page['next_cursor']}")
            found += page["data"]
        return found

    # --- behind the scenes ----------------------------------------------------------------------

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into the file, to make sure of what the API says."""
        with sqlite.transaction(self.path) as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def produced(self, call_id: str) -> list[bytes]:
        """Give the frames that upstream produced for a call."""
        return [produced.frame for produced in self.simulator.calls[call_id].produced]

    def requests(self, ending: str) -> list[Any]:
        """Give the requests that upstream got at addresses with this ending."""
        return [request for request in self.simulator.requests if request.path.endswith(ending)]


@dataclass(frozen=True)
class Setting:
    """Everything a test may want to be different."""

    profiles: tuple[Profile, ...] = ()
    profile: Json = field(default_factory=dict)
    """Changes to the one profile `default`, if `profiles` is empty."""
    public: Public = field(default_factory=Public)
    """A port that is not the default is kept; else it is a free one."""
    observer: Observer = field(default_factory=Observer)
    limits: Limits = field(default_factory=Limits)
    recording: Recording = field(default_factory=Recording)
    upstream: Json = field(default_factory=dict)
    policies: PolicySet = field(default_factory=PolicySet)
    webhooks: tuple[Webhook, ...] = ()


def config_for(simulator: Simulator, path: Path, setting: Setting) -> Config:
    """Write the configuration of a daemon in front of a simulator."""
    own: Json = {"name": "default", "session": SESSION, "max_duration": Seconds(0.0)} | setting.profile
    upstream: Json = {
        "provider": simulator.options.provider,
        "base_url": simulator.base_url,
        "auth": "api-key",
        "api_key": Secret(simulator.options.api_key),
    }
    return Config(
        upstream=Upstream(**(upstream | setting.upstream)),
        profiles=setting.profiles or (Profile(**own),),
        public=_on_a_free_port(setting.public),
        operator=Operator(port=0),
        store=Store(url=f"sqlite:///{path}"),
        observer=setting.observer,
        limits=setting.limits,
        recording=setting.recording,
        webhooks=setting.webhooks,
    )


def _on_a_free_port(public: Public) -> Public:
    """Listen on the default port for no test: another test, or the machine itself, may have it."""
    return replace(public, port=0) if public.port == Public().port else public


@asynccontextmanager
async def simulating(faults: Faults | None = None, **options: Any) -> AsyncIterator[Simulator]:
    """Run a simulator that waits for nothing; its conversation begins when somebody observes."""
    chosen: Json = {"pace": 0.0, "begin": "attached", "scenario": "quiet", "api_key": API_KEY, **options}
    async with Simulator(SimulatorOptions(faults=faults or Faults(), **chosen)) as simulator:
        yield simulator


@asynccontextmanager
async def serving(
    simulator: Simulator, path: Path, setting: Setting | None = None, clock: Clock | None = None
) -> AsyncIterator[Stage]:
    """Run a daemon in front of a simulator, on the SQLite file `path`; a second one may follow on the same file."""
    setting = setting or Setting()
    config = config_for(simulator, path, setting)
    key = await asyncio.to_thread(blank.with_a_key, path)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        running(config, setting.policies, clock=clock) as daemon,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        yield Stage(simulator, daemon, http, key, path, config)


@asynccontextmanager
async def staged(
    folder: Path, setting: Setting | None = None, *, faults: Faults | None = None, **options: Any
) -> AsyncIterator[Stage]:
    """Run both."""
    async with simulating(faults, **options) as simulator, serving(simulator, folder / "calls.db", setting) as stage:
        yield stage
