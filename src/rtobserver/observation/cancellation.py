"""Cancel a response and stop its sound, and no other's. Pure.

Upstream plays one response after another, and `output_audio_buffer.clear` names none: it is sent only
while the last `output_audio_buffer.started` names the response that is to stop. A response is spoken
later than it is written, so its sound may begin after it was cancelled; then the clear is sent at that
moment. What plays across a gap nobody knows, and it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rtobserver.observation.commands import Author, Json, Tell
from rtobserver.observation.deed import Deed
from rtobserver.observation.effects import Effect
from rtobserver.realtime import heard
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import identifier, mapping

MAX_RESPONSES = 100
"""Responses that are remembered."""
NOT_ACTIVE = "response_cancel_not_active"
"""Upstream's error where the response ended before the cancel arrived."""

Issue = Callable[[Json, Author, Tell, int, float], list[Effect]]


class _Sound:
    """Be what is known of one response's words and playback."""

    __slots__ = ("chars", "ended_at", "is_done", "is_whole", "started_at")

    def __init__(self) -> None:
        self.chars = 0
        """Characters of it that were written so far."""
        self.started_at: int | None = None
        self.ended_at: int | None = None
        self.is_done = False
        self.is_whole = False
        """Whether it was followed from its beginning."""


class _Wanted(NamedTuple):
    author: Author
    deed: Deed


class Cancellations:
    """Know what is said and heard in one call, to stop it."""

    __slots__ = ("_is_over", "_issue", "_playing_id", "_sounds", "_wanted")

    def __init__(self, is_over: Callable[[str], bool], issue: Issue) -> None:
        self._is_over = is_over
        """Whether a response is known to have ended."""
        self._issue = issue
        self._sounds: dict[str, _Sound] = {}
        self._playing_id: str | None = None
        self._wanted: dict[str, _Wanted] = {}
        """Responses whose sound is to be stopped when it begins."""

    def __bool__(self) -> bool:
        """Say whether a sound is to be stopped when it begins."""
        return bool(self._wanted)

    def heard(self, event: Event, frame: bytes, at: int, mono: float) -> list[Effect]:
        """Take in a server event."""
        type_ = event.type or ""
        if type_.endswith(".delta"):
            if event.delta and event.response_id and canonical(type_) == "response.output_audio_transcript.delta":
                self._sound(event.response_id).chars += len(event.delta)
            return []
        match type_:
            case "response.created":
                response_id = identifier(mapping(fields(frame).get("response")).get("id"))
                if response_id is not None:
                    self._sound(response_id).is_whole = True
            case "response.done":
                response_id = identifier(mapping(fields(frame).get("response")).get("id"))
                if response_id is not None:
                    self._sound(response_id).is_done = True
            case "output_audio_buffer.started":
                return self._started(event.response_id, at, mono)
            case "output_audio_buffer.stopped" | "output_audio_buffer.cleared":
                ended_id = event.response_id or self._playing_id
                if ended_id == self._playing_id:
                    self._playing_id = None
                if ended_id is not None:
                    self._sound(ended_id).ended_at = at
                    self._wanted.pop(ended_id, None)
        return []

    def cancel(self, response_id: str, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        """Stop a response; what is over already is left alone."""
        sound = self._sounds.get(response_id)
        effects: list[Effect] = []
        if not self._is_done(response_id):
            event = {"type": "response.cancel", "response_id": response_id}
            effects += self._issue(event, author, deed.begin(NOT_ACTIVE), at, mono)
        if response_id == self._playing_id:
            effects += self._clear(author, deed, at, mono)
        elif sound is None or sound.ended_at is None:
            self._wanted[response_id] = _Wanted(author, deed)
            if len(self._wanted) > MAX_RESPONSES:
                del self._wanted[next(iter(self._wanted))]
            if not effects:
                deed.do()
                deed.note("the response was done; its sound is stopped if it begins")
        elif not effects:
            deed.note("the response was over")
        return effects

    def played_ms(self, response_id: str, match: str | None, at: int) -> int | None:
        """Estimate how much of what was just written in a response was heard, in milliseconds; None if unknown."""
        sound = self._sounds.get(response_id)
        if match is None or sound is None or not sound.is_whole or sound.chars < len(match):
            return None
        if sound.started_at is None:
            return 0
        elapsed_ms = ((at if sound.ended_at is None else sound.ended_at) - sound.started_at) // 1000
        return heard.played_ms(sound.chars - len(match), len(match), elapsed_ms)

    def detached(self) -> None:
        """Take note that frames are missed from now on."""
        self._playing_id = None
        self._wanted.clear()
        self._sounds = {id_: sound for id_, sound in self._sounds.items() if sound.is_done and sound.ended_at}

    def _is_done(self, response_id: str) -> bool:
        sound = self._sounds.get(response_id)
        if sound is not None and sound.is_done:
            return True
        return self._is_over(response_id)

    def _started(self, response_id: str | None, at: int, mono: float) -> list[Effect]:
        self._playing_id = response_id
        if response_id is None:
            return []
        sound = self._sound(response_id)
        if sound.started_at is None:
            sound.started_at = at
        sound.ended_at = None
        wanted = self._wanted.pop(response_id, None)
        return self._clear(wanted.author, wanted.deed, at, mono) if wanted else []

    def _clear(self, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        return self._issue({"type": "output_audio_buffer.clear"}, author, deed.begin(), at, mono)

    def _sound(self, response_id: str) -> _Sound:
        sound = self._sounds.get(response_id)
        if sound is None:
            sound = self._sounds[response_id] = _Sound()
            if len(self._sounds) > MAX_RESPONSES:
                del self._sounds[next(iter(self._sounds))]
        return sound
