"""Limits, modes and the loop breaker: what keeps a policy from acting."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from rtobserver.policy.active import DEMOTED, Active
from rtobserver.policy.limits import ACTIONS_PER_CALL
from rtobserver.policy.rules import After, AnswerTool, On, Policy, PolicySet, Tag, Tool
from rtobserver.policy.verdicts import Past
from tests.policy.play import Play, ids, past, phrase, policy

ERROR = {"type": "error", "error": {}}
ON_ERROR = On(types=("error",))


def test_a_policy_acts_so_often_in_a_call_and_no_more() -> None:
    play = Play(policy(ON_ERROR, per_call=2))
    assert [len(play.hear(ERROR)) for _ in range(4)] == [1, 1, 0, 0]
    other = Play(active=play.active)
    assert other.hear(ERROR)
    assert play.active.standings()[0].matched == 5
    assert play.active.standings()[0].acted == 3


def test_a_policy_that_acted_cools_down() -> None:
    play = Play(policy(ON_ERROR, cooldown=20.0))
    assert [len(play.hear(ERROR, after=after)) for after in (1, 19, 1, 19, 2)] == [1, 0, 1, 0, 1]


def test_limits_hold_in_observe_mode_too() -> None:
    play = Play(policy(ON_ERROR, mode="observe", per_call=1))
    (verdict,) = play.hear(ERROR)
    assert (verdict.acts, verdict.mode) == (False, "observe")
    assert play.hear(ERROR) == []
    assert (play.active.standings()[0].matched, play.active.standings()[0].would) == (2, 1)


def test_a_policy_acts_at_the_nth_turn_in_a_row_that_matches() -> None:
    play = Play(policy(phrase("no", speaker="user"), consecutive=3))
    acted = []
    for turn, text in enumerate(["no", "no", "yes", "no", "no", "no", "no", "no", "no"]):
        play.turn(f"u{turn}")
        acted.append(len(play.transcribe(f"u{turn}", text, " no no")) if text == "no" else 0)
    assert acted == [0, 0, 0, 0, 0, 1, 0, 0, 1]


def test_two_matches_in_one_turn_are_one_turn() -> None:
    play = Play(policy(ON_ERROR, consecutive=2))
    play.turn("u1")
    assert play.hear(ERROR) + play.hear(ERROR) + play.hear(ERROR) == []
    play.turn("u2")
    assert len(play.hear(ERROR) + play.hear(ERROR)) == 1


@pytest.mark.parametrize(
    ("arrivals", "acted"),
    [
        ([1, 2, 3], [0, 0, 1]),
        ([3, 1, 2], [0, 0, 1]),
        ([2, 3, 1, 4, 5, 6], [0, 0, 1, 0, 0, 1]),
        ([1, 2, 4, 5, 3, 6, 7], [0, 0, 0, 0, 1, 1, 0]),
        ([1, 3, 5, 7], [0, 0, 0, 0]),
    ],
)
def test_turns_in_a_row_are_those_that_were_said_in_a_row_however_late_their_words_come(
    arrivals: list[int], acted: list[int]
) -> None:
    rule = policy(phrase("no", speaker="user"), consecutive=3)
    play = Play(rule)
    for turn in range(1, 9):
        play.turn(f"u{turn}")
    assert [len(play.transcribe(f"u{turn}", final="no")) for turn in arrivals] == acted
    for cut in range(len(arrivals)):
        again = Play(rule)
        for age, frame in play.frames[: -len(arrivals) + cut]:
            again.recall(frame, age=age)
        assert [len(again.transcribe(f"u{turn}", final="no")) for turn in arrivals[cut:]] == acted[cut:]


def test_what_the_model_says_belongs_to_the_turn_in_which_it_began() -> None:
    play = Play(policy(phrase("sorry"), consecutive=2))
    told = []
    for turn in (1, 2):
        play.turn(f"u{turn}")
        item = {"id": f"a{turn}", "type": "message", "role": "assistant", "content": []}
        play.hear({"type": "response.output_item.added", "response_id": f"r{turn}", "item": item})
    play.turn("u3")
    for turn in (1, 2):
        told += play.say("sorry", item_id=f"a{turn}", response_id=f"r{turn}")
    assert ids(told) == ["rule"]


def test_a_canary_acts_in_its_part_of_the_calls_only() -> None:
    rule = policy(ON_ERROR, mode="canary", canary_percent=30)
    names = [f"rtc_{number}" for number in range(300)]
    acts = {}
    for name in names:
        (verdict,) = Play(rule, call_id=name).hear(ERROR)
        assert verdict.mode == "canary"
        acts[name] = verdict.acts
    chosen = {name: int(sha256(name.encode()).hexdigest()[:16], 16) % 100 < 30 for name in names}
    assert acts == chosen
    assert 60 <= sum(acts.values()) <= 120


@pytest.mark.parametrize(("percent", "acts"), [(0, False), (100, True)])
def test_a_canary_may_be_nobody_or_all(percent: int, acts: bool) -> None:
    assert Play(policy(ON_ERROR, mode="canary", canary_percent=percent)).hear(ERROR)[0].acts is acts


def test_a_policy_that_exceeds_its_rate_is_demoted_until_the_next_reload() -> None:
    rule = policy(ON_ERROR, per_minute=3)
    active = Active(PolicySet(policies=(rule,)))
    told: list[tuple[Policy, int]] = []
    active.demoted = lambda demoted, at: told.append((demoted, at))
    one, two = Play(active=active), Play(active=active)
    assert [each.acts for play in (one, two, one, two, one) for each in play.hear(ERROR)] == [True] * 3 + [False] * 2
    assert [verdict.mode for verdict in one.all] == ["enforce", "enforce", "observe"]
    assert told == [(rule, two.at)]
    assert (active.standings()[0].mode, active.standings()[0].demoted_at) == ("observe", two.at)
    active.replace(PolicySet(policies=(rule,)))
    assert one.hear(ERROR)[0].acts
    assert active.standings()[0].mode == "enforce"
    assert active.standings()[0].acted == 4


def test_rates_go_on_after_a_restart() -> None:
    active = Active(PolicySet(policies=(policy(ON_ERROR, per_minute=3), policy(ON_ERROR, id="b", per_minute=3))))
    play = Play(active=active)
    play.age = 70.0
    active.restore(
        [("rule", play.at - 1_000_000), ("rule", play.at - 65_000_000), ("rule", play.at), ("gone", play.at)]
    )
    assert [(each.policy.id, each.acts) for _ in range(2) for each in play.hear(ERROR)] == [
        *(("rule", True), ("b", True), ("rule", False), ("b", True)),
    ]


def test_what_other_replicas_did_counts_against_the_rate_and_what_is_ours_counts_once() -> None:
    rule = policy(ON_ERROR, per_minute=4)
    play = Play(rule)
    [one] = play.hear(ERROR)
    [two] = play.hear(ERROR)
    assert one.acts
    assert two.acts
    # of the first the store tells as well, of the second not yet
    play.active.learn([("rule", play.at - 20_000), ("rule", play.at - 59_000_000), ("gone", play.at)])
    assert play.active.rate(rule, play.at) == 3
    [fourth] = play.hear(ERROR)
    assert (fourth.acts, fourth.note) == (True, None)
    [fifth] = play.hear(ERROR)
    assert (fifth.acts, fifth.mode, fifth.note) == (False, "observe", DEMOTED)
    [sixth] = play.hear(ERROR)
    assert sixth.note is None, "it is said once"


def test_what_other_replicas_did_is_over_after_a_minute() -> None:
    play = Play(policy(ON_ERROR, per_minute=1))
    play.active.learn([("rule", play.at)])
    assert play.hear(ERROR, after=61)[0].acts


def test_a_demotion_by_another_replica_is_taken_over_and_told_once() -> None:
    rule, told = policy(ON_ERROR, per_minute=4), []
    play = Play(rule)
    play.active.demoted = lambda demoted, at: told.append((demoted, at))
    play.active.demote("rule", 5)
    play.active.demote("rule", 6)
    play.active.demote("gone", 6)
    assert told == [(rule, 5)]
    assert not play.hear(ERROR)[0].acts


def test_a_slow_policy_is_not_demoted() -> None:
    play = Play(policy(ON_ERROR, per_minute=3))
    assert all(verdict.acts for _ in range(20) for verdict in play.hear(ERROR, after=20))


def test_an_observing_policy_has_no_rate_and_no_rate_is_no_bound() -> None:
    play = Play(policy(ON_ERROR, mode="observe", per_minute=1), policy(ON_ERROR, id="b", per_minute=0))
    for _ in range(100):
        assert len(play.hear(ERROR)) == 2
    assert [each.demoted_at for each in play.active.standings()] == [None, None]


def test_the_actions_of_a_call_are_budgeted() -> None:
    two = (Tag(tag="a"), Tag(tag="b"))
    play = Play(policy(ON_ERROR, *two, per_minute=0), policy(ON_ERROR, id="other", per_minute=0))
    verdicts = [verdict for _ in range(ACTIONS_PER_CALL) for verdict in play.hear(ERROR)]
    assert sum(len(verdict.actions) for verdict in verdicts if verdict.acts) == ACTIONS_PER_CALL
    refused = [verdict for verdict in verdicts if not verdict.acts]
    assert sorted(ids(refused)) == ["other", "rule"]
    assert {verdict.fault for verdict in refused} == {"the call's budget of 200 actions is used up"}


def test_only_actions_that_were_done_use_up_the_budget_after_a_restart() -> None:
    three = (Tag(tag="a"), Tag(tag="b"), Tag(tag="c"))
    made = (
        policy(ON_ERROR, *three, id="canary", mode="canary", canary_percent=1, per_minute=0),
        policy(ON_ERROR, *three, id="reformed", mode="observe", per_minute=0),
        policy(phrase("sorry"), id="acts"),
    )
    play = Play(*made)
    for _ in range(80):
        play.hear(ERROR)
    assert len(play.all) == 160
    again = Play(*(replace(each, mode="enforce") if each.id == "reformed" else each for each in made))
    again.engine.restore(past((play.ages[id(each)], each) for each in play.all))
    assert [verdict.acts for verdict in again.say("sorry")] == [True]
    acted = Past(policy="gone", age=1.0, acted=True, actions=ACTIONS_PER_CALL)
    again.engine.restore([acted])
    assert [verdict.acts for verdict in again.say("sorry", item_id="i2")] == [False]


def test_a_policy_answers_one_function_call_after_another_in_a_turn() -> None:
    answer, again = AnswerTool(url="https://tools.example.com"), policy(Tool(name="*", arguments={}), id="tags")
    play = Play(policy(Tool(name="*", arguments={}), answer, id="tools", per_call=3), again)
    told = [ids(play.call_tool("c0", "look_up"))]
    for number in range(1, 5):
        arguments = {"call_id": f"c{number}", "name": "look_up", "arguments": "{}"}
        event = {"type": "response.function_call_arguments.done", "item_id": f"f{number}", "response_id": "r"}
        told.append(ids(play.hear({**event, **arguments}, causes=["tools", "tags"])))
    assert told == [["tools", "tags"], ["tools"], ["tools"], [], []]


def test_what_a_policy_caused_does_not_trigger_it_in_the_same_turn() -> None:
    play = Play(policy(phrase("sorry"), id="a"))
    assert play.say("sorry", item_id="i1")
    assert play.say("sorry", item_id="i2", causes=["a"]) == []
    assert play.say("sorry", item_id="i3")
    play.turn("u1")
    (verdict,) = play.say("sorry", item_id="i4", causes=["a", "b"])
    assert verdict.causes == {"a", "b"}
    assert play.say("sorry", item_id="i5", causes=["a"]) == []


def test_two_policies_do_not_trigger_each_other_for_ever() -> None:
    play = Play(policy(phrase("ping"), id="a"), policy(phrase("pong"), id="b"))
    causes: frozenset[str] = frozenset()
    acted = []
    for number in range(20):
        verdicts = play.say("ping" if number % 2 == 0 else "pong", item_id=f"i{number}", causes=causes)
        if not verdicts:
            break
        acted += ids(verdicts)
        causes = verdicts[0].causes
    assert acted == ["a", "b"]


def test_a_policy_does_not_give_itself_a_turn() -> None:
    play = Play(policy(On(types=("conversation.item.added",)), id="a"))
    item = {"id": "u", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    added = {"type": "conversation.item.added", "item": item}
    assert play.hear(added)
    for number in range(5):
        assert play.hear({**added, "item": {**item, "id": f"rto_{number}"}}, causes=["a"]) == []
    assert play.hear({**added, "item": {**item, "id": "v"}})


def test_timers_of_two_policies_decide_in_file_order() -> None:
    play = Play(policy(After(seconds=5), id="a"), policy(After(seconds=3), id="b"), policy(After(seconds=5), id="c"))
    assert ids(play.wait(10)) == ["b", "a", "c"]


def test_a_policy_does_not_call_itself_while_the_recording_is_paused() -> None:
    play = Play(policy(phrase("ping", speaker="user"), id="a", per_minute=0))
    item = {"id": "u", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "ping"}]}
    assert ids(play.conceal({"type": "conversation.item.added", "item": item})) == ["a"]
    for number in range(5):
        mine = {"type": "conversation.item.added", "item": {**item, "id": f"rto_{number}"}}
        assert play.conceal(mine, causes=["a"]) == []
    play.turn("v")
    assert ids(play.conceal({"type": "conversation.item.added", "item": {**item, "id": "w"}})) == ["a"]
