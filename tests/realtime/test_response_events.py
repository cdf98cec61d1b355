"""How responses end, and how they are heard."""

from __future__ import annotations

from tests.realtime.script import Script, usage

BARGED = {"type": "cancelled", "reason": "turn_detected"}
STOPPED = {"type": "cancelled", "reason": "client_cancelled"}


def test_barge_in_during_the_response_cuts_what_was_heard() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    call.says_part("R1", "S1", "one two three four five six seven eight nine ten")
    call.plays("R1", 1500)
    call.at(2500).starts_speaking("U2")
    assert call.state.interruption_count == 1
    call.send("output_audio_buffer.cleared", response_id="R1")
    call.send("conversation.item.truncated", item_id="S1", content_index=0, audio_end_ms=1000)
    call.ends_message("R1", "S1", "one two three four five six seven eight nine ten", status="incomplete")
    # 40 tokens of audio are two seconds, so half of 48 characters were heard: "one two three four five"
    call.ends("R1", "cancelled", details=BARGED, used=usage(100, 10, 20, 40))
    call.at(3500).stops_speaking("U2")
    call.commits("U2", "S1")
    call.is_transcribed("U2", "Stop.")

    line = call.lines()[1]
    assert line.text == "one two three four five six seven eight nine ten"
    assert (line.heard_text, line.heard_confidence) == ("one two three four five", "estimated")
    assert (line.status, line.interrupted) == ("incomplete", True)
    response = call.response("R1")
    assert (response.status, response.reason, response.interrupted) == ("cancelled", "turn_detected", True)
    assert response.playback_cleared
    assert call.state.totals().interruption_count == 1
    assert [turn.interrupted for turn in call.turns()] == [True, False]


def test_barge_in_after_the_response_was_done_counts_although_it_completed() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.says("R1", "S1", "U1", "A very long answer indeed.")
    call.plays("R1", 1500)
    call.at(1600).ends("R1", used=usage(10, 10, 10, 100))
    call.at(2000).send("output_audio_buffer.cleared", response_id="R1")
    response = call.response("R1")
    assert (response.status, response.interrupted) == ("completed", True)
    # cleared after 500 ms of 5,000: a tenth of 26 characters ends in the first word's blank
    line = call.lines()[1]
    assert (line.heard_text, line.heard_confidence, line.status) == ("A", "estimated", "completed")
    assert call.state.totals().interruption_count == 1


def test_a_false_barge_in_is_an_interruption_but_no_turn() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.says("R1", "S1", "U1", "Hello there.")
    call.plays("R1", 1500)
    call.ends("R1")
    call.at(2000).starts_speaking("U2")
    call.at(2100).stops_speaking("U2")
    call.at(3000).send("output_audio_buffer.stopped", response_id="R1")
    assert [line.item_id for line in call.lines()] == ["U1", "S1"]
    assert call.lines()[1].heard_text is None
    totals = call.state.totals()
    assert (totals.turn_count, totals.interruption_count) == (1, 1)


def test_a_client_that_stops_the_model_is_no_interruption() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    call.plays("R1", 1500)
    call.at(2000).ends("R1", "cancelled", details=STOPPED)
    call.send("output_audio_buffer.cleared", response_id="R1")
    response = call.response("R1")
    assert (response.playback_cleared, response.interrupted, response.reason) == (True, False, "client_cancelled")
    assert call.state.interruption_count == 0
    assert call.item("S1").status == "incomplete"
    # the line says that it was cut off, the turn that the user did not do it
    assert call.item("S1").interrupted
    assert [turn.interrupted for turn in call.turns()] == [False]


def test_a_failed_response_is_an_error_and_tells_its_code() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    details = {"type": "failed", "error": {"type": "server_error", "code": "rate_limit_exceeded", "message": "m"}}
    call.ends("R1", "failed", details=details, used=None)
    response = call.response("R1")
    assert (response.status, response.reason, response.usage) == ("failed", "rate_limit_exceeded", None)
    assert response.user_item_id == "U1"  # by order: there is no item to follow
    totals = call.state.totals()
    assert (totals.error_count, totals.responses_without_usage) == (1, 1)
    assert call.turns()[0].response_ids == ["R1"]


def test_an_answer_that_the_content_filter_stopped_is_incomplete() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    call.says_part("R1", "S1", "I think that")
    call.ends("R1", "incomplete", details={"type": "incomplete", "reason": "content_filter"})
    response = call.response("R1")
    assert (response.status, response.reason, response.interrupted) == ("incomplete", "content_filter", False)
    item = call.item("S1")
    assert (item.status, item.text) == ("incomplete", "I think that")


def test_out_of_band_responses_are_kept_apart() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    call.creates("X1", conversation=None, text_only=True)
    assert call.state.active_response_id == "R1"
    call.begins_message("X1", "S9", None, added=False)
    call.delta("response.output_text.delta", "X1", "S9", "harmless")
    call.ends("X1", conversation=None, used=usage(10, 0, 2, 0))
    call.says_part("R1", "S1", "Hello.")
    call.ends_message("R1", "S1", "Hello.")
    call.ends("R1", used=usage(10, 10, 5, 5))
    assert call.texts() == [("user", ""), ("assistant", "Hello.")]
    assert [turn.response_ids for turn in call.turns()] == [["R1"]]
    row = call.item("S9")
    assert (row.out_of_band, row.text, row.status) == (True, "harmless", "completed")
    assert call.response("X1").out_of_band
    assert call.response("X1").user_item_id is None
    assert call.state.usage.total_tokens == 42  # they are billed all the same


def test_a_response_whose_end_was_lost_stays_unfinished() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    call.says_part("R1", "S1", "Hello my")
    changes = call.state.finish()
    assert call.state.totals().unfinished == ("R1",)
    assert [(row.item_id, row.text, row.status) for row in changes.items] == [("S1", "Hello my", "in_progress")]


def test_a_response_is_known_by_whatever_names_it_first() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.at(1300).begins_message("R1", "S1", "U1")
    assert call.state.active_response_id == "R1"
    call.plays("R1", 1500)
    assert call.state.playing_response_id == "R1"
    call.ends("R1")
    response = call.response("R1")
    assert (response.created_at, response.heard_latency_ms, response.generation_latency_ms) == (None, 500, 300)
    assert call.state.active_response_id is None


def test_only_the_end_of_a_response_settles() -> None:
    call = Script()
    call.types("U1", "Hi")
    call.creates("R1")
    call.says("R1", "S1", "U1", "Hello.")
    assert not any(changes.settled for changes in call.changes)
    changes = call.ends("R1")
    assert changes is not None
    assert changes.settled
    assert call.ends("R1") is None  # a repetition is counted once
    assert call.state.usage.total_tokens == 253
