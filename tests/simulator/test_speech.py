"""Our own speech: the files, how loud they are, and how they are sent."""

from __future__ import annotations

import asyncio
import hashlib
import json
from importlib.resources import files
from typing import get_args

import pytest

from rtobserver.simulator.speech import PACKET_SECONDS, ClipName, Ear, SpeechTrack, clip
from rtobserver.simulator.voice import SILENCE, Voice

SOUNDS = files("rtobserver.simulator") / "sounds"
MANIFEST = json.loads((SOUNDS / "manifest.json").read_text())
NAMES: tuple[ClipName, ...] = get_args(ClipName)


@pytest.mark.parametrize("name", NAMES)
def test_every_clip_is_the_file_that_the_manifest_describes(name: ClipName) -> None:
    described = MANIFEST["files"][f"{name}.opus"]
    content = (SOUNDS / f"{name}.opus").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (described["bytes"], described["sha256"])
    assert len(clip(name)) == described["packets"]
    assert MANIFEST["licence"].startswith("Apache-2.0")


def test_no_other_sound_is_shipped() -> None:
    shipped = {entry.name for entry in SOUNDS.iterdir()} - {"manifest.json"}
    assert shipped == set(MANIFEST["files"]) == {f"{name}.opus" for name in NAMES}


@pytest.mark.parametrize("name", ["question", "interruption"])
def test_what_a_caller_says_is_one_utterance_even_at_upstreams_shortest_silence(name: ClipName) -> None:
    ear, voice = Ear(), Voice()
    for number, packet in enumerate(clip(name)):
        voice.pause(number * PACKET_SECONDS, silence=0.2)
        voice.hear(ear.level(packet), number * PACKET_SECONDS, threshold=0.5)
    assert voice.utterance_count == 1


@pytest.mark.parametrize("packet", [b"", b"\xf8\xff\xfe", b"\xff" * 40])
def test_silence_and_rubbish_are_silent(packet: bytes) -> None:
    assert Ear().level(packet) == SILENCE


async def test_a_track_sends_a_clip_at_the_pace_of_speech() -> None:
    silent = asyncio.Event()
    track = SpeechTrack(on_silent=silent.set)
    loop = asyncio.get_running_loop()
    track.play(clip("question"), seconds=0.2)
    began = loop.time()
    packets = [await track.recv() for _ in range(10)]
    assert [bytes(packet) for packet in packets] == list(clip("question")[:10])
    assert [packet.pts for packet in packets] == [number * 960 for number in range(10)]
    assert loop.time() - began > 0.15
    assert not silent.is_set()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(track.recv(), name="the next packet")
        await asyncio.wait_for(silent.wait(), 5)
        assert track.is_silent
        assert track.heard_seconds == pytest.approx(0.2)
        waiting.cancel()


async def test_a_track_that_is_hushed_sends_nothing_more() -> None:
    track = SpeechTrack(microphone=True)
    track.play(clip("question"))
    await track.recv()
    track.hush()
    assert track.is_silent
    assert [bytes(await track.recv()) for _ in range(3)] == [b"\xf8\xff\xfe"] * 3
    assert track.sent_count == 1


async def test_a_track_says_no_more_than_it_was_shortened_to_and_then_begins_again() -> None:
    track = SpeechTrack(microphone=True)
    track.play(clip("question"))
    track.shorten(0.04)
    sent = [bytes(await track.recv()) for _ in range(3)]
    assert sent == [*clip("question")[:2], b"\xf8\xff\xfe"]
    track.play(clip("interruption"), seconds=4.0)
    assert bytes(await track.recv()) == clip("interruption")[0]


async def test_the_clock_runs_on_while_nothing_is_said() -> None:
    track = SpeechTrack()
    track.play(clip("question"), seconds=0.02)
    first = await track.recv()
    async with asyncio.TaskGroup() as tasks:
        later = tasks.create_task(track.recv(), name="the next packet")
        asyncio.get_running_loop().call_later(0.3, track.play, clip("question"))
        second = await later
    assert first.pts == 0
    assert second.pts is not None
    assert second.pts >= 0.25 * 48000
