"""A wall clock that somebody sets makes no gap longer or shorter, and no call older."""

from __future__ import annotations

import pytest

from rtobserver.observation.plan import Resumption
from rtobserver.observation.restoration import Again, Restored
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import EVENT, OVERLAP, GapRow, Record
from rtobserver.realtime.holes import Loss
from tests.observation.play import START, Play, plan

HOUR = 3600


def set_clock(play: Play, seconds: int) -> None:
    play._began = (play.at + seconds * 1_000_000, play.now)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_an_absence_is_as_long_as_it_is(seconds: int) -> None:
    play = Play()
    play.wait(1)
    play.attach()
    play.wait(10)
    play.close(silent=3.0)
    since = play.at - 3_000_000
    play.fail()
    set_clock(play, seconds)
    play.wait(4)
    play.attach()
    [gap] = [gap for gap in play.gaps.values() if gap.reason == "reattach"]
    assert (gap.from_at, gap.to_at) == (since, since + 7_000_000)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_a_pause_is_as_long_as_it_is(seconds: int) -> None:
    play = Play()
    play.attach()
    play.order("ord_1", {"type": "pause"})
    began = play.at
    set_clock(play, seconds)
    play.wait(5)
    play.order("ord_2", {"type": "resume"})
    [gap] = [gap for gap in play.gaps.values() if gap.reason == "paused"]
    assert (gap.from_at, gap.to_at) == (began, began + 5_000_000)


@pytest.mark.parametrize("seconds", [-HOUR, 0, HOUR])
def test_a_take_over_knows_how_long_nobody_was_there(seconds: int) -> None:
    earlier = Resumption(watermark=START + 60_000_000, ago=8.0, last_position="1:5", was_live=True)
    play = Play(plan(max_duration=300.0), epoch=2, resumption=earlier, at=START + (68 + seconds) * 1_000_000)
    play.wait(0.5)
    play.attach()
    [gap] = play.gaps.values()
    assert (gap.from_at, gap.to_at) == (START + 60_000_000, START + 68_500_000)
    assert play.machine.ledger.age(play.now) == pytest.approx(68.5), "and how old the call is"


def test_a_call_grows_no_older_by_a_clock_that_was_set_in_an_earlier_run() -> None:
    watermark = START + (HOUR + 60) * 1_000_000
    earlier = Resumption(watermark=watermark, ago=8.0, age_us=60_000_000, last_position="1:5", was_live=True)
    play = Play(epoch=2, resumption=earlier, at=watermark + 8_000_000)
    assert play.machine.ledger.age(play.now) == pytest.approx(68.0)


def test_without_an_uptime_a_gap_is_never_shorter_than_nothing() -> None:
    earlier = Resumption(watermark=START + 60_000_000, last_position="1:5", was_live=True)
    play = Play(epoch=2, resumption=earlier, at=START)
    play.wait(2)
    play.attach()
    [gap] = play.gaps.values()
    assert (gap.from_at, gap.to_at) == (START + 60_000_000, START + 62_000_000)


def test_entries_that_a_row_counts_and_nobody_finds_were_behind_the_last() -> None:
    told = GapRow(1, 9, START, "corrupt", None, lost=2, lost_by_type={})
    between = Loss(1, START, START, "1:3")
    restored = Restored(CallState(), entry_count=10, gaps=(told,), losses=(between,), last_at=START + 5)
    assert restored.lacking(13, "1:12", START + 9) == (between,)
    assert restored.lacking(0, "1:12", START + 9) == (between,), "a row may count less than there is"
    assert restored.lacking(17, "1:12", START + 9) == (between, Loss(4, START + 5, START + 9, "1:12"))


def test_what_another_owner_recorded_too_is_not_missing_where_the_row_counted_it() -> None:
    again = Again(CallState())
    for seq in range(1, 11):
        again.take(Record(1, seq, EVENT, START + seq, seq, "a", None, b"{}", OVERLAP if seq > 7 else 0))
    restored = again.finish([])
    assert restored.entry_count == 7
    assert restored.lacking(10, "1:10", START + 20) == ()
    assert restored.lacking(11, "1:10", START + 20) == (Loss(1, START + 10, START + 20, "1:10"),)
