"""What is done about tampering, and what an epoch learns from the one before, told as plays."""

from __future__ import annotations

from typing import Any

from rtobserver.observation.effects import AskTool, HangUp
from rtobserver.observation.plan import Resumption
from rtobserver.observation.watch import Watch
from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.guard import GUARD
from rtobserver.policy.rules import Limit, Policy
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import COMMAND, EVENT
from rtobserver.realtime.events import Event, read
from tests.observation.play import SUBJECT, Play
from tests.observation.test_enforcement import (
    CALLS,
    MONEY,
    SESSION,
    WEATHER,
    begin,
    call_tool,
    done,
    play,
    policy,
    say,
    types,
)

ANY = rules.Tampered(keys=None)
RESTORES = policy(rules.RestoreSession(), rules.HangUp(), trigger=ANY)


def overwrite(played: Play, instructions: str = "Be rude.") -> None:
    played.frame({"type": "session.updated", "session": {**SESSION, "instructions": instructions}})


def test_tampering_is_flagged_on_the_call_whatever_policies_there_are() -> None:
    played = play()
    overwrite(played)
    overwrite(played)
    assert played.columns["tampered"] is True
    assert not played.decisions
    assert sum("tampered" in change.values for change in played.all if hasattr(change, "values")) == 1


def test_the_articles_page_is_not_flagged() -> None:
    played = play(RESTORES)
    item = {"id": "item_1", "type": "message", "role": "user", "status": "completed", "content": []}
    played.frame({"type": "conversation.item.added", "item": item})
    begin(played)
    done(played)
    assert "tampered" not in played.columns
    assert not played.decisions


def test_an_overwritten_session_is_restored_and_a_second_telling_of_it_is_not_answered_twice() -> None:
    played = play(RESTORES)
    overwrite(played)
    overwrite(played)
    [sent] = played.sent
    assert (sent["type"], sent["session"]["instructions"]) == ("session.update", "Be kind.")
    played.acknowledge(sent["event_id"])
    [decision] = played.decisions
    assert (decision.outcome, decision.actions) == ("done", ("restore_session",))
    assert decision.detail == "hang_up waits until the session was restored 3 times"
    assert decision.trigger == "tampered"
    assert not played.of(HangUp)


def test_whoever_goes_on_overwriting_is_hung_up_after_the_guard() -> None:
    played = play(RESTORES)
    for number in range(GUARD):
        overwrite(played, f"Be rude {number}.")
        played.acknowledge(played.sent[-1]["event_id"])
    assert len(played.sent) == GUARD
    assert not played.of(HangUp)
    overwrite(played)
    assert len(played.sent) == GUARD
    assert len(played.of(HangUp)) == 1
    played.hung_up(True)
    played.close()
    last = played.decisions[-1]
    assert (last.acted, last.outcome, last.actions) == (True, "done", ("hang_up",))
    assert "not restored again" in str(last.detail)
    assert played.ending == ("ended", "policy")


def test_changes_within_one_round_trip_are_restored_once_and_count_once() -> None:
    played = play(RESTORES)
    for number in range(GUARD + 1):
        overwrite(played, f"Be rude {number}.")
    assert types(played) == ["session.update"]
    assert not played.of(HangUp)
    assert [row.actions for row in played.decisions] == [("restore_session",), *[()] * GUARD]
    played.acknowledge(played.sent[0]["event_id"])
    assert {row.outcome for row in played.decisions} == {"done"}
    overwrite(played)
    assert types(played) == ["session.update"] * 2
    after = taken_over(played, RESTORES)
    overwrite(after, "Be rude again.")
    assert types(after) == ["session.update"]
    assert not after.of(HangUp)


def test_a_restoration_of_which_nobody_heard_does_not_keep_the_next_from_being_sent() -> None:
    played = play(RESTORES)
    overwrite(played)
    played.close()
    played.attach()
    overwrite(played)
    assert types(played) == ["session.update"] * 2


def test_a_policy_that_only_restores_gives_up_at_the_guard_and_says_so() -> None:
    played = play(policy(rules.RestoreSession(), trigger=ANY))
    for number in range(GUARD + 1):
        overwrite(played, f"Be rude {number}.")
        if number < GUARD:
            played.acknowledge(played.sent[-1]["event_id"])
    assert len(played.sent) == GUARD
    assert (played.decisions[-1].acted, played.decisions[-1].outcome) == (False, "fault")


def test_another_policy_may_warn_while_one_restores_within_its_limit() -> None:
    restores = policy(rules.RestoreSession(), trigger=ANY, id_="restores", limit=Limit(per_call=1))
    warns = policy(rules.Tag(tag="tampered"), trigger=rules.Tampered(keys=("instructions",)), id_="warns")
    played = play(restores, warns)
    overwrite(played)
    played.acknowledge(played.sent[-1]["event_id"])
    overwrite(played)
    assert types(played) == ["session.update"]
    assert [row.policy for row in played.decisions] == ["restores", "warns", "warns"]


def test_an_operators_update_is_expected() -> None:
    played = play(RESTORES)
    played.order("ord_1", {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}})
    played.acknowledge(played.sent[0]["event_id"])
    assert not played.decisions
    overwrite(played, "Be kind.")
    assert played.sent[-1]["session"]["instructions"] == "Be brief."


# --- take-over ----------------------------------------------------------------------------------


def taken_over(before: Play, *policies: Policy) -> Play:
    """Begin the next epoch of a play with what it recorded, as the supervisor does."""
    active = Active(rules.PolicySet(policies=policies, hash="0123456789abcdef"))
    watch = Watch(CallState(), active=active, subject=SUBJECT, session=SESSION, tampered="tampered" in before.columns)
    for record in before.records:
        if record.kind == EVENT:
            event, _ = read(record.payload)
            watch.state.apply(event, record.payload, record.at, record.epoch, record.seq)
            watch.recall(record, event)
        elif record.kind == COMMAND:
            author = before.commands[record.event_id or ""].policy
            watch.recall(record, Event(), author)
    watch.recall_decisions(before.decisions)
    earlier = Resumption(watermark=before.at, last_position=None, was_live=True)
    played = Play(epoch=2, policies=policies, watch=watch, resumption=earlier)
    played.attach()
    return played


def test_limits_hold_across_a_take_over() -> None:
    once = policy(rules.CancelResponse(), limit=Limit(per_call=1))
    before = play(once)
    begin(before)
    say(before, "a refund")
    after = taken_over(before, once)
    begin(after, "resp_2")
    say(after, "a refund", response_id="resp_2")
    assert len(before.decisions) == 1
    assert not after.sent


def test_a_decision_whose_end_nobody_heard_is_unknown_after_a_take_over() -> None:
    cancels = policy(rules.CancelResponse())
    before = play(cancels)
    begin(before)
    say(before, "a refund")
    assert before.decisions[0].outcome is None
    after = taken_over(before, cancels)
    [decision] = after.decisions
    assert (decision.epoch, decision.outcome) == (1, "unknown")


def test_a_phrase_that_began_in_the_epoch_before_is_found() -> None:
    cancels = policy(rules.CancelResponse())
    before = play(cancels)
    begin(before)
    say(before, "a re")
    after = taken_over(before, cancels)
    say(after, "fund")
    assert [(event["type"], event["response_id"]) for event in after.sent] == [("response.cancel", "resp_1")]


def test_the_expected_session_and_the_guard_are_those_of_the_epochs_before() -> None:
    updates = policy(rules.UpdateSession(session={"instructions": "Be brief."}), trigger=MONEY, id_="updates")
    before = play(updates, RESTORES)
    begin(before)
    say(before, "a refund")
    before.acknowledge(before.sent[0]["event_id"])
    for number in range(GUARD):
        overwrite(before, f"Be rude {number}.")
        before.acknowledge(before.sent[-1]["event_id"])
    after = taken_over(before, updates, RESTORES)
    overwrite(after, "Be brief.")
    assert not after.decisions
    overwrite(after)
    assert not after.sent
    assert len(after.of(HangUp)) == 1


def test_items_of_the_epoch_before_are_still_ours() -> None:
    item: dict[str, Any] = {"type": "message", "role": "system", "content": []}
    creates = policy(rules.CreateItem(item=item))
    before = play(creates)
    begin(before)
    say(before, "a refund")
    after = taken_over(before, creates)
    after.frame({"type": "conversation.item.added", "item": {**before.sent[0]["item"], "status": "completed"}})
    assert "tampered" not in after.columns


def test_a_response_that_the_epoch_before_asked_for_is_its_policys_doing() -> None:
    says = policy(rules.Say(text="We give no refund."))
    before = play(says)
    before.frame({"type": "input_audio_buffer.committed", "item_id": "item_u"})
    before.wait(1)
    begin(before)
    say(before, "a refund")
    done(before)
    after = taken_over(before, says)
    response = {"id": "resp_9", "status": "in_progress", "conversation_id": "c", "metadata": {"rtobserver": "p"}}
    after.frame({"type": "response.created", "response": response})
    say(after, "We give no refund.", response_id="resp_9")
    assert not [row for row in after.decisions if row.epoch == 2]


def test_a_function_call_that_was_answered_is_not_answered_again() -> None:
    answers = policy(WEATHER, trigger=CALLS)
    late = policy(WEATHER, trigger=rules.UnansweredTool(seconds=2.0), id_="late")
    before = play(answers)
    begin(before)
    call_tool(before)
    before.answer_tool("ask_1", "sun")
    after = taken_over(before, answers, late)
    after.wait(60)
    after.wake()
    assert not after.of(AskTool)
    found = [row.detail for row in after.decisions if row.epoch == 2]
    assert found == ["the policy p answers the function call"]


def test_a_function_call_whose_tool_was_being_asked_gets_an_output_after_a_take_over_once() -> None:
    answers = policy(WEATHER, trigger=CALLS)
    before = play(answers)
    begin(before)
    call_tool(before)
    call_tool(before, "call_2")
    done(before)
    after = taken_over(before, answers)
    outputs = [event["item"] for event in after.sent]
    assert [(item["type"], item["call_id"]) for item in outputs] == [
        ("function_call_output", "call_1"),
        ("function_call_output", "call_2"),
    ]
    assert all("error" in item["output"] for item in outputs)
    for event in after.sent:
        after.acknowledge(event["event_id"])
    assert types(after)[2:] == ["response.create"]
    after.acknowledge(after.sent[-1]["event_id"])
    assert {(row.epoch, row.outcome) for row in after.decisions} == {(1, "failed")}
    assert not taken_over(after, answers).sent


def test_a_function_call_whose_output_was_on_its_way_gets_none_after_a_take_over() -> None:
    answers = policy(WEATHER, trigger=CALLS)
    before = play(answers)
    begin(before)
    call_tool(before)
    done(before)
    before.answer_tool("ask_1", "sun")
    after = taken_over(before, answers)
    assert not after.sent
    assert [row.outcome for row in after.decisions] == ["unknown"]


def test_what_was_concealed_in_a_pause_stays_concealed_after_a_take_over() -> None:
    echo: dict[str, Any] = {"type": "conversation.item.create", "item": {"note": "{{ match.text }}"}}
    echoes = policy(rules.Send(event=echo))
    before = play(echoes)
    before.order("ord_1", {"type": "pause"})
    begin(before)
    say(before, "a refund")
    before.order("ord_2", {"type": "resume"})
    after = taken_over(before, echoes)
    for record in before.records:
        after.machine.control.pause.recall(record.kind, record.type, record.payload)
    after.frame({"type": "conversation.item.added", "item": before.sent[-1]["item"]})
    assert not [record for record in after.records if b"refund" in record.payload]
