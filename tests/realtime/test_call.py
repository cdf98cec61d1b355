"""Scripted conversations, each with what a person would say of it."""

from __future__ import annotations

from decimal import Decimal

from rtobserver.realtime.cost import Prices
from tests.realtime.script import Script, usage

PRICES = Prices.parse(
    """
    [[model]]
    name = "talker"
    text = { in = 1, out = 10 }
    [[model]]
    name = "writer"
    minute = 6
    """,
    {"our-talker": "talker", "our-writer": "writer"},
)


def test_a_plain_spoken_exchange_is_one_turn_with_its_latencies() -> None:
    call = Script()
    call.speaks("U1", 1000, 3000)
    call.at(3100).creates("R1")
    call.at(3400).begins_message("R1", "S1", "U1")
    call.says_part("R1", "S1", "Hello there.")
    call.at(3500).is_transcribed("U1", "Hi!", seconds=2.5)
    call.plays("R1", 3650)
    call.at(3700).ends_message("R1", "S1", "Hello there.")
    call.ends("R1")
    call.at(5000).send("output_audio_buffer.stopped", response_id="R1")

    assert call.texts() == [("user", "Hi!"), ("assistant", "Hello there.")]
    [turn] = call.turns()
    assert (turn.index, turn.user_item_id, turn.response_ids) == (0, "U1", ["R1"])
    assert (turn.user_text, turn.assistant_text) == ("Hi!", "Hello there.")
    assert turn.heard_latency_ms == 650  # 3650 - 3000
    assert turn.generation_latency_ms == 400  # 3400 - 3000
    assert turn.tool_latency_ms is None
    assert not turn.interrupted
    assert turn.tools == []
    totals = call.state.totals()
    assert (totals.turn_count, totals.interruption_count, totals.error_count) == (1, 0, 0)
    assert (totals.first_audio_p50_ms, totals.generation_p95_ms) == (650, 400)
    assert (totals.usage.total_tokens, totals.usage.cached_text, totals.transcription_seconds) == (253, 64, 2.5)
    assert totals.user_talk_ms == 2000
    assert totals.assistant_talk_ms == 1350  # 3650 to 5000
    assert totals.dead_air_ms == 650  # 3000 to 3650
    assert (totals.missed, totals.broken, totals.unfinished, totals.open_links) == (False, (), (), ())


def test_a_spoken_line_stands_when_it_was_heard_not_when_it_was_generated() -> None:
    call = Script()
    call.speaks("U1", 1000, 3000)
    call.creates("R1")
    call.at(3200).says("R1", "S1", "U1", "Hello there.")
    call.plays("R1", 3600)
    call.at(3700).ends("R1")
    call.at(5000).send("output_audio_buffer.stopped", response_id="R1")
    line = call.lines()[1]
    assert line.started_at is not None
    assert line.ended_at is not None
    assert line.ended_at - line.started_at == 1_400_000


def test_a_typed_exchange_is_a_turn_without_latency_of_speech() -> None:
    call = Script()
    call.types("U1", "Say hello.")
    call.at(100).creates("R1", text_only=True)
    call.begins_message("R1", "S1", "U1")
    for word in ("Hello", " there!"):
        call.delta("response.output_text.delta", "R1", "S1", word)
    call.ends_message("R1", "S1", "Hello there!", kind="output_text")
    call.ends("R1")
    assert [(line.kind, line.text) for line in call.lines()] == [("text", "Say hello."), ("text", "Hello there!")]
    [turn] = call.turns()
    assert (turn.user_text, turn.heard_latency_ms, turn.generation_latency_ms) == ("Say hello.", None, None)
    assert call.state.totals().turn_count == 1


def test_chained_tool_calls_belong_to_the_turn_that_they_serve() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.is_transcribed("U1", "Weather in Oslo?")
    call.at(1100).creates("R1")
    call.at(1400).calls_tool("R1", "F1", "U1", "get_weather", "call_1", '{"city":"Oslo"}')
    call.calls_tool("R1", "F2", "F1", "get_time", "call_2", "{}")
    call.ends("R1")
    assert set(call.state.waiting_tools) == {"call_1", "call_2"}
    call.at(1700).gives_output("O1", "F2", "call_1", "rain")
    call.at(1900).gives_output("O2", "O1", "call_2", "noon")
    call.creates("R2")
    call.at(2200).begins_message("R2", "S1", "O2")
    call.plays("R2", 2500)
    call.ends_message("R2", "S1", "It rains, at noon.")
    call.ends("R2")

    [turn] = call.turns()
    assert turn.response_ids == ["R1", "R2"]
    assert [(tool.name, tool.arguments, tool.output, tool.latency_ms, tool.status) for tool in turn.tools] == [
        ("get_weather", '{"city":"Oslo"}', "rain", 300, "completed"),
        ("get_time", "{}", "noon", 500, "completed"),
    ]
    assert turn.tool_latency_ms == 500  # they ran side by side
    assert (turn.generation_latency_ms, turn.heard_latency_ms) == (400, 1500)
    assert turn.assistant_text == "It rains, at noon."
    assert [(line.role, line.kind, line.tool_name) for line in call.lines()] == [
        ("user", "speech", None),
        ("assistant", "tool_call", "get_weather"),
        ("assistant", "tool_call", "get_time"),
        ("tool", "tool_output", "get_weather"),
        ("tool", "tool_output", "get_time"),
        ("assistant", "speech", None),
    ]
    assert not call.state.waiting_tools
    # the second response answers the same user, but only the first output of a turn has a latency
    assert call.response("R2").user_item_id == "U1"
    assert call.response("R2").generation_latency_ms is None


def test_a_tool_call_without_output_stays_unanswered() -> None:
    call = Script()
    call.types("U1", "Weather?")
    call.creates("R1")
    call.calls_tool("R1", "F1", "U1", "get_weather", "call_1", "{}")
    call.ends("R1")
    call.state.finish()
    [tool] = call.turns()[0].tools
    assert (tool.status, tool.output, tool.latency_ms) == ("unanswered", None, None)
    assert list(call.state.waiting_tools) == ["call_1"]


def test_a_greeting_is_a_turn_of_nobody() -> None:
    call = Script()
    call.creates("R1")
    call.says("R1", "S1", None, "Welcome!")
    call.ends("R1")
    call.speaks("U1", 5000, 6000, "S1")
    assert [(turn.user_item_id, turn.assistant_text) for turn in call.turns()] == [(None, "Welcome!"), ("U1", "")]
    assert call.state.turn_count == 1


def test_beta_names_fold_like_the_present_ones() -> None:
    call = Script()
    typed = {"id": "U1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    call.send("conversation.item.created", previous_item_id=None, item=typed)
    call.send("response.created", response={"id": "R1", "status": "in_progress", "modalities": ["text", "audio"]})
    begun = {"id": "S1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    call.send("response.output_item.added", response_id="R1", item=begun)
    call.send("conversation.item.created", previous_item_id="U1", item=begun)
    for word in ("Hel", "lo"):
        call.delta("response.audio_transcript.delta", "R1", "S1", word)
    call.delta("response.audio.delta", "R1", "S1", "AAAA")
    names = {"response_id": "R1", "item_id": "S1", "content_index": 0}
    call.send("response.audio.done", **names)
    call.send("response.audio_transcript.done", transcript="Hello", **names)
    done = {**begun, "status": "completed", "content": [{"type": "audio", "transcript": "Hello"}]}
    call.send("response.output_item.done", response_id="R1", item=done)
    call.send("response.done", response={"id": "R1", "status": "completed", "output": [done], "usage": usage(1, 1, 1)})
    assert [(line.role, line.kind, line.text) for line in call.lines()] == [
        ("user", "text", "Hi"),
        ("assistant", "speech", "Hello"),
    ]
    totals = call.state.totals()
    assert (totals.turn_count, totals.usage.total_tokens, totals.missed, totals.broken) == (1, 3, False, ())


def test_quiet_is_known_from_the_end_of_the_last_sound() -> None:
    call = Script()
    assert call.state.quiet_since is None
    call.at(1000).starts_speaking("U1")
    assert call.state.is_user_speaking
    call.at(2000).stops_speaking("U1")
    assert call.state.quiet_since == call.state.last_speech_stopped_at
    call.plays("R1", 3000)
    assert call.state.quiet_since is None


def test_what_rows_say_at_the_end_is_what_was_last_given_out() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.creates("R1")
    call.says("R1", "S1", "U1", "Hello there.")
    call.plays("R1", 1500)
    call.ends("R1")
    call.at(2000).starts_speaking("U2")
    call.changes.append(call.state.finish())
    items = {row.item_id: row for changes in call.changes for row in changes.items}
    responses = {row.response_id: row for changes in call.changes for row in changes.responses}
    assert items == {row.item_id: row for row in call.state.items()}
    assert responses == {row.response_id: row for row in call.state.responses()}


def test_a_call_costs_what_its_responses_and_transcriptions_cost() -> None:
    call = Script(model="our-talker", transcription_model="our-writer", prices=PRICES)
    call.speaks("U1", 0, 1000)
    call.is_transcribed("U1", "Hi", seconds=3)
    call.creates("R1")
    call.ends("R1", used=usage(100, 0, 20, 0))
    # 100 * 1 + 20 * 10 = 300 millionths; 3 s at 6 a minute = 0.3
    assert call.state.cost_usd == Decimal("0.3003")
    assert call.state.totals().cost_usd == Decimal("0.3003")
    assert call.state.totals().unpriced == ()


def test_the_session_tells_the_models_that_nobody_named() -> None:
    call = Script(model="a-deployment", prices=PRICES)
    call.speaks("U1", 0, 1000)
    call.is_transcribed("U1", "Hi", seconds=3)
    call.ends("R1", used=usage(100, 0, 20, 0))
    assert call.state.totals().cost_usd is None
    assert call.state.totals().unpriced == ("a-deployment", "unknown transcription")
    call.send(
        "session.updated", session={"model": "talker", "audio": {"input": {"transcription": {"model": "writer"}}}}
    )
    assert call.state.cost_usd == Decimal("0.3003")


def test_sessions_of_the_beta_are_flat() -> None:
    call = Script(model="talker", prices=PRICES)
    call.send("session.created", session={"input_audio_transcription": {"model": "writer"}})
    call.commits("U1", None)
    call.is_transcribed("U1", "Hi", seconds=3)
    assert call.state.cost_usd == Decimal("0.3")


def test_without_prices_there_is_no_cost() -> None:
    call = Script(model="talker")
    call.ends("R1", used=usage(100, 0, 20, 0))
    assert call.state.cost_usd is None
    assert call.state.totals().unpriced == ()


def test_speech_is_measured_without_what_voice_detection_adds() -> None:
    call = Script()
    detection = {"type": "server_vad", "prefix_padding_ms": 300, "silence_duration_ms": 200}
    call.send("session.updated", session={"audio": {"input": {"turn_detection": detection}}})
    call.speaks("U1", 1000, 3000)
    assert call.state.totals().user_talk_ms == 1500


def test_without_playback_the_model_s_talk_is_reckoned_from_its_tokens() -> None:
    call = Script()
    call.ends("R1", used=usage(10, 0, 5, 61))
    totals = call.state.totals()
    assert (totals.assistant_talk_ms, totals.dead_air_ms) == (3050, None)


def test_what_is_no_event_changes_nothing() -> None:
    call = Script()
    for event_type in ("rate_limits.updated", "conversation.item.retrieved", "of.tomorrow"):
        assert call.send(event_type, item={"id": "U1", "type": "message", "role": "user"}) is None
    assert call.lines() == []


def test_an_item_knows_the_response_that_it_belongs_to() -> None:
    call = Script()
    call.speaks("U1", 1000, 3000)
    call.at(3100).creates("R1")
    call.at(3400).begins_message("R1", "S1", "U1")
    assert call.state.response_of("S1") == "R1"
    assert call.state.response_of("U1") is None
    assert call.state.response_of("nobody") is None
