"""Show the whole thing on one machine: a simulated upstream, a daemon, one recorded example call."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from rtobserver.clock import Clock, SystemClock
from rtobserver.config.sections import Config, FilePath, Operator, Profile, Public, Secret, Store, Upstream
from rtobserver.daemon import Daemon, running
from rtobserver.errors import RtobserverError
from rtobserver.simulator.options import SimulatorOptions
from rtobserver.simulator.server import Simulator, has_media
from rtobserver.store import keys

CALL_SECONDS = 60.0
"""The longest that the example call may take."""

_SECONDS_BEFORE_INTERRUPTION = 1.5

PAGE = Path(__file__).with_name("demo_page")
"""The web page that people place calls with; plain files."""

_API_KEY = "sim-key"
_OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-mux",
        "a=setup:actpass",
        "a=ice-ufrag:demo",
        "a=ice-pwd:demodemodemodemodemodemo",
        "a=fingerprint:sha-256 " + ":".join(["00"] * 32),
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=sctp-port:5000",
        "a=setup:actpass",
        "a=ice-ufrag:demo",
        "a=ice-pwd:demodemodemodemodemodemo",
        "",
    ]
)


@dataclass(frozen=True, slots=True)
class Demo:
    """Be a running demonstration."""

    daemon: Daemon
    key: str
    """An API key for everything."""
    path: Path
    """The SQLite file."""
    upstream: str
    has_media: bool
    """Whether one can talk with it; without aiortc there is no sound and no data channel."""


@asynccontextmanager
async def demonstrating(*, public_port: int, operator_port: int) -> AsyncIterator[Demo]:
    """Run a simulator and a daemon on a fresh SQLite file; the file stays when they stop.

    Raises:
        OSError: a port is taken.

    """
    clock: Clock = SystemClock()
    folder = Path(tempfile.mkdtemp(prefix="rtobserver-demo-"))
    media = has_media()
    scenario = "talk" if media else "default"
    options = SimulatorOptions(api_key=_API_KEY, scenario=scenario, media=media, begin="attached")
    async with Simulator(options) as simulator:
        path, page, key_file = folder / "demo.db", folder / "page", folder / "key"
        await asyncio.to_thread(shutil.copytree, PAGE, page)
        config = Config(
            upstream=Upstream(provider="azure", base_url=simulator.base_url, auth="api-key", api_key=Secret(_API_KEY)),
            profiles=(Profile(name="default", session={"type": "realtime", "model": "gpt-realtime"}),),
            public=Public(port=public_port, static_dir=FilePath(str(page))),
            operator=Operator(port=operator_port),
            store=Store(url=f"sqlite:///{path}"),
        )
        scopes: tuple[keys.Scope, ...] = ("admin",)
        key = await asyncio.to_thread(lambda: keys.create(path, name="demo", scopes=scopes, now_us=clock.now_us()))
        async with running(config) as daemon:
            await asyncio.to_thread(_tell_page, page, daemon.operator_url, key_file, key, has_media=media)
            yield Demo(daemon, key, path, simulator.base_url, media)


def _tell_page(page: Path, operator: str, key_file: Path, key: str, *, has_media: bool) -> None:
    """Let the page show commands that can be pasted, and no button that leads nowhere; the key itself is not served."""
    key_file.touch(mode=0o600)
    key_file.write_text(key)
    here = {"operator": operator, "key_file": str(key_file), "media": has_media}
    (page / "here.json").write_text(json.dumps(here))


async def _talk(url: str, client: aiohttp.ClientSession) -> str:
    """Ask, listen for a while, interrupt, listen to the end, and hang up."""
    # Imported here: aiortc takes most of a second, and may not be there.
    from rtobserver.simulator.caller import Caller

    try:
        async with Caller(url, http=client) as caller:
            caller.say("question")
            await caller.until_event("output_audio_buffer.started", patience=CALL_SECONDS)
            heard = caller.heard_seconds
            await caller.until(lambda: caller.heard_seconds > heard + _SECONDS_BEFORE_INTERRUPTION, CALL_SECONDS)
            caller.say("interruption")
            await caller.until_event("output_audio_buffer.stopped", patience=CALL_SECONDS)
            return caller.call_id
    except TimeoutError as exc:
        raise RtobserverError(f"the example call got stuck: {exc}") from exc


async def _post_offer(url: str, client: aiohttp.ClientSession) -> str:
    """Place a call whose media nobody waits for."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("sdp", _OFFER)
    async with client.post(url, data=form) as answer:
        if answer.status != 201:
            raise RtobserverError(f"/connect answered {answer.status}: {await answer.text()}")
        return answer.headers["Location"].rpartition("/")[2]


async def place_call(demo: Demo) -> str:
    """Place one call as a browser would, and wait until it is recorded to its end; gives its id.

    Raises:
        RtobserverError: the offer was refused, or the call did not end in time.

    """
    authorization = {"Authorization": f"Bearer {demo.key}"}
    url = f"{demo.daemon.public_url}/connect"
    async with aiohttp.ClientSession() as client:
        call_id = await (_talk(url, client) if demo.has_media else _post_offer(url, client))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                while True:
                    async with client.get(
                        f"{demo.daemon.operator_url}/api/v1/calls/{call_id}", headers=authorization
                    ) as call:
                        if call.status == 200 and (await call.json())["status"] == "ended":
                            return call_id
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise RtobserverError(f"the example call did not end within {CALL_SECONDS:g} s") from None
