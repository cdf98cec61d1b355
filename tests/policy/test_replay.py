"""Policies run over a recording decide on its clock, and know what came of their own commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Decided
from rtobserver.policy.recordings import Recorded
from rtobserver.policy.replay import Replay, Watched, decided, uncapped
from rtobserver.policy.rules import Limit, Policy, PolicySet
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import COMMAND, EVENT, GAP, JSON, OVERLAP
from rtobserver.realtime.times import rfc3339
from tests.conversations.played import Talk
from tests.realtime.script import START_US

TAG = (rules.Tag(tag="seen"),)
SUBJECT = Subject(call_id="rtc_1", profile="default", model="gpt-realtime", started_at=START_US)


def policy(id_: str, trigger: rules.Trigger, *actions: rules.Action, **values: Any) -> Policy:
    return Policy(id=id_, trigger=trigger, actions=actions or TAG, **values)


def said(*phrases: str, speaker: rules.Speaker = "assistant") -> rules.Phrase:
    return rules.Phrase(speaker=speaker, phrases=phrases)


def line(seq: int, ms: int, frame: bytes, *, kind: int = EVENT, flags: int = JSON, epoch: int = 1) -> Recorded:
    body = json.loads(frame)
    offset = ms * 1000
    return Recorded(epoch, seq, kind, START_US + offset, offset, body.get("type"), body.get("event_id"), flags, frame)


def lines(play: Callable[[Talk], object]) -> list[Recorded]:
    talk = Talk()
    play(talk)
    return [line(seq, ms, frame) for seq, (ms, frame) in enumerate(talk.happened, 1) if frame is not None]


def replay(
    policies: Iterable[Policy], entries: Iterable[Recorded], *, until: float = 0.0, **values: Any
) -> list[Decided]:
    running = Replay(Active(PolicySet(policies=tuple(policies))), SUBJECT, CallState(), **values)
    found = [ruling for entry in entries for ruling in running.take(entry)]
    return [decided(each) for each in (*found, *running.pass_time(until))]


def told(found: list[Decided]) -> list[tuple[str, str]]:
    return [(each.policy, str(each.position)) for each in found]


def an_answer(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    talk.at(1100).creates("R1")
    talk.at(1400).says("R1", "S1", "U1", "You get your money back today")
    talk.at(2000).ends("R1")


def test_a_decision_names_the_delta_that_completed_it_and_what_was_said() -> None:
    entries = lines(an_answer)
    [found] = replay([policy("refund", said("money back"), rules.CancelResponse(), *TAG)], entries)
    at = next(entry for entry in entries if (found.position.epoch, found.position.seq) == (entry.epoch, entry.seq))
    assert json.loads(at.payload)["delta"] == " back"
    assert (found.trigger, found.match, found.actions) == ("phrase", "money back", ("cancel_response", "tag"))
    assert (found.mode, found.acts, found.would_act) == ("observe", False, True)


def test_timers_decide_at_the_entry_before_them_and_at_their_own_age() -> None:
    entries = [line(1, 0, b'{"type": "a"}'), line(2, 5_000, b'{"type": "b"}'), line(3, 30_000, b'{"type": "c"}')]
    rules_ = [policy("idle", rules.Idle(seconds=20)), policy("old", rules.After(seconds=4))]
    running = Replay(Active(PolicySet(policies=tuple(rules_))), SUBJECT, CallState())
    found = [ruling for entry in entries for ruling in running.take(entry)]
    assert [(each.verdict.policy.id, str(each.place), each.age) for each in found] == [
        ("old", "1:1", 4.0),
        ("idle", "1:2", 25.0),
    ]
    assert running.pass_time(49.9) == []
    assert told([decided(each) for each in running.pass_time(50.0)]) == [("idle", "1:3")]


def test_timers_decide_until_it_was_known_that_the_call_had_ended() -> None:
    rules_ = (policy("old", rules.After(seconds=4)), policy("older", rules.After(seconds=6)))
    for moments, expected in ({1: [4.1]}, ["old"]), ({}, []):
        watched = Watched(moments=moments)
        running = Replay(Active(PolicySet(policies=rules_)), SUBJECT, CallState(), watched=watched)
        running.take(line(1, 0, b'{"type": "a"}'))
        found = running.pass_time(running.over_at(3.9))
        assert [each.verdict.policy.id for each in found] == expected


def test_what_a_predecessor_still_received_is_not_replayed() -> None:
    entries = [line(1, 0, b'{"type": "a"}'), line(2, 1, b'{"type": "a"}', flags=JSON | OVERLAP)]
    assert told(replay([policy("a", rules.On(types=("a",)))], entries)) == [("a", "1:1")]


def test_gaps_and_commands_are_no_events_but_have_positions() -> None:
    entries = [
        line(1, 0, b'{"type": "a"}'),
        line(2, 1_000, b'{"reason": "reattach"}', kind=GAP),
        line(3, 2_000, b'{"type": "response.cancel", "event_id": "rto_1_3"}', kind=COMMAND),
    ]
    rules_ = [policy("any", rules.On(types=("*",))), policy("idle", rules.Idle(seconds=10))]
    assert told(replay(rules_, entries, until=60)) == [("any", "1:1"), ("idle", "1:3")]


def own_speech(policy_metadata: str | None) -> list[Recorded]:
    """The model says the forbidden word, a policy has it say something else, and that has the word too."""
    metadata = None if policy_metadata is None else {"rtobserver": policy_metadata}
    talk = Talk()
    an_answer(talk)
    asked = {"type": "response.create", "event_id": "rto_1_40", "response": {"metadata": metadata}}
    talk.at(2100).send("response.created", response={"id": "R2", "metadata": metadata, "conversation_id": "conv_1"})
    talk.at(2200).says("R2", "S2", "S1", "There is no money back")
    entries = [line(seq, ms, frame) for seq, (ms, frame) in enumerate(talk.happened, 1) if frame is not None]
    place = next(index for index, entry in enumerate(entries) if b'"R2"' in entry.payload)
    command = line(9_999, 2050, json.dumps(asked).encode(), kind=COMMAND)
    return [*entries[:place], command, *entries[place:]]


def test_what_a_policy_had_said_does_not_trigger_it_again_in_the_turn() -> None:
    refund = policy("refund", said("money back"), rules.Say(text="No."), mode="enforce")
    other = policy("other", said("money back"))
    found = replay([refund, other], own_speech("refund"))
    assert [each.policy for each in found] == ["refund", "other", "other"]
    # the same from the store's rows, where a command says nothing of its policy
    found = replay([refund, other], own_speech(None), commands={"rto_1_40": "refund"})
    assert [each.policy for each in found] == ["refund", "other", "other"]
    # and if nobody of ours asked for it, it is the model's own
    assert [each.policy for each in replay([refund], own_speech(None))] == ["refund", "refund"]


def test_a_page_cannot_free_itself_by_writing_our_metadata() -> None:
    refund = policy("refund", said("money back"), rules.Say(text="No."), mode="enforce")
    entries = [entry for entry in own_speech("refund") if entry.kind != COMMAND]
    assert [each.policy for each in replay([refund], entries)] == ["refund", "refund"]


def test_a_session_that_somebody_changed_is_tampered_with_and_ours_is_not() -> None:
    minted = {"type": "realtime", "instructions": "Be kind."}
    ours = {"type": "session.update", "event_id": "rto_1_2", "session": {"instructions": "Be brief."}}
    entries = [
        line(1, 0, b'{"type": "session.created", "session": {"instructions": "Be kind."}}'),
        line(2, 10, json.dumps(ours).encode(), kind=COMMAND),
        line(3, 20, b'{"type": "session.updated", "session": {"instructions": "Be brief."}}'),
        line(4, 30, b'{"type": "session.updated", "session": {"instructions": "Be rude."}}'),
    ]
    tampered = policy("watch", rules.Tampered(keys=None), rules.RestoreSession())
    assert told(replay([tampered], entries, session=minted)) == [("watch", "1:4")]
    elsewhere = policy("watch", rules.Tampered(keys=("tools",)))
    assert replay([elsewhere], entries, session=minted) == []


def test_tags_of_the_recording_are_seen_by_conditions() -> None:
    entries = [
        line(1, 0, b'{"type": "a"}'),
        line(2, 1, b'{"type": "tags", "add": ["vip"], "remove": []}', kind=COMMAND),
        line(3, 2, b'{"type": "a"}'),
    ]
    vip = policy("vip", rules.On(types=("a",)), when='"vip" in call.tags')
    assert told(replay([vip], entries)) == [("vip", "1:3")]


def test_limits_hold_and_the_cap_on_all_calls_can_be_left_out() -> None:
    entries = [line(seq, seq * 1000, b'{"type": "a"}') for seq in range(1, 11)]
    capped = policy("a", rules.On(types=("a",)), mode="enforce", limit=Limit(per_minute=3, cooldown=2))
    modes = [each.mode for each in replay([capped], entries)]
    assert modes == ["enforce", "enforce", "enforce", "observe", "observe"]
    modes = [each.mode for each in replay(uncapped(PolicySet(policies=(capped,))).policies, entries)]
    assert modes == ["enforce"] * 5


def test_a_fault_would_not_act() -> None:
    broken = policy("a", rules.On(types=("a",)), when="event.number / 0 == 1")
    [found] = replay([broken], [line(1, 0, b'{"type": "a", "number": 1}')])
    assert (found.acts, found.would_act) == (False, False)
    assert found.fault is not None
    assert "condition" in found.fault


def test_what_became_due_while_nobody_observed_is_decided_after_the_take_over() -> None:
    def gap(seconds: int) -> bytes:
        return json.dumps({"reason": "takeover", "from": rfc3339(START_US + seconds * 1_000_000)}).encode()

    for left, place in ((4, "2:1"), (6, "1:1")):
        entries = [
            line(1, 0, b'{"type": "a"}'),
            line(1, 10_000, gap(left), kind=GAP, epoch=2),
            line(2, 11_000, b'{"type": "a"}', epoch=2),
        ]
        assert told(replay([policy("old", rules.After(seconds=5))], entries)) == [("old", place)]


def test_decisions_at_one_entry_stand_in_the_order_of_the_file() -> None:
    entries = [line(1, 0, b'{"type": "session.updated", "session": {"instructions": "Be rude."}}')]
    watch = policy("watch", rules.Tampered(keys=None))
    seen = policy("seen", rules.On(types=("session.*",)))
    for order in ([watch, seen], [seen, watch]):
        found = replay(order, entries, session={"instructions": "Be kind."})
        assert [each.policy for each in found] == [each.id for each in order]
