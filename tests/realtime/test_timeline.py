from __future__ import annotations

import json
from typing import Any

from rtobserver.realtime.call import Changes
from rtobserver.realtime.entries import CommandRow, DecisionRow, GapRow
from rtobserver.realtime.moments import Moments
from rtobserver.realtime.timeline import LONGEST_LABEL, Drawing, Mark, Span, Subject, draw, excerpt
from tests.realtime.script import START_US, Script


class Scene(Script):
    """A script whose events are drawn, too."""

    def __init__(self) -> None:
        super().__init__()
        self.moments = Moments()

    def send(self, event_type: str, **fields: Any) -> Changes | None:
        changes = super().send(event_type, **fields)
        frame = json.dumps({"type": event_type, **fields}).encode()
        self.moments.take(event_type, frame, START_US + self.ms * 1000, 1, self.seq)
        return changes

    def drawn(self, *, live: bool = True, ended_ms: int | None = None, **rows: Any) -> Drawing:
        subject = Subject(
            started_at=START_US,
            ended_at=None if live else START_US + (self.ms if ended_ms is None else ended_ms) * 1000,
            is_live=live,
            status="live" if live else "ended",
            outcome=None if live else "browser_left",
        )
        return draw(subject, self.moments, items=self.state.items(), responses=self.state.responses(), **rows)


def ms(at: int | None) -> float | None:
    return None if at is None else (at - START_US) / 1000


def times(spans: list[Span]) -> list[tuple[str, float | None, float | None, str | None]]:
    return [(span.kind, ms(span.from_at), ms(span.to_at), span.status) for span in spans]


def lane(drawing: Drawing, name: str) -> list[Span]:
    return [span for span in drawing.spans if span.lane == name]


def marks(drawing: Drawing, kind: str) -> list[Mark]:
    return [mark for mark in drawing.marks if mark.kind == kind]


def test_a_spoken_turn_is_speech_then_generation_then_playback() -> None:
    scene = Scene()
    scene.speaks("U1", 100, 900)
    scene.at(1000).creates("R1")
    scene.at(1100).says("R1", "S1", "U1", "Hello there.")
    scene.plays("R1", 1200)
    scene.at(1300).ends("R1")
    scene.at(1400).is_transcribed("U1", "Good day.")
    scene.at(3000).send("output_audio_buffer.stopped", response_id="R1")
    drawing = scene.drawn()
    assert times(drawing.spans) == [
        ("speech", 100, 900, "completed"),
        ("generation", 1000, 1300, "completed"),
        ("heard", 1200, 3000, "stopped"),
    ]
    assert [span.label for span in drawing.spans] == ["Good day.", "Hello there.", "Hello there."]
    speech, generation, playback = drawing.spans
    assert (speech.position, speech.to_position, speech.item_id) == ("1:1", "1:2", "U1")
    assert (generation.position, generation.response_id) == ("1:6", "R1")
    assert generation.to_position == "1:16"
    assert playback.response_id == "R1"
    assert not any(span.interrupted for span in drawing.spans)
    [turn] = drawing.turns
    assert (turn.index, ms(turn.started_at), ms(turn.ended_at)) == (0, 100, 3000)
    assert drawing.after == "1:18"


def test_a_speech_that_goes_on_is_open_and_ends_with_the_call() -> None:
    scene = Scene()
    scene.at(100).starts_speaking("U1")
    scene.at(500).send("rate_limits.updated")
    assert times(scene.drawn().spans) == [("speech", 100, None, "in_progress")]
    assert times(scene.drawn(live=False, ended_ms=900).spans) == [("speech", 100, 900, "unfinished")]


def test_a_speech_that_was_dropped_or_never_committed_or_not_understood_says_so() -> None:
    scene = Scene()
    scene.at(100).starts_speaking("U1")
    scene.at(200).send("input_audio_buffer.cleared")
    scene.at(300).starts_speaking("U2")
    scene.at(400).stops_speaking("U2")
    scene.speaks("U3", 500, 600)
    scene.at(700).send(
        "conversation.item.input_audio_transcription.failed", item_id="U3", error={"code": "audio_unintelligible"}
    )
    drawing = scene.drawn(live=False)
    assert times(drawing.spans) == [
        ("speech", 100, 200, "cleared"),
        ("speech", 300, 400, "uncommitted"),
        ("speech", 500, 600, "failed"),
    ]
    [failed] = marks(drawing, "transcription_failed")
    assert (failed.lane, failed.label, failed.item_id) == ("errors", "audio_unintelligible", "U3")


def test_speech_whose_end_was_lost_ends_where_the_next_begins() -> None:
    scene = Scene()
    scene.at(100).starts_speaking("U1")
    scene.at(900).starts_speaking("U2")
    scene.at(1000).stops_speaking("U2")
    first, second = scene.drawn().spans
    assert (ms(first.to_at), first.status, first.to_position) == (900, "unfinished", None)
    assert (ms(second.from_at), second.item_id) == (900, "U2")


def test_what_the_user_types_takes_no_time() -> None:
    scene = Scene()
    scene.at(400).types("U1", "Where is my order?")
    scene.at(500).types("S1", "Be kind.", "U1", role="system")
    [typed] = scene.drawn().spans
    assert times([typed]) == [("typed", 400, 400, "completed")]
    assert (typed.lane, typed.label, typed.position, typed.item_id) == ("user", "Where is my order?", "1:1", "U1")


def test_speech_over_playback_is_a_barge_in_and_cuts_the_response() -> None:
    scene = Scene()
    scene.at(0).creates("R1")
    scene.says("R1", "S1", None, "A long story without an end.")
    scene.plays("R1", 100)
    scene.at(200).ends("R1", "cancelled", details={"reason": "turn_detected"})
    scene.at(700).starts_speaking("U1")
    position = f"1:{scene.seq}"
    scene.at(750).send("output_audio_buffer.cleared", response_id="R1")
    scene.at(760).send("conversation.item.truncated", item_id="S1", audio_end_ms=640, content_index=0)
    drawing = scene.drawn()
    [barge_in] = marks(drawing, "barge_in")
    assert (barge_in.lane, ms(barge_in.at), barge_in.position) == ("playback", 700, position)
    assert (barge_in.response_id, barge_in.item_id) == ("R1", "U1")
    [playback] = lane(drawing, "playback")
    assert (ms(playback.to_at), playback.status, playback.interrupted) == (750, "cleared", True)
    assert playback.label == scene.item("S1").heard_text
    assert playback.from_at < barge_in.at < (playback.to_at or 0)
    [cleared] = marks(drawing, "cleared")
    assert (ms(cleared.at), cleared.response_id) == (750, "R1")
    [truncated] = marks(drawing, "truncated")
    assert (ms(truncated.at), truncated.item_id, truncated.response_id) == (760, "S1", "R1")
    [generation] = lane(drawing, "assistant")
    assert (generation.status, generation.interrupted) == ("cancelled", True)


def test_speech_in_silence_is_no_barge_in() -> None:
    scene = Scene()
    scene.at(0).creates("R1")
    scene.plays("R1", 100, 600)
    scene.speaks("U1", 700, 900)
    assert marks(scene.drawn(), "barge_in") == []


def test_a_playback_that_is_cleared_by_no_name_is_the_one_that_plays() -> None:
    scene = Scene()
    scene.at(0).creates("R1")
    scene.plays("R1", 100)
    scene.at(300).send("output_audio_buffer.cleared")
    drawing = scene.drawn()
    assert times(lane(drawing, "playback")) == [("heard", 100, 300, "cleared")]
    assert [mark.response_id for mark in marks(drawing, "cleared")] == ["R1"]


def test_responses_that_were_first_heard_of_later_begin_there() -> None:
    scene = Scene()
    scene.at(500).begins_message("R1", "S1", None)
    scene.at(800).ends("R1")
    [span] = scene.drawn().spans
    assert (span.kind, ms(span.from_at), ms(span.to_at), span.position) == ("generation", 500, 800, "1:1")


def test_an_answer_out_of_band_is_told_apart() -> None:
    scene = Scene()
    scene.at(0).creates("R1")
    scene.at(10).creates("R2", conversation=None, text_only=True)
    scene.at(20).ends("R2", conversation=None)
    scene.at(30).ends("R1")
    assert times(scene.drawn().spans) == [
        ("generation", 0, 30, "completed"),
        ("out_of_band", 10, 20, "completed"),
    ]


def test_a_response_whose_end_was_lost_is_over_when_the_next_begins() -> None:
    scene = Scene()
    scene.at(0).creates("R1")
    scene.at(400).creates("R2")
    assert times(scene.drawn().spans) == [
        ("generation", 0, 400, "unfinished"),
        ("generation", 400, None, "in_progress"),
    ]
    assert times(scene.drawn(live=False, ended_ms=900).spans)[1] == ("generation", 400, 900, "unfinished")


def test_a_tool_is_at_work_from_its_arguments_to_its_output() -> None:
    scene = Scene()
    scene.speaks("U1", 0, 100)
    scene.at(200).creates("R1")
    scene.calls_tool("R1", "F1", "U1", "look_up", "call_1", '{"name": "x"}')
    [called] = [seq for seq in range(1, scene.seq + 1) if scene.moments.where("F1", START_US + 200_000) == f"1:{seq}"]
    scene.ends("R1")
    assert times(lane(scene.drawn(), "tools")) == [("function_call", 200, None, "in_progress")]
    assert times(lane(scene.drawn(live=False, ended_ms=300), "tools")) == [("function_call", 200, 300, "unanswered")]
    scene.at(650).gives_output("O1", "F1", "call_1", "found")
    [tool] = lane(scene.drawn(), "tools")
    assert (ms(tool.to_at), tool.status, tool.label) == (650, "completed", "look_up")
    assert (tool.position, tool.to_position) == (f"1:{called}", f"1:{scene.seq}")
    assert (tool.item_id, tool.response_id) == ("F1", "R1")
    [generation] = lane(scene.drawn(), "assistant")
    assert generation.label == "calls look_up"
    [turn] = scene.drawn().turns
    assert turn.tool_latency_ms == 450


def test_an_mcp_call_is_at_work_until_it_completes() -> None:
    scene = Scene()
    scene.at(0).creates("R1")
    value = {"id": "M1", "type": "mcp_call", "name": "search", "arguments": "", "status": "in_progress"}
    scene.puts_out("R1", value, None)
    scene.at(100).send("response.mcp_call_arguments.done", response_id="R1", item_id="M1", arguments="{}")
    scene.at(150).send("response.mcp_call.in_progress", item_id="M1")
    began = scene.seq
    scene.at(700).send("response.mcp_call.completed", item_id="M1")
    [tool] = lane(scene.drawn(), "tools")
    assert (tool.kind, ms(tool.from_at), ms(tool.to_at), tool.status) == ("mcp", 150, 700, "completed")
    assert (tool.position, tool.to_position) == (f"1:{began}", f"1:{scene.seq}")


def test_errors_and_failed_responses_are_marks() -> None:
    scene = Scene()
    scene.at(50).send("error", error={"type": "invalid_request_error", "message": "No such  item."})
    scene.at(100).creates("R1")
    scene.at(200).ends("R1", "failed", details={"error": {"code": "rate_limit_exceeded"}}, used=None)
    found = marks(scene.drawn(), "error")
    assert [(ms(mark.at), mark.label, mark.position, mark.response_id) for mark in found] == [
        (50, "No such item.", "1:1", None),
        (200, "rate_limit_exceeded", "1:3", "R1"),
    ]
    assert len(found) == scene.state.error_count


def test_decisions_commands_and_gaps_stand_at_their_times() -> None:
    scene = Scene()
    scene.at(900).send("session.created", session={})
    decision = DecisionRow(
        1, 1, "no-refunds", "s", "phrase", "enforce", True, ("say",), START_US + 100_000,
        matched_at=START_US + 100_200, outcome="done", item_id="S1", response_id="R1",
    )  # fmt: skip
    observed = DecisionRow(1, 1, "quiet", "s", "idle", "observe", False, (), START_US + 100_000, outcome="observed")
    command = CommandRow(
        1, 2, "rto_1_2", "response.cancel", "policy", "failed", START_US + 101_000, policy="no-refunds"
    )
    opened = GapRow(1, 3, START_US + 300_000, "reattach", "1:2")
    closed = GapRow(1, 1, START_US - 5_000, "before_attach", None, to_at=START_US + 20_000, state="final")
    drawing = scene.drawn(decisions=[decision, observed], commands=[command], gaps=[opened, closed])
    first, second = marks(drawing, "decision")
    assert (first.policy, first.at, first.acted, first.state) == ("quiet", START_US + 100_000, False, "observed")
    assert (second.policy, second.at, second.acted, second.state) == ("no-refunds", START_US + 100_200, True, "done")
    assert (second.lane, second.label, second.position, second.item_id) == ("decisions", "phrase", "1:1", "S1")
    [sent] = marks(drawing, "command")
    assert (sent.lane, sent.label, sent.state, sent.position) == ("commands", "response.cancel", "failed", "1:2")
    assert [(span.label, ms(span.from_at), ms(span.to_at), span.status) for span in lane(drawing, "gaps")] == [
        ("before_attach", -5, 20, "final"),
        ("reattach", 300, None, "open"),
    ]


def test_a_call_begins_and_ends_with_a_mark() -> None:
    scene = Scene()
    assert [(mark.kind, mark.position) for mark in scene.drawn().marks] == [("began", None)]
    scene.at(10).send("session.created", session={})
    scene.at(20).send("rate_limits.updated")
    assert [mark.kind for mark in scene.drawn().marks] == ["began"]
    began, ended = scene.drawn(live=False, ended_ms=30).marks
    assert (began.position, ms(began.at)) == ("1:1", 0)
    assert (ended.position, ms(ended.at), ended.label, ended.state) == ("1:2", 30, "browser_left", "ended")


def test_the_beta_s_names_mean_the_same() -> None:
    drawings = []
    for name in ("response.output_audio_transcript.done", "response.audio_transcript.done"):
        scene = Scene()
        scene.at(0).creates("R1")
        scene.at(5).send(name, response_id="R1", item_id="S1", transcript="Hello.", content_index=0)
        drawings.append(scene.drawn())
    assert drawings[0] == drawings[1]


def test_a_clock_that_is_set_back_ends_nothing_before_it_began() -> None:
    scene = Scene()
    scene.at(500).starts_speaking("U1")
    scene.at(100).stops_speaking("U1")
    [span] = scene.drawn().spans
    assert span.from_at == span.to_at


def test_labels_are_short_and_in_one_line() -> None:
    assert excerpt("a\n  b\tc") == "a b c"
    assert len(excerpt("word " * 10_000)) == len(excerpt("w" * 10_000)) == LONGEST_LABEL
    assert excerpt("w" * 10_000).endswith("…")
