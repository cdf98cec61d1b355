"""What is done about verdicts, action by action, told as plays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rtobserver.observation import speech
from rtobserver.observation.effects import AskTool, HangUp, Notify, Send
from rtobserver.observation.machine import HANG_UP_RETRY
from rtobserver.policy import rules
from rtobserver.policy.rules import Action, Limit, Policy, PolicySet, Trigger
from rtobserver.realtime.entries import COMMAND, Record
from tests.observation.play import Play, Store

Json = dict[str, Any]

MONEY = rules.Phrase(speaker="assistant", phrases=("refund",))
ANY_ERROR = rules.On(types=("error",))
VAD = {"type": "server_vad", "threshold": 0.6, "create_response": True}
SESSION = {
    "type": "realtime",
    "model": "gpt-realtime",
    "instructions": "Be kind.",
    "audio": {"input": {"turn_detection": VAD}, "output": {"voice": "marin"}},
}


def policy(*actions: Action, trigger: Trigger = MONEY, id_: str = "p", **values: Any) -> Policy:
    return Policy(id=id_, trigger=trigger, actions=actions, **({"mode": "enforce"} | values))


def play(*policies: Policy) -> Play:
    played = Play(policies=policies, session=SESSION)
    played.attach()
    return played


def test_playback_whose_end_fell_into_a_gap_does_not_hide_dead_air() -> None:
    played = play(policy(rules.Tag(tag="quiet"), trigger=rules.DeadAir(seconds=5.0)))
    played.frame({"type": "output_audio_buffer.started", "response_id": "resp_1"})
    played.wait(60)
    played.wake()
    assert "tags" not in played.columns
    played.close(1006)
    played.wait(1)
    played.attach()
    played.wait(1)
    played.wake()
    assert "tags" not in played.columns
    played.wait(6)
    played.wake()
    assert played.columns["tags"] == ["quiet"]


def begin(played: Play, response_id: str = "resp_1") -> None:
    response = {"id": response_id, "status": "in_progress", "conversation_id": "conv_1"}
    played.frame({"type": "response.created", "response": response})
    item = {"id": f"item_{response_id}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    played.frame({"type": "response.output_item.added", "response_id": response_id, "item": item})
    played.frame({"type": "conversation.item.added", "item": item})


def say(played: Play, *deltas: str, response_id: str = "resp_1") -> None:
    for delta in deltas:
        played.frame(
            {
                "type": "response.output_audio_transcript.delta",
                "response_id": response_id,
                "item_id": f"item_{response_id}",
                "delta": delta,
            }
        )


def sound(played: Play, what: str, response_id: str = "resp_1") -> None:
    played.frame({"type": f"output_audio_buffer.{what}", "response_id": response_id})


def done(played: Play, response_id: str = "resp_1", status: str = "completed", **values: Any) -> None:
    response = {"id": response_id, "status": status, "conversation_id": "conv_1", "output": [], **values}
    played.frame({"type": "response.done", "response": response})


def refuse(played: Play, event_id: str, code: str = "invalid_value") -> None:
    played.frame({"type": "error", "error": {"code": code, "event_id": event_id}})


def types(played: Play) -> list[str]:
    return [event["type"] for event in played.sent]


CANCELS = policy(rules.CancelResponse())


# --- cancel_response ----------------------------------------------------------------------------


def test_a_phrase_over_three_deltas_is_cancelled_and_its_sound_cleared_while_it_plays() -> None:
    played = play(CANCELS)
    begin(played)
    sound(played, "started")
    say(played, "I will ref", "un")
    assert not played.sent
    say(played, "d you")
    assert [{**event, "event_id": ""} for event in played.sent] == [
        {"type": "response.cancel", "response_id": "resp_1", "event_id": ""},
        {"type": "output_audio_buffer.clear", "event_id": ""},
    ]
    [decision] = played.decisions
    assert (decision.acted, decision.actions, decision.outcome) == (True, ("cancel_response",), None)
    assert (decision.trigger, decision.mode, decision.policy_set) == ("phrase", "enforce", "0123456789abcdef")
    assert (decision.match, decision.item_id, decision.response_id) == ("refund", "item_resp_1", "resp_1")
    for event in played.sent:
        played.wait(0.01)
        played.acknowledge(event["event_id"])
    [decision] = played.decisions
    assert (decision.outcome, decision.acknowledged_at) == ("done", played.at)


def test_a_decision_stands_at_the_entry_that_triggered_it() -> None:
    played = play(CANCELS)
    begin(played)
    say(played, "a refund")
    [decision] = played.decisions
    record = next(record for record in played.records if record.seq == decision.seq)
    assert record.type == "response.output_audio_transcript.delta"
    assert decision.received_at == record.at


def test_the_clear_is_sent_when_the_sound_begins_after_the_cancel() -> None:
    played = play(CANCELS)
    begin(played)
    say(played, "a refund")
    assert types(played) == ["response.cancel"]
    played.acknowledge(played.sent[0]["event_id"])
    assert played.decisions[0].outcome == "done"
    sound(played, "started")
    assert types(played) == ["response.cancel", "output_audio_buffer.clear"]
    assert played.of(Send)[-1].decision is played.decisions[0]
    sound(played, "cleared")
    assert [row.outcome for row in played.decisions] == ["done"]


def test_a_second_response_that_started_meanwhile_is_left_alone() -> None:
    played = play(CANCELS)
    begin(played)
    sound(played, "started")
    begin(played, "resp_2")
    sound(played, "started", "resp_2")
    say(played, "a refund")
    assert [event.get("response_id") for event in played.sent] == ["resp_1"]
    sound(played, "started", "resp_2")
    assert types(played) == ["response.cancel"]


def test_a_response_that_is_done_is_not_cancelled_but_its_sound_is_cleared() -> None:
    played = play(policy(rules.CancelResponse(), trigger=rules.On(types=("response.done",))))
    begin(played)
    sound(played, "started")
    say(played, "all is well")
    done(played)
    assert types(played) == ["output_audio_buffer.clear"]


def test_what_was_played_to_its_end_needs_nothing() -> None:
    played = play(policy(rules.CancelResponse(), trigger=rules.On(types=("conversation.item.done",))))
    begin(played)
    sound(played, "started")
    done(played)
    sound(played, "stopped")
    played.frame({"type": "conversation.item.done", "item": {"id": "item_resp_1"}, "response_id": "resp_1"})
    assert not played.sent
    assert [(row.outcome, row.detail) for row in played.decisions] == [("no_response", "the response was over")]


def test_without_a_response_nothing_is_sent_and_the_decision_says_so() -> None:
    played = play(policy(rules.CancelResponse(), trigger=ANY_ERROR))
    refuse(played, "browser_1")
    assert not played.sent
    [decision] = played.decisions
    assert (decision.acted, decision.outcome, decision.detail) == (
        True,
        "no_response",
        "there is no response to cancel",
    )


def test_a_response_that_ended_before_the_cancel_arrived_is_no_failure() -> None:
    played = play(CANCELS)
    begin(played)
    say(played, "a refund")
    refuse(played, played.sent[0]["event_id"], "response_cancel_not_active")
    assert played.decisions[0].outcome == "done"
    assert played.commands[played.sent[0]["event_id"]].state == "failed"


def test_how_much_of_the_matched_words_was_heard_is_estimated() -> None:
    played = play(CANCELS)
    begin(played)
    say(played, "x" * 14, " ")  # one second of speech
    sound(played, "started")
    played.wait(1.2)
    say(played, "refund")
    assert played.decisions[0].played_ms == 200
    early = play(CANCELS)
    begin(early)
    say(early, "a refund")
    assert early.decisions[0].played_ms == 0


def test_the_sound_is_not_cleared_after_a_gap_since_nobody_knows_what_plays() -> None:
    played = play(CANCELS)
    begin(played)
    sound(played, "started")
    played.close()
    played.attach()
    say(played, "a refund")
    assert types(played) == ["response.cancel"]
    assert played.decisions[0].played_ms is None


# --- modes and faults ---------------------------------------------------------------------------

EVERYTHING: tuple[Action, ...] = (
    rules.CancelResponse(),
    rules.Say(text="No."),
    rules.Tag(tag="t"),
    rules.Webhook(id="w"),
    rules.PauseRecording(),
    rules.MuteModel(),
    rules.RestoreSession(),
    rules.HangUp(),
    rules.CreateItem(item={"type": "message"}),
)


@pytest.mark.parametrize(("mode", "outcome"), [("observe", "observed"), ("canary", "not_in_canary")])
def test_a_policy_that_does_not_act_does_nothing_at_all(mode: str, outcome: str) -> None:
    played = play(policy(*EVERYTHING, mode=mode, canary_percent=0))
    begin(played)
    before = len(played.all)
    say(played, "a refund")
    [record, decision] = played.all[before:]
    assert isinstance(record, Record)
    assert decision is played.decisions[0]
    assert (played.decisions[0].acted, played.decisions[0].outcome) == (False, outcome)
    assert len(played.decisions[0].actions) == len(EVERYTHING)


def test_a_call_without_policies_keeps_nothing_and_decides_nothing() -> None:
    played = play()
    assert played.machine.enforcement.engine is None
    begin(played)
    assert not played.machine.control.is_attentive


def test_policies_that_come_later_act_in_calls_that_go_on() -> None:
    played = play()
    begin(played)
    played.active.replace(rules.PolicySet(policies=(CANCELS,), hash="new"))
    played.machine.policies_changed()
    say(played, "a refund")
    assert types(played) == ["response.cancel"]
    assert played.decisions[0].policy_set == "new"


def test_a_template_without_a_value_is_a_fault_and_sends_nothing() -> None:
    played = play(policy(rules.Send(event={"type": "response.cancel", "response_id": "{{ event.nothing }}"})))
    begin(played)
    say(played, "a refund")
    [decision] = played.decisions
    assert (decision.acted, decision.outcome) == (False, "fault")
    assert "event.nothing" in str(decision.detail)
    assert not played.sent


# --- sending ------------------------------------------------------------------------------------


def test_a_client_event_is_recorded_for_its_policy_before_it_is_sent() -> None:
    played = play(policy(rules.Send(event={"type": "input_audio_buffer.clear"}), trigger=ANY_ERROR))
    effects = played.frame({"type": "error", "error": {}})
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds.index("Record") < kinds.index("DecisionRow") < kinds.index("Send")
    assert [kind for kind in kinds if kind != "DecisionRow"] == ["Record", "Record", "CommandRow", "Send"]
    [sent] = played.sent
    assert sent["event_id"].startswith("rto_1_")
    row = played.commands[sent["event_id"]]
    assert (row.source, row.policy) == ("policy", "p")


def test_a_response_that_a_policy_sends_waits_for_the_one_that_goes_on() -> None:
    played = play(policy(rules.Send(event={"type": "response.create"})))
    begin(played)
    say(played, "a refund")
    assert not played.sent
    done(played)
    assert types(played) == ["response.create"]


def test_words_are_said_after_the_active_response_under_the_policys_name() -> None:
    played = play(policy(rules.CancelResponse(), rules.Say(text="Let me check.")))
    begin(played)
    say(played, "a refund")
    assert types(played) == ["response.cancel"]
    played.acknowledge(played.sent[0]["event_id"])
    [_, create] = played.sent
    assert create["response"]["metadata"] == {"rtobserver": "p"}
    assert "Let me check." in create["response"]["instructions"]
    assert played.decisions[0].outcome is None
    played.acknowledge(create["event_id"])
    assert played.decisions[0].outcome == "done"


def test_words_are_tried_twice_where_upstream_was_busy_and_then_given_up() -> None:
    played = play(policy(rules.Say(text="Hm."), trigger=ANY_ERROR, limit=Limit(per_call=1)))
    played.frame({"type": "error", "error": {}})
    refuse(played, played.sent[0]["event_id"], "conversation_already_has_active_response")
    done(played, "resp_x")
    assert types(played) == ["response.create"] * 2
    refuse(played, played.sent[1]["event_id"], "conversation_already_has_active_response")
    assert types(played) == ["response.create"] * 2
    [decision] = played.decisions
    assert (decision.outcome, decision.detail) == ("failed", "conversation_already_has_active_response")


@pytest.mark.parametrize("reattaches", [False, True])
def test_words_wait_for_a_response_whose_beginning_was_missed(*, reattaches: bool) -> None:
    played = play(policy(rules.Say(text="Let me check."), limit=Limit(per_call=1)))
    if reattaches:
        begin(played)
        played.close()
        played.attach()
    say(played, "A refund is ", "on its way.")
    played.wait(speech.RETRY_SECONDS * 2)
    played.wake()
    say(played, " Soon.")
    assert not played.sent
    done(played)
    assert types(played) == ["response.create"]


@pytest.mark.parametrize("message", ["Conversation already has an active response in progress: resp_x. Wait.", "busy"])
def test_refused_words_wait_for_the_end_of_the_response_that_was_in_the_way(message: str) -> None:
    played = play(policy(rules.Say(text="Hm."), trigger=ANY_ERROR, limit=Limit(per_call=1)))
    played.frame({"type": "error", "error": {}})
    error = {"event_id": played.sent[0]["event_id"], "code": speech.BUSY, "message": message}
    played.frame({"type": "error", "error": error})
    if message == "busy":
        say(played, "It goes on", response_id="resp_x")
    played.wait(speech.RETRY_SECONDS * 2)
    played.wake()
    assert len(played.sent) == 1
    done(played, "resp_x")
    assert types(played) == ["response.create"] * 2


def test_a_response_that_is_not_of_the_conversation_holds_no_words_up() -> None:
    played = play(policy(rules.Say(text="Let me check.")))
    response = {"id": "resp_apart", "status": "in_progress", "conversation_id": None}
    played.frame({"type": "response.created", "response": response})
    say(played, "a refund", response_id="resp_apart")
    assert types(played) == ["response.create"]


def test_items_are_created_and_the_matched_one_deleted() -> None:
    item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Mind."}]}
    played = play(policy(rules.CreateItem(item=item), rules.DeleteItem(item_id=None)))
    begin(played)
    say(played, "a refund")
    [create, delete] = played.sent
    assert create["item"] == {"id": create["event_id"], **item}
    assert delete["item_id"] == "item_resp_1"
    played.acknowledge(create["event_id"])
    played.acknowledge(delete["event_id"])
    assert played.decisions[0].outcome == "done"
    assert "tampered" not in played.columns


def test_a_refused_command_makes_the_decision_failed_and_names_the_error() -> None:
    played = play(policy(rules.DeleteItem(item_id="item_x"), trigger=MONEY))
    begin(played)
    say(played, "a refund")
    refuse(played, played.sent[0]["event_id"], "item_not_found")
    [decision] = played.decisions
    assert (decision.outcome, decision.detail, decision.acknowledged_at) == ("failed", "item_not_found", None)


@pytest.mark.parametrize("how", ["close", "unsent", "time"])
def test_what_nobody_acknowledged_is_unknown(how: str) -> None:
    played = play(policy(rules.DeleteItem(item_id="item_x")))
    begin(played)
    say(played, "a refund")
    if how == "close":
        played.close()
    elif how == "unsent":
        played.unsent(played.sent[0]["event_id"])
    else:
        played.wait(11)
        played.wake()
    assert played.decisions[0].outcome == "unknown"
    assert len(played.sent) == 1


# --- the session --------------------------------------------------------------------------------


def test_an_update_sends_whole_objects() -> None:
    part = {"instructions": "Be brief.", "audio": {"input": {"turn_detection": {"threshold": 0.9}}}}
    played = play(policy(rules.UpdateSession(session=part)))
    begin(played)
    say(played, "a refund")
    [sent] = played.sent
    assert sent["session"] == {
        "type": "realtime",
        "instructions": "Be brief.",
        "audio": {"input": {"turn_detection": {**VAD, "threshold": 0.9}}},
    }


@pytest.mark.parametrize(("action", "creates"), [(rules.MuteModel(), False), (rules.UnmuteModel(), True)])
def test_the_model_is_muted_by_the_whole_turn_detection(action: Action, creates: bool) -> None:
    played = play(policy(action, trigger=ANY_ERROR))
    played.frame({"type": "error", "error": {}})
    [sent] = played.sent
    assert sent["session"]["audio"] == {"input": {"turn_detection": {**VAD, "create_response": creates}}}
    played.acknowledge(sent["event_id"])
    assert played.machine.enforcement._watch.tampering.expected["audio"]["output"] == {"voice": "marin"}
    assert played.decisions[0].outcome == "done"


def test_a_model_without_turn_detection_need_not_be_muted() -> None:
    session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    played = Play(policies=[policy(rules.MuteModel(), trigger=ANY_ERROR)], session=session)
    played.attach()
    played.frame({"type": "error", "error": {}})
    assert not played.sent
    assert played.decisions[0].outcome == "done"


# --- the recording and the call -----------------------------------------------------------------


def test_a_tag_is_added_and_a_webhook_notified() -> None:
    played = play(policy(rules.Tag(tag="refund"), rules.Webhook(id="crm")))
    begin(played)
    say(played, "a refund")
    assert played.columns["tags"] == ["refund"]
    [notify] = played.of(Notify)
    [decision] = played.decisions
    assert notify.webhook == "crm"
    assert notify.body["type"] == "policy.matched"
    assert notify.body["timestamp"].endswith("Z")
    assert notify.body["data"] == {
        "call_id": "rtc_1",
        "policy": "p",
        "policy_set": "0123456789abcdef",
        "trigger": "phrase",
        "mode": "enforce",
        "position": f"1:{decision.seq}",
        "match": "refund",
        "profile": "default",
        "user": "ann",
        "labels": {"team": "a"},
    }
    assert (decision.outcome, decision.sent_at) == ("done", None)


def test_the_recording_is_paused_and_resumed_by_a_policy() -> None:
    pauses = policy(rules.PauseRecording(), id_="pauses")
    resumes = policy(rules.ResumeRecording(), trigger=rules.On(types=("response.done",)), id_="resumes")
    played = play(pauses, resumes)
    begin(played)
    say(played, "a refund", " of secrets")
    assert b"secrets" not in played.records[-1].payload
    done(played)
    assert not played.machine.control.pause.is_active
    rows = [row for row in played.commands.values() if row.type in ("pause", "resume")]
    assert [(row.source, row.policy) for row in rows] == [("policy", "pauses"), ("policy", "resumes")]


def test_what_is_matched_in_a_pause_reaches_neither_decision_nor_commands_nor_webhooks() -> None:
    echo = rules.Send(event={"type": "conversation.item.create", "item": {"note": "{{ match.text }}"}})
    played = play(policy(echo, rules.Webhook(id="w"), rules.Tag(tag="{{ match.text }}")))
    played.order("ord_1", {"type": "pause"})
    begin(played)
    say(played, "a refund")
    [sent] = [event for event in played.sent if event["type"] == "conversation.item.create"]
    assert sent["item"]["note"] == "refund"
    [decision] = played.decisions
    assert decision.match is None
    assert played.of(Notify)[0].body["data"]["match"] is None
    assert "tags" not in played.columns
    played.order("ord_2", {"type": "resume"})
    played.acknowledge(sent["event_id"])
    assert not [record for record in played.records if b"refund" in record.payload]


def test_a_policy_hangs_up_and_the_outcome_is_its_own() -> None:
    played = play(policy(rules.HangUp()))
    begin(played)
    say(played, "a refund")
    [hang_up] = played.of(HangUp)
    assert (hang_up.row.source, hang_up.row.policy, hang_up.decision) == ("policy", "p", played.decisions[0])
    played.hung_up(True)
    played.close()
    assert played.ending == ("ended", "policy")
    assert played.decisions[0].outcome == "done"


def test_a_hang_up_that_succeeds_at_a_later_attempt_is_done() -> None:
    played = play(policy(rules.HangUp(), rules.Tag(tag="t")))
    begin(played)
    say(played, "a refund")
    played.hung_up(None)
    assert played.decisions[0].outcome == "failed"
    for ended, outcome in ((None, "failed"), (True, "done")):
        played.wait(HANG_UP_RETRY)
        played.wake()
        played.hung_up(ended)
        assert played.decisions[0].outcome == outcome
    assert played.decisions[0].acknowledged_at == played.at
    assert played.decisions[0].detail == "no answer; then it was tried again and done"


def test_a_hang_up_that_succeeds_later_makes_up_for_nothing_else_that_failed() -> None:
    played = play(policy(rules.HangUp(), rules.DeleteItem(item_id=None), trigger=rules.After(seconds=1.0)))
    played.wait(1)
    played.wake()
    played.hung_up(None)
    played.wait(HANG_UP_RETRY)
    played.wake()
    played.hung_up(True)
    assert played.decisions[0].outcome == "failed"


def test_a_call_that_ends_by_itself_after_a_hang_up_failed_leaves_it_failed() -> None:
    played = play(policy(rules.HangUp()))
    begin(played)
    say(played, "a refund")
    played.hung_up(None)
    played.close()
    played.fail(404)
    assert played.ending == ("ended", "browser_left")
    assert played.decisions[0].outcome == "failed"


def test_a_goodbye_is_said_before_the_policy_hangs_up() -> None:
    played = play(policy(rules.HangUp(goodbye="Bye.", after=4.0), trigger=ANY_ERROR))
    played.frame({"type": "error", "error": {}})
    [sent] = played.sent
    assert "Bye." in sent["response"]["instructions"]
    played.acknowledge(sent["event_id"])
    assert not played.of(HangUp)
    sound(played, "started", f"resp_{sent['event_id']}")
    sound(played, "stopped", f"resp_{sent['event_id']}")
    assert len(played.of(HangUp)) == 1


def test_one_goodbye_is_enough() -> None:
    action = rules.HangUp(goodbye="Bye.")
    played = play(policy(action, trigger=ANY_ERROR, id_="a"), policy(action, trigger=ANY_ERROR, id_="b"))
    played.frame({"type": "error", "error": {}})
    assert len(played.sent) == 1
    played.wait(6)
    played.wake()
    played.hung_up(True)
    assert len(played.of(HangUp)) == 1
    assert [row.outcome for row in played.decisions] == ["done", "done"]


# --- other policies -----------------------------------------------------------------------------


def reload(played: Play, *policies: Policy) -> None:
    played.active.replace(PolicySet(policies=policies, hash="fedcba9876543210"))
    played.machine.policies_changed()


def test_the_clear_is_sent_though_no_policy_is_left_when_the_sound_begins() -> None:
    played = play(CANCELS)
    begin(played)
    say(played, "a refund")
    played.acknowledge(played.sent[0]["event_id"])
    reload(played)
    sound(played, "started", "resp_0")
    assert types(played) == ["response.cancel"]
    sound(played, "started")
    assert types(played) == ["response.cancel", "output_audio_buffer.clear"]
    played.acknowledge(played.sent[1]["event_id"])
    assert played.commands[played.sent[1]["event_id"]].state == "acknowledged"
    assert not played.machine.enforcement.is_needed
    sound(played, "started")
    say(played, "a refund")
    assert (len(played.sent), len(played.decisions)) == (2, 1)


def test_a_tool_that_is_being_asked_is_not_answered_twice_though_no_policy_is_left() -> None:
    played = play(policy(WEATHER, trigger=CALLS))
    begin(played)
    call_tool(played, "call_1")
    reload(played)
    output = {"id": "item_b", "type": "function_call_output", "call_id": "call_1", "output": "rain"}
    played.frame({"type": "conversation.item.added", "item": output})
    played.answer_tool("ask_1", "sun")
    assert played.sent == []
    assert played.decisions[0].outcome == "done"


# --- timers -------------------------------------------------------------------------------------


def test_a_timer_decides_at_the_last_entry_and_is_waited_for() -> None:
    played = play(policy(rules.Tag(tag="old"), trigger=rules.After(seconds=30.0)))
    begin(played)
    seq = played.machine.ledger.seq
    assert played.machine.wake_at() == pytest.approx(130.0)
    played.wait(30)
    played.wake()
    assert played.columns["tags"] == ["old"]
    assert [(row.seq, row.received_at) for row in played.decisions] == [(seq, played.at)]


def test_timers_that_are_due_together_decide_at_the_same_entry() -> None:
    clears = rules.Send(event={"type": "input_audio_buffer.clear"})
    old = rules.After(seconds=30.0)
    played = play(policy(clears, trigger=old, id_="a"), policy(clears, trigger=old, id_="b"))
    seq = played.machine.ledger.seq
    played.wait(30)
    played.wake()
    assert [(row.policy, row.seq) for row in played.decisions] == [("a", seq), ("b", seq)]


def test_a_policy_that_decides_twice_at_one_entry_has_two_decisions() -> None:
    played = play(policy(rules.Tag(tag="t"), trigger=rules.UnansweredTool(seconds=2.0), mode="observe"))
    begin(played)
    call_tool(played, "call_1")
    call_tool(played, "call_2")
    played.wait(3)
    played.wake()
    assert len(played.decisions) == 2
    assert len({row.seq for row in played.decisions}) == 2


def test_policies_that_match_at_one_event_act_in_file_order() -> None:
    first = policy(rules.Tag(tag="a"), trigger=rules.Tampered(keys=None), id_="first")
    second = policy(rules.Tag(tag="b"), trigger=rules.On(types=("session.updated",)), id_="second")
    played = play(first, second)
    played.frame({"type": "session.updated", "session": {**SESSION, "instructions": "Be rude."}})
    assert [row.policy for row in played.decisions] == ["first", "second"]


def test_a_timer_that_is_due_decides_before_the_frame_that_comes_late() -> None:
    played = play(policy(rules.Send(event={"type": "input_audio_buffer.clear"}), trigger=rules.After(seconds=30.0)))
    played.wait(31)
    effects = played.frame({"type": "rate_limits.updated"})
    records = [effect for effect in effects if isinstance(effect, Record)]
    assert [record.type for record in records] == ["input_audio_buffer.clear", "rate_limits.updated"]
    assert [record.seq for record in records] == [records[0].seq, records[0].seq + 1]


def test_a_frame_that_makes_a_timer_due_sooner_says_so() -> None:
    played = play(policy(rules.Tag(tag="t"), trigger=rules.UnansweredTool(seconds=2.0)))
    enforcement = played.machine.enforcement
    enforcement.is_sooner = False
    begin(played)
    played.frame(
        {
            "type": "response.function_call_arguments.done",
            "response_id": "resp_1",
            "item_id": "item_f",
            "call_id": "call_1",
            "name": "weather",
            "arguments": "{}",
        }
    )
    assert enforcement.is_sooner
    assert enforcement.wake == pytest.approx(played.machine.ledger.age(played.now) + 2.0)


def test_frames_that_are_shed_are_still_shown_to_policies() -> None:
    played = play(CANCELS)
    begin(played)
    delta = {"type": "response.output_audio_transcript.delta", "response_id": "resp_1", "item_id": "item_resp_1"}
    played.frame({**delta, "delta": "a refund"}, pressure=1)
    assert types(played) == ["response.cancel"]
    assert played.decisions[0].seq not in [record.seq for record in played.records if record.kind != COMMAND]


# --- tools --------------------------------------------------------------------------------------

WEATHER = rules.AnswerTool(url="https://tools.example/weather", timeout=3.0)
CALLS = rules.Tool(name="weather", arguments={})


def call_tool(played: Play, call_id: str = "call_1", arguments: str = '{"city":"Bonn"}') -> None:
    played.frame(
        {
            "type": "response.function_call_arguments.done",
            "response_id": "resp_1",
            "item_id": f"item_{call_id}",
            "call_id": call_id,
            "name": "weather",
            "arguments": arguments,
        }
    )


def asking() -> Play:
    played = play(policy(WEATHER, trigger=CALLS))
    begin(played)
    call_tool(played)
    return played


def browser_answers(played: Play, call_id: str = "call_1") -> None:
    item = {"id": "item_browser", "type": "function_call_output", "call_id": call_id, "output": "rain"}
    played.frame({"type": "conversation.item.added", "item": item})


def test_a_function_call_is_answered_by_its_endpoint_and_then_one_response_asked_for() -> None:
    played = asking()
    [ask] = played.of(AskTool)
    assert (ask.url, ask.timeout) == (WEATHER.url, 3.0)
    assert ask.body == {
        "call_id": "rtc_1",
        "function_call_id": "call_1",
        "name": "weather",
        "arguments": {"city": "Bonn"},
    }
    done(played)
    played.answer_tool(ask.key, "sun")
    [create] = played.sent
    assert create["item"] == {
        "id": create["event_id"],
        "type": "function_call_output",
        "call_id": "call_1",
        "output": "sun",
    }
    played.acknowledge(create["event_id"])
    assert types(played) == ["conversation.item.create", "response.create"]
    played.acknowledge(played.sent[1]["event_id"])
    assert played.decisions[0].outcome == "done"
    assert "tampered" not in played.columns


def test_an_endpoint_that_fails_gives_an_output_that_says_so() -> None:
    played = asking()
    done(played)
    played.answer_tool("ask_1", None, "the tool's endpoint answered 500")
    [create] = played.sent
    assert "error" in json.loads(create["item"]["output"])
    played.acknowledge(create["event_id"])
    played.acknowledge(played.sent[1]["event_id"])
    [decision] = played.decisions
    assert (decision.outcome, decision.detail) == ("failed", "the tool's endpoint answered 500")


def test_where_the_browser_answers_first_ours_is_not_sent() -> None:
    played = asking()
    browser_answers(played)
    played.answer_tool("ask_1", "sun")
    assert not played.sent
    [decision] = played.decisions
    assert (decision.outcome, decision.detail) == ("done", "somebody else answered the function call first")
    assert played.columns["tampered"] is True


def test_a_duplicate_that_upstream_refuses_is_not_followed_by_a_response() -> None:
    played = asking()
    played.answer_tool("ask_1", "sun")
    browser_answers(played)
    refuse(played, played.sent[0]["event_id"], "duplicate_output")
    done(played)
    assert types(played) == ["conversation.item.create"]
    assert "somebody else answered" in str(played.decisions[0].detail)


def test_calls_of_one_response_get_one_response_after_the_last_answer() -> None:
    played = asking()
    call_tool(played, "call_2")
    done(played)
    for key in ("ask_2", "ask_1"):
        played.answer_tool(key, "sun")
        played.acknowledge(played.sent[-1]["event_id"])
    assert types(played) == ["conversation.item.create", "conversation.item.create", "response.create"]


def test_the_model_goes_on_only_after_the_response_that_made_the_calls_is_done() -> None:
    played = asking()
    played.answer_tool("ask_1", "sun")
    played.acknowledge(played.sent[-1]["event_id"])
    assert played.decisions[0].outcome is None
    call_tool(played, "call_2")
    played.answer_tool("ask_2", "rain")
    played.acknowledge(played.sent[-1]["event_id"])
    assert types(played) == ["conversation.item.create"] * 2
    done(played)
    assert types(played) == ["conversation.item.create", "conversation.item.create", "response.create"]
    played.acknowledge(played.sent[-1]["event_id"])
    assert [row.outcome for row in played.decisions] == ["done", "done"]


def test_the_model_goes_on_where_the_end_of_the_response_was_missed() -> None:
    played = asking()
    played.answer_tool("ask_1", "sun")
    played.acknowledge(played.sent[-1]["event_id"])
    played.close()
    played.attach()
    played.frame({"type": "session.created", "session": SESSION})
    assert types(played) == ["conversation.item.create", "response.create"]


def test_a_call_that_ends_before_the_model_could_go_on_leaves_no_decision_open() -> None:
    played = asking()
    played.answer_tool("ask_1", "sun")
    played.acknowledge(played.sent[-1]["event_id"])
    played.close()
    played.fail(404)
    assert [row.outcome for row in played.decisions] == ["failed"]


def test_an_answer_that_comes_while_nothing_is_attached_is_sent_once_after_the_reattach() -> None:
    played = asking()
    played.close()
    played.answer_tool("ask_1", "sun")
    assert not played.sent
    played.attach()
    assert types(played) == ["conversation.item.create"]
    played.close()
    played.attach()
    played.answer_tool("ask_1", "sun")
    assert types(played) == ["conversation.item.create"]
    assert played.decisions[0].outcome == "unknown"


def test_an_answer_after_the_end_of_the_call_is_dropped() -> None:
    played = asking()
    played.close()
    played.fail(404)
    before = len(played.all)
    played.answer_tool("ask_1", "sun")
    assert played.all[before:] == []
    [decision] = played.decisions
    assert (decision.outcome, decision.detail) == ("failed", "the call ended before the tool answered")


def test_two_policies_do_not_answer_the_same_call() -> None:
    played = play(policy(WEATHER, trigger=CALLS, id_="a"), policy(WEATHER, trigger=CALLS, id_="b"))
    begin(played)
    call_tool(played)
    assert len(played.of(AskTool)) == 1
    assert played.decisions[1].detail == "the policy a answers the function call"


# --- causes -------------------------------------------------------------------------------------


def test_what_a_policy_has_said_does_not_trigger_it_again() -> None:
    played = play(policy(rules.Say(text="We give no refund.")))
    begin(played)
    say(played, "a refund")
    done(played)
    [create] = played.sent
    played.acknowledge(create["event_id"])
    own = f"resp_{create['event_id']}"
    say(played, "We give no refund.", response_id=own)
    done(played, own)
    assert len(played.sent) == 1
    assert len(played.decisions) == 1


def test_a_page_that_borrows_a_policys_name_is_heard_all_the_same() -> None:
    played = play(CANCELS)
    response = {"id": "resp_1", "status": "in_progress", "conversation_id": "c", "metadata": {"rtobserver": "p"}}
    played.frame({"type": "response.created", "response": response})
    say(played, "a refund")
    assert types(played) == ["response.cancel"]


# --- a take-over --------------------------------------------------------------------------------


def test_the_loop_breaker_holds_across_a_take_over_before_the_first_turn() -> None:
    speaks = rules.Send(event={"type": "response.create", "response": {"metadata": {"why": "silence"}}})
    chatty = policy(speaks, trigger=rules.On(types=("response.created",)))
    played = play(chatty)
    begin(played)
    played.frame({"type": "response.done", "response": {"id": "resp_1", "status": "completed", "conversation_id": "c"}})
    [sent] = played.sent
    stored = Store()
    stored.commit(played.all)
    after = played.taken_over(stored, policies=(chatty,))
    after.attach()
    own = {"id": "resp_2", "status": "in_progress", "conversation_id": "c", **sent["response"]}
    after.frame({"type": "response.created", "response": own})
    assert after.sent == []
    assert [row for row in after.decisions if row.epoch == 2] == []
    after.frame({"type": "response.created", "response": {"id": "resp_3", "status": "in_progress"}})
    assert len([row for row in after.decisions if row.epoch == 2]) == 1
