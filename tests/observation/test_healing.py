"""What a gap swallowed of known items is asked for, with restraint; told as plays."""

from __future__ import annotations

from typing import Any

import pytest

from rtobserver.observation.effects import Send
from rtobserver.observation.healing import AT_ONCE, FIRST_LOOK, PATIENCE, PER_GAP
from rtobserver.realtime.entries import EVENT, Record
from tests.observation.play import Play, Store, plan

TRANSCRIBES = {"type": "session.updated", "session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}}


def _message(item_id: str, role: str = "assistant", status: str = "in_progress") -> dict[str, Any]:
    content = [{"type": "input_audio", "transcript": None}] if role == "user" else []
    return {"id": item_id, "type": "message", "status": status, "role": role, "content": content}


def _added(item_id: str, role: str = "assistant", previous: str | None = None) -> dict[str, Any]:
    status = "in_progress" if role == "assistant" else "completed"
    return {
        "type": "conversation.item.added",
        "previous_item_id": previous,
        "item": _message(item_id, role, status),
    }


def _begun(number: int = 1, *, conversation: str | None = "conv_1") -> list[dict[str, Any]]:
    response = {"id": f"resp_{number}", "status": "in_progress", "conversation_id": conversation}
    put_out = {
        "type": "response.output_item.added",
        "response_id": f"resp_{number}",
        "item": _message(f"item_{number}"),
    }
    events = [{"type": "response.created", "response": response}, put_out]
    return events if conversation is None else [*events, _added(f"item_{number}")]


def _delta(number: int = 1, words: str = "Hel") -> dict[str, Any]:
    names = {"response_id": f"resp_{number}", "item_id": f"item_{number}"}
    return {"type": "response.output_audio_transcript.delta", **names, "delta": words}


def _done(number: int = 1, words: str = "Hello there.") -> dict[str, Any]:
    item = {
        **_message(f"item_{number}", status="completed"),
        "content": [{"type": "output_audio", "transcript": words}],
    }
    response = {"id": f"resp_{number}", "status": "completed", "conversation_id": "conv_1", "output": [item]}
    return {"type": "response.done", "response": response}


def _retrieved(item_id: str, words: str | None = "Hello there.", role: str = "assistant") -> dict[str, Any]:
    part = {"type": "input_audio" if role == "user" else "output_audio", "transcript": words, "audio": "AAAA" * 1000}
    return {
        "type": "conversation.item.retrieved",
        "item": {**_message(item_id, role, "completed"), "content": [part]},
    }


def _play(*before: dict[str, Any]) -> Play:
    play = Play()
    play.attach()
    for event in before:
        play.frame(event)
    return play


def _gap(play: Play, *after: dict[str, Any], seconds: float = 1.0) -> None:
    play.close()
    play.wait(seconds)
    play.attach()
    for event in after:
        play.frame(event)


def _look(play: Play, times: int = 1) -> None:
    """Let the observer look again."""
    for _ in range(times):
        play.wait(FIRST_LOOK)
        play.wake()


def _asked(play: Play) -> list[str]:
    assert {event["type"] for event in play.sent} <= {"conversation.item.retrieve"}
    return [event["item_id"] for event in play.sent]


def _texts(play: Play) -> dict[str, tuple[str, bool]]:
    return {row.item_id: (row.text, row.recovered) for row in play.machine.state.items()}


def _state(play: Play) -> str:
    return [gap.state for gap in play.gaps.values() if gap.reason != "before_attach"][-1]


def test_a_message_whose_end_was_missed_is_asked_for_and_its_words_are_taken() -> None:
    play = _play(*_begun(), _delta())
    _gap(play)
    assert _asked(play) == []
    _look(play)
    [asked] = play.sent
    assert asked == {"type": "conversation.item.retrieve", "item_id": "item_1", "event_id": asked["event_id"]}
    row = play.commands[asked["event_id"]]
    assert (row.source, row.policy, row.state) == ("system", None, "sent")
    play.frame(_retrieved("item_1"))
    assert row.state == "acknowledged"
    assert _texts(play) == {"item_1": ("Hello there.", True)}
    assert _state(play) == "recovered"
    record = next(record for record in play.records if record.type == "conversation.item.retrieved")
    assert record.kind == EVENT
    assert b"AAAA" not in record.payload


def test_the_words_of_the_user_whose_transcription_was_missed_are_asked_for() -> None:
    play = _play(TRANSCRIBES, {"type": "input_audio_buffer.committed", "item_id": "u"}, _added("u", "user"))
    _gap(play)
    _look(play)
    assert _asked(play) == ["u"]
    play.frame(_retrieved("u", "Good morning.", "user"))
    assert _texts(play) == {"u": ("Good morning.", True)}
    assert _state(play) == "recovered"


def test_where_nothing_is_transcribed_there_are_no_words_to_ask_for() -> None:
    play = _play({"type": "input_audio_buffer.committed", "item_id": "u"}, _added("u", "user"))
    _gap(play)
    _look(play, 40)
    assert _asked(play) == []


def test_an_item_that_was_in_the_gap_as_a_whole_is_asked_for_when_another_names_it() -> None:
    play = _play(_added("a", "system"), _added("b", "user", "a"))
    _gap(play)
    _look(play)
    play.frame(_added("d", "user", "c"))
    play.wait(FIRST_LOOK * 2)
    play.wake()
    assert _asked(play) == []
    _look(play)
    assert _asked(play) == ["c"]
    play.frame(_retrieved("c"))
    assert _texts(play)["c"] == ("Hello there.", True)
    assert [row.item_id for row in play.machine.state.items()] == ["a", "b", "c", "d"]
    assert play.machine.state.totals().open_links == ()
    assert _state(play) == "recovered"


def test_what_still_comes_by_itself_is_waited_for() -> None:
    play = _play(*_begun(), _delta())
    _gap(play)
    for _ in range(4):
        play.frame(_delta())
        _look(play)
    play.frame(_done())
    _look(play, 40)
    assert _asked(play) == []
    assert _texts(play) == {"item_1": ("Hello there.", False)}
    assert _state(play) == "bounded"


def test_a_call_without_gaps_sends_nothing() -> None:
    play = _play(TRANSCRIBES, *_begun(), _delta(), _added("u", "user", "never seen"))
    _look(play, 40)
    assert play.of(Send) == []


def test_what_began_after_the_gap_is_not_asked_for() -> None:
    play = _play()
    _gap(play, *_begun(), _delta())
    _look(play, 40)
    assert _asked(play) == []


def test_few_are_asked_for_at_a_time_and_in_all() -> None:
    play = _play(*(event for number in range(50) for event in _begun(number)))
    _gap(play)
    _look(play)
    assert len(_asked(play)) == AT_ONCE
    answered = 0
    while answered < len(_asked(play)):
        play.frame(_retrieved(_asked(play)[answered]))
        answered += 1
        assert len(_asked(play)) - answered <= AT_ONCE
    _look(play, 40)
    assert len(_asked(play)) == PER_GAP
    assert _state(play) == "bounded", "the others are still missing"


def test_an_item_that_is_not_there_is_not_asked_for_again() -> None:
    play = _play(*_begun())
    _gap(play)
    _look(play)
    [asked] = play.sent
    play.frame({"type": "error", "error": {"code": "item_retrieve_invalid_item_id", "event_id": asked["event_id"]}})
    _look(play, 40)
    assert _asked(play) == ["item_1"]
    assert _state(play) == "bounded"


@pytest.mark.parametrize("answer", [None, _retrieved("item_1", None)], ids=["silence", "no_words"])
def test_an_item_whose_answer_has_no_words_is_asked_for_twice(answer: dict[str, Any] | None) -> None:
    play = _play(*_begun())
    _gap(play)
    for _ in range(40):
        _look(play)
        if answer is not None:
            play.frame(answer)
    assert _asked(play) == ["item_1", "item_1"]
    assert _texts(play) == {"item_1": ("", False)}
    _gap(play)
    _look(play, 40)
    assert len(_asked(play)) == 2, "another gap changes nothing"


def test_an_answer_that_is_too_large_is_not_asked_for_again() -> None:
    play = _play(*_begun())
    _gap(play)
    _look(play)
    play.close(1009, oversize=True)
    play.wait(1.0)
    play.attach()
    _look(play, 40)
    assert _asked(play) == ["item_1"]


def test_a_gap_that_came_before_the_answer_is_healed_with_the_next() -> None:
    play = _play(*_begun())
    _gap(play)
    _look(play)
    _gap(play)
    assert [row.state for row in play.commands.values()] == ["unknown"]
    _look(play)
    play.frame(_retrieved("item_1"))
    assert [gap.state for gap in play.gaps.values()] == ["bounded", "recovered", "bounded"]


def test_a_gap_of_which_more_is_found_missing_is_no_longer_recovered() -> None:
    play = _play(*_begun(), _added("b", "user"))
    _gap(play)
    _look(play)
    play.frame(_retrieved("item_1"))
    assert _state(play) == "recovered"
    play.frame(_added("d", "user", "c"))
    _look(play, 2)
    assert _state(play) == "bounded"
    play.frame(_retrieved("c"))
    assert _state(play) == "recovered"


def test_what_came_late_by_itself_is_not_marked_and_its_own_event_has_the_last_word() -> None:
    play = _play(*_begun(), _delta())
    _gap(play)
    _look(play)
    play.frame({"type": "response.output_audio_transcript.done", "item_id": "item_1", "transcript": "Hello."})
    play.frame(_done(words="Hello."))
    play.frame(_retrieved("item_1"))
    assert _texts(play) == {"item_1": ("Hello.", False)}


def test_what_a_page_asks_for_is_no_recovery_of_what_was_heard() -> None:
    play = _play(*_begun(), _delta(), _done(), _retrieved("item_1", "Other words."), _retrieved("item_9"))
    assert _texts(play) == {"item_1": ("Hello there.", False)}


def test_a_message_that_is_still_being_made_is_not_taken_for_final() -> None:
    answer = _retrieved("item_1", "Hel")
    answer["item"]["status"] = "in_progress"
    play = _play(*_begun(), _delta(), answer, _delta(words="lo"), _done(words="Hello"))
    assert _texts(play) == {"item_1": ("Hello", False)}
    assert play.machine.state.totals().broken == ()


def test_out_of_band_items_cannot_be_asked_for() -> None:
    play = _play(*_begun(conversation=None))
    _gap(play)
    _look(play, 40)
    assert _asked(play) == []


def test_nothing_of_a_pause_is_asked_for() -> None:
    play = _play(TRANSCRIBES, _added("u", "user"), *_begun())
    play.order("ord_1", {"type": "pause"})
    _gap(play)
    _look(play, 5)
    assert _asked(play) == [], "while it goes on nothing is asked for at all"
    play.order("ord_2", {"type": "resume"})
    play.frame(_added("x", "user", "said in the pause"))
    _look(play, 40)
    assert set(_asked(play)) == {"u"}, "what was said before the pause may be"


def test_a_take_over_asks_for_what_the_run_before_did_not_hear() -> None:
    play = _play(TRANSCRIBES, _added("u", "user"), *_begun(), _delta())
    stored = Store()
    stored.commit(play.all)
    after = play.taken_over(stored)
    after.attach()
    _look(after)
    assert set(_asked(after)) == {"u", "item_1"}
    after.frame(_retrieved("u", "Hi.", "user"))
    assert _state(after) == "bounded"
    after.frame(_retrieved("item_1"))
    assert _state(after) == "recovered"
    stored.commit(after.all)
    again = after.taken_over(stored)
    assert _texts(again) == _texts(after) == {"u": ("Hi.", True), "item_1": ("Hello there.", True)}
    assert again.machine.ledger.gaps.count == 2, "a healed gap is a gap"


def test_a_question_that_a_crash_cut_off_is_counted() -> None:
    play = _play(*_begun())
    _gap(play)
    _look(play)
    stored = Store()
    asked = _asked(play)
    for _ in range(4):
        stored.commit(play.all)
        play = play.taken_over(stored)
        play.attach()
        _look(play, 10)
        asked += _asked(play)
    assert asked == ["item_1", "item_1"]


def test_late_references_are_looked_for_only_so_long() -> None:
    play = _play(_added("b", "user"))
    _gap(play)
    play.wait(PATIENCE)
    play.wake()
    play.frame(_added("d", "user", "c"))
    play.wait(PATIENCE)
    play.wake()
    due = play.machine.wake_at()
    assert _asked(play) == []
    assert due is None or due > play.now + FIRST_LOOK


def test_where_the_gap_began_the_text_is_kept_as_it_was_said_before() -> None:
    play = Play(plan(audio_key=None))
    play.attach()
    for event in [*_begun(), _delta(words="Hello "), _delta(words="th")]:
        play.frame(event)
    _gap(play)
    _look(play)
    play.frame(_retrieved("item_1"))
    play.close()
    play.fail(404)
    assert play.ending == ("ended", "browser_left")
    checks = play.columns["checks"]
    assert isinstance(checks, dict)
    assert (checks["recovered_items"], checks["broken_items"]) == (["item_1"], [])
    assert play.columns["completeness"] == "complete_with_gaps"
    assert _state(play) == "recovered", "the end settles only what was not"
    assert isinstance(play.records[-1], Record)
