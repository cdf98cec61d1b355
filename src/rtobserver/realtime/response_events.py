"""Events of responses: their life, and the playback of what they said."""

from __future__ import annotations

from typing import Any

from rtobserver.realtime.conversation import Changes
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.fold import MAX_NAMED, Fold, Step
from rtobserver.realtime.response import Response
from rtobserver.realtime.usage import read
from rtobserver.realtime.values import mapping, objects, text

_ENDS = {"completed", "cancelled", "incomplete", "failed"}
_LONGEST_REASON = 200


def _create(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    value = mapping(fields(frame).get("response"))
    response = fold.talk.response(value.get("id"))
    if response is None:
        return None
    _learn(response, value)
    if response.created_at is None:
        response.created_at = fold.talk.at
    if not response.is_done and not response.is_out_of_band:
        fold.talk.active_id = response.id
    return fold.talk.changes((), [response])


def _end(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    value = mapping(fields(frame).get("response"))
    response = talk.response(value.get("id"))
    if response is None or response.is_done:
        return None
    _learn(response, value)
    status = text(value.get("status"))
    response.status = status if status in _ENDS else "completed"
    response.reason = _reason(mapping(value.get("status_details")))
    response.done_at = talk.at
    response.usage = read(value.get("usage"))
    fold.meters.add(response.usage, talk.at)
    fold.error_count += response.status == "failed"
    if talk.active_id == response.id:
        talk.active_id = None
    for output in objects(value.get("output"))[:MAX_NAMED]:
        item = fold.name_item(output.get("id"))
        if item is not None:
            talk.belong(item, response)
            item.absorb(output, talk.at)
    for item in talk.outputs(response):
        if item.status == "in_progress":
            item.status = "completed" if response.status == "completed" else "incomplete"
            item.ended_at = talk.at if item.ended_at is None else item.ended_at
        if item.kind == "tool_call" and item.status == "completed":
            fold.expect_tool(item)
    return fold.changes_of(response, settled=True)


def _learn(response: Response, value: dict[str, Any]) -> None:
    if "conversation_id" in value:
        response.null_conversation = value["conversation_id"] is None
    response.text_only = (value.get("output_modalities") or value.get("modalities")) == ["text"]


def _reason(details: dict[str, Any]) -> str | None:
    error = mapping(details.get("error"))
    reason = text(details.get("reason")) or text(error.get("code")) or text(error.get("type"))
    return reason[:_LONGEST_REASON] if reason else None


def _start_playback(fold: Fold, event: Event, frame: bytes) -> None:
    response = fold.talk.response(event.response_id)
    fold.sound.play_started(fold.talk.at)
    fold.playing_response_id = event.response_id
    if response is not None:
        fold.talk.play(response)


def _stop_playback(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    playing = event.response_id or fold.playing_response_id
    if playing == fold.playing_response_id:
        fold.sound.play_stopped(fold.talk.at)
        fold.playing_response_id = None
    response = fold.talk.response(playing)
    if response is None:
        return None
    if response.playback_ended_at is None:
        response.playback_ended_at = fold.talk.at
    if event.type == "output_audio_buffer.cleared":
        response.cleared = True
    return fold.changes_of(response)


STEPS: dict[str, Step] = {
    "response.created": _create,
    "response.done": _end,
    "output_audio_buffer.started": _start_playback,
    "output_audio_buffer.stopped": _stop_playback,
    "output_audio_buffer.cleared": _stop_playback,
}
