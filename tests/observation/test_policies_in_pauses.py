"""What policies know of what is said while the recording is paused, told as plays: all, and the record nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from rtobserver.observation.effects import HangUp, Notify
from rtobserver.policy import rules
from rtobserver.policy.rules import Action, Policy, Trigger
from rtobserver.realtime.entries import DecisionRow, Record, Rows, Sums
from tests.observation.play import Play, Store

SECRET = "canary"
NOTICE = rules.Absent(what=rules.Phrase(speaker="assistant", phrases=("is recorded",)), within=14.0)


def policy(trigger: Trigger, *actions: Action, id_: str = "p") -> Policy:
    return Policy(id=id_, trigger=trigger, actions=actions or (rules.Tag(tag="acted"),), mode="enforce")


def play(*policies: Policy) -> Play:
    played = Play(policies=policies)
    played.attach()
    return played


def pause(played: Play) -> None:
    played.order("ord_pause", {"type": "pause"})


def resume(played: Play) -> None:
    played.order("ord_resume", {"type": "resume"})


def user_speaks(played: Play, item_id: str, words: str = SECRET, seconds: float = 2.0) -> None:
    played.frame({"type": "input_audio_buffer.speech_started", "item_id": item_id})
    pass_time(played, seconds)
    played.frame({"type": "input_audio_buffer.speech_stopped", "item_id": item_id})
    played.frame({"type": "input_audio_buffer.committed", "item_id": item_id})
    transcribed = "conversation.item.input_audio_transcription.completed"
    played.frame({"type": transcribed, "item_id": item_id, "transcript": words})


def model_begins(played: Play, response_id: str, words: str = SECRET) -> None:
    response = {"id": response_id, "status": "in_progress", "conversation_id": "conv_1"}
    item = {"id": f"item_{response_id}", "type": "message", "role": "assistant"}
    played.frame({"type": "response.created", "response": response})
    played.frame({"type": "response.output_item.added", "response_id": response_id, "item": item})
    delta = {"type": "response.output_audio_transcript.delta", "response_id": response_id, "item_id": item["id"]}
    played.frame({**delta, "delta": words})
    played.frame({"type": "output_audio_buffer.started", "response_id": response_id})


def model_ends(played: Play, response_id: str, words: str = SECRET, **values: Any) -> None:
    done = {"type": "response.output_audio_transcript.done", "response_id": response_id}
    played.frame({**done, "item_id": f"item_{response_id}", "transcript": words})
    response = {"id": response_id, "status": "completed", "conversation_id": "conv_1", "output": [], **values}
    played.frame({"type": "response.done", "response": response})
    played.frame({"type": "output_audio_buffer.stopped", "response_id": response_id})


def call_tool(played: Play, arguments: str = "{}") -> None:
    response = {"id": "resp_t", "status": "in_progress", "conversation_id": "conv_1"}
    item = {"id": "item_t", "type": "function_call", "call_id": "fc_1", "name": "lookup", "arguments": arguments}
    played.frame({"type": "response.created", "response": response})
    played.frame({"type": "response.output_item.added", "response_id": "resp_t", "item": item})
    played.frame(
        {"type": "response.output_item.done", "response_id": "resp_t", "item": {**item, "status": "completed"}}
    )
    played.frame({"type": "response.done", "response": {**response, "status": "completed", "output": [item]}})


def answer_tool(played: Play) -> None:
    item = {"id": "item_o", "type": "function_call_output", "call_id": "fc_1", "output": SECRET}
    played.frame({"type": "conversation.item.added", "item": item})


def pass_time(played: Play, seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        played.wait(0.5)
        played.wake()


def again(played: Play, *policies: Policy, seconds: float = 1.0, stored: Store | None = None) -> Play:
    """Let the next run take the call over, which knows what was stored and nothing else."""
    stored = stored or Store()
    stored.commit(played.all)
    after = played.taken_over(stored, policies=policies, seconds=seconds)
    after.attach()
    return after


def tags(played: Play) -> object:
    return played.columns.get("tags", [])


# --- what goes on -------------------------------------------------------------------------------


def test_people_who_talk_in_a_pause_are_not_hung_up_for_their_silence() -> None:
    played = play(policy(rules.DeadAir(seconds=8.0), rules.HangUp()))
    user_speaks(played, "u1")
    model_begins(played, "r1")
    model_ends(played, "r1")
    pause(played)
    for number in range(2, 5):
        user_speaks(played, f"u{number}", seconds=4)
        model_begins(played, f"r{number}")
        pass_time(played, 6)
        model_ends(played, f"r{number}")
    assert not played.of(HangUp)
    pass_time(played, 9)
    assert len(played.of(HangUp)) == 1, "and when they fall silent they are"


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_a_sound_that_ended_in_a_pause_does_not_hide_the_silence_after_it(*, is_taken_over: bool) -> None:
    quiet = policy(rules.DeadAir(seconds=5.0))
    played = play(quiet)
    user_speaks(played, "u1")
    model_begins(played, "r1")
    pause(played)
    model_ends(played, "r1")
    resume(played)
    if is_taken_over:
        played = again(played, quiet)
        pass_time(played, 2)
        assert tags(played) == []
    pass_time(played, 6)
    assert tags(played) == ["acted"]


def test_what_the_user_says_in_a_pause_cancels_the_response_that_goes_on() -> None:
    played = play(policy(rules.Phrase(speaker="user", phrases=("stop",)), rules.CancelResponse()))
    pause(played)
    model_begins(played, "r1")
    user_speaks(played, "u1", "please stop here")
    sent = [(event["type"], event.get("response_id")) for event in played.sent]
    assert sent == [("response.cancel", "r1"), ("output_audio_buffer.clear", None)]


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_a_function_call_that_was_answered_in_a_pause_waits_no_more(*, is_taken_over: bool) -> None:
    slow = policy(rules.UnansweredTool(seconds=6.0))
    played = play(slow)
    call_tool(played)
    pause(played)
    pass_time(played, 2)
    answer_tool(played)
    resume(played)
    if is_taken_over:
        played = again(played, slow)
    pass_time(played, 8)
    assert not played.decisions


def test_a_function_call_of_a_pause_waits_like_any_other() -> None:
    played = play(policy(rules.UnansweredTool(seconds=6.0)))
    pause(played)
    call_tool(played)
    pass_time(played, 7)
    assert tags(played) == ["acted"]


def test_turns_and_tokens_of_a_pause_count_for_policies_and_not_for_the_record() -> None:
    turns = policy(rules.Turns(at_least=2), rules.Tag(tag="turns"))
    tokens = policy(rules.Usage(meter="total_tokens", at_least=Decimal(100)), rules.Tag(tag="tokens"), id_="q")
    played = play(turns, tokens)
    pause(played)
    user_speaks(played, "u1")
    model_begins(played, "r1")
    model_ends(played, "r1", usage={"total_tokens": 200, "input_tokens": 100, "output_tokens": 100})
    user_speaks(played, "u2")
    assert tags(played) == ["tokens", "turns"]
    resume(played)
    assert played.machine.state.turn_count == 0
    assert played.machine.state.totals().usage.total_tokens == 0


def test_policies_that_are_read_in_a_pause_know_what_goes_on() -> None:
    played = play()
    user_speaks(played, "u1")
    pause(played)
    model_begins(played, "r1")
    stop = policy(rules.Phrase(speaker="user", phrases=("stop",)), rules.CancelResponse())
    played.active.replace(rules.PolicySet(policies=(stop,), hash="1"))
    played.machine.policies_changed()
    user_speaks(played, "u2", "please stop here")
    assert [event.get("response_id") for event in played.sent][:1] == ["r1"]


# --- what stays unsaid --------------------------------------------------------------------------


def test_nothing_that_is_said_in_a_pause_reaches_what_is_stored_or_sent_elsewhere() -> None:
    said = rules.Phrase(speaker="user", phrases=(SECRET,))
    tells = (rules.Tag(tag="{{ match.text }}"), rules.Webhook(id="w"), rules.CancelResponse())
    absent = rules.Absent(what=said, within=60.0)
    slow = policy(rules.UnansweredTool(seconds=3.0), id_="slow")
    played = play(policy(said, *tells), policy(absent, id_="q"), slow)
    pause(played)
    model_begins(played, "r1")
    user_speaks(played, "u1")
    call_tool(played)
    answer_tool(played)
    resume(played)
    model_ends(played, "r1")
    answer_tool(played)
    played.close()
    played.fail(404)
    kept = [each for each in played.all if isinstance(each, Record | Rows | Sums | DecisionRow | Notify)]
    assert {type(each) for each in kept} >= {Record, DecisionRow, Notify}
    assert SECRET not in repr(kept)
    assert SECRET not in repr(played.columns)
    assert played.machine.state.items() == []


def test_what_a_function_was_called_with_in_a_pause_is_not_told_after_it_either() -> None:
    tells = (rules.Tag(tag="{{ match.arguments }}"), rules.Tag(tag="slow"))
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "{{ match.arguments }}"}]}
    played = play(policy(rules.UnansweredTool(seconds=6.0), *tells, rules.CreateItem(item=item)))
    pause(played)
    call_tool(played, SECRET)
    resume(played)
    pass_time(played, 7)
    assert tags(played) == ["slow"]
    assert SECRET in played.sent[-1]["item"]["content"][0]["text"]
    assert SECRET.encode() not in b"".join(record.payload for record in played.records)


def test_the_answer_to_a_function_call_that_is_not_on_record_is_not_named() -> None:
    played = play()
    pause(played)
    answer_tool(played)
    assert json.loads(played.records[-1].payload) == {"paused": True, "size_class": "under_256", "ids": ["item_o"]}


# --- what the next run knows --------------------------------------------------------------------


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_what_was_said_in_a_pause_was_not_absent(*, is_taken_over: bool) -> None:
    notice = policy(NOTICE)
    played = play(notice)
    pause(played)
    model_begins(played, "r1", "Welcome, this call is recorded.")
    model_ends(played, "r1", "Welcome, this call is recorded.")
    resume(played)
    assert b"recorded" not in b"".join(record.payload for record in played.records)
    if is_taken_over:
        played = again(played, notice)
    pass_time(played, 16)
    assert not played.decisions


def test_what_nobody_said_was_absent_whatever_pauses_there_were() -> None:
    notice = policy(NOTICE)
    played = play(notice)
    pause(played)
    model_begins(played, "r1")
    model_ends(played, "r1")
    resume(played)
    played = again(played, notice)
    pass_time(played, 16)
    assert tags(played) == ["acted"]


def test_a_user_item_that_a_policy_made_begins_no_turn_after_a_take_over_either() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "are you there"}]}
    nudge = policy(rules.DeadAir(seconds=3.0), rules.CreateItem(item=item))
    played = play(nudge)
    user_speaks(played, "u1")
    pass_time(played, 4)
    [made] = [event for event in played.sent if event["type"] == "conversation.item.create"]
    played.acknowledge(made["event_id"])
    stored = Store()
    for _ in range(3):
        played = again(played, nudge, stored=stored)
        model_begins(played, "r1")
        model_ends(played, "r1")
        pass_time(played, 8)
        assert not played.decisions, "the user had no turn since"
