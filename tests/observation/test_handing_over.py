"""A machine whose call is handed over: the one that resigns acts no more, the one that follows has missed nothing."""

from __future__ import annotations

import msgspec

from rtobserver.observation.commands import OPERATOR
from rtobserver.observation.control import Order
from rtobserver.observation.effects import HangUp, Send
from rtobserver.observation.phases import Phase
from rtobserver.observation.plan import Resumption
from rtobserver.realtime.entries import CommandRow, GapRow, OrderRow, Record
from tests.observation.play import START, Play, plan

ORDER = Order("ord_1", {"type": "response.create"}, START)
FRAME = msgspec.json.encode({"type": "input_audio_buffer.speech_started", "event_id": "event_1"})


def follower(**resumption: object) -> Play:
    left = {"watermark": START, "last_position": "1:5", "was_live": True, "is_handed_over": True} | resumption
    return Play(epoch=2, resumption=Resumption(**left))  # type: ignore[arg-type]


def test_whoever_resigned_gives_orders_back_and_goes_on_recording() -> None:
    play = Play()
    play.attach()
    play.machine.resigned(*play.time)
    [row] = [effect for effect in play.machine.ordered(ORDER, *play.time) if isinstance(effect, OrderRow)]
    assert row.state == "waiting"
    recorded = play.machine.frame_received(FRAME, *play.time)
    assert [type(effect) for effect in recorded][:1] == [Record]
    assert play.machine.phase is Phase.ATTACHED


def test_whoever_resigned_hangs_nobody_up_at_the_maximal_duration() -> None:
    play = Play(plan(max_duration=10.0))
    play.attach()
    play.machine.resigned(*play.time)
    play.wait(20.0)
    due = play.machine.wake_at()
    assert due is None or due > play.now
    assert not any(isinstance(effect, HangUp) for effect in play.machine.woken(*play.time))
    assert play.machine.hang_up_ordered("operator", *play.time) == []


def test_a_second_resignation_changes_nothing() -> None:
    play = Play()
    play.attach()
    play.machine.resigned(*play.time)
    assert play.machine.resigned(*play.time) == []


def test_a_call_that_was_heard_all_the_time_has_no_gap() -> None:
    play = follower()
    play.attach()
    assert not any(isinstance(effect, GapRow) for effect in play.all)
    assert play.machine.phase is Phase.ATTACHED


def test_after_a_hand_over_a_connection_that_breaks_leaves_a_gap_as_ever() -> None:
    play = follower()
    play.attach()
    play.machine.detached(1006, "", oversize=False, at=play.at, mono=play.now)
    play.wait(1.0)
    gaps = [effect for effect in play.machine.attached(*play.time) if isinstance(effect, GapRow)]
    assert [gap.reason for gap in gaps][:1] == ["reattach"]


def test_a_gap_ends_when_the_sideband_was_opened_however_long_its_frames_have_waited() -> None:
    left = Resumption(watermark=START, ago=3.0, last_position="1:5", was_live=True)
    play = Play(epoch=2, resumption=left, at=START + 3_000_000)
    play.wait(2.0)
    play._do(play.machine.attached(play.at - 1_500_000, play.now, play.now - 1.5))
    [gap] = play.gaps.values()
    assert (gap.reason, gap.from_at, gap.to_at) == ("takeover", START, START + 3_500_000)


def test_a_command_that_must_not_leave_has_failed_and_is_not_in_doubt() -> None:
    play = Play()
    play.attach()
    told: list[str] = []

    def tell(what: object) -> list[object]:
        told.append(what.state)  # type: ignore[attr-defined]
        return []

    effects = play.machine.control.issue({"type": "response.create"}, OPERATOR, tell, *play.time)  # type: ignore[arg-type]
    [send] = [effect for effect in effects if isinstance(effect, Send)]
    after = play.machine.unsent(send.event_id, "not ours", *play.time, never=True)
    [row] = [effect for effect in after if isinstance(effect, CommandRow)]
    assert (row.state, row.error) == ("failed", "not ours")
    assert told == ["sent", "failed"]
