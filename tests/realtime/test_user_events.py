"""What the user says, commits, types, and how it is transcribed."""

from __future__ import annotations

from tests.realtime.script import Script


def test_errors_are_counted() -> None:
    call = Script()
    call.send("error", error={"type": "invalid_request_error", "code": "response_cancel_not_active"})
    assert call.state.error_count == 1


def test_without_transcription_a_spoken_turn_has_no_text() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.says("R1", "S1", "U1", "Hello.")
    call.ends("R1")
    assert call.texts() == [("user", ""), ("assistant", "Hello.")]
    assert call.state.totals().turn_count == 1


def test_a_failed_transcription_gives_a_hint_at_the_deployment() -> None:
    assert Script().state.transcription_hint is None
    call = Script()
    call.speaks("U1", 0, 1000)
    call.send(
        "conversation.item.input_audio_transcription.failed",
        item_id="U1",
        content_index=0,
        error={"type": "invalid_request_error", "code": "DeploymentNotFound", "message": "m"},
    )
    row = call.item("U1")
    assert (row.status, row.error, row.text) == ("failed", "DeploymentNotFound", "")
    assert call.state.totals().transcription_failures == 1
    assert call.state.transcription_hint is not None
    assert "deployment" in call.state.transcription_hint


def test_a_late_transcription_still_finds_its_place() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.says("R1", "S1", "U1", "Hello.")
    call.ends("R1")
    call.speaks("U2", 5000, 6000, "S1")
    call.is_transcribed("U2", "second")
    call.is_transcribed("U1", "first")
    assert call.texts() == [("user", "first"), ("assistant", "Hello."), ("user", "second")]


def test_deltas_of_a_transcription_are_never_its_text() -> None:
    call = Script()
    call.starts_speaking("U1")
    call.send("conversation.item.input_audio_transcription.delta", item_id="U1", delta="He")
    call.stops_speaking("U1")
    call.commits("U1", None)
    assert call.texts() == [("user", "")]
    assert not call.state.totals().missed


def test_what_an_idle_time_out_commits_is_no_turn_of_the_user() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.says("R1", "S1", "U1", "Hello.")
    call.ends("R1")
    call.at(9000).send("input_audio_buffer.timeout_triggered", item_id="T1", audio_start_ms=3000, audio_end_ms=9000)
    call.commits("T1", "S1")
    call.creates("R2")
    call.says("R2", "S2", "T1", "Are you still there?")
    call.ends("R2")
    assert call.state.turn_count == 1
    assert call.item("T1").idle_timeout
    assert call.response("R2").user_item_id is None
    assert [(turn.user_item_id, turn.assistant_text) for turn in call.turns()] == [
        ("U1", "Hello."),
        (None, "Are you still there?"),
    ]


def test_a_time_out_that_is_told_late_takes_the_turn_back() -> None:
    call = Script()
    call.commits("T1", None)
    assert call.state.turn_count == 1
    call.send("input_audio_buffer.timeout_triggered", item_id="T1")
    assert call.state.turn_count == 0


def test_push_to_talk_measures_from_the_commit() -> None:
    call = Script()
    call.at(1000).commits("U1", None)
    call.creates("R1")
    call.at(1400).begins_message("R1", "S1", "U1")
    assert call.response("R1").generation_latency_ms == 400
