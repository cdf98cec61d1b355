"""Say goodbye, then hang up: when the words were heard, or could not be said, or their time is over. Pure."""

from __future__ import annotations

from rtobserver.observation.commands import Author, Told
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.values import identifier, mapping


class Farewell:
    """Follow one goodbye."""

    def __init__(self, author: Author, seconds: float, mono: float) -> None:
        self.author = author
        self._seconds = seconds
        self.due = mono + seconds
        """Monotonic time at which the call is hung up whatever became of the words."""
        self.is_over = False
        self._response_id: str | None = None

    def told(self, told: Told) -> None:
        """Take note of what became of the command; its time counts from when it was sent."""
        match told.state:
            case "sent":
                self.due = told.mono + self._seconds
            case "acknowledged":
                self._response_id = identifier(mapping(told.answer.get("response")).get("id"))
            case _:
                self.is_over = True

    def heard(self, event: Event, frame: bytes) -> None:
        """Take in a server event."""
        if self._response_id is None:
            return
        if event.type in ("output_audio_buffer.stopped", "output_audio_buffer.cleared"):
            self.is_over = self.is_over or event.response_id == self._response_id
        elif event.type == "response.done":
            response = mapping(fields(frame).get("response"))
            if response.get("id") == self._response_id and response.get("status") in ("failed", "cancelled"):
                self.is_over = True
