"""Frames that the simulator produces, taken from a call over real sockets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import websockets

from rtobserver.simulator.server import Simulator, SimulatorOptions

Json = dict[str, Any]

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\n"
    "a=mid:0\r\na=rtpmap:96 opus/48000/2\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\na=fingerprint:sha-256 AA\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n"
)
FAULT_FREE = ("default", "three_turns", "typed", "barge_in", "tool", "error", "cap")
"""Every shipped scenario that ends by itself and says something; `quiet` does not, `chatty` only repeats deltas."""


def key_header(simulator: Simulator) -> dict[str, str]:
    """Give the vendor's header for the standard key."""
    key = simulator.options.api_key
    return {"api-key": key} if simulator.options.provider == "azure" else {"authorization": f"Bearer {key}"}


async def negotiate(
    simulator: Simulator, http: aiohttp.ClientSession, session: Json, query: str = ""
) -> tuple[aiohttp.ClientResponse, aiohttp.ClientResponse]:
    """Mint and post an offer; give both answers, read."""
    minted = await http.post(
        f"{simulator.base_url}/realtime/client_secrets", headers=key_header(simulator), json={"session": session}
    )
    headers = {"authorization": f"Bearer {(await minted.json())['value']}", "content-type": "application/sdp"}
    answered = await http.post(f"{simulator.base_url}/realtime/calls{query}", headers=headers, data=OFFER.encode())
    await answered.read()
    return minted, answered


async def frames_of(
    options: SimulatorOptions, *, session: Json | None = None, client_events: Sequence[Json] = (), last: str = ""
) -> list[bytes]:
    """Place one call and give the frames of its sideband, up to the close or the event type `last`."""
    async with Simulator(options) as simulator, aiohttp.ClientSession() as http:
        await negotiate(simulator, http, session or {"type": "realtime", "model": "gpt-realtime"})
        (call_id,) = simulator.calls
        url = f"ws{simulator.base_url.removeprefix('http')}/realtime?call_id={call_id}"
        frames: list[bytes] = []
        async with websockets.connect(
            url, additional_headers=key_header(simulator), proxy=None, max_queue=None
        ) as socket:
            for event in client_events:
                await socket.send(json.dumps(event))
            async for frame in socket:
                frames.append(frame.encode() if isinstance(frame, str) else frame)
                if last and json.loads(frame)["type"] == last:
                    break
        return frames
