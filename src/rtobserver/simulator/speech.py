"""Speech as ready Opus packets, and a track that sends them at the pace of speech.

Needs aiortc. Encoding each call's sound anew costs four times as much (feasibility.md 1), so clips
are encoded once and for all by `scripts/make_speech.py`.
"""

from __future__ import annotations

import array
import asyncio
import functools
import math
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from typing import Any, Literal

import av
from aiortc import MediaStreamTrack

from rtobserver.simulator.voice import SILENCE

PACKET_SECONDS = 0.02
_PACKET_SAMPLES = 960
_TIME_BASE = Fraction(1, 48000)
_LATEST = 1.0
"""Seconds behind which a track gives up catching up, and goes on from now."""
_SILENT_PACKET = b"\xf8\xff\xfe"
_LARGEST_SILENT_PACKET = 3
_SAMPLES_SKIPPED = 8

ClipName = Literal["assistant", "question", "interruption"]


@functools.cache
def clip(name: ClipName) -> tuple[bytes, ...]:
    """Read a clip's packets."""
    with (
        files("rtobserver.simulator").joinpath("sounds", f"{name}.opus").open("rb") as file,
        av.open(file, "r") as source,
    ):
        return tuple(bytes(packet) for packet in source.demux(audio=0) if packet.size)


class Ear:
    """Measure how loud the packets of one caller are."""

    def __init__(self) -> None:
        codec = av.CodecContext.create("libopus", "r")
        codec.format, codec.layout, codec.sample_rate = "s16", "mono", 48000
        self._codec = codec

    def level(self, packet: bytes) -> float:
        """Give the level in dBov. 0.04 ms of work: one sample in eight is looked at."""
        if len(packet) <= _LARGEST_SILENT_PACKET:
            return SILENCE
        try:
            frames = self._codec.decode(av.Packet(packet))
        except av.FFmpegError:
            return SILENCE
        samples = [one for frame in frames for one in array.array("h", bytes(frame.planes[0]))[::_SAMPLES_SKIPPED]]
        power = sum(one * one for one in samples) / max(1, len(samples)) / 32768**2
        return max(SILENCE, 10 * math.log10(power)) if power else SILENCE


class SpeechTrack(MediaStreamTrack):
    """Send speech when told to; in between send nothing, or silence if it is a microphone."""

    kind = "audio"

    def __init__(self, *, microphone: bool = False, on_silent: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.sent_count = 0
        """Packets of speech so far, silence not counted."""
        self._microphone = microphone
        self._on_silent = on_silent
        self._packets: tuple[bytes, ...] = ()
        self._position = 0
        self._wanted = 0
        self._is_silent = True
        self._awake = asyncio.Event()
        self._due = 0.0
        self._origin: float | None = None

    @property
    def is_silent(self) -> bool:
        """Say whether everything was played."""
        return self._is_silent

    @property
    def heard_seconds(self) -> float:
        """Give how much was played since the last `play`."""
        return self._position * PACKET_SECONDS

    def play(self, packets: tuple[bytes, ...], seconds: float | None = None) -> None:
        """Begin to send a clip, once or over and over for so many seconds."""
        self._packets, self._position, self._is_silent = packets, 0, False
        self._wanted = len(packets) if seconds is None else max(1, math.ceil(seconds / PACKET_SECONDS))
        self._awake.set()

    def shorten(self, seconds: float) -> None:
        """Send no more than so much in all."""
        self._wanted = min(self._wanted, math.ceil(seconds / PACKET_SECONDS))

    def hush(self) -> None:
        """Stop at once: no packet that was not yet sent will be."""
        self._wanted, self._is_silent = self._position, True

    async def recv(self) -> av.Packet[Any]:
        """Give the next packet when it is due; aiortc's sender passes it on as it is."""
        loop = asyncio.get_running_loop()
        while True:
            await self._until_due(loop)
            if self._position < self._wanted:
                payload = self._packets[self._position % len(self._packets)]
                self._position += 1
                self.sent_count += 1
                break
            if not self._is_silent:
                self._is_silent = True
                if self._on_silent is not None:
                    self._on_silent()
            if self._microphone:
                payload = _SILENT_PACKET
                break
            self._awake.clear()
            await self._awake.wait()
            # What was not sent while there was nothing to say is not caught up on.
            self._due = max(self._due, loop.time())
        due, self._due = self._due, self._due + PACKET_SECONDS
        return self._packet(payload, due)

    async def _until_due(self, loop: asyncio.AbstractEventLoop) -> None:
        delay = self._due - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        elif delay < -_LATEST:
            self._due = loop.time()

    def _packet(self, payload: bytes, due: float) -> av.Packet[Any]:
        if self._origin is None:
            self._origin = due
        packet: av.Packet[Any] = av.Packet(payload)
        # By the schedule: RTP's clock runs on while nothing is sent, and a packet that is late keeps its place.
        packet.pts = round((due - self._origin) / PACKET_SECONDS) * _PACKET_SAMPLES
        packet.time_base = _TIME_BASE
        return packet
