"""Fold what the real service said, and compare with what a person reads out of it.

The folder of recordings is named by RTOBSERVER_RECORDINGS_DIR.
"""

from __future__ import annotations

import json

from rtobserver.realtime.call import CallState
from rtobserver.realtime.events import read
from rtobserver.realtime.transcript import transcript
from rtobserver.realtime.turns import turns
from tests.support import outside

SECOND_US = 1_000_000


def fold(name: str) -> CallState:
    """Fold a recording, one second between its events, since recordings hold no times."""
    received = [each["data"] for each in outside.interactions(name) if each.get("direction") == "received"]
    state = CallState()
    for seq, data in enumerate(received, start=1):
        frame = json.dumps(data).encode()
        state.apply(read(frame)[0], frame, seq * SECOND_US, 1, seq)
    state.finish()
    totals = state.totals()
    assert (totals.missed, totals.open_links, totals.broken, totals.unfinished) == (False, (), (), ())
    assert (totals.interruption_count, totals.error_count) == (0, 0)
    return state


def test_a_spoken_turn_with_a_tool_on_azure() -> None:
    state = fold("azure_spoken_turn_with_tool")
    assert [(line.role, line.kind, line.text, line.status) for line in transcript(state.items())] == [
        ("user", "speech", "Hello, my name is Marcelo.", "completed"),
        ("assistant", "tool_call", '{  \n  "name": "Marcelo" \n} \n', "completed"),
        ("tool", "tool_output", "Stored Marcelo.", "completed"),
        ("assistant", "speech", "Hello Marcelo, it's great to meet you! How can I help you today?", "completed"),
    ]
    [turn] = turns(state.items(), state.responses())
    assert turn.user_text == "Hello, my name is Marcelo."
    assert turn.assistant_text == "Hello Marcelo, it's great to meet you! How can I help you today?"
    assert len(turn.response_ids) == 2
    [tool] = turn.tools
    assert (tool.name, tool.call_id, tool.output) == ("remember_name", "call_42LHxWvnwPP9TAch", "Stored Marcelo.")
    assert tool.status == "completed"
    totals = state.totals()
    usage = totals.usage
    assert totals.turn_count == 1
    # 95 + 122 in, 24 + 97 out; of the input 69 + 96 are text and 26 + 26 audio, 64 of the text cached
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (217, 121, 338)
    assert (usage.input_text, usage.input_audio, usage.input_image) == (165, 52, 0)
    assert (usage.output_text, usage.output_audio) == (52, 69)
    assert (usage.cached_tokens, usage.cached_text, usage.cached_audio) == (64, 64, 0)
    assert (totals.transcription_tokens, totals.transcription_seconds) == (35, 0)
    # 4,224 - 1,556 ms on the media clock, less 300 ms of prefix and 200 ms of silence
    assert totals.user_talk_ms == 2168


def test_three_spoken_turns_on_openai() -> None:
    state = fold("openai_three_spoken_turns")
    assert [(line.role, line.text) for line in transcript(state.items())] == [
        ("user", "Hello, my name is Marcelo."),
        ("assistant", "Hi Marcelo! Nice to meet you."),
        ("user", "Hello, my name is Marcelo."),
        ("assistant", "Hi Marcelo! Great to meet you."),
        ("user", "Hello, my name is Marcelo."),
        ("assistant", "Hey Marcelo, nice meeting you."),
    ]
    assert [turn.assistant_text for turn in turns(state.items(), state.responses())] == [
        "Hi Marcelo! Nice to meet you.",
        "Hi Marcelo! Great to meet you.",
        "Hey Marcelo, nice meeting you.",
    ]
    totals = state.totals()
    usage = totals.usage
    assert totals.turn_count == 3
    # 42 + 139 + 187 in, 60 + 61 + 115 out
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (368, 236, 604)
    assert (usage.input_text, usage.input_audio) == (121, 247)
    assert (usage.output_text, usage.output_audio) == (53, 183)
    assert (usage.cached_text, usage.cached_audio) == (0, 64)
    assert (totals.transcription_tokens, totals.transcription_seconds) == (0, 9)


def test_a_history_that_the_client_seeded_on_azure() -> None:
    state = fold("azure_history_seeding")
    answer = (
        "Your name is Alice, and your favorite color is teal! Got it locked in. "
        "Let’s make this chat as vibrant as that color, shall we?"  # noqa: RUF001 - as it was said
    )
    assert [(line.role, line.kind, line.text) for line in transcript(state.items())] == [
        ("user", "text", "My name is Alice and my favorite color is teal."),
        ("assistant", "text", "Nice to meet you, Alice!"),
        ("user", "text", "What is my name and favorite color?"),
        ("assistant", "text", answer),
    ]
    first, second = turns(state.items(), state.responses())
    assert (first.assistant_text, first.response_ids) == ("Nice to meet you, Alice!", [])
    assert (second.assistant_text, len(second.response_ids)) == (answer, 1)
    totals = state.totals()
    assert (totals.turn_count, totals.usage.total_tokens, totals.usage.cached_text) == (2, 182, 128)


def test_a_typed_turn_on_azures_sideband() -> None:
    state = fold("azure_sideband_text_turn")
    assert [(line.role, line.text) for line in transcript(state.items())] == [
        ("user", "Say hello."),
        ("assistant", "Hello there!"),
    ]
    totals = state.totals()
    assert (totals.turn_count, totals.usage.input_text, totals.usage.output_text) == (1, 12, 5)


def test_an_audible_answer_on_openais_sideband() -> None:
    state = fold("openai_sideband_audio_turn")
    assert [(line.role, line.kind, line.text, line.heard_text) for line in transcript(state.items())] == [
        ("user", "text", "Say hello.", None),
        ("assistant", "speech", "Hello there.", None),
    ]
    [response] = state.responses()
    assert response.playback_started_at is not None
    assert response.playback_ended_at is not None
    assert not response.playback_cleared
    totals = state.totals()
    assert (totals.turn_count, totals.usage.total_tokens, totals.usage.output_audio) == (1, 82, 61)
