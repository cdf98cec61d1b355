"""Events of the user's side: speech, what is committed of it, its transcription; and the session's."""

from __future__ import annotations

from rtobserver.realtime.conversation import Changes
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.fold import Fold, Step
from rtobserver.realtime.usage import read_transcribed
from rtobserver.realtime.values import mapping, text, whole


def _learn_session(fold: Fold, event: Event, frame: bytes) -> None:
    session = mapping(fields(frame).get("session"))
    listening = mapping(mapping(session.get("audio")).get("input"))
    fold.session_model = text(session.get("model")) or fold.session_model
    # beside the present names, those of the beta, whose sessions were flat
    transcription = mapping(listening.get("transcription") or session.get("input_audio_transcription"))
    fold.transcriber = text(transcription.get("model")) or fold.transcriber
    detection = mapping(listening.get("turn_detection") or session.get("turn_detection"))
    if detection.get("type") == "server_vad":
        around = (detection.get("prefix_padding_ms"), detection.get("silence_duration_ms"))
        fold.padding_ms = sum(whole(ms) or 0 for ms in around)


def _start_speech(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    fold.sound.user_started(fold.talk.at)
    item = fold.introduce_item(event.item_id)
    if item is not None:
        item.role = "user"
        item.speech_from_ms = whole(fields(frame).get("audio_start_ms"))
    playing = fold.talk.responses.get(fold.playing_response_id or "")
    if playing is None or playing.barged:
        return None
    playing.barged = True
    return fold.changes_of(playing)


def _stop_speech(fold: Fold, event: Event, frame: bytes) -> None:
    item = fold.talk.item(event.item_id)
    spoken_ms = None
    if item is not None:
        item.role = "user"
        item.speech_end = fold.talk.at
        until_ms = whole(fields(frame).get("audio_end_ms"))
        if until_ms is not None and item.speech_from_ms is not None:
            spoken_ms = max(until_ms - item.speech_from_ms - fold.padding_ms, 0)
    fold.sound.user_stopped(fold.talk.at, spoken_ms)


def _drop_speech(fold: Fold, event: Event, frame: bytes) -> None:
    fold.sound.user_stopped(fold.talk.at, None)


def _commit(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    fold.sound.user_stopped(talk.at, None)
    item = fold.introduce_item(event.item_id)
    if item is None:
        return None
    told = fields(frame)
    if "previous_item_id" in told:
        talk.link(item, told["previous_item_id"])
    item.role, item.kind, item.visible = "user", "speech", True
    if item.committed_at is None:
        item.committed_at = talk.at
        item.ended_at = item.user_end
        talk.last_user_id = None if item.idle else item.id
    if item.status == "in_progress":
        item.status = "completed"
    return talk.changes([item])


def _time_out(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    item = fold.introduce_item(event.item_id)
    if item is None:
        return None
    item.idle = True
    item.role = "user"
    if talk.last_user_id == item.id:
        talk.last_user_id = None
    return talk.changes([item])


def _hear(fold: Fold, event: Event, frame: bytes) -> None:
    # text of the user comes from the completed transcription alone, so the delta's is not kept
    item = fold.name_item(event.item_id)
    if item is not None and not item.introduced:
        item.role = "user"


def _transcribe(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    item = fold.name_item(event.item_id)
    if item is None:
        return None
    told = fields(frame)
    item.role, item.kind, item.visible = "user", "speech", True
    index = whole(told.get("content_index")) or 0
    words = text(told.get("transcript"))
    if words is not None:
        item.texts[index], item.recovered = words, False
        fold.recovered.pop(item.id, None)
    if item.status in {"in_progress", "failed"}:
        item.status, item.error = "completed", None
    used = read_transcribed(told.get("usage"))
    if used is not None and not item.transcribed:
        item.transcribed = True
        fold.meters.add_transcribed(fold.transcriber, used, fold.talk.at)
    return fold.talk.changes([item])


def _miss_words(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    item = fold.name_item(event.item_id)
    if item is None:
        return None
    item.role, item.kind, item.visible = "user", "speech", True
    item.fail(fields(frame).get("error"))
    fold.transcription_failure_count += 1
    fold.transcription_error = item.error
    return fold.talk.changes([item])


def _count_error(fold: Fold, event: Event, frame: bytes) -> None:
    fold.error_count += 1


STEPS: dict[str, Step] = {
    "session.created": _learn_session,
    "session.updated": _learn_session,
    "input_audio_buffer.speech_started": _start_speech,
    "input_audio_buffer.speech_stopped": _stop_speech,
    "input_audio_buffer.committed": _commit,
    "input_audio_buffer.cleared": _drop_speech,
    "input_audio_buffer.timeout_triggered": _time_out,
    "conversation.item.input_audio_transcription.delta": _hear,
    "conversation.item.input_audio_transcription.completed": _transcribe,
    "conversation.item.input_audio_transcription.failed": _miss_words,
    "error": _count_error,
}
