from __future__ import annotations

import pytest

from rtobserver.realtime.names import BETA_NAMES, canonical


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("response.text.delta", "response.output_text.delta"),
        ("response.audio_transcript.done", "response.output_audio_transcript.done"),
        ("conversation.item.created", "conversation.item.added"),
        ("transcription_session.updated", "session.updated"),
    ],
)
def test_beta_names_lead_to_present_ones(old: str, new: str) -> None:
    assert canonical(old) == new


def test_present_and_unknown_names_stay() -> None:
    for name in (*BETA_NAMES.values(), "response.of.tomorrow", ""):
        assert canonical(name) == name
