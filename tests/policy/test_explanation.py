"""Each term that a policy depends on is told with its value, whatever stopped the policy first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rtobserver.config.sections import Secret
from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Place
from rtobserver.policy.explanation import Explainer, Explanation, NoSuchEntry, canary_number
from rtobserver.policy.recordings import Recorded
from rtobserver.policy.replay import Replay, Watched
from rtobserver.policy.rules import Limit, Policy, PolicySet
from rtobserver.realtime.call import CallState
from tests.conversations.played import Talk
from tests.policy.test_replay import SUBJECT, an_answer, line, lines, own_speech, policy, said

TEN = [line(seq, seq * 1000, b'{"type": "a", "number": %d}' % seq) for seq in range(1, 11)]
ON_A = rules.On(types=("a",))


def explain(
    policies: list[Policy], entries: list[Recorded], seq: int, *, age: float | None = None, **values: Any
) -> dict[str, Explanation]:
    def begin(active: Active) -> Replay:
        return Replay(active, SUBJECT, CallState(), **values)

    explainer = Explainer(PolicySet(policies=tuple(policies)), begin, Place(1, seq))
    for entry in entries:
        explainer.take(entry)
    return {each.policy.id: each for each in explainer.finish(age)}


def term(each: Explanation, name: str) -> Any:
    return next(found for found in each.terms if found.name == name)


def place_of(entries: list[Recorded], text: bytes) -> int:
    return next(entry.seq for entry in entries if text in entry.payload)


def test_a_policy_that_decides_shows_what_it_matched_and_its_actions_filled_in() -> None:
    refund = policy("refund", said("money back"), rules.CancelResponse(), rules.Tag(tag="by-{{ call.profile }}"))
    entries = lines(an_answer)
    at = place_of(entries, b'"delta": " back"')
    [found] = explain([refund], entries, at).values()
    assert found.verdict == "would act, but only observes"
    assert found.decided is not None
    assert found.decided.position == Place(1, at)
    trigger = term(found, "trigger")
    assert trigger.holds is True
    assert "assistant has said 'You get your money back' in S1" in trigger.says
    assert trigger.values["match.text"] == "money back"
    assert list(found.actions) == [{"action": "cancel_response"}, {"action": "tag", "tag": "by-default"}]


def test_a_word_before_the_end_is_told_as_what_was_said_so_far() -> None:
    entries = lines(an_answer)
    [found] = explain([policy("refund", said("money back"))], entries, place_of(entries, b'"delta": " money"')).values()
    assert found.verdict == "does nothing: trigger"
    assert "'You get your money'" in term(found, "trigger").says
    assert found.actions == ()


def test_each_part_of_a_condition_has_its_value() -> None:
    picky = policy("a", ON_A, when='event.number > 3 && (call.profile == "x" || event.missing == 1)')
    [found] = explain([picky], TEN, 5).values()
    assert found.verdict == "does nothing: when"
    assert term(found, "when").values == {"event.number": 5, "call.profile": "default"}
    parts = [(each.says, each.holds) for each in found.terms if each.name == "  part"]
    assert parts == [("event.number > 3", True), ('(call.profile == "x" || event.missing == 1)', False)]


def test_a_condition_that_fails_is_told_as_a_fault() -> None:
    [found] = explain([policy("a", ON_A, when="event.number / 0 == 1")], TEN, 5).values()
    assert found.verdict.startswith("fault: the condition failed")
    assert "fault: " in term(found, "when").says


def test_limits_tell_what_is_used_and_what_is_left() -> None:
    bound = policy("a", ON_A, limit=Limit(per_call=2, cooldown=3))
    before = {seq: explain([bound], TEN, seq)["a"] for seq in (1, 3, 4, 9)}
    assert before[1].verdict == before[4].verdict == "would act, but only observes"
    assert before[3].verdict == "does nothing: cooldown"
    assert term(before[3], "cooldown").values == {"left_seconds": 1.0}
    assert term(before[3], "per_call").values == {"used": 1, "left": 1}
    assert before[9].verdict == "does nothing: per_call"
    assert term(before[9], "per_call").says == "2 of 2 in this call are used"
    assert term(before[9], "cooldown").holds is True


def test_turns_in_a_row_are_counted() -> None:
    def three_turns(talk: Talk) -> None:
        for turn in range(1, 4):
            talk.types(f"U{turn}", "again")

    entries = lines(three_turns)
    bound = policy("a", said("again", speaker="user"), limit=Limit(consecutive=3))
    second, third = (explain([bound], entries, place_of(entries, f'"U{turn}"'.encode()))["a"] for turn in (2, 3))
    assert second.verdict == "does nothing: consecutive"
    assert term(second, "consecutive").says == "2 of 3 turns in a row matched"
    assert third.verdict == "would act, but only observes"
    assert term(third, "consecutive").holds is True


def test_profiles_and_canaries_say_where_the_call_stands() -> None:
    number = canary_number(SUBJECT.call_id)
    elsewhere = policy("elsewhere", ON_A, profiles=("support",))
    within = policy("within", ON_A, mode="canary", canary_percent=number + 1)
    outside = policy("outside", ON_A, mode="canary", canary_percent=max(number, 1))
    found = explain([elsewhere, within, outside], TEN, 2)
    assert found["elsewhere"].verdict == "does nothing: profile"
    assert term(found["elsewhere"], "trigger").holds is True
    assert found["within"].verdict == "acts"
    assert found["outside"].verdict == "would act, outside the canary"
    assert term(found["outside"], "canary").values["number"] == number


def test_what_a_policy_caused_itself_is_told_as_a_loop() -> None:
    refund = policy("refund", said("money back"), rules.Say(text="No."), mode="enforce")
    entries = own_speech("refund")
    at = next(entry.seq for entry in entries if b'"S2"' in entry.payload and b'" back"' in entry.payload)
    [found] = explain([refund], entries, at).values()
    assert found.verdict == "does nothing: loop"
    assert "the entry came of refund" in term(found, "loop").says
    assert term(found, "trigger").holds is True


TIMED: list[tuple[rules.Trigger, str]] = [
    (rules.After(seconds=5), "the call is 3.000 s old"),
    (rules.Idle(seconds=5), "the last event came 0.000 s before"),
    (rules.DeadAir(seconds=5), "there was no sound yet"),
    (rules.UnansweredTool(seconds=5), "no function call waits for an output"),
    (rules.Usage(meter="total_tokens", at_least=5), "total_tokens is 0"),  # type: ignore[arg-type]
    (rules.Usage(meter="cost_usd", at_least=5), "cost_usd is not known"),  # type: ignore[arg-type]
    (rules.Turns(at_least=5), "the call has 0 turns"),
    (rules.Tampered(keys=None), "nothing was tampered with"),
    (rules.Tool(name="*", arguments={}), "the entry is about no function call"),
    (rules.Regex(speaker="user", pattern="x"), "the entry is about nothing that was said"),
    (rules.Count(on=ON_A, at_least=5, within=2), "3 of 5 came in the last 2 s"),
    (rules.Absent(what=rules.On(types=("b",)), within=60), "it has not happened"),
    (rules.Absent(what=ON_A, within=60), "it happened at 1:1, 1.000 s into the call"),
]


@pytest.mark.parametrize(("trigger", "says"), TIMED, ids=lambda each: each if isinstance(each, str) else "")
def test_each_trigger_says_what_it_sees(trigger: rules.Trigger, says: str) -> None:
    [found] = explain([policy("a", trigger)], TEN, 3).values()
    assert found.verdict == "does nothing: trigger"
    assert says in term(found, "trigger").says


def test_a_function_call_and_its_wait_are_seen() -> None:
    def play(talk: Talk) -> None:
        talk.creates("R1")
        talk.at(1000).calls_tool("R1", "F1", None, "get_time", "call_1", '{"zone": "UTC"}')
        talk.at(3000).send("rate_limits.updated")

    entries = lines(play)
    asked = policy("asked", rules.Tool(name="get_*", arguments={"zone": "CET"}))
    slow = policy("slow", rules.UnansweredTool(seconds=5))
    done = place_of(entries, b"function_call_arguments.done")
    assert 'get_time({"zone": "UTC"})' in term(explain([asked], entries, done)["asked"], "trigger").says
    assert "call_1 waits for 2.000 s" in term(explain([slow], entries, entries[-1].seq)["slow"], "trigger").says


def test_what_a_timer_decides_after_an_entry_is_explained_at_that_entry() -> None:
    idle = policy("idle", rules.Idle(seconds=0.5), rules.Tag(tag="late"))
    [found] = explain([idle], TEN, 3).values()
    assert found.verdict == "would act, but only observes"
    assert found.decided is not None
    assert found.decided.position == Place(1, 3)
    assert explain([idle], TEN, 10)["idle"].verdict == "does nothing: trigger"
    assert explain([idle], TEN, 10, age=11.0)["idle"].verdict == "would act, but only observes"


def test_secrets_are_not_shown() -> None:
    answers = rules.AnswerTool(url="https://tools.example.com", secret=Secret("canary"))
    tool = policy("tool", rules.Tool(name="*", arguments={}), answers)

    def play(talk: Talk) -> None:
        talk.calls_tool("R1", "F1", None, "get_time", "call_1", "{}")

    entries = lines(play)
    [found] = explain([tool], entries, place_of(entries, b"function_call_arguments.done")).values()
    assert found.actions[0]["secret"] == "***"
    assert "canary" not in json.dumps(found.actions)


def test_what_the_guard_of_restorations_leaves_out_is_not_said_to_be_done() -> None:
    rude = [b'{"type": "session.updated", "session": {"instructions": "Be rude %d."}}' % each for each in range(4)]
    entries = [line(seq, seq * 1000, frame) for seq, frame in enumerate(rude, 1)]
    actions = (rules.RestoreSession(), rules.Tag(tag="x"), rules.HangUp())
    watch = policy("watch", rules.Tampered(keys=None), *actions, mode="enforce")
    verdicts = []
    for seq in (1, 4):
        [found] = explain([watch], entries, seq, session={"instructions": "Be kind."}).values()
        assert found.decided is not None
        verdicts.append((found.verdict, found.decided.actions))
    assert verdicts == [
        ("acts, but for hang_up: the guard of restorations", ("restore_session", "tag")),
        ("acts, but for restore_session: the guard of restorations", ("tag", "hang_up")),
    ]


def test_an_entry_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoSuchEntry, match="there is no entry at 1:99"):
        explain([policy("a", ON_A)], TEN, 99)


def test_a_template_without_a_value_is_a_fault_of_its_action() -> None:
    broken = policy("a", ON_A, rules.Tag(tag="{{ event.missing }}"))
    [found] = explain([broken], TEN, 2).values()
    assert found.verdict.startswith("fault: ")
    assert "event.missing" in str(found.actions[0]["fault"])


def test_values_are_those_before_what_is_done_about_the_entry() -> None:
    once = policy("once", ON_A, rules.Tag(tag="seen"), when="!('seen' in call.tags)", mode="enforce")
    later = policy("later", ON_A, rules.Tag(tag="x"), when="'seen' in call.tags", mode="enforce")
    first = explain([once, later], TEN, 1)
    assert first["once"].verdict == "acts"
    assert term(first["once"], "when").holds is True
    assert term(first["once"], "when").values == {"call.tags": []}
    assert first["later"].verdict == "does nothing: when"
    assert term(first["later"], "when").values == {"call.tags": []}, "all decide before anything is done"
    second = explain([once, later], TEN, 2)
    assert second["once"].verdict == "does nothing: when"
    assert term(second["once"], "when").values == term(second["later"], "when").values == {"call.tags": ["seen"]}
    assert second["later"].verdict == "acts"


def test_a_timer_sees_the_call_as_it_was_when_the_timer_decided() -> None:
    old = policy("old", rules.After(seconds=2.5), rules.Tag(tag="after {{ call.age_seconds }}"), mode="enforce")
    known = Watched(moments={1: [2.500239]})
    found = explain([old], TEN, 2, watched=known)["old"]
    assert found.verdict == "acts"
    assert found.actions[0]["tag"] == "after 2.500239"
    assert term(found, "trigger").values["call.age_seconds"] == 2.500239
    assert explain([old], TEN, 2)["old"].actions[0]["tag"] == "after 2.5"


def test_a_function_call_shows_how_long_it_waited_when_that_was_decided() -> None:
    def play(talk: Talk) -> None:
        talk.creates("R1")
        talk.at(1000).calls_tool("R1", "F1", None, "get_time", "call_1", "{}")
        talk.at(3000).send("rate_limits.updated")

    entries = lines(play)
    slow = policy("slow", rules.UnansweredTool(seconds=0.3), when="event.type == 'x' || call.age_seconds > 1.2")
    at = [entry.seq for entry in entries if entry.offset_us < 1_300_000][-1]
    found = explain([slow], entries, at)["slow"]
    assert found.verdict == "would act, but only observes"
    assert "call_1 waits for 0.300 s" in term(found, "trigger").says
    assert "event.type" not in term(found, "when").values, "a timer has no event"
