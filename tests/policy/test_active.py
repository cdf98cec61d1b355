"""Policies are replaced while calls go on."""

from __future__ import annotations

import pytest

from rtobserver.policy.active import Active
from rtobserver.policy.cel import ConditionError
from rtobserver.policy.phrases import PhraseError
from rtobserver.policy.rules import Absent, After, Count, Idle, On, Policy, PolicySet, Regex, Tag
from tests.policy.play import Play, ids, phrase, policy

ERROR = {"type": "error", "error": {}}
ON_ERROR = On(types=("error",))


def replace(play: Play, *policies: Policy) -> None:
    play.active.replace(PolicySet(policies=policies, hash="f" * 16))


def test_a_live_call_goes_on_with_the_new_set() -> None:
    play = Play(policy(ON_ERROR))
    replace(play, policy(On(types=("session.*",)), id="new"))
    assert play.hear(ERROR) == []
    (verdict,) = play.hear({"type": "session.updated"})
    assert (verdict.policy.id, verdict.policy_set) == ("new", "f" * 16)
    replace(play)
    assert not play.engine.owes()
    assert play.engine.wake_at() is None
    assert play.tamper("tools") + play.wait(100) == []


def test_limits_of_a_policy_outlive_a_reload() -> None:
    play = Play(policy(ON_ERROR, per_call=2, cooldown=10.0))
    assert play.hear(ERROR)
    replace(play, policy(ON_ERROR, Tag(tag="other"), per_call=2, cooldown=10.0))
    assert play.hear(ERROR) == []
    assert play.hear(ERROR, after=10)
    assert play.hear(ERROR, after=10) == []
    assert play.active.standings()[0].acted == 2


def test_a_phrase_that_is_being_said_is_found_after_a_reload() -> None:
    play = Play(policy(phrase("money back"), id="a"), policy(phrase("now", whole=True), id="b"))
    assert play.say("money ba") == []
    replace(
        play, policy(ON_ERROR, id="z"), policy(phrase("now", whole=True), id="b"), policy(phrase("money back"), id="a")
    )
    (verdict,) = play.say("ck no")
    assert (verdict.policy.id, verdict.match.text) == ("a", "money back")
    replace(play, policy(phrase("now", whole=True), id="b"), policy(phrase("money back"), id="a"))
    assert ids(play.say("w", " money back")) == ["b"]


def test_a_new_policy_hears_what_is_said_from_then_on() -> None:
    play = Play(policy(ON_ERROR))
    play.say("refund one ")
    replace(
        play, policy(phrase("refund one", "two"), id="new"), policy(Regex(speaker="assistant", pattern="t.o"), id="re")
    )
    assert ids(play.say("two")) == ["new", "re"]


def test_timers_of_a_policy_that_stays_go_on() -> None:
    play = Play(policy(After(seconds=5)), policy(Idle(seconds=3), id="idle"))
    assert ids(play.wait(6)) == ["idle", "rule"]
    replace(play, policy(After(seconds=5), Tag(tag="other")), policy(Idle(seconds=3), id="idle"))
    assert play.wait(100) == []
    replace(play, policy(After(seconds=50)))
    assert ids(play.wait(1)) == ["rule"]


def test_counting_goes_on_over_a_reload() -> None:
    rule = policy(Count(on=ON_ERROR, at_least=2, within=10))
    play = Play(rule)
    assert play.hear(ERROR) == []
    replace(play, rule, policy(ON_ERROR, id="other"))
    assert ids(play.hear(ERROR)) == ["rule", "other"]


def test_a_policy_about_what_is_absent_begins_with_the_next_call() -> None:
    absent = policy(Absent(what=phrase("recorded"), within=30), id="absent")
    play = Play(policy(ON_ERROR))
    play.say("this is recorded")
    replace(play, absent)
    assert play.wait(100) == []
    assert ids(Play(active=play.active).wait(31)) == ["absent"]


def test_a_set_that_cannot_be_compiled_leaves_the_old_one() -> None:
    rule = policy(ON_ERROR)
    active = Active(PolicySet(policies=(rule,), hash="a" * 16))
    with pytest.raises(PhraseError):
        active.replace(PolicySet(policies=(policy(phrase("?!")),)))
    with pytest.raises(ConditionError):
        active.replace(PolicySet(policies=(policy(ON_ERROR, when="("),)))
    assert active.generation == 0
    assert active.policies.hash == "a" * 16
    assert Play(active=active).hear(ERROR)[0].acts


def test_standings_are_in_file_order_and_keep_their_counts() -> None:
    active = Active(PolicySet(policies=(policy(ON_ERROR, id="a"), policy(ON_ERROR, id="b"))))
    Play(active=active).hear(ERROR)
    active.replace(PolicySet(policies=(policy(ON_ERROR, id="c"), policy(ON_ERROR, id="b"))))
    assert [(each.policy.id, each.matched) for each in active.standings()] == [("c", 0), ("b", 1)]


def test_profiles_that_nobody_configured_cost_no_memory() -> None:
    active = Active(PolicySet(policies=(policy(ON_ERROR),)))
    assert all(Play(active=active, profile=f"p{number}").hear(ERROR) for number in range(600))


def test_types_of_events_that_nobody_knows_cost_no_memory() -> None:
    play = Play(policy(On(types=("x*",))))
    for number in range(10_000):
        assert len(play.hear({"type": f"{'xy'[number % 2]}{number}"})) == (number % 2 == 0)
    assert len(play.active.book("support").plans) <= 4097
