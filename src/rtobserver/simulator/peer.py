"""The far end of a call with media: answers an offer by aiortc, hears the caller, speaks, holds the data channel.

Needs aiortc; nothing else of the simulator imports this but where media is on. The caller's packets
are never queued nor resampled: each gives its level and is dropped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.rtp import RtpPacket

from rtobserver.simulator.beats import Json
from rtobserver.simulator.ice import keep_to, new_connection
from rtobserver.simulator.sdp import BadOffer
from rtobserver.simulator.speech import PACKET_SECONDS, Ear, SpeechTrack, clip
from rtobserver.simulator.voice import Voice

__all__ = ["Peer", "clip"]

_LARGEST_MESSAGE = 1_073_741_823
"""What upstream says it takes on a data channel; aiortc takes as much and says less."""
_FLUSH_SECONDS = 1.0
_CLOCK_RATE = 48000
_LONGEST_DELAY = 1.0
"""Seconds by which a busy loop may read packets late, before their absence is taken for silence."""
_ODD_OFFERS = (
    ValueError, TypeError, AttributeError, LookupError, AssertionError,
    InternalError, InvalidAccessError, InvalidStateError, OperationError,
)  # fmt: skip
"""What aiortc raises at an offer that it cannot parse or answer."""


class Callee(Protocol):
    """The call that a peer belongs to."""

    @property
    def turn_detection(self) -> Json | None:
        """Give the session's turn detection."""

    def greet(self) -> None:
        """Tell the browser that its session exists."""

    def receive_from_browser(self, message: str | bytes) -> None:
        """Take a message from the data channel."""

    def notice(self) -> None:
        """Look again at whatever waits for the caller."""

    def leave(self) -> None:
        """Note that the browser is gone."""


class Peer:
    """Hold one caller's connection."""

    def __init__(self, connection: RTCPeerConnection, send_buffer: int) -> None:
        self.answer = ""
        self.voice = Voice()
        self.has_audio = False
        """Whether the caller offered to hear or to be heard."""
        self.received_count = 0
        """Packets of sound from the caller."""
        self.loudspeaker: SpeechTrack | None = None
        self._connection = connection
        self._send_buffer = send_buffer
        self._channel: RTCDataChannel | None = None
        self._expects_channel = False
        self._ear: Ear | None = None
        self._call: Callee | None = None
        self._loop = asyncio.get_running_loop()
        self._first_timestamp: int | None = None
        self._last_packet = (0.0, 0.0)
        """When it was sent, in seconds since the first, and when it was read, on the loop's clock."""
        self._pause_timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None

    @classmethod
    async def answering(
        cls, offer: str, *, hosts: Sequence[str], consent_seconds: float | None, send_buffer: int
    ) -> Peer:
        """Answer an offer.

        Raises: BadOffer, if it cannot be.
        """
        connection = new_connection()
        peer = cls(connection, send_buffer)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            peer._prepare()
            keep_to(connection, hosts, consent_seconds)
            await connection.setLocalDescription(await connection.createAnswer())
        except _ODD_OFFERS as exc:
            await connection.close()
            raise BadOffer(str(exc)) from exc
        except (BadOffer, asyncio.CancelledError):
            await connection.close()
            raise
        peer.answer = re.sub(r"(a=max-message-size:)\d+", rf"\g<1>{_LARGEST_MESSAGE}", connection.localDescription.sdp)
        return peer

    def bind(self, call: Callee, connect_seconds: float) -> None:
        """Belong to a call, which ends if nobody connects for so long."""
        self._call = call
        self._patience = self._loop.call_later(connect_seconds, self._give_up)

    @property
    def is_open(self) -> bool:
        """Say whether the data channel can be sent to."""
        return self._channel is not None and self._channel.readyState == "open"

    @property
    def is_connected(self) -> bool:
        """Say whether all that was offered is there."""
        connected = self._connection.connectionState == "connected"
        return connected and (self._channel is not None or not self._expects_channel)

    @property
    def is_ready(self) -> bool:
        """Say whether sound reaches the caller."""
        return self.loudspeaker is not None and self._connection.connectionState == "connected"

    @property
    def is_silent(self) -> bool:
        """Say whether everything was played."""
        return self.loudspeaker is None or self.loudspeaker.is_silent

    @property
    def heard_seconds(self) -> float:
        """Give how much was played since the last `say`."""
        return 0.0 if self.loudspeaker is None else self.loudspeaker.heard_seconds

    def say(self, seconds: float) -> None:
        """Begin to play so much speech."""
        if self.loudspeaker is not None:
            self.loudspeaker.play(clip("assistant"), seconds)

    def shorten(self, seconds: float) -> None:
        """Play no more than so much in all."""
        if self.loudspeaker is not None:
            self.loudspeaker.shorten(seconds)

    def hush(self) -> None:
        """Stop at once."""
        if self.loudspeaker is not None:
            self.loudspeaker.hush()

    def takes(self, size: int) -> bool:
        """Say whether the browser takes messages of so many bytes."""
        largest = self._connection.sctp._remote_max_message_size if self._connection.sctp is not None else 0
        return size <= largest or not largest

    def send(self, frame: bytes, *, text: bool) -> None:
        """Send a frame that the browser takes; one that does not read is dropped when too much waits for it."""
        if self._channel is None or not self.is_open:
            return
        if self._channel.bufferedAmount > self._send_buffer:
            self._leave()
        else:
            self._channel.send(frame.decode(errors="replace") if text else frame)

    async def close(self) -> None:
        """Close the connection; a second close does nothing."""
        for timer in (self._pause_timer, self._patience):
            if timer is not None:
                timer.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._flush()
        await self._connection.close()

    async def _flush(self) -> None:
        """Wait until the browser has acknowledged what was sent; closing would drop the rest."""
        sctp = self._connection.sctp
        while (  # noqa: ASYNC110 - aiortc has no event for it
            sctp is not None
            and self.is_open
            and self._connection.connectionState == "connected"
            and (sctp._data_channel_queue or sctp._outbound_queue or sctp._sent_queue)
        ):
            await asyncio.sleep(0.01)

    def _prepare(self) -> None:
        connection = self._connection
        connection.on("datachannel", self._open)
        connection.on("connectionstatechange", self._look)
        self._expects_channel = connection.sctp is not None
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "audio" and not self.has_audio:
                opus = [codec for codec in transceiver._codecs if codec.mimeType == "audio/opus"]
                if not opus:
                    raise BadOffer("the offer has no Opus")
                transceiver._codecs = opus
                self.has_audio = True
                self.loudspeaker = SpeechTrack(on_silent=self._notice)
                transceiver.sender.replaceTrack(self.loudspeaker)
                transceiver.direction = "sendrecv"
                transceiver.receiver._handle_rtp_packet = self._hear  # type: ignore[method-assign]
            else:
                transceiver.direction = "inactive"

    def _open(self, channel: RTCDataChannel) -> None:
        # Upstream uses one channel, whatever its label is; further ones are left alone.
        if self._channel is None and self._call is not None:
            self._channel = channel
            channel.on("message", self._call.receive_from_browser)
            self._call.greet()
            self._call.notice()

    def _look(self) -> None:
        match self._connection.connectionState:
            case "connected":
                if self._patience is not None:
                    self._patience.cancel()
                self._notice()
            case "failed" | "closed":
                self._leave()

    def _give_up(self) -> None:
        if self._connection.connectionState != "connected":
            self._leave()

    def _leave(self) -> None:
        if self._call is not None:
            self._call.leave()

    def _notice(self) -> None:
        if self._call is not None:
            self._call.notice()

    async def _hear(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        self.received_count += 1
        if self._first_timestamp is None:
            self._first_timestamp = packet.timestamp
        # The caller's clock, not ours: packets that a busy loop reads late are no silence.
        passed = (packet.timestamp - self._first_timestamp) % 2**32
        at = passed / _CLOCK_RATE if passed < 2**31 else 0.0
        self._last_packet = (at, self._loop.time())
        detection = self._call.turn_detection if self._call is not None else None
        if detection is None:
            self.voice.buffered_seconds += PACKET_SECONDS
            return
        level = self._level(packet.extensions.audio_level, packet.payload)
        if self.voice.hear(level, at, detection.get("threshold", 0.5)):
            self._look_for_pause()
            self._notice()
        elif self.voice.pause(at, _silence(detection)):
            self._notice()

    def _level(self, stated: Any, payload: bytes) -> float:
        """Take the level that the caller states (RFC 6464), or measure it."""
        if stated is not None:
            return -float(stated[1])
        if self._ear is None:
            self._ear = Ear()
        return self._ear.level(payload)

    def _look_for_pause(self) -> None:
        """Notice by a timer that a caller stopped sending packets, as some do in silence."""
        if self._call is None or not self.voice.is_speaking:
            return
        at, read_at = self._last_packet
        since = self._loop.time() - read_at
        if since > _LONGEST_DELAY and self.voice.pause(at + since, _silence(self._call.turn_detection or {})):
            self._notice()
        else:
            self._pause_timer = self._loop.call_later(_LONGEST_DELAY, self._look_for_pause)


def _silence(detection: Json) -> float:
    """Give the seconds of silence that end an utterance."""
    return float(detection.get("silence_duration_ms", 500) / 1000)
