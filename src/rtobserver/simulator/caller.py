"""A caller without a browser: an aiortc peer that places a real call through any `/connect` or `/realtime/calls`.

Needs aiortc. It speaks a recorded question, hears the answer, and holds a data channel, as a page
does; `rtobserver demo` and the tests use it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from aiortc import RTCDataChannel, RTCSessionDescription
from aiortc.rtp import RtpPacket

from rtobserver.errors import RtobserverError
from rtobserver.simulator.beats import Json
from rtobserver.simulator.changes import Changes
from rtobserver.simulator.ice import keep_to, new_connection, vanish
from rtobserver.simulator.speech import PACKET_SECONDS, ClipName, SpeechTrack, clip

_CONNECT_SECONDS = 20.0


class CallRefused(RtobserverError):
    """Report that an offer was not answered with 201."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the offer was answered {status}: {text[:200]}")
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Message:
    """Hold what came over the data channel."""

    frame: str | bytes
    at: float
    """Unix seconds."""

    @property
    def event(self) -> Json:
        """Parse it."""
        event: Json = json.loads(self.frame)
        return event


class Caller:
    """Be one caller while entered; leaving it hangs up.

    Raises: CallRefused on entering, if the offer is; RtobserverError, if no connection comes of it.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, audio: bool = True,
                 channel: str | None = "oai-events", host: str = "127.0.0.1",
                 http: aiohttp.ClientSession | None = None, session_name: str = "-") -> None:  # fmt: skip
        self.url = url
        self.call_id = ""
        self.location = ""
        self.offer = ""
        self.answer = ""
        self.messages: list[Message] = []
        """Everything that came over the data channel."""
        self.heard_count = 0
        """Packets of sound that came."""
        self.last_heard_mono = 0.0
        self._headers = dict(headers or {})
        self._host = host
        self._http = http
        self._session_name = session_name
        self._changes = Changes()
        self._connection = new_connection()
        self._track = SpeechTrack(microphone=True, on_silent=self._changes.notify) if audio else None
        self._label = channel
        self._channel: RTCDataChannel | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._connection.close)
            self._prepare()
            await self._place()
            await self._changes.until(lambda: self.is_connected or self.is_over, _CONNECT_SECONDS)
            if not self.is_connected:
                raise RtobserverError(f"the call was answered, but no connection came of it: {self._state}")
            undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    @property
    def is_connected(self) -> bool:
        """Say whether media can flow, and the data channel is open if there is one."""
        channel_open = self._label is None or (self._channel is not None and self._channel.readyState == "open")
        return channel_open and self._state == "connected"

    @property
    def is_over(self) -> bool:
        """Say whether the connection is gone, whoever ended it."""
        return self._state in ("closed", "failed")

    @property
    def _state(self) -> str:
        return self._connection.connectionState

    @property
    def events(self) -> list[Json]:
        """Parse everything that came over the data channel."""
        return [message.event for message in self.messages]

    @property
    def heard_seconds(self) -> float:
        """Give how much sound came."""
        return self.heard_count * PACKET_SECONDS

    @property
    def spoken_count(self) -> int:
        """Count the packets of speech that were sent; the silence between does not count."""
        return 0 if self._track is None else self._track.sent_count

    @property
    def is_speaking(self) -> bool:
        """Say whether a clip is still being said."""
        return self._track is not None and not self._track.is_silent

    def say(self, name: ClipName = "question") -> None:
        """Begin to say a clip; what was being said is broken off."""
        if self._track is None:
            raise RtobserverError("this caller has no microphone")
        self._track.play(clip(name))

    def send(self, event: Json) -> None:
        """Send a client event over the data channel."""
        self.send_frame(json.dumps(event))

    def send_frame(self, frame: str | bytes) -> None:
        """Send anything over the data channel."""
        if self._channel is None:
            raise RtobserverError("this caller has no data channel")
        self._channel.send(frame)

    async def until(self, condition: Callable[[], bool], patience: float = 10.0) -> None:
        """Wait for a condition over what this caller sees and hears.

        Raises: TimeoutError, if it does not hold within so many seconds.
        """
        if not await self._changes.until(condition, patience):
            raise TimeoutError(f"the condition did not hold within {patience:g} s")

    async def until_event(self, kind: str, count: int = 1, patience: float = 10.0) -> Json:
        """Wait until so many events of this type have come, and give the last of these."""

        def found() -> list[Json]:
            return [event for event in self.events if event["type"] == kind]

        await self.until(lambda: len(found()) >= count, patience)
        return found()[count - 1]

    async def hang_up(self) -> None:
        """Close the connection, as a page does that is left."""
        await self._connection.close()
        self._changes.notify()

    async def vanish(self) -> None:
        """Go without a goodbye, as a killed browser does."""
        await vanish(self._connection)

    def _prepare(self) -> None:
        connection = self._connection
        connection.on("connectionstatechange", self._changes.notify)
        if self._track is not None:
            receiver = connection.addTransceiver(self._track).receiver
            receiver._handle_rtp_packet = self._hear  # type: ignore[method-assign]
        if self._label is not None:
            self._channel = connection.createDataChannel(self._label)
            self._channel.on("open", self._changes.notify)
            self._channel.on("message", self._receive)

    async def _place(self) -> None:
        connection = self._connection
        keep_to(connection, [self._host])
        await connection.setLocalDescription(await connection.createOffer())
        # Pages post their offer before any candidate is gathered; so does this caller.
        lines = connection.localDescription.sdp.splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
        self.offer = "".join(f"s={self._session_name}\r\n" if line.startswith("s=") else line for line in kept)
        if self._http is None:
            async with aiohttp.ClientSession() as http:
                await self._post(http)
        else:
            await self._post(self._http)
        await connection.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))

    async def _post(self, http: aiohttp.ClientSession) -> None:
        body: aiohttp.FormData | bytes = self.offer.encode()
        headers = {"Content-Type": "application/sdp"} | self._headers
        if self.url.partition("?")[0].endswith("/connect"):
            body = aiohttp.FormData(default_to_multipart=True)
            body.add_field("sdp", self.offer)
            headers = self._headers
        async with http.post(self.url, data=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 201:
                raise CallRefused(answer.status, text)
            self.answer = text
            self.location = answer.headers.get("Location", "")
            self.call_id = self.location.rpartition("/")[2]

    def _receive(self, message: str | bytes) -> None:
        self.messages.append(Message(message, time.time()))
        self._changes.notify()

    async def _hear(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        self.heard_count += 1
        self.last_heard_mono = asyncio.get_running_loop().time()
        self._changes.notify()
