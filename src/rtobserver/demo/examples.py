"""Place the example calls of the demonstration, as browsers would, and wait until they are recorded."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import urlencode

import aiohttp

from rtobserver.demo import scenes
from rtobserver.demo.stand import Demo
from rtobserver.errors import RtobserverError
from rtobserver.simulator.call import Call

CALL_SECONDS = 60.0
"""The longest that an example call may take."""

_SECONDS_BEFORE_INTERRUPTION = 1.5

_OFFER = (
    "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s={}", "t=0 0", "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendrecv", "a=rtpmap:111 opus/48000/2",
    "a=rtcp-mux", "a=setup:actpass", "a=ice-ufrag:demo", "a=ice-pwd:demodemodemodemodemodemo",
    "a=fingerprint:sha-256 " + ":".join(["00"] * 32),
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:1", "a=sctp-port:5000",
    "a=setup:actpass", "a=ice-ufrag:demo", "a=ice-pwd:demodemodemodemodemodemo", "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """Be a call that shows something."""

    name: str
    words: str
    """What there is to see in it."""
    profile: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        """Give what its offer asks for."""
        return {"profile": self.profile, "labels": json.dumps(self.labels)}


EXAMPLES = (
    Example("talk", "the caller interrupts the model", "default"),
    Example("claims", "a policy stops a promise, another hangs up after a goodbye", "claims", {"team": "luggage"}),
    Example("order", "a tool answers, and a lost connection leaves a gap", "orders", {"team": "parcels"}),
)
"""What is recorded at the start; the first is the one that a terminal is shown."""


async def place_call(demo: Demo) -> str:
    """Place the first example call and wait until it is recorded to its end; gives its id.

    Raises:
        RtobserverError: the offer was refused, or the call did not end in time.

    """
    return await place(demo, EXAMPLES[0])


async def place(demo: Demo, example: Example) -> str:
    """Place an example call and wait until it is recorded to its end; gives its id.

    Raises:
        RtobserverError: the offer was refused, or the call did not end in time.

    """
    url = f"{demo.daemon.public_url}/connect"
    try:
        async with asyncio.timeout(CALL_SECONDS), aiohttp.ClientSession() as http:
            call_id = await (_call if demo.has_media else _post)(demo, example, url, http)
            await _until_recorded(demo, call_id, http)
            return call_id
    except TimeoutError as exc:
        raise RtobserverError(f"the example call `{example.name}` did not end within {CALL_SECONDS:g} s") from exc


async def _call(demo: Demo, example: Example, url: str, http: aiohttp.ClientSession) -> str:
    """Be a caller with a microphone and a loudspeaker."""
    # Imported here: aiortc takes most of a second, and may not be there.
    from rtobserver.simulator.caller import Caller

    async with Caller(
        f"{url}?{urlencode(example.query)}", http=http, session_name=scenes.session_name(example.name)
    ) as caller:
        if example.name == "talk":
            caller.say("question")
            await caller.until_event("output_audio_buffer.started", patience=CALL_SECONDS)
            heard = caller.heard_seconds
            await caller.until(lambda: caller.heard_seconds > heard + _SECONDS_BEFORE_INTERRUPTION, CALL_SECONDS)
            caller.say("interruption")
            await caller.until_event("output_audio_buffer.stopped", patience=CALL_SECONDS)
        else:
            await _meanwhile(demo, example, caller.call_id)
            await caller.until(lambda: caller.is_over, CALL_SECONDS)
        return caller.call_id


async def _post(demo: Demo, example: Example, url: str, http: aiohttp.ClientSession) -> str:
    """Place a call whose media nobody waits for."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("sdp", "\r\n".join(_OFFER).format(scenes.session_name(example.name)))
    async with http.post(url, data=form, params=example.query) as answer:
        if answer.status != 201:
            raise RtobserverError(f"/connect answered {answer.status}: {await answer.text()}")
        call_id = answer.headers["Location"].rpartition("/")[2]
    await _meanwhile(demo, example, call_id)
    return call_id


async def _meanwhile(demo: Demo, example: Example, call_id: str) -> None:
    """Let happen to a call what its scenario cannot bring about."""
    if example.name != "order":
        return
    call = demo.simulator.calls[call_id]
    await demo.simulator.until(lambda: _has_answered(call) or call.ended is not None, CALL_SECONDS)
    await demo.simulator.drop_sidebands(call_id)


def _has_answered(call: Call) -> bool:
    return any(b'"output_audio_buffer.stopped"' in produced.frame for produced in call.produced)


async def _until_recorded(demo: Demo, call_id: str, http: aiohttp.ClientSession) -> None:
    await demo.simulator.until(lambda: demo.simulator.calls[call_id].ended is not None, CALL_SECONDS)
    url, key = f"{demo.daemon.operator_url}/api/v1/calls/{call_id}", {"Authorization": f"Bearer {demo.key}"}
    while True:
        async with http.get(url, headers=key) as call:
            if call.status == 200 and (await call.json())["status"] == "ended":
                return
        await asyncio.sleep(0.5)
