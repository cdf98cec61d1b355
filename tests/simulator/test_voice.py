"""Where a caller speaks, from levels and times alone."""

from __future__ import annotations

import pytest

from rtobserver.simulator.voice import SILENCE, Voice, lowest_loud_level

LOUD, PACKET = -30.0, 0.02


def hear(voice: Voice, levels: list[float], since: float = 0.0, threshold: float = 0.5) -> list[int]:
    """Feed packets and give the numbers of those that began an utterance."""
    return [n for n, level in enumerate(levels) if voice.hear(level, since + n * PACKET, threshold)]


def test_speech_begins_with_its_fourth_loud_packet_and_is_dated_back_to_the_first() -> None:
    voice = Voice()
    assert hear(voice, [SILENCE] * 10 + [LOUD] * 20) == [13]
    assert (voice.is_speaking, voice.utterance_count) == (True, 1)
    assert voice.began_seconds == pytest.approx(0.2)


@pytest.mark.parametrize("beep", [[LOUD], [LOUD] * 3])
def test_a_click_or_a_browsers_fake_beep_is_no_speech(beep: list[float]) -> None:
    voice = Voice()
    assert hear(voice, (beep + [SILENCE] * 20) * 10) == []


def test_speech_ends_when_nothing_was_loud_for_as_long_as_the_session_says() -> None:
    voice = Voice()
    hear(voice, [LOUD] * 10)
    assert not voice.pause(0.18 + 0.19, silence=0.2)
    assert voice.pause(0.18 + 0.21, silence=0.2)
    assert not voice.is_speaking
    assert voice.ended_seconds == pytest.approx(0.39)
    assert not voice.pause(9.0, silence=0.2)


def test_a_pause_between_words_does_not_end_speech() -> None:
    voice = Voice()
    hear(voice, [LOUD] * 10 + [SILENCE] * 9 + [LOUD] * 10)
    assert not voice.pause(29 * PACKET, silence=0.2)
    assert voice.utterance_count == 1


def test_the_next_speech_is_another_utterance() -> None:
    voice = Voice()
    hear(voice, [LOUD] * 10)
    voice.pause(1.0, silence=0.2)
    assert hear(voice, [LOUD] * 10, since=2.0) == [3]
    assert voice.utterance_count == 2


def test_a_higher_threshold_needs_a_louder_voice() -> None:
    assert lowest_loud_level(0.5) == -45
    assert hear(Voice(), [-40.0] * 10, threshold=0.5) == [3]
    assert hear(Voice(), [-40.0] * 10, threshold=0.8) == []
