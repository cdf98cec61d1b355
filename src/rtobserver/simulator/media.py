"""What a call knows of its media: a browser at the data channel, a loudspeaker. Imports no WebRTC.

`peer.py` has the real ones; a simulator without media has none.
"""

from __future__ import annotations

from typing import Protocol

_FILTERED = frozenset(
    {
        "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "output_audio_buffer.started",
        "output_audio_buffer.stopped", "conversation.item.input_audio_transcription.completed",
        "conversation.item.added", "conversation.item.created", "response.output_text.delta",
        "response.output_text.done", "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
    }
)  # fmt: skip
"""All that `webrtcfilter=on` lets through (protocol.md 1.6)."""


def reaches_browser(kind: str | None, *, filtered: bool) -> bool:
    """Say whether an event of this type goes to a data channel, where sound never goes as events."""
    return kind in _FILTERED if filtered else kind != "response.output_audio.delta"


class Browser(Protocol):
    """The caller's end of a call with media."""

    @property
    def is_open(self) -> bool:
        """Say whether the data channel can be sent to."""

    @property
    def is_connected(self) -> bool:
        """Say whether all that was offered is there: the connection, and the channel if there is one."""

    def takes(self, size: int) -> bool:
        """Say whether the browser takes messages of so many bytes (`a=max-message-size`)."""

    def send(self, frame: bytes, *, text: bool) -> None:
        """Send a frame that the browser takes; never waits."""

    async def close(self) -> None:
        """Close the connection as upstream does when it ends a call; a second close does nothing."""


class Loudspeaker(Protocol):
    """Play the model's speech to the caller."""

    @property
    def is_ready(self) -> bool:
        """Say whether sound reaches the caller."""

    @property
    def is_silent(self) -> bool:
        """Say whether everything was played."""

    @property
    def heard_seconds(self) -> float:
        """Give how much was played since the last `say`."""

    def say(self, seconds: float) -> None:
        """Begin to play so much speech."""

    def shorten(self, seconds: float) -> None:
        """Play no more than so much in all."""

    def hush(self) -> None:
        """Stop at once."""
