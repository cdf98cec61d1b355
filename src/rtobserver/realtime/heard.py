"""Tell how much of a spoken text was heard before it was cut.

Upstream says at which millisecond playback was cut, never at which word; unless everything or
nothing was played, the words are an estimate (protocol, section 5.2).
"""

from __future__ import annotations

from typing import Literal

AUDIO_TOKEN_MS = 50
"""Length of one token of the model's speech, as measured (protocol, section 5.2)."""
CHARACTERS_PER_SECOND = 15
"""Usual pace of speech, for when the length of the audio is not known."""


def cut(text: str, played_ms: int, total_ms: int | None) -> tuple[str, Literal["exact", "estimated"]]:
    """Cut a text where its playback was cut, back to the end of a whole word.

    `total_ms` is the length of all its audio, None where that is not known.
    """
    if played_ms <= 0:
        return "", "exact"
    if total_ms is not None and played_ms >= total_ms:
        return text, "exact"
    length = spoken_ms(text) if total_ms is None else total_ms
    end = len(text) * played_ms // max(length, 1)
    if end >= len(text):
        return text, "estimated"
    kept = text[:end]
    if not text[end].isspace() and " " in text:
        kept = kept.rpartition(" ")[0]
    return kept.rstrip(), "estimated"


def spoken_ms(text: str) -> int:
    """Estimate how long it takes to speak a text."""
    return len(text) * 1000 // CHARACTERS_PER_SECOND


def played_ms(before: int, length: int, elapsed_ms: int) -> int:
    """Estimate how much of some words was heard, in milliseconds.

    `before` characters were spoken before them, they are `length` characters long, and the sound has
    played for so long.
    """
    begin = before * 1000 // CHARACTERS_PER_SECOND
    end = (before + length) * 1000 // CHARACTERS_PER_SECOND
    return min(max(elapsed_ms, begin), end) - begin
