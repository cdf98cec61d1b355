"""What the user does: speaks into the microphone or types, and how upstream reports it."""

from __future__ import annotations

import math
from collections.abc import Generator

from rtobserver.simulator.beats import Beat, Emit, Json, Timeline, Until, Wait
from rtobserver.simulator.conversation import UNSCRIPTED, Conversation, Exchange, speaking_seconds
from rtobserver.simulator.frames import pieces
from rtobserver.simulator.responses import interrupt
from rtobserver.simulator.voice import Voice

_STREAMING = "gpt-realtime-whisper"
"""This model transcribes while the user still speaks, the others afterwards."""
_NOISE_SECONDS = 0.25


def until_free(call: Conversation, *, playing: bool = True) -> Timeline:
    """Wait until nothing is generated and, with `playing`, nothing is heard."""
    if call.active is not None or (playing and call.is_busy):
        yield Until(lambda: call.active is None and not (playing and call.is_busy))


def speak(
    call: Conversation, text: str, seconds: float = 0.0, *, fails: str = "", cutting: bool = False
) -> Generator[Beat, None, list[Json]]:
    """Say something; unless `cutting`, politely wait until the model is silent.

    An empty text is noise. `fails` is the code with which the transcription fails. Returns what is
    left of the transcription, which arrives while the model thinks.
    """
    if not cutting:
        yield from until_free(call)
    seconds = seconds or (speaking_seconds(text) if text else _NOISE_SECONDS)
    item_id = call.ids.stamped("item_")
    early, late = _transcription(call, item_id, text, seconds, fails)
    if call.turn_detection is not None:
        yield from _detected(call, item_id, seconds, early, cutting=cutting)
    else:
        yield Wait(seconds)
        call.input_seconds += seconds
        late = early + late
    yield from _commit(call, item_id, seconds)
    return late


def be_heard(call: Conversation, voice: Voice, exchange: Exchange) -> Generator[Beat, None, list[Json]]:
    """Report what the caller really says, from the moment that the voice is there; the words are scripted.

    Cuts the model off, if the session lets the user interrupt. Returns what is left of the transcription.
    """
    detection, frames = call.turn_detection or {}, call.frames
    item_id = call.ids.stamped("item_")
    start = max(0, round(voice.began_seconds * 1000) - detection.get("prefix_padding_ms", 300))
    yield Emit(frames.plain("input_audio_buffer.speech_started", audio_start_ms=start, item_id=item_id))
    if detection.get("interrupt_response", True):
        for event in interrupt(call):
            yield Emit(event)
    yield Until(lambda: not voice.is_speaking)
    call.input_seconds = voice.ended_seconds
    end = round(voice.ended_seconds * 1000)
    yield Emit(frames.plain("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item_id))
    seconds = (end - start) / 1000
    early, late = _transcription(call, item_id, exchange.user, seconds, exchange.transcription_error)
    yield from _commit(call, item_id, seconds)
    return early + late


def commit(call: Conversation, voice: Voice) -> Timeline:
    """Make an item of what the caller has said since the last commit, because a client asks for it."""
    seconds, voice.buffered_seconds = voice.buffered_seconds, 0.0
    call.input_seconds += seconds
    exchange = call.expected.popleft() if call.expected else None
    item_id = call.ids.stamped("item_")
    yield from _commit(call, item_id, seconds)
    text, fails = (exchange.user, exchange.transcription_error) if exchange is not None else (UNSCRIPTED, "")
    early, late = _transcription(call, item_id, text, seconds, fails)
    for event in early + late:
        yield Emit(event)
    if exchange is not None:
        call.prepared, exchange.is_over = exchange.answer, True


def _commit(call: Conversation, item_id: str, seconds: float) -> Timeline:
    """Make an item of what was heard."""
    yield Emit(
        call.frames.plain("input_audio_buffer.committed", previous_item_id=call.last_item, item_id=item_id),
    )
    call.audio_seconds[item_id] = seconds
    content = [{"type": "input_audio", "transcript": None}]
    item = {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": content}
    for event in call.add_item(item):
        yield Emit(event)


def type_line(call: Conversation, text: str) -> Timeline:
    """Have the page add a line of text, once the model is silent."""
    yield from until_free(call)
    item = {
        "id": call.ids.stamped("item_"),
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }
    for event in call.add_item(item):
        yield Emit(event)


def _detected(call: Conversation, item_id: str, seconds: float, early: list[Json], *, cutting: bool) -> Timeline:
    """Report the speech as voice activity detection does, with the transcription that streams during it."""
    detection, frames = call.turn_detection or {}, call.frames
    start = max(0, round(call.input_seconds * 1000) - detection.get("prefix_padding_ms", 300))
    yield Emit(frames.plain("input_audio_buffer.speech_started", audio_start_ms=start, item_id=item_id))
    if cutting:
        for event in interrupt(call):
            yield Emit(event)
    for event in early:
        yield Wait(seconds / (len(early) + 1))
        yield Emit(event)
    yield Wait(seconds / (len(early) + 1))
    call.input_seconds += seconds + detection.get("silence_duration_ms", 500) / 1000
    end = round(call.input_seconds * 1000)
    yield Emit(frames.plain("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item_id))


def _transcription(
    call: Conversation, item_id: str, text: str, seconds: float, fails: str
) -> tuple[list[Json], list[Json]]:
    """Give the transcription's events during the speech and after it."""
    if call.transcription is None:
        return [], []
    kind, place = "conversation.item.input_audio_transcription", {"item_id": item_id, "content_index": 0}
    if fails:
        error = {"type": "invalid_request_error", "code": fails, "message": "The transcription failed.", "param": None}
        return [], [call.frames.plain(f"{kind}.failed", **place, error=error)]
    streams = call.transcription.get("model") == _STREAMING
    # A streaming model begins with a blank, which its final transcript does not have.
    cut = pieces(f" {text}" if streams and text else text)
    deltas = [call.frames.padded(call.frames.plain(f"{kind}.delta", **place, delta=piece)) for piece in cut]
    usage = {"type": "duration", "seconds": math.ceil(seconds)} if streams else _tokens(seconds, len(cut))
    done = call.frames.plain(f"{kind}.completed", **place, transcript=text, usage=usage)
    return (deltas[:-2], [*deltas[-2:], done]) if streams else ([], [*deltas, done])


def _tokens(seconds: float, words: int) -> Json:
    heard = round(seconds * 10)
    return {
        "type": "tokens",
        "total_tokens": heard + words + 2,
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": words + 2,
    }
