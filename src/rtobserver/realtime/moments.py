"""Note of a call's entries what no row keeps: when each sound began and ended, and at which entry. Pure.

Only entries of `TYPES` are looked into. The steps go by the same events as the fold of items and
responses (`user_events.py`, `response_events.py`), which keeps sums of these stretches and the
first playback of each response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rtobserver.realtime.events import fields, read
from rtobserver.realtime.names import BETA_NAMES, canonical
from rtobserver.realtime.values import identifier, mapping, text

End = Literal["open", "stopped", "cleared", "unfinished"]

LONGEST_ERROR = 300


class Point(NamedTuple):
    """Be an entry's time and place."""

    at: int
    position: str


@dataclass(slots=True)
class Stretch:
    """Be a stretch of speech, by its item, or of playback, by its response."""

    id: str | None
    begin: Point
    until: Point | None = None
    """The entry that ended it; None where none did."""
    until_at: int | None = None
    end: End = "open"

    def finish(self, point: Point, end: End) -> None:
        """End it at an entry."""
        self.until, self.until_at, self.end = point, point.at, end

    def give_up(self, at: int) -> None:
        """End it at the latest time at which it can have gone on."""
        self.until_at, self.end = at, "unfinished"


class Moments:
    """Fold entries in the order of their positions."""

    __slots__ = (
        "_named", "_playing", "_points", "_speaking", "barged", "cleared", "errors", "first", "last", "latest_at",
        "playback", "speech", "truncated", "unheard",
    )  # fmt: skip

    def __init__(self) -> None:
        self.first: Point | None = None
        self.last: Point | None = None
        self.latest_at = 0
        self.speech: list[Stretch] = []
        self.playback: list[Stretch] = []
        self.barged: list[tuple[str, str | None, Point]] = []
        """Response, the user's item, and where the user began to speak while it played."""
        self.cleared: list[tuple[str | None, Point]] = []
        """Response, and where its playback was cleared."""
        self.truncated: list[tuple[str | None, Point]] = []
        """Item, and where it was cut to what was heard."""
        self.errors: list[tuple[str, Point]] = []
        """Words of each `error`, and where it stands."""
        self.unheard: list[tuple[str | None, Point]] = []
        """The user's item, and where its transcription failed."""
        self._speaking: Stretch | None = None
        self._playing: Stretch | None = None
        self._points: dict[str, list[Point]] = {}
        self._named: dict[str, Point] = {}

    def reach(self, at: int, epoch: int, seq: int) -> Point:
        """Note that there is an entry, whatever it is."""
        point = Point(at, f"{epoch}:{seq}")
        self.first = self.first or point
        self.last = point
        self.latest_at = max(self.latest_at, at)
        return point

    def take(self, type_: str | None, frame: bytes, at: int, epoch: int, seq: int) -> None:
        """Take in the next event of the call. Never raises."""
        point = self.reach(at, epoch, seq)
        step = _STEPS.get(type_ or "")
        if step is not None:
            step(self, frame, point)

    def where(self, id_: str | None, at: int | None, *, ended: bool = False) -> str | None:
        """Give the position of the entry that told something of an item or response at that time.

        Of several, the first, or the last where it `ended`.
        """
        points = self._points.get(id_ or "", []) if at is not None else []
        found = [point.position for point in points if point.at == at]
        return found[-1 if ended else 0] if found else None

    def named(self, response_id: str) -> int | None:
        """Give the time of the first entry here that named a response; deltas and new items are not looked at."""
        point = self._named.get(response_id)
        return None if point is None else point.at

    def _note(self, id_: str | None, point: Point) -> None:
        if id_ is not None:
            self._points.setdefault(id_, []).append(point)

    def _name(self, response_id: object, point: Point) -> str | None:
        name = identifier(response_id)
        if name is not None:
            self._named.setdefault(name, point)
        return name

    def _start_speech(self, frame: bytes, point: Point) -> None:
        item_id = identifier(read(frame)[0].item_id)
        if self._speaking is not None:
            self._speaking.give_up(point.at)
        self._speaking = Stretch(item_id, point)
        self.speech.append(self._speaking)
        if self._playing is not None and self._playing.id is not None:
            self.barged.append((self._playing.id, item_id, point))

    def _stop_speech(self, frame: bytes, point: Point) -> None:
        self._end_speech(point, "stopped")

    def _drop_speech(self, frame: bytes, point: Point) -> None:
        self._end_speech(point, "cleared")

    def _end_speech(self, point: Point, end: End) -> None:
        if self._speaking is not None:
            self._speaking.finish(point, end)
            self._speaking = None

    def _start_playback(self, frame: bytes, point: Point) -> None:
        response_id = self._name(read(frame)[0].response_id, point)
        if self._playing is not None:
            self._playing.give_up(point.at)
        self._playing = Stretch(response_id, point)
        self.playback.append(self._playing)

    def _stop_playback(self, frame: bytes, point: Point) -> None:
        self._end_playback(frame, point, "stopped")

    def _clear_playback(self, frame: bytes, point: Point) -> None:
        self.cleared.append((self._end_playback(frame, point, "cleared"), point))

    def _end_playback(self, frame: bytes, point: Point, end: End) -> str | None:
        playing = self._playing
        response_id = self._name(read(frame)[0].response_id, point) or (playing.id if playing else None)
        if playing is not None and playing.id == response_id:
            playing.finish(point, end)
            self._playing = None
        return response_id

    def _finish_part(self, frame: bytes, point: Point) -> None:
        event, _ = read(frame)
        self._name(event.response_id, point)
        self._note(identifier(event.item_id), point)

    def _finish_item(self, frame: bytes, point: Point) -> None:
        told = fields(frame)
        self._name(told.get("response_id"), point)
        self._note(identifier(mapping(told.get("item")).get("id")), point)

    def _tell_response(self, frame: bytes, point: Point) -> None:
        response_id = self._name(mapping(fields(frame).get("response")).get("id"), point)
        self._note(response_id, point)

    def _truncate(self, frame: bytes, point: Point) -> None:
        self.truncated.append((identifier(read(frame)[0].item_id), point))

    def _miss_words(self, frame: bytes, point: Point) -> None:
        self.unheard.append((identifier(read(frame)[0].item_id), point))

    def _err(self, frame: bytes, point: Point) -> None:
        error = mapping(fields(frame).get("error"))
        words = text(error.get("message")) or text(error.get("code")) or text(error.get("type")) or "error"
        self.errors.append((words[:LONGEST_ERROR], point))


_PRESENT: Mapping[str, Callable[[Moments, bytes, Point], None]] = {
    "input_audio_buffer.speech_started": Moments._start_speech,
    "input_audio_buffer.speech_stopped": Moments._stop_speech,
    "input_audio_buffer.committed": Moments._stop_speech,
    "input_audio_buffer.cleared": Moments._drop_speech,
    "output_audio_buffer.started": Moments._start_playback,
    "output_audio_buffer.stopped": Moments._stop_playback,
    "output_audio_buffer.cleared": Moments._clear_playback,
    "response.created": Moments._tell_response,
    "response.done": Moments._tell_response,
    "response.output_audio_transcript.done": Moments._finish_part,
    "response.output_text.done": Moments._finish_part,
    "response.output_audio.done": Moments._finish_part,
    "response.content_part.done": Moments._finish_part,
    "response.function_call_arguments.done": Moments._finish_part,
    "response.mcp_call_arguments.done": Moments._finish_part,
    "response.mcp_call.in_progress": Moments._finish_part,
    "response.mcp_call.completed": Moments._finish_part,
    "response.mcp_call.failed": Moments._finish_part,
    "response.output_item.done": Moments._finish_item,
    "conversation.item.done": Moments._finish_item,
    "conversation.item.truncated": Moments._truncate,
    "conversation.item.input_audio_transcription.failed": Moments._miss_words,
    "error": Moments._err,
}
_STEPS: Mapping[str, Callable[[Moments, bytes, Point], None]] = {
    name: _PRESENT[canonical(name)] for name in (*_PRESENT, *BETA_NAMES) if canonical(name) in _PRESENT
}
TYPES: tuple[str, ...] = tuple(_STEPS)
"""Types of the events that must be taken; of others nothing is noted but that they are there."""
