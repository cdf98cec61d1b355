"""Each trigger is true when design says so, and only then."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rtobserver.policy.rules import (
    Absent,
    After,
    Count,
    DeadAir,
    Idle,
    Mode,
    On,
    Regex,
    Say,
    Send,
    Tag,
    Tampered,
    Tool,
    Turns,
    UnansweredTool,
    Usage,
)
from rtobserver.realtime.cost import Prices
from tests.policy.play import CANCEL, Play, ids, past, phrase, policy


def on(*types: str) -> On:
    return On(types=types)


# --- on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", [("error",), ("err*",), ("session.*", "error"), ("*",), ("e?ror",)])
def test_events_are_matched_by_type(types: tuple[str, ...]) -> None:
    play = Play(policy(on(*types)))
    assert ids(play.hear({"type": "error", "error": {}})) == ["rule"]
    assert play.hear({"type": "error", "error": {}})[0].acts


def test_other_types_are_not_matched() -> None:
    play = Play(policy(on("error", "rate_limits.*")))
    for event in ({"type": "errors"}, {"type": "rate_limits"}, {}, {"type": 3}, b"{", b"[]"):
        assert play.hear(event) == []


def test_beta_names_count_as_present_names() -> None:
    play = Play(policy(on("response.output_text.done", "response.audio.done")))
    assert ids(play.hear({"type": "response.text.done"})) == ["rule"]
    assert ids(play.hear({"type": "response.output_audio.done"})) == ["rule"]


def test_all_policies_decide_in_file_order() -> None:
    play = Play(
        policy(phrase("refund"), id="c"),
        policy(on("*.delta"), id="b"),
        policy(on("response.*"), id="a", profiles=("other",)),
        policy(Regex(speaker="assistant", pattern="ref"), id="d", mode="observe"),
    )
    assert [(each.policy.id, each.acts) for each in play.say("a refund")] == [("c", True), ("b", True), ("d", False)]


def test_a_call_without_policies_owes_nothing() -> None:
    assert Play(policy(on("*"), profiles=("sales", "support"))).engine.owes()
    assert not Play(policy(on("*"), profiles=("sales",))).engine.owes()
    assert not Play().engine.owes()


def test_that_response_is_the_event_s_or_its_item_s_or_the_active_one() -> None:
    play = Play(policy(on("*")))
    assert play.begin("resp_a")[0].match.response_id == "resp_a"
    assert play.say("x", item_id="item_a", response_id="resp_b")[0].match.response_id == "resp_b"
    (cut,) = play.hear({"type": "conversation.item.truncated", "item_id": "item_a", "audio_end_ms": 1})
    assert (cut.match.item_id, cut.match.response_id) == ("item_a", "resp_b")
    assert play.hear({"type": "error"})[0].match.response_id == "resp_a"
    play.end("resp_a")
    assert play.hear({"type": "error"})[0].match.response_id is None
    (added,) = play.hear({"type": "response.output_item.added", "response_id": "r", "item": {"id": "item_n"}})
    assert (added.match.item_id, added.match.response_id) == ("item_n", "r")


# --- words --------------------------------------------------------------------------------------


def test_a_phrase_over_three_deltas_is_found_at_the_third() -> None:
    play = Play(policy(phrase("money back"), CANCEL))
    play.begin()
    assert play.say("your mon") == []
    assert play.say("ey, BA") == []
    (verdict,) = play.say("CK now")
    assert verdict.acts
    assert verdict.actions == (CANCEL,)
    assert verdict.causes == {"rule"}
    assert verdict.policy_set == "0123456789abcdef"
    assert (verdict.match.text, verdict.match.item_id, verdict.match.response_id) == ("money, BACK", "item_1", "resp_1")


def test_each_item_has_its_own_text() -> None:
    play = Play(policy(phrase("refund")))
    assert play.say("re", item_id="a") + play.say("re", item_id="b") + play.say("x", item_id="a") == []
    assert [verdict.match.item_id for verdict in play.say("fund", item_id="b")] == ["b"]


def test_a_phrase_is_found_once_in_an_item_and_again_in_the_next() -> None:
    play = Play(policy(phrase("refund", "chargeback")))
    assert ids(play.say("refund", " refund", " chargeback", final="refund refund chargeback")) == ["rule"] * 2
    assert ids(play.say("refund", item_id="item_2")) == ["rule"]


def test_the_speakers_are_told_apart() -> None:
    play = Play(policy(phrase("refund", speaker="user"), id="u"), policy(phrase("refund"), id="a"))
    assert ids(play.say("refund")) == ["a"]
    assert ids(play.transcribe("item_u", "re", "fund")) == ["u"]
    assert ids(play.type("item_t", "Refund!")) == ["u"]


def test_the_final_text_counts_for_what_the_deltas_did_not_say() -> None:
    play = Play(policy(phrase("refund", "money")))
    assert play.say("a re") == []
    assert [verdict.match.text for verdict in play.say(final="a refund")] == ["refund"]
    assert [verdict.match.text for verdict in play.say(final="the money", item_id="item_2")] == ["money"]
    assert play.say("gar", "bled", item_id="item_3") == []
    assert [verdict.match.text for verdict in play.say(final="a refund", item_id="item_3")] == ["refund"]
    assert play.say("refund", item_id="item_4")
    assert play.say(final="a longer one: refund", item_id="item_4") == []


def test_a_transcription_that_was_made_anew_is_searched_as_a_whole() -> None:
    play = Play(policy(phrase("refund", "money", speaker="user")))
    assert ids(play.transcribe("u", "a re", "found")) == []
    assert [verdict.match.text for verdict in play.transcribe("u", final="A refund.")] == ["refund"]


def test_a_typed_item_is_read_once() -> None:
    play = Play(policy(phrase("refund", speaker="user")))
    item = {"id": "t", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "refund"}]}
    assert ids(play.hear({"type": "conversation.item.created", "item": item})) == ["rule"]
    assert play.hear({"type": "conversation.item.done", "item": item}) == []
    assert play.hear({"type": "conversation.item.added", "item": {**item, "id": "s", "role": "system"}}) == []


def test_a_whole_word_is_found_when_the_item_ends() -> None:
    play = Play(policy(phrase("refund", whole=True)))
    assert play.say("a refund") == []
    assert ids(play.say(final="a refund")) == ["rule"]
    assert play.say("refunds", final="refunds", item_id="b") == []
    assert ids(play.say("refund", ".", item_id="c")) == ["rule"]


def test_text_items_are_spoken_too_and_beta_names_count() -> None:
    play = Play(policy(phrase("refund")))
    named = {"item_id": "i", "response_id": "r"}
    assert play.hear({"type": "response.text.delta", **named, "delta": "ref"}) == []
    assert ids(play.hear({"type": "response.output_text.delta", **named, "delta": "und"})) == ["rule"]


def test_a_pattern_is_searched_in_the_end_of_the_item() -> None:
    play = Play(policy(Regex(speaker="assistant", pattern=r"(?i)\b(?:\d[ -]?){13,16}\b")))
    assert play.say("My number is 4111 1111", " 1111") == []
    assert [verdict.match.text for verdict in play.say(" 1111", ", ok 4111 1111 1111 1111")] == ["4111 1111 1111 1111"]
    assert play.say("x" * 5000, item_id="b") == []
    assert ids(play.say("é" * 5000, " 4111 1111 1111 1111.", item_id="b")) == ["rule"]


def test_a_pattern_that_looks_at_what_follows_waits_until_that_is_said() -> None:
    play = Play(
        policy(Regex(speaker="assistant", pattern=r"\bref\b"), id="word"),
        policy(Regex(speaker="assistant", pattern=r"stop$"), id="end"),
        policy(Regex(speaker="assistant", pattern="ref"), id="now"),
    )
    assert ids(play.say("a ref")) == ["now"]
    assert ids(play.say("und stop")) == []
    assert ids(play.say("ped", final="a refund stopped")) == []
    assert ids(play.say("a ref", item_id="b")) == ["now"]
    assert ids(play.say(" or stop", item_id="b")) == ["word"]
    assert [verdict.match.text for verdict in play.say(final="a ref or stop", item_id="b")] == ["stop"]


def test_parts_of_an_item_are_texts_of_their_own() -> None:
    play = Play(
        policy(phrase("refund", "money back")),
        policy(Regex(speaker="assistant", pattern="ref.*und"), id="regex"),
        policy(phrase("refund", speaker="user"), id="user"),
    )
    place = {"item_id": "i", "response_id": "r", "type": "response.output_text.delta"}
    first, second = {**place, "content_index": 0}, {**place, "content_index": 1}
    assert play.hear({**first, "delta": "money, a ref"}) + play.hear({**second, "delta": "und back"}) == []
    assert ids(play.hear({**first, "delta": "und"})) == ["rule", "regex"]
    assert play.hear({**second, "delta": " refund"}) == []
    assert ids(play.hear({**second, "delta": " money back"})) == ["rule"]
    content = [{"type": "input_text", "text": text} for text in ("a re", "fund")]
    item = {"id": "t", "type": "message", "role": "user", "content": content}
    assert play.hear({"type": "conversation.item.added", "item": item}) == []
    content = [{"type": "input_text", "text": text} for text in ("a refund", "refund")]
    item = {"id": "u", "type": "message", "role": "user", "content": content}
    assert ids(play.hear({"type": "conversation.item.added", "item": item})) == ["user"]


def test_a_phrase_that_is_spelled_in_two_ways_is_found_once_in_an_item() -> None:
    for whole in (False, True):
        play = Play(policy(phrase("café", whole=whole)))
        assert len(play.say("un café, ", "un cafe\u0301, ", "café cafe\u0301")) == 1
        assert len(play.say("un cafe\u0301, un café.", item_id="b")) == 1


def test_the_start_of_the_window_is_not_the_start_of_the_text() -> None:
    play = Play(policy(Regex(speaker="assistant", pattern="^yes")))
    assert play.say("no " * 2000, "yes " * 1024) == []
    assert ids(play.say("yes, sir", item_id="b")) == ["rule"]


def test_all_patterns_are_searched_at_the_event_that_brings_the_text() -> None:
    hard = [f"[ab]*a[ab]{{900}}c|needle|{number}" for number in range(4)]
    made = [policy(Regex(speaker="assistant", pattern=each), id=f"p{number}") for number, each in enumerate(hard)]
    play = Play(*made)
    found = play.say("ab" * 2045 + "needle", item_id="i", response_id="r")
    assert ids(found) == ["p0", "p1", "p2", "p3"]
    assert {(verdict.match.item_id, verdict.match.response_id) for verdict in found} == {("i", "r")}
    assert play.hear({"type": "rate_limits.updated"}) == []


def test_phrases_of_other_profiles_are_not_looked_for() -> None:
    sales, support = policy(phrase("refund"), id="a", profiles=("sales",)), policy(phrase("refund", "money"), id="b")
    play = Play(sales, support, policy(phrase("x"), id="c", profiles=("sales",)))
    assert ids(play.say("refund money x")) == ["b"]


# --- tools --------------------------------------------------------------------------------------


def test_a_function_call_is_matched_once_by_name_and_arguments() -> None:
    play = Play(policy(Tool(name="pay*", arguments={"amount": 100, "to": {"bank": "x"}})))
    good = '{"amount": 100.0, "to": {"bank": "x"}, "more": 1}'
    (verdict,) = play.call_tool("call_1", "pay_out", good)
    match = verdict.match
    assert (match.function_call_id, match.name, match.arguments) == ("call_1", "pay_out", good)
    assert (match.item_id, match.response_id) == ("item_f", "resp_1")
    item = {"id": "item_f", "type": "function_call", "call_id": "call_1", "name": "pay_out", "arguments": good}
    assert play.hear({"type": "response.output_item.done", "response_id": "resp_1", "item": item}) == []
    assert play.hear({"type": "conversation.item.done", "item": {**item, "call_id": "call_2"}})


@pytest.mark.parametrize("arguments", ['{"amount": true}', '{"amount": "1"}', "{", "[1]", "", "{}", '{"amount": 2}'])
def test_other_arguments_are_not_matched(arguments: str) -> None:
    play = Play(policy(Tool(name="pay", arguments={"amount": 1})))
    assert play.call_tool("call_1", "pay", arguments) == []
    assert play.call_tool("call_2", "play", '{"amount": 1}') == []
    assert play.call_tool("call_3", "pay", '{"amount": 1}')


# --- time ---------------------------------------------------------------------------------------


def test_the_age_of_the_call_is_matched_once() -> None:
    play = Play(policy(After(seconds=20)))
    assert play.wait(19.9) == []
    assert ids(play.hear({"type": "error"}, after=5)) == ["rule"]
    assert play.engine.wake_at() is None
    assert play.wait(100) == []


def test_idleness_is_matched_once_for_each_silence() -> None:
    play = Play(policy(Idle(seconds=10)))
    assert play.wait(9) == []
    play.hear({"type": "error"})
    assert play.wait(9) == []
    assert ids(play.wait(2)) == ["rule"]
    assert play.wait(100) == []
    play.hear({"type": "error"})
    assert ids(play.wait(100)) == ["rule"]


def test_dead_air_counts_from_the_end_of_the_last_sound() -> None:
    play = Play(policy(DeadAir(seconds=5)))
    assert play.wait(60) == []
    play.turn("u1")
    assert play.wait(4) == []
    play.hear({"type": "output_audio_buffer.started", "response_id": "r"})
    assert play.wait(60) == []
    play.hear({"type": "output_audio_buffer.stopped", "response_id": "r"})
    play.hear({"type": "rate_limits.updated"}, after=3)
    assert ids(play.wait(2)) == ["rule"]
    assert play.wait(60) == []
    play.turn("u2")
    assert ids(play.wait(6)) == ["rule"]


@pytest.mark.parametrize("trigger", [Idle(seconds=2), DeadAir(seconds=2)])
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_silence_after_its_own_words_triggers_no_policy_again_until_the_user_had_a_turn(
    trigger: Idle | DeadAir, mode: Mode
) -> None:
    play = Play(policy(trigger, Say(text="Are you there?"), mode=mode), policy(trigger, id="tag"))
    play.turn("u1")
    for number in range(5):
        found = ids(play.wait(10))
        assert found == (["rule", "tag"] if number == 0 else ["tag"])
        play.begin(f"resp_{number}")
        play.hear({"type": "output_audio_buffer.started", "response_id": f"resp_{number}"}, causes=["rule"])
        play.say("Are you there?", item_id=f"i{number}", response_id=f"resp_{number}", causes=["rule"])
        play.end(f"resp_{number}")
        play.hear({"type": "rate_limits.updated"})
        play.hear({"type": "output_audio_buffer.stopped", "response_id": f"resp_{number}"}, causes=["rule"])
    play.turn("u2")
    assert ids(play.wait(10)) == ["rule", "tag"]


def test_a_silence_after_its_own_words_triggers_no_policy_after_a_take_over() -> None:
    rule = policy(Idle(seconds=2), Say(text="Are you there?"))
    first = Play(rule)
    first.turn("u1")
    assert ids(first.wait(5)) == ["rule"]
    first.say("Are you there?", causes=["rule"])
    second = Play(rule)
    for age, frame in first.frames:
        second.recall(frame, age=age)
    second.engine.restore(past([(first.ages[id(each)], each) for each in first.all]))
    assert second.wait(10) == []
    second.turn("u2")
    assert ids(second.wait(10)) == ["rule"]


def test_a_function_call_that_a_policy_led_to_does_not_trigger_it_again_in_the_same_turn() -> None:
    play = Play(policy(UnansweredTool(seconds=3), Say(text="One moment.")))
    play.turn("u1")
    play.call_tool("call_1", "a", item_id="f1")
    (first,) = play.wait(5)
    named = {"item_id": "f2", "response_id": "r2", "call_id": "call_2", "name": "a", "arguments": "{}"}
    play.hear({"type": "response.function_call_arguments.done", **named}, causes=first.causes)
    assert play.wait(5) == []
    play.call_tool("call_3", "a", item_id="f3")
    assert ids(play.wait(5)) == ["rule"]


def test_dead_air_counts_from_the_first_event_where_there_was_no_sound_at_all() -> None:
    play = Play(policy(DeadAir(seconds=5)))
    play.hear({"type": "session.updated"}, after=2)
    play.hear({"type": "rate_limits.updated"}, after=3)
    assert play.wait(1) == []
    assert ids(play.wait(2)) == ["rule"]
    assert play.wait(60) == []
    play.turn("u1")
    assert ids(play.wait(6)) == ["rule"]


def test_a_sound_whose_end_was_missed_does_not_hide_a_silence() -> None:
    play = Play(policy(DeadAir(seconds=5)))
    play.hear({"type": "output_audio_buffer.started", "response_id": "r"})
    play.engine.missed(age=play.age)
    for _ in range(5):
        assert play.hear({"type": "response.output_audio_transcript.delta", "item_id": "i"}, after=4) == []
    assert ids(play.wait(6)) == ["rule"]
    assert play.wait(60) == []
    play.hear({"type": "input_audio_buffer.speech_started", "item_id": "u"})
    assert play.wait(60) == []
    play.hear({"type": "input_audio_buffer.speech_stopped", "item_id": "u"})
    assert ids(play.wait(6)) == ["rule"]
    play.hear({"type": "output_audio_buffer.started", "response_id": "r2"})
    assert play.wait(60) == []
    play.hear({"type": "output_audio_buffer.stopped", "response_id": "r2"})
    play.hear({"type": "rate_limits.updated"}, after=4)
    assert ids(play.wait(2)) == ["rule"]


def test_each_unanswered_function_call_is_matched_once() -> None:
    play = Play(policy(UnansweredTool(seconds=3)))
    play.call_tool("call_1", "a", item_id="f1")
    play.call_tool("call_2", "b", item_id="f2")
    play.call_tool("call_3", "c", item_id="f3")
    play.answer_tool("call_2")
    found = play.wait(10)
    assert [verdict.match.function_call_id for verdict in found] == ["call_1", "call_3"]
    assert [verdict.match.item_id for verdict in found] == ["f1", "f3"]
    assert [(verdict.match.name, verdict.match.arguments) for verdict in found] == [("a", "{}"), ("c", "{}")]
    assert play.wait(10) == []


@pytest.mark.parametrize(
    ("what", "events"),
    [
        (phrase("recorded"), [{"type": "response.output_text.delta", "item_id": "i", "delta": "is recorded"}]),
        (
            Regex(speaker="assistant", pattern="rec"),
            [{"type": "response.output_text.delta", "item_id": "i", "delta": "rec"}],
        ),
        (on("session.up*"), [{"type": "session.updated"}]),
        (
            Tool(name="hi", arguments={}),
            [{"type": "response.function_call_arguments.done", "call_id": "c", "name": "hi", "arguments": "{}"}],
        ),
    ],
)
def test_what_is_absent_is_matched_once_unless_it_came_in_time(what: Any, events: list[dict[str, Any]]) -> None:
    rule = policy(Absent(what=what, within=30))
    missing = Play(rule)
    assert missing.hear({"type": "error"}) == []
    assert ids(missing.wait(31)) == ["rule"]
    assert missing.wait(100) == []
    kept = Play(rule)
    assert [verdict for event in events for verdict in kept.hear(event)] == []
    assert kept.wait(100) == []
    late = Play(rule)
    assert [verdict for event in events for verdict in late.hear(event, after=31)] == late.all[:1]
    assert ids(late.all) == ["rule"]


def test_a_count_fires_when_it_is_reached_and_begins_anew() -> None:
    play = Play(policy(Count(on=on("error"), at_least=3, within=10)))
    found = [play.hear({"type": "error"}, after=1) for _ in range(7)]
    assert [ids(each) for each in found] == [[], [], ["rule"], [], [], ["rule"], []]
    assert play.hear({"type": "error"}, after=20) == []
    assert play.hear({"type": "error"}) == []
    assert ids(play.hear({"type": "error"})) == ["rule"]


# --- sums ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("meter", "at_least"), [("total_tokens", 100), ("output_audio_seconds", Decimal("4.5"))])
def test_what_was_used_is_matched_once(meter: Any, at_least: Any) -> None:
    play = Play(policy(Usage(meter=meter, at_least=Decimal(at_least))))
    assert play.end("resp_1", tokens=60, audio=60) == []
    assert ids(play.end("resp_2", tokens=60, audio=60)) == ["rule"]
    assert play.end("resp_3", tokens=60, audio=60) == []


def test_a_cost_that_is_not_known_is_no_cost() -> None:
    play = Play(policy(Usage(meter="cost_usd", at_least=Decimal(0))))
    assert play.end(tokens=60) == []


def test_what_the_call_costs_is_matched_once() -> None:
    prices = Prices.parse('[[model]]\nname = "gpt-realtime"\ntext = { in = 1, out = 10000 }', {})
    play = Play(policy(Usage(meter="cost_usd", at_least=Decimal("0.105"))), prices=prices)
    assert play.end("resp_1", tokens=10) == []
    assert ids(play.end("resp_2", tokens=1)) == ["rule"]
    assert play.end("resp_3", tokens=10) == []


def test_turns_of_the_user_are_matched_once() -> None:
    play = Play(policy(Turns(at_least=2)))
    assert play.turn("u1") == []
    assert ids(play.turn("u2")) == ["rule"]
    assert play.turn("u3") == []


def test_tampering_is_matched_by_the_keys_that_were_touched() -> None:
    play = Play(policy(Tampered(keys=None), id="any"), policy(Tampered(keys=("tools", "items")), id="tools"))
    assert ids(play.tamper("instructions")) == ["any"]
    assert [verdict.match.keys for verdict in play.tamper("tools", "voice")] == [("tools", "voice"), ("tools",)]
    assert play.hear({"type": "session.updated"}) == []


# --- conditions and templates -------------------------------------------------------------------


def test_a_condition_sees_event_call_and_match() -> None:
    when = "event.type == 'response.output_audio_transcript.delta' && call.turn_count > 0 && match.text == 'refund'"
    play = Play(policy(phrase("refund"), when=when))
    assert play.say("refund") == []
    play.turn("u1")
    assert ids(play.say("refund", item_id="b")) == ["rule"]


def test_the_call_is_only_looked_at_where_a_rule_needs_it() -> None:
    play = Play(
        policy(on("error"), id="a"),
        policy(on("error"), id="b", when="event.type != 'x'"),
        policy(on("session.*"), id="c", when="call.age_seconds >= 0.0"),
        policy(on("session.*"), Tag(tag="{{ call.labels.plan }}"), id="d"),
    )
    play.hear({"type": "error"})
    assert play.views == []
    assert play.hear({"type": "session.updated"})[1].actions == (Tag(tag="gold"),)
    assert len(play.views) == 1


def test_templates_are_filled_in_and_faults_are_told() -> None:
    play = Play(
        policy(phrase("refund"), Say(text="You said {{ match.text }}"), id="a"),
        policy(phrase("refund"), Send(event={"type": "x", "n": "{{ event.nothing }}"}), id="b"),
        policy(phrase("refund"), id="c", when="1 / 0 == 1"),
    )
    good, bad, failed = play.say("REFUND")
    assert good.actions == (Say(text="You said REFUND"),)
    assert (bad.acts, failed.acts) == (False, False)
    assert "event.nothing" in (bad.fault or "")
    assert "divide by zero" in (failed.fault or "")
    standings = play.active.standings()
    assert [(each.matched, each.acted, each.faults) for each in standings] == [(1, 1, 0), (1, 0, 1), (0, 0, 1)]
    assert [fault.call_id for fault in standings[1].last_faults] == ["rtc_1"]


def test_a_missing_field_is_no_fault() -> None:
    play = Play(policy(on("error"), when="event.error.code == 'x'"))
    assert play.hear({"type": "error"}) + play.hear({"type": "error", "error": None}) == []
    assert play.hear({"type": "error", "error": {"code": "x"}})[0].acts


def test_a_condition_takes_no_event_that_is_too_large() -> None:
    play = Play(
        policy(on("error"), id="a", when="event.type == 'error'"),
        policy(on("error"), id="b", when="call.turn_count == 0"),
    )
    first, second = play.hear({"type": "error", "x": "y" * 70_000})
    assert "too large" in (first.fault or "")
    assert second.acts


def test_a_fault_uses_up_no_limit_and_begins_no_cool_down() -> None:
    send = Send(event={"type": "x", "code": "{{ event.error.code }}"})
    play = Play(policy(on("error"), send, per_call=1, cooldown=60.0))
    assert [bool(verdict.fault) for _ in range(3) for verdict in play.hear({"type": "error"})] == [True] * 3
    again = Play(active=play.active)
    for age, frame in play.frames:
        again.recall(frame, age=age)
    again.engine.restore(past([(play.ages[id(each)], each) for each in play.all]))
    for each in (play, again):
        each.age = play.age
        assert each.hear({"type": "error", "error": {"code": "x"}})[0].acts
        assert each.hear({"type": "error", "error": {"code": "x"}}, after=100) == []


def test_ten_faults_of_a_policy_are_decisions() -> None:
    play = Play(policy(on("error"), when="1 / 0 == 1"))
    assert len([play.hear({"type": "error"}) for _ in range(30)]) == 30
    assert len(play.all) == 10
    assert play.active.standings()[0].faults == 30


# --- what a page can write ------------------------------------------------------------------------


def test_a_function_call_that_no_response_made_is_none() -> None:
    play = Play(policy(Tool(name="*", arguments={}), id="tool"), policy(UnansweredTool(seconds=3), id="unanswered"))
    item = {"id": "forged", "type": "function_call", "call_id": "c1", "name": "refund", "arguments": '{"all":true}'}
    for kind in ("conversation.item.added", "conversation.item.done"):
        assert play.hear({"type": kind, "item": {**item, "status": "completed"}}) == []
    assert play.wait(60) == []
    begun = {"type": "response.output_item.added", "response_id": "r", "item": {**item, "id": "made", "call_id": "c2"}}
    play.hear(begun)
    done = {"type": "conversation.item.done", "item": {**item, "id": "made", "call_id": "c2"}}
    assert ids(play.hear(done)) == ["tool"]
    assert ids(play.wait(60)) == ["unanswered"]
