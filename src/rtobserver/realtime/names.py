"""Give events of the beta protocol their general-availability names.

Pages and small proxies in the field still emit the old names; what follows the events of a call
should know one name for each.
"""

from __future__ import annotations

BETA_NAMES: dict[str, str] = {
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "conversation.item.created": "conversation.item.added",
    "transcription_session.created": "session.created",
    "transcription_session.updated": "session.updated",
}
"""Old name to new name, for the server events that were renamed (protocol, section 3.8)."""


def canonical(event_type: str) -> str:
    """Give the present name of a type of event; a type that was never renamed is given back."""
    return BETA_NAMES.get(event_type, event_type)
