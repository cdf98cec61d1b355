"""What an observer does, told as plays."""

from __future__ import annotations

import json

import pytest

from rtobserver.observation.effects import CloseSideband, HangUp, Probe, RefreshCredential
from rtobserver.observation.phases import Phase
from rtobserver.observation.plan import Resumption
from rtobserver.realtime.entries import COMMAND, EVENT, GAP, JSON, STRIPPED, CommandRow, GapRow, Sums
from rtobserver.realtime.shedding import DELTA
from tests.observation.play import START, Play, plan


def _delta(text: str = "a") -> dict[str, str]:
    return {
        "type": "response.output_audio_transcript.delta",
        "event_id": "e",
        "response_id": "r",
        "item_id": "i",
        "delta": text,
    }


def _resumption(**changes: object) -> Resumption:
    values: dict[str, object] = {"watermark": START, "last_position": "1:5", "was_live": True}
    return Resumption(**{**values, **changes})  # type: ignore[arg-type]


def test_every_call_begins_with_the_gap_before_its_attach_which_does_not_count() -> None:
    play = Play()
    play.wait(0.3)
    play.attach()
    [gap] = play.gaps.values()
    assert (gap.reason, gap.from_at, gap.to_at, gap.state) == (
        "before_attach",
        START - 50_000,
        START + 300_000,
        "bounded",
    )
    assert [(record.seq, record.kind) for record in play.records] == [(1, GAP)]
    assert play.columns == {"status": "live", "attach_latency_ms": 300}
    assert play.machine.ledger.gaps.count == 0


def test_a_frame_is_recorded_as_it_came_with_its_place_and_times() -> None:
    play = Play()
    play.attach()
    play.wait(1.5)
    frame = b'{"type": "x.y",  "event_id":"event_1"}'
    [record] = [effect for effect in play.frame(frame) if not isinstance(effect, GapRow)]
    assert record == play.records[-1]
    assert (record.epoch, record.seq, record.kind, record.flags) == (1, 2, EVENT, JSON)
    assert (record.payload, record.type, record.event_id) == (frame, "x.y", "event_1")
    assert (record.at, record.offset_us) == (START + 1_500_000, 1_500_000)


@pytest.mark.parametrize("frame", [b"", b"{", b"\xff\x00", b'{"type":3}', b"[1]", b"null", b'{"type":"a"}\n{}'])
def test_a_frame_that_is_no_event_is_recorded_all_the_same(frame: bytes) -> None:
    play = Play()
    play.attach()
    play.frame(frame)
    assert play.records[-1].payload == frame
    assert play.records[-1].seq == 2


def test_audio_is_replaced_by_its_length_and_a_keyed_hash() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "conversation.item.retrieved", "item": {"content": [{"audio": "AAAA" * 1000}]}})
    record = play.records[-1]
    assert record.flags == JSON | STRIPPED
    audio = json.loads(record.payload)["item"]["content"][0]["audio"]
    assert audio["bytes"] == 3000
    assert len(audio["hmac_sha256"]) == 64


@pytest.mark.parametrize("frame", [b'{"item":{"audio":"%s"}}\n', b'{\r\n"audio": "%s"\r\n}', b'{"audio":"%s"'])
def test_audio_is_replaced_in_frames_that_no_answer_can_embed(frame: bytes) -> None:
    play = Play()
    play.attach()
    play.frame(frame % (b"AAAA" * 1000))
    record = play.records[-1]
    assert b"AAAA" not in record.payload
    assert record.flags == STRIPPED


def test_audio_stays_where_the_operator_keeps_it() -> None:
    play = Play(plan(audio_key=None))
    play.attach()
    play.frame({"type": "response.output_audio.delta", "delta": "AAAA"})
    assert b"AAAA" in play.records[-1].payload


def test_a_close_is_the_end_only_when_the_next_attach_says_so() -> None:
    play = Play()
    play.attach()
    play.wait(10)
    play.close(1000)
    assert play.machine.phase is Phase.REATTACHING
    assert play.machine.attach_due == play.now
    ended_at = play.at
    play.wait(5.5)
    play.fail(404)
    assert play.ending == ("ended", "browser_left")
    assert play.columns["ended_at"] == ended_at
    assert play.columns["completeness"] == "complete"
    assert len(play.gaps) == 1, "nothing was lost, so only the gap before the attach is there"


def test_a_re_attach_in_the_middle_of_a_call_leaves_a_tight_gap_and_the_epoch() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "a"})
    play.wait(10)
    play.close(1001, "going away")
    closed = play.at
    play.wait(0.2)
    play.attach()
    gap = play.gaps[1, 3]
    assert (gap.reason, gap.from_at, gap.to_at, gap.after) == ("reattach", closed, closed + 200_000, "1:2")
    play.frame({"type": "b"})
    assert (play.records[-1].epoch, play.records[-1].seq) == (1, 4)
    play.wait(10)
    play.close()
    play.fail(404)
    assert play.columns["completeness"] == "complete_with_gaps"
    assert play.gaps[1, 3].state == "final"


def test_the_gap_of_a_connection_that_died_silently_begins_with_its_last_sign_of_life() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "a"})
    died = play.at
    play.wait(41)
    play.close(1011, silent=41.0)
    play.wait(0.2)
    play.attach()
    gap = play.gaps[1, 3]
    assert (gap.reason, gap.from_at, gap.to_at) == ("reattach", died, died + 41_200_000)


def test_a_call_that_ended_while_its_connection_was_dead_ends_with_a_gap() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "a"})
    died = play.at
    play.wait(41)
    play.close(1011, silent=41.0)
    play.fail(404)
    assert play.ending == ("ended", "browser_left")
    gap = play.gaps[1, 3]
    assert (gap.from_at, gap.to_at, gap.state) == (died, died + 41_000_000, "final")
    assert play.columns["completeness"] == "complete_with_gaps"


def test_a_drain_while_nobody_listens_declares_the_gap() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "a"})
    play.close(1001)
    closed = play.at
    assert play.machine.is_unaccounted
    play.wait(5)
    play.drain()
    gap = play.gaps[1, 3]
    assert (gap.reason, gap.from_at, gap.state) == ("reattach", closed, "open")
    assert not play.machine.is_unaccounted


def test_the_session_cap_shows_in_the_outcome() -> None:
    play = Play()
    play.attach()
    play.close(1001, "Your session hit the maximum duration of 60 minutes.")
    play.fail(404)
    assert play.ending == ("ended", "expired")


def test_an_error_event_can_tell_of_the_cap_too() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "error", "error": {"code": "session_expired"}})
    play.close(1000)
    play.fail(404)
    assert play.ending == ("ended", "expired")


def test_a_fresh_call_is_tried_until_the_time_is_over_and_then_unobserved() -> None:
    play = Play(plan(max_duration=0.0))
    while play.machine.phase is Phase.ATTACHING:
        assert play.machine.attach_due is not None
        play.wait(max(0.0, play.machine.attach_due - play.now))
        play.fail(404)
        assert play.now <= 130.0
    assert play.now == pytest.approx(130.0)
    assert play.ending == ("unobserved", "attach_failed")
    [gap] = play.gaps.values()
    assert (gap.state, gap.to_at, gap.counted) == ("final", None, True)
    assert not play.of(HangUp)


def test_an_unobserved_call_is_hung_up_where_the_profile_says_so() -> None:
    play = Play(plan(hang_up_unobserved=True))
    play.wait(30)
    play.fail(503)
    assert len(play.of(HangUp)) == 1
    play.hung_up(True)
    assert play.ending == ("unobserved", "attach_failed")


def test_an_unobserved_call_is_still_hung_up_at_its_maximal_duration() -> None:
    play = Play(plan(max_duration=100.0))
    play.wait(30)
    play.fail(503)
    assert play.machine.phase is Phase.WAITING
    assert play.machine.wake_at() == pytest.approx(200.0)
    play.wait(70)
    play.wake()
    assert len(play.of(HangUp)) == 1
    play.hung_up(True)
    assert play.ending == ("unobserved", "attach_failed")
    assert play.columns["ended_at"] == play.at


def test_retry_after_is_honoured_even_past_the_deadline_once() -> None:
    play = Play()
    play.fail(429, 50.0)
    assert play.machine.attach_due is not None
    assert play.machine.attach_due >= 150.0
    play.wait(play.machine.attach_due - play.now)
    play.fail(429, 50.0)
    assert play.machine.phase is Phase.WAITING


def test_a_refused_credential_is_refreshed_once() -> None:
    play = Play()
    play.fail(401)
    assert len(play.of(RefreshCredential)) == 1
    assert play.machine.attach_due == play.now
    play.fail(401)
    assert play.machine.phase is Phase.WAITING
    assert len(play.of(RefreshCredential)) == 1


def test_a_lost_call_is_declared_with_a_gap_without_end() -> None:
    play = Play()
    play.attach()
    play.wait(10)
    play.close(None)
    play.wait(31)
    play.fail(None)
    assert (play.columns["status"], play.columns["outcome"]) == ("lost", "lost")
    assert play.columns["completeness"] == "incomplete"
    gap = play.gaps[1, 2]
    assert (gap.reason, gap.to_at, gap.state) == ("reattach", None, "final")


def test_the_maximal_duration_ends_in_one_hang_up() -> None:
    play = Play(plan(max_duration=60.0, idle_probe=0.0))
    play.attach()
    play.wait(59)
    assert not play.wake()
    play.wait(1)
    play.wake()
    play.wait(1)
    play.wake()
    assert len(play.of(HangUp)) == 1
    play.hung_up(True)
    play.close(1000)
    assert play.ending == ("ended", "max_duration")
    [command] = {id(row): row for row in play.of(CommandRow)}.values()
    assert (command.type, command.source, command.state) == ("hangup", "system", "acknowledged")
    assert [record.kind for record in play.records] == [GAP, COMMAND]
    assert play.records[-1].event_id == command.event_id == "rto_1_2"


def test_a_close_before_the_answer_to_the_hang_up_gives_the_same_outcome() -> None:
    play = Play(plan(max_duration=60.0))
    play.attach()
    play.wait(60)
    play.wake()
    play.close(1000)
    play.fail(404)
    assert play.ending == ("ended", "max_duration")
    play.hung_up(True)
    assert play.of(CommandRow)[-1].state == "acknowledged"


def test_a_sideband_that_stays_open_after_a_hang_up_is_not_waited_for() -> None:
    play = Play()
    play.attach()
    play.hang_up("browser")
    play.hung_up(True)
    play.wait(5)
    play.wake()
    assert play.ending == ("ended", "hung_up")
    assert play.of(CloseSideband)


def test_a_hang_up_that_finds_the_call_over_does_not_claim_to_have_ended_it() -> None:
    play = Play()
    play.attach()
    play.hang_up("operator")
    play.hung_up(False)
    play.close()
    assert play.ending == ("ended", "browser_left")


def test_an_undelivered_call_is_called_so_even_if_it_was_over_by_then() -> None:
    play = Play()
    play.hang_up("undelivered")
    play.hung_up(False)
    assert play.ending == ("ended", "undelivered")


def test_a_call_that_ends_by_itself_after_a_failed_hang_up_was_not_hung_up() -> None:
    for by, outcome in (("operator", "browser_left"), ("max_duration", "browser_left"), ("undelivered", "undelivered")):
        play = Play()
        play.attach()
        play.hang_up(by)
        play.hung_up(None)
        play.close(1000)
        play.fail(404)
        assert play.ending == ("ended", outcome)


def test_a_hang_up_under_way_when_the_call_ends_has_ended_it() -> None:
    play = Play()
    play.attach()
    play.hang_up("operator")
    play.hung_up(None)
    play.wait(30)
    play.wake()
    play.close(1000)
    play.fail(404)
    assert play.ending == ("ended", "hung_up")


def test_a_failed_hang_up_is_tried_again_later() -> None:
    play = Play()
    play.attach()
    play.hang_up("operator")
    play.hung_up(None)
    assert play.of(CommandRow)[-1].state == "failed"
    play.wait(30)
    play.wake()
    assert len(play.of(HangUp)) == 2


def _wait_for_probe(play: Play) -> float:
    """Move on, waking the machine when it asks for it, until it probes; gives how long that took."""
    began, probes = play.now, len(play.of(Probe))
    while len(play.of(Probe)) == probes:
        due = play.machine.wake_at()
        assert due is not None
        assert due > play.now, "it asks to be woken at once, again and again"
        play.wait(due - play.now)
        play.wake()
    return play.now - began


def test_a_quiet_call_is_probed_ever_more_rarely() -> None:
    play = Play(plan(max_duration=0.0))
    play.attach()
    waited = []
    for _ in range(5):
        waited.append(round(_wait_for_probe(play)))
        assert play.machine.wake_at() is None, "no second probe while one is under way"
        play.probed(True)
    assert waited == [60, 120, 240, 300, 300]
    play.frame({"type": "a"})
    assert round(_wait_for_probe(play)) == 60


def test_a_probe_that_finds_no_call_ends_it() -> None:
    play = Play()
    play.attach()
    play.wait(60)
    play.wake()
    assert len(play.of(Probe)) == 1
    play.probed(False)
    assert play.ending == ("ended", "browser_left")
    assert play.of(CloseSideband)


def test_a_probe_that_finds_nothing_out_changes_nothing() -> None:
    play = Play()
    play.attach()
    play.wait(60)
    play.wake()
    play.probed(None)
    assert play.machine.wake_at() == pytest.approx(play.now + 60)


def test_a_call_left_by_an_earlier_run_begins_with_the_gap_of_the_absence() -> None:
    play = Play(epoch=2, resumption=_resumption(watermark=START - 2_000_000))
    [gap] = play.gaps.values()
    assert (gap.epoch, gap.seq, gap.reason, gap.after) == (2, 1, "takeover", "1:5")
    assert gap.from_at == START - 2_000_000
    play.wait(0.1)
    play.attach()
    assert gap.to_at == play.at
    assert "attach_latency_ms" not in play.columns


def test_a_gap_that_an_earlier_run_left_open_ends_where_the_absence_begins() -> None:
    left = GapRow(1, 4, START - 9_000_000, "reattach", "1:3", lost_by_type={})
    play = Play(epoch=2, resumption=_resumption(watermark=START - 5_000_000, gaps=(left,)))
    assert (left.state, left.to_at) == ("bounded", START - 5_000_000)
    assert left in play.of(GapRow)


def test_a_call_that_ended_while_nobody_observed_went_on_until_then_and_nobody_says_how_long() -> None:
    counts = {"response.done": 4}
    play = Play(epoch=2, resumption=_resumption(watermark=START + 60_000_000, counts=counts), at=START + 9_000_000_000)
    play.wait(0.5)
    play.fail(404)
    assert play.ending == ("ended", "browser_left")
    assert play.columns["completeness"] == "complete_with_gaps"
    assert play.columns["ended_at"] == START + 60_000_000
    [gap] = play.gaps.values()
    assert (gap.reason, gap.from_at, gap.to_at, gap.state) == ("unknown_end", START + 60_000_000, None, "final")


def test_a_call_that_a_hang_up_finds_over_after_an_absence_has_no_known_end() -> None:
    play = Play(epoch=2, resumption=_resumption(watermark=START + 60_000_000), at=START + 9_000_000_000)
    play.wake()
    assert len(play.of(HangUp)) == 1
    play.hung_up(False)
    assert (play.columns["ended_at"], play.gaps[2, 1].reason) == (START + 60_000_000, "unknown_end")


def test_a_call_that_is_hung_up_after_an_absence_ends_then() -> None:
    play = Play(epoch=2, resumption=_resumption(watermark=START + 60_000_000), at=START + 9_000_000_000)
    play.wake()
    play.wait(0.5)
    play.hung_up(True)
    assert play.columns["ended_at"] == play.at
    assert (play.gaps[2, 1].reason, play.gaps[2, 1].to_at) == ("takeover", play.at)


@pytest.mark.parametrize(("seconds", "verdict", "counted"), [(1.0, "complete_with_gaps", 1), (0.2, "complete", 0)])
def test_a_call_of_which_nothing_was_heard_is_complete_only_where_it_was_attached_to_soon(
    seconds: float, verdict: str, counted: int
) -> None:
    play = Play()
    for _ in range(4):
        play.fail(404)
        play.wait(seconds)
    play.attach()
    play.close()
    play.fail(404)
    assert play.ending == ("ended", "browser_left")
    assert (play.columns["completeness"], play.of(Sums)[-1].gap_count) == (verdict, counted)
    assert play.gaps[1, 1].counted is bool(counted)


def test_a_call_left_by_an_earlier_run_that_cannot_be_attached_is_hung_up_once_and_lost() -> None:
    play = Play(epoch=2, resumption=_resumption())
    play.wait(30)
    play.fail(503)
    assert len(play.of(HangUp)) == 1
    play.hung_up(None)
    assert play.ending == ("lost", "lost")
    assert len(play.of(HangUp)) == 1


def test_a_call_whose_observing_is_hopeless_is_declared_lost_and_hung_up_once() -> None:
    play = Play(epoch=5, resumption=_resumption(is_hopeless=True))
    assert play.machine.attach_due is None
    assert len(play.of(HangUp)) == 1
    assert (play.columns["status"], play.columns["completeness"]) == ("lost", "incomplete")
    gap = play.of(GapRow)[0]
    assert (gap.reason, gap.to_at) == ("takeover", None)
    play.hung_up(True)
    assert play.ending == ("lost", "lost")


def test_a_call_given_up_by_an_earlier_run_is_only_hung_up_when_it_is_too_old() -> None:
    play = Play(plan(max_duration=50.0), epoch=2, resumption=_resumption(given_up="unobserved"))
    assert play.machine.attach_due is None
    assert not play.records
    play.wait(50)
    play.wake()
    assert len(play.of(HangUp)) == 1


def test_shed_frames_leave_holes_that_one_gap_counts() -> None:
    play = Play()
    play.attach()
    play.frame({"type": "a"})
    for _ in range(3):
        play.frame(_delta(), pressure=DELTA)
    play.frame({"type": "response.done"}, pressure=DELTA)
    play.frame(_delta())
    [gap] = [gap for gap in play.gaps.values() if gap.reason == "shed"]
    assert (gap.after, gap.lost, gap.lost_by_type, gap.state) == ("1:2", 3, {_delta()["type"]: 3}, "bounded")
    stored = [record.seq for record in play.records]
    assert stored == [1, 2, 4, 7, 8], "3, 5 and 6 were shed, 4 is the gap's own entry"


def test_entries_that_the_database_refuses_are_counted_by_a_gap() -> None:
    play = Play()
    play.attach()
    for _ in range(3):
        play.frame({"type": "a"})
    play.all += play.machine.refused([(3, "a", START + 5)], *play.time)
    gap = play.of(GapRow)[-1]
    assert (gap.reason, gap.after, gap.lost, gap.lost_by_type) == ("corrupt", "1:2", 1, {"a": 1})
    assert (gap.from_at, gap.to_at) == (START + 5, START + 5)


def test_an_oversize_frame_and_a_broken_one_say_so_in_their_gaps() -> None:
    play = Play()
    play.attach()
    play.close(1009, oversize=True)
    play.attach()
    play.close(1002)
    play.wait(1)
    play.attach()
    assert [gap.reason for gap in play.gaps.values()] == ["before_attach", "oversize", "protocol"]


def test_a_sideband_that_keeps_dying_is_not_hammered() -> None:
    play = Play(plan(max_duration=0.0, idle_probe=0.0))
    play.attach()
    pauses = []
    for _ in range(6):
        play.close(1011)
        assert play.machine.attach_due is not None
        pauses.append(play.machine.attach_due - play.now)
        play.wait(pauses[-1])
        play.attach()
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2.0


def test_what_comes_after_a_drain_is_in_the_sums() -> None:
    from rtobserver.realtime.entries import Sums

    play = Play()
    play.attach()
    play.drain()
    play.frame({"type": "a"})
    play.all += play.machine.left(play.now)
    assert play.of(Sums)[-1].entry_count == len(play.records)


def test_draining_leaves_the_call_as_it_is() -> None:
    play = Play()
    play.attach()
    play.drain()
    assert play.machine.phase is Phase.DETACHED
    assert play.columns["status"] == "live"
    assert play.ending is None
    assert not play.hang_up("operator")


def test_sums_are_written_at_most_once_a_second() -> None:
    from rtobserver.realtime.entries import Sums

    play = Play()
    play.attach()
    done = {"type": "response.done", "response": {"id": "r1", "status": "completed"}}
    play.frame(done)
    assert len(play.of(Sums)) == 1
    play.wait(0.4)
    play.frame({**done, "response": {"id": "r2", "status": "completed"}})
    assert len(play.of(Sums)) == 1
    assert play.machine.wake_at() == pytest.approx(101.0)
    play.wait(0.6)
    play.wake()
    assert len(play.of(Sums)) == 2
