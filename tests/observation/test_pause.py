"""What is kept out of the record by a pause, told as plays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rtobserver.observation.pause import Pause
from rtobserver.observation.plan import Resumption
from rtobserver.realtime.entries import EVENT, GAP, Record
from tests.observation.play import START, Play

SECRET = "the secret"


def _heard(item_id: str, words: str = SECRET) -> dict[str, Any]:
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": item_id,
        "transcript": words,
    }


def _paused(*before: dict[str, Any]) -> Play:
    play = Play()
    play.attach()
    for event in before:
        play.frame(event)
    play.order("ord_1", {"type": "pause"})
    return play


def _resume(play: Play) -> None:
    play.order("ord_2", {"type": "resume"})


def _kept(play: Play, event: dict[str, Any]) -> bool:
    """Play a frame; tells whether its payload was recorded."""
    play.frame(event)
    record = play.records[-1]
    assert (record.kind, record.type) == (EVENT, event["type"])
    return bool(json.loads(record.payload) == event)


def test_a_placeholder_keeps_number_type_size_class_and_ids_and_nothing_else() -> None:
    play = _paused()
    seq = play.machine.ledger.seq
    play.frame({**_heard("item_1"), "event_id": "event_1"})
    record = play.records[-1]
    assert (record.seq, record.type, record.event_id) == (seq + 1, _heard("")["type"], None)
    assert json.loads(record.payload) == {"paused": True, "size_class": "under_256", "ids": ["item_1"]}


def test_a_type_that_is_no_type_is_not_kept_either() -> None:
    play = _paused()
    play.frame({"type": SECRET})
    assert play.records[-1].type is None
    play.frame(SECRET.encode())
    assert SECRET.encode() not in play.records[-1].payload


def test_the_fold_sees_only_placeholders() -> None:
    play = _paused()
    play.frame({"type": "input_audio_buffer.committed", "item_id": "item_1"})
    play.frame(_heard("item_1"))
    assert play.machine.state.items() == []
    assert play.machine.state.turn_count == 0


def test_a_pause_is_a_gap_from_its_beginning_to_its_end() -> None:
    play = _paused()
    began = play.at
    play.wait(5)
    _resume(play)
    [gap] = [gap for gap in play.gaps.values() if gap.reason == "paused"]
    assert (gap.from_at, gap.to_at, gap.state, gap.counted) == (began, play.at, "bounded", True)
    assert [row.state for row in play.orders.values()] == ["acknowledged", "acknowledged"]


@pytest.mark.parametrize(
    "late",
    [
        _heard("item_1"),
        {"type": "conversation.item.retrieved", "item": {"id": "item_1", "content": [{"transcript": SECRET}]}},
        {"type": "conversation.item.done", "item": {"id": "item_1"}},
        {"type": "response.done", "response": {"id": "resp_1", "output": []}},
        {"type": "response.done", "response": {"id": "resp_9", "output": [{"id": "item_2", "content": SECRET}]}},
        {"type": "response.output_audio_transcript.delta", "response_id": "resp_1", "item_id": "new", "delta": "x"},
    ],
)
def test_what_names_something_of_the_pause_loses_its_payload_for_the_rest_of_the_call(late: dict[str, Any]) -> None:
    play = _paused()
    play.frame({"type": "input_audio_buffer.speech_started", "item_id": "item_1"})
    play.frame({"type": "response.output_item.added", "response_id": "resp_1", "item": {"id": "item_2"}})
    _resume(play)
    play.frame({"type": "input_audio_buffer.speech_started", "item_id": "item_3"})
    assert not _kept(play, late)
    assert _kept(play, _heard("item_3", "later words"))
    # the item after one of the pause merely names it
    assert _kept(play, {"type": "conversation.item.added", "previous_item_id": "item_1", "item": {"id": "item_4"}})


def test_what_went_on_when_the_pause_began_belongs_to_it() -> None:
    play = _paused(
        {"type": "input_audio_buffer.speech_started", "item_id": "item_1"},
        {"type": "response.created", "response": {"id": "resp_1", "conversation_id": "c"}},
    )
    _resume(play)
    assert not _kept(play, _heard("item_1"))
    assert not _kept(play, {"type": "response.done", "response": {"id": "resp_1"}})


def test_what_was_complete_before_the_pause_does_not_belong_to_it() -> None:
    play = _paused({"type": "input_audio_buffer.committed", "item_id": "item_1"})
    _resume(play)
    assert _kept(play, _heard("item_1", "said before"))


def test_sound_that_is_committed_after_a_pause_without_new_speech_belongs_to_it() -> None:
    play = _paused()
    _resume(play)
    assert not _kept(play, {"type": "input_audio_buffer.committed", "item_id": "item_1"})
    assert not _kept(play, _heard("item_1"))
    assert _kept(play, {"type": "input_audio_buffer.committed", "item_id": "item_2"})


@pytest.mark.parametrize("clean", ["input_audio_buffer.speech_started", "input_audio_buffer.cleared"])
def test_speech_that_begins_after_a_pause_does_not_belong_to_it(clean: str) -> None:
    play = _paused()
    _resume(play)
    play.frame({"type": clean, "item_id": "item_1"})
    assert _kept(play, {"type": "input_audio_buffer.committed", "item_id": "item_1"})


def test_where_frames_of_a_pause_were_missed_unknown_ids_belong_to_it() -> None:
    play = _paused({"type": "input_audio_buffer.committed", "item_id": "before"})
    play.close()
    play.wait(1)
    play.attach()
    _resume(play)
    assert not _kept(play, _heard("missed"))
    assert _kept(play, _heard("before", "said before"))
    assert _kept(play, {"type": "input_audio_buffer.speech_started", "item_id": "after"})
    assert _kept(play, _heard("after", "said after"))
    assert _kept(play, {"type": "rate_limits.updated"})


def _again(play: Play, *, paused: bool) -> Play:
    """Begin a second epoch with what is stored of the first."""
    pause = Pause()
    for record in play.records:
        pause.recall(record.kind, record.type, record.payload)
    assert pause.is_active is paused
    gaps = tuple(gap for gap in play.gaps.values())
    resumption = Resumption(
        watermark=play.at, last_position=f"1:{play.machine.ledger.seq}", was_live=True, gaps=gaps, pause=pause
    )
    later = Play(resumption=resumption, epoch=2)
    later.attach()
    return later


def test_a_pause_goes_on_after_a_restart() -> None:
    play = _again(_paused(), paused=True)
    [gap] = [gap for gap in play.machine.ledger.gaps.close(missed=False, heard_nothing=False) if gap.reason == "paused"]
    assert gap.to_at is None, "the restart did not end it"
    assert not _kept(play, _heard("item_1"))
    _resume(play)
    assert not _kept(play, _heard("item_1"))
    assert not _kept(play, _heard("missed meanwhile"))
    assert [gap.to_at for gap in play.gaps.values() if gap.reason == "paused"][-1] == play.at


def test_what_belongs_to_an_earlier_pause_is_known_after_a_restart() -> None:
    first = _paused({"type": "input_audio_buffer.speech_started", "item_id": "speaking"})
    first.frame({"type": "input_audio_buffer.speech_started", "item_id": "item_1"})
    _resume(first)
    play = _again(first, paused=False)
    assert not _kept(play, _heard("item_1"))
    assert not _kept(play, _heard("speaking"))
    assert not _kept(play, {"type": "input_audio_buffer.committed", "item_id": "unseen"})
    assert _kept(play, _heard("other", "fine"))


def test_a_pause_whose_gap_was_not_stored_gets_one_after_a_restart() -> None:
    first = _paused()
    pause = Pause()
    for record in first.records:
        pause.recall(record.kind, record.type, record.payload)
    resumption = Resumption(watermark=START, last_position="1:9", was_live=True, pause=pause)
    play = Play(resumption=resumption, epoch=2)
    assert [gap.reason for gap in play.gaps.values()] == ["paused", "takeover"]
    assert [record.kind for record in play.records] == [GAP, GAP]


def test_acknowledgements_are_understood_in_a_pause() -> None:
    play = _paused()
    play.order("ord_3", {"type": "session.update", "session": {"type": "realtime"}})
    assert not _kept(play, {"type": "session.updated", "session": {"instructions": SECRET}})
    assert play.orders["ord_3"].state == "acknowledged"
    play.frame({"type": "response.created", "response": {"id": "r", "conversation_id": "c"}})
    play.order("ord_4", {"type": "say", "text": "Hello"})
    assert len(play.sent) == 1
    play.frame({"type": "response.done", "response": {"id": "r", "conversation_id": "c", "status": "completed"}})
    assert len(play.sent) == 2


def test_the_end_of_the_call_ends_its_pause() -> None:
    play = _paused()
    play.wait(1)
    play.close()
    play.fail(404)
    [gap] = [gap for gap in play.gaps.values() if gap.reason == "paused"]
    assert (gap.state, gap.to_at) == ("final", play.at)
    assert play.columns["completeness"] == "complete_with_gaps"


def test_sizes_are_classes() -> None:
    pause = Pause()
    pause.begin([])
    play = _paused()
    sizes = []
    for length in (10, 300, 2000, 10_000, 100_000):
        play.frame({"type": "x", "filler": "x" * length})
        record: Record = play.records[-1]
        sizes.append(json.loads(record.payload)["size_class"])
    assert sizes == ["under_256", "under_1k", "under_4k", "under_64k", "64k_or_more"]


def test_where_nobody_can_tell_whether_the_recording_is_paused_it_is() -> None:
    resumption = Resumption(watermark=START, last_position="1:9", was_live=True, pause=Pause.unknown())
    play = Play(resumption=resumption, epoch=2)
    play.attach()
    assert not _kept(play, _heard("item_1"))
    _resume(play)
    assert not _kept(play, _heard("item_1"))
