from __future__ import annotations

from rtobserver.realtime.sound import Sound

MS = 1000


def test_talk_and_silence_add_up() -> None:
    sound = Sound()
    sound.user_started(1000 * MS)
    sound.user_stopped(3000 * MS, None)
    sound.play_started(3500 * MS)
    sound.play_stopped(5500 * MS)
    sound.user_started(8500 * MS)
    sound.user_stopped(9000 * MS, 400)
    assert (sound.user_ms, sound.talked_us, sound.dead_us) == (2400, 2000 * MS, 3500 * MS)
    assert sound.quiet_since == 9000 * MS


def test_nobody_is_silent_while_the_other_speaks() -> None:
    sound = Sound()
    sound.play_started(0)
    sound.user_started(1000 * MS)
    sound.play_stopped(1500 * MS)
    seen = [sound.quiet_since]
    sound.user_stopped(2000 * MS, None)
    seen.append(sound.quiet_since)
    assert seen == [None, 2000 * MS]
    assert sound.dead_us == 0


def test_an_end_without_a_beginning_says_nothing() -> None:
    sound = Sound()
    sound.user_stopped(5 * MS, None)
    sound.play_stopped(5 * MS)
    assert (sound.user_ms, sound.talked_us, sound.quiet_since) == (0, 0, None)


def test_a_playback_that_follows_another_ends_it() -> None:
    sound = Sound()
    sound.play_started(0)
    sound.play_started(1000 * MS)
    sound.play_stopped(3000 * MS)
    assert sound.talked_us == 3000 * MS


def test_a_clock_that_jumps_back_takes_nothing_away() -> None:
    sound = Sound()
    sound.user_started(5000 * MS)
    sound.user_stopped(1000 * MS, None)
    sound.play_started(500 * MS)
    sound.play_stopped(0)
    assert (sound.user_ms, sound.talked_us, sound.dead_us) == (0, 0, 0)
