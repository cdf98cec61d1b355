"""Follow who speaks in a call and what was said last, by the few events that tell it. Pure.

It is made for a glance at many calls at once: it keeps the end of one line for each side and
nothing else. What was really said, in order and whole, is the fold's to tell (`fold.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from rtobserver.realtime.events import fields, read
from rtobserver.realtime.names import BETA_NAMES, canonical
from rtobserver.realtime.values import identifier, mapping, objects, text

WORDS_CHARACTERS = 240
"""What is kept of a line: its end."""
_MAX_ASIDE = 16

_USER_DELTA = "conversation.item.input_audio_transcription.delta"
_USER_DONE = "conversation.item.input_audio_transcription.completed"
_DELTAS = ("response.output_audio_transcript.delta", "response.output_text.delta")
_FINALS = ("response.output_audio_transcript.done", "response.output_text.done")


class Said:
    """Keep the end of the line that one side said last."""

    __slots__ = ("_item_id", "words")

    def __init__(self, words: str = "") -> None:
        self.words = words[-WORDS_CHARACTERS:]
        self._item_id: str | None = None

    def grow(self, item_id: str | None, delta: str) -> None:
        """Add to the line, or begin the next one."""
        before = self.words if item_id == self._item_id else ""
        self._item_id = item_id
        self.words = (before + delta)[-WORDS_CHARACTERS:]

    def settle(self, item_id: str | None, words: str | None) -> None:
        """Take the line's final words; without any, what was said before stays."""
        if words and words.strip():
            self._item_id = item_id
            self.words = words[-WORDS_CHARACTERS:]


class Talk:
    """Be what one glance at a call shows of its conversation."""

    __slots__ = ("_aside", "assistant", "is_assistant_speaking", "is_user_speaking", "user")

    def __init__(self, user: str = "", assistant: str = "") -> None:
        self.user, self.assistant = Said(user), Said(assistant)
        self.is_user_speaking = False
        """Voice detection hears the user."""
        self.is_assistant_speaking = False
        """Sound of the model is being played."""
        self._aside: dict[str, None] = {}

    def take(self, type_: str, payload: bytes) -> None:
        """Take in an event; one that tells nothing of this changes nothing."""
        step = _STEPS.get(canonical(type_))
        if step is not None:
            step(self, payload)

    def is_aside(self, response_id: str | None) -> bool:
        """Say whether a response belongs to no conversation, so that nobody hears it."""
        return response_id in self._aside

    def put_aside(self, response_id: str) -> None:
        """Note that a response belongs to no conversation."""
        self._aside[response_id] = None
        if len(self._aside) > _MAX_ASIDE:
            del self._aside[next(iter(self._aside))]


def _user_starts(talk: Talk, payload: bytes) -> None:
    talk.is_user_speaking = True


def _user_stops(talk: Talk, payload: bytes) -> None:
    talk.is_user_speaking = False


def _playback_starts(talk: Talk, payload: bytes) -> None:
    talk.is_assistant_speaking = True


def _playback_stops(talk: Talk, payload: bytes) -> None:
    talk.is_assistant_speaking = False


def _begin_response(talk: Talk, payload: bytes) -> None:
    response = mapping(fields(payload).get("response"))
    response_id = identifier(response.get("id"))
    # where the name of the conversation is null it has none; where it is absent nothing is known
    if response_id is not None and response.get("conversation_id", "") is None:
        talk.put_aside(response_id)


def _hear_user(talk: Talk, payload: bytes) -> None:
    event, _ = read(payload)
    if event.delta:
        talk.user.grow(event.item_id, text(event.delta) or "")


def _know_user(talk: Talk, payload: bytes) -> None:
    told = fields(payload)
    talk.user.settle(identifier(told.get("item_id")), text(told.get("transcript")))


def _hear_assistant(talk: Talk, payload: bytes) -> None:
    event, _ = read(payload)
    if event.delta and not talk.is_aside(event.response_id):
        talk.assistant.grow(event.item_id, text(event.delta) or "")


def _know_assistant(talk: Talk, payload: bytes) -> None:
    told = fields(payload)
    if not talk.is_aside(identifier(told.get("response_id"))):
        words = text(told.get("transcript")) or text(told.get("text"))
        talk.assistant.settle(identifier(told.get("item_id")), words)


def _read_typed(talk: Talk, payload: bytes) -> None:
    item = mapping(fields(payload).get("item"))
    if item.get("role") != "user":
        return
    parts = [text(part.get("text")) or "" for part in objects(item.get("content")) if part.get("type") == "input_text"]
    talk.user.settle(identifier(item.get("id")), "\n".join(parts))


Step = Callable[[Talk, bytes], None]

SOUNDS: dict[str, Step] = {
    "input_audio_buffer.speech_started": _user_starts,
    "input_audio_buffer.speech_stopped": _user_stops,
    "input_audio_buffer.committed": _user_stops,
    "input_audio_buffer.cleared": _user_stops,
    "output_audio_buffer.started": _playback_starts,
    "output_audio_buffer.stopped": _playback_stops,
    "output_audio_buffer.cleared": _playback_stops,
}
"""Events that tell who speaks."""

_STEPS: dict[str, Step] = {
    **SOUNDS,
    "response.created": _begin_response,
    _USER_DELTA: _hear_user,
    _USER_DONE: _know_user,
    **dict.fromkeys(_DELTAS, _hear_assistant),
    **dict.fromkeys(_FINALS, _know_assistant),
    "conversation.item.added": _read_typed,
}

TYPES = (*_STEPS, *(old for old, new in BETA_NAMES.items() if new in _STEPS))
"""Every type of event that tells something of this, by all of its names."""
