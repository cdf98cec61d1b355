"""How the model answers: the events of one response, from `response.created` to the end of its sound."""

from __future__ import annotations

from collections.abc import Sequence

from rtobserver.simulator.beats import Emit, Json, Timeline, Until, Wait
from rtobserver.simulator.conversation import Answer, Conversation, Response, speaking_seconds
from rtobserver.simulator.frames import pieces, usage

_SECONDS_PER_DELTA = 0.03
"""Text is generated about ten times faster than it is spoken."""
_DELTAS_BEFORE_SOUND = 3
_AUDIO_DELTA = "AAAA" * 4000
"""A quarter of a second of silence, 24 kHz, 16 bit."""


def generate(
    call: Conversation,
    response: Response,
    answer: Answer,
    *,
    by_speech: bool = False,
    meanwhile: Sequence[Json] = (),
    deltas: int | None = None,
) -> Timeline:
    """Produce a response's events up to `response.done`; with `deltas`, stop after so many and leave it open.

    The events `meanwhile` come while the model thinks.
    """
    if not by_speech or call.faults.response_created_for_vad:
        yield Emit(call.frames.plain("response.created", response=_snapshot(call, response)))
    for event in meanwhile:
        yield Emit(event)
    yield Wait(answer.latency)
    if response.is_over():
        return
    yield from _add_item(call, response, answer)
    cut = pieces(answer.function[1] if answer.function else answer.text)[:deltas]
    for number, piece in enumerate(cut, 1):
        yield from _delta(call, response, piece)
        if response.speaks and number == min(_DELTAS_BEFORE_SOUND, len(cut)):
            yield from _start_sound(call, response, answer)
        yield Wait(_SECONDS_PER_DELTA)
        if response.is_over():
            return
        if call.playback is not None and call.playback.response_id == response.id:
            call.playback.heard_seconds += _SECONDS_PER_DELTA
    if deltas is None:
        for event in close(call, response, *(answer.fails or ("completed", ""))):
            yield Emit(event)


def hear(call: Conversation, response: Response, answer: Answer, *, part: float = 1.0) -> Timeline:
    """Let the browser hear a generated answer, whole or only its first part."""
    playback = call.playback
    if playback is None or playback.response_id != response.id:
        return
    seconds = answer.seconds or speaking_seconds(answer.text)
    if response.status == "cancelled":
        seconds = min(seconds, speaking_seconds(response.text))
    loudspeaker = call.loudspeaker
    if loudspeaker is not None:
        loudspeaker.shorten(seconds)
        playback.heard_seconds = loudspeaker.heard_seconds
    rest = max(0.0, seconds * part - playback.heard_seconds)
    if loudspeaker is not None and part >= 1.0:
        yield Until(lambda: playback.is_over or loudspeaker.is_silent)
    else:
        yield Wait(rest)
    if playback.is_over:
        return
    playback.heard_seconds += rest
    if part >= 1.0:
        call.stop_playing()
        yield Emit(call.frames.buffer("stopped", response.id))


def answer_whole(
    call: Conversation,
    response: Response,
    answer: Answer,
    *,
    by_speech: bool = False,
    meanwhile: Sequence[Json] = (),
) -> Timeline:
    """Produce a response and let it be heard to its end."""
    yield from generate(call, response, answer, by_speech=by_speech, meanwhile=meanwhile)
    yield from hear(call, response, answer)


def interrupt(call: Conversation) -> list[Json]:
    """Cut off what is generated and heard, as upstream does when the user begins to speak over it."""
    events = close(call, call.active, "cancelled", "turn_detected") if call.active is not None else []
    playback = call.stop_playing()
    if playback is not None:
        events.append(call.frames.buffer("cleared", playback.response_id))
        events.append(
            call.frames.plain(
                "conversation.item.truncated",
                item_id=playback.item_id,
                content_index=0,
                audio_end_ms=round(playback.heard_seconds * 1000),
            )
        )
    return events


def close(call: Conversation, response: Response, status: str = "completed", reason: str = "") -> list[Json]:
    """End a response and give the events by which upstream says so."""
    response.status = status
    call.end(response)
    frames = call.frames
    events: list[Json] = []
    if response.item_id:
        item = _item(response, "completed" if status == "completed" else "incomplete")
        events += _content_done(call, response)
        if not response.apart:
            call.items[response.item_id] = item
            # Upstream leaves the predecessor out where that is the conversation's first item.
            previous = None if response.follows == next(iter(call.items)) else response.follows
            events.append(frames.plain("conversation.item.done", previous_item_id=previous, item=item))
        events.append(frames.plain("response.output_item.done", response_id=response.id, output_index=0, item=item))
        response.finished.append(item)
    events.append(frames.plain("response.done", response=_snapshot(call, response, reason)))
    if call.provider == "openai":
        call.tokens_left -= 630
        limit = {"name": "tokens", "limit": 15_000_000, "remaining": call.tokens_left, "reset_seconds": 0.002}
        events.append(frames.plain("rate_limits.updated", rate_limits=[limit]))
    return events


def _add_item(call: Conversation, response: Response, answer: Answer) -> Timeline:
    frames = call.frames
    response.item_id = call.ids.stamped("item_")
    if answer.function is not None:
        response.function = (answer.function[0], f"call_{call.ids.letters(16)}")
    item = _item(response, "in_progress")
    yield Emit(frames.plain("response.output_item.added", response_id=response.id, output_index=0, item=item))
    if not response.apart:
        response.follows = call.last_item
        call.items[response.item_id] = item
        yield Emit(frames.plain("conversation.item.added", previous_item_id=response.follows, item=item))
    if response.function is None:
        yield Emit(frames.content_part("added", response.id, response.item_id, _part(response)))


def _delta(call: Conversation, response: Response, piece: str) -> Timeline:
    frames = call.frames
    response.text += piece
    if response.function is not None:
        event = frames.plain(
            "response.function_call_arguments.delta",
            response_id=response.id,
            item_id=response.item_id,
            output_index=0,
            call_id=response.function[1],
            delta=piece,
        )
    else:
        kind = "output_audio_transcript.delta" if response.speaks else "output_text.delta"
        event = frames.part(kind, response.id, response.item_id, delta=piece)
    yield Emit(frames.padded(event))
    if response.speaks and response.function is None and call.faults.audio_delta_on_sideband:
        yield Emit(frames.part("output_audio.delta", response.id, response.item_id, delta=_AUDIO_DELTA))


def _start_sound(call: Conversation, response: Response, answer: Answer) -> Timeline:
    if response.function is None and call.has_sound and call.playback is None:
        call.play(response, answer.seconds or speaking_seconds(answer.text))
        yield Emit(call.frames.buffer("started", response.id))


def _content_done(call: Conversation, response: Response) -> list[Json]:
    frames, ids = call.frames, (response.id, response.item_id)
    if response.function is not None:
        name, function_call_id = response.function
        done = frames.plain(
            "response.function_call_arguments.done",
            response_id=response.id,
            item_id=response.item_id,
            output_index=0,
            call_id=function_call_id,
            name=name,
            arguments=response.text,
        )
        return [done]
    if not response.speaks:
        done = frames.part("output_text.done", *ids, text=response.text)
        return [done, frames.content_part("done", *ids, _part(response))]
    call.audio_seconds[response.item_id] = speaking_seconds(response.text)
    return [
        frames.part("output_audio.done", *ids),
        frames.part("output_audio_transcript.done", *ids, transcript=response.text),
        frames.content_part("done", *ids, _part(response)),
    ]


def _part(response: Response) -> Json:
    if response.speaks:
        return {"type": "audio", "transcript": response.text}
    return {"type": "text", "text": response.text}


def _item(response: Response, status: str) -> Json:
    if response.function is not None:
        name, function_call_id = response.function
        return {
            "id": response.item_id,
            "type": "function_call",
            "status": status,
            "name": name,
            "call_id": function_call_id,
            "arguments": response.text,
        }
    content = {"type": "output_audio", "transcript": response.text}
    if not response.speaks:
        content = {"type": "output_text", "text": response.text}
    return {
        "id": response.item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [] if status == "in_progress" else [content],
    }


def _snapshot(call: Conversation, response: Response, reason: str = "") -> Json:
    output = call.session["audio"]["output"]
    return {
        "object": "realtime.response",
        "id": response.id,
        "status": response.status,
        "status_details": _details(response.status, reason),
        "output": list(response.finished),
        "conversation_id": None if response.apart else call.id,
        "output_modalities": response.modalities,
        "max_output_tokens": response.max_tokens,
        "audio": {"output": {"format": output["format"], "voice": response.voice}},
        "usage": _usage(call, response) if response.is_over() else None,
        "metadata": response.metadata,
    }


def _details(status: str, reason: str) -> Json | None:
    if status in ("in_progress", "completed"):
        return None
    if status == "failed":
        message = "You exceeded your current quota." if reason == "insufficient_quota" else "The response failed."
        return {"type": "failed", "error": {"type": "server_error", "code": reason, "message": message}}
    return {"type": status, "reason": reason}


def _usage(call: Conversation, response: Response) -> Json:
    if response.status == "failed":
        return usage(text_in=0, audio_in=0, cached=0, text_out=0, audio_out=0)
    words = len(pieces(response.text))
    return usage(
        text_in=response.text_in,
        audio_in=response.audio_in,
        cached=response.text_in // 64 * 64 if call.response_count > 1 else 0,
        text_out=words + 2,
        audio_out=round(speaking_seconds(response.text) * 20) if response.speaks and not response.function else 0,
    )
