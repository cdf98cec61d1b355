"""A browser and an observer for the simulator's tests: real HTTP, real websockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import websockets

from rtobserver.simulator.server import Simulator, SimulatorOptions

Json = dict[str, Any]

OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "a=rtpmap:111 opus/48000/2",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdef01234567",
        "a=fingerprint:sha-256 AA:BB",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:1",
        "",
    ]
)
SESSION: Json = {"type": "realtime", "model": "gpt-realtime"}


class Observer:
    """Hold a sideband and read what comes."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket

    async def send(self, **event: object) -> None:
        """Send a client event."""
        await self.socket.send(json.dumps(event))

    async def next(self) -> Json:
        """Read the next event."""
        async with asyncio.timeout(20):
            event: Json = json.loads(await self.socket.recv())
            return event

    async def until(self, kind: str) -> list[Json]:
        """Read up to and including the next event of this type."""
        events = [await self.next()]
        while events[-1]["type"] != kind:
            events.append(await self.next())
        return events

    async def rest(self) -> list[Json]:
        """Read everything up to the close."""
        events: list[Json] = []
        async with asyncio.timeout(20):
            try:
                while True:
                    events.append(json.loads(await self.socket.recv()))
            except websockets.ConnectionClosed:
                return events


class Caller:
    """Place calls at a simulator."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    @property
    def key(self) -> dict[str, str]:
        """Give the vendor's header for the standard key."""
        key = self.simulator.options.api_key
        if self.simulator.options.provider == "azure":
            return {"api-key": key}
        return {"authorization": f"Bearer {key}"}

    async def post(self, path: str, **request: Any) -> aiohttp.ClientResponse:
        """Post to a path below the base URL and read the answer."""
        request.setdefault("allow_redirects", False)
        answer = await self.http.post(self.simulator.base_url + path, **request)
        await answer.read()
        return answer

    async def mint(self, session: Json | None = None) -> str:
        """Get a client secret."""
        body = {"session": SESSION if session is None else session}
        answer = await self.post("/realtime/client_secrets", headers=self.key, json=body)
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["value"])

    async def offer(self, secret: str, offer: str = OFFER, query: str = "") -> aiohttp.ClientResponse:
        """Post an offer as browsers do."""
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/sdp"}
        return await self.post(f"/realtime/calls{query}", headers=headers, data=offer.encode())

    async def call(self, session: Json | None = None) -> str:
        """Place a call and give its id."""
        known = len(self.simulator.calls)
        answer = await self.offer(await self.mint(session))
        assert answer.status == 201, await answer.text()
        return list(self.simulator.calls)[known]

    async def hang_up(self, call_id: str) -> aiohttp.ClientResponse:
        """Ask upstream to end a call."""
        return await self.post(f"/realtime/calls/{call_id}/hangup", headers=self.key)

    def sideband_url(self, call_id: str) -> str:
        """Give the address of a call's sideband."""
        return f"ws{self.simulator.base_url.removeprefix('http')}/realtime?call_id={call_id}"

    @asynccontextmanager
    async def attach(self, call_id: str, **options: Any) -> AsyncIterator[Observer]:
        """Attach a sideband."""
        options.setdefault("additional_headers", self.key)
        options = {"max_size": None, "max_queue": None, **options}
        async with websockets.connect(self.sideband_url(call_id), compression=None, proxy=None, **options) as socket:
            yield Observer(socket)

    async def refused(self, call_id: str, **options: Any) -> tuple[int, Json]:
        """Give status and body with which an attach is refused."""
        try:
            async with self.attach(call_id, **options):
                raise AssertionError("the attach was not refused")
        except websockets.InvalidStatus as exc:
            return exc.response.status_code, json.loads(exc.response.body or b"{}")


@asynccontextmanager
async def calling(**options: Any) -> AsyncIterator[Caller]:
    """Run a simulator with a caller; without `pace` it waits for nothing, and begins when a sideband is there."""
    chosen: dict[str, Any] = {"pace": 0.0, "begin": "attached", "scenario": "quiet", **options}
    async with (
        Simulator(SimulatorOptions(**chosen)) as simulator,
        aiohttp.ClientSession() as http,
    ):
        yield Caller(simulator, http)


def types(events: list[Json]) -> list[str]:
    """Give the events' types."""
    return [event["type"] for event in events]
