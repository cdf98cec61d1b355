"""What holds for policies that act, whatever happens, in any order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.observation.effects import AskTool, HangUp, Notify, Send
from rtobserver.observation.phases import Phase
from rtobserver.policy import rules
from rtobserver.policy.rules import Action, Limit, Policy
from rtobserver.realtime.entries import COMMAND, CommandRow, DecisionRow, Record
from tests.observation.play import Play, answers
from tests.observation.test_enforcement import CALLS, MONEY, SESSION, WEATHER, policy

OTHERS: tuple[Action, ...] = (
    rules.Send(event={"type": "response.create", "response": {"instructions": "{{ match.text }}"}}),
    rules.UpdateSession(session={"instructions": "Be brief."}),
    rules.CancelResponse(),
    rules.Say(text="No."),
    rules.CreateItem(item={"type": "message", "role": "system", "content": []}),
    rules.DeleteItem(item_id=None),
    rules.MuteModel(),
    rules.PauseRecording(),
    rules.Tag(tag="t"),
    rules.Webhook(id="w"),
)
POLICIES = (
    policy(*OTHERS, id_="words"),
    policy(rules.CancelResponse(), trigger=rules.On(types=("response.*", "output_audio_buffer.*")), id_="all"),
    policy(WEATHER, trigger=CALLS, id_="tool"),
    policy(rules.RestoreSession(), rules.HangUp(), trigger=rules.Tampered(keys=None), id_="keeps"),
    policy(rules.HangUp(goodbye="Bye."), trigger=rules.After(seconds=60.0), id_="old"),
    policy(rules.Say(text="Hello?"), trigger=rules.DeadAir(seconds=5.0), id_="quiet", limit=Limit(per_call=3)),
    policy(rules.ResumeRecording(), trigger=rules.On(types=("error",)), id_="errors"),
    policy(rules.Tag(tag="late"), trigger=rules.UnansweredTool(seconds=2.0), id_="late"),
)

_IDS = st.sampled_from(["1", "2", "3"])


def _event(type_: str, n: str, words: str) -> dict[str, Any]:
    place = {"response_id": f"resp_{n}", "item_id": f"item_{n}"}
    match type_:
        case "response.created" | "response.done":
            status = "completed" if type_ == "response.done" else "in_progress"
            return {"type": type_, "response": {"id": f"resp_{n}", "status": status, "conversation_id": "c"}}
        case "session.updated":
            return {"type": type_, "session": {**SESSION, "instructions": words}}
        case "conversation.item.added":
            output = {"id": f"item_b{n}", "type": "function_call_output", "call_id": f"call_{n}", "output": words}
            return {"type": type_, "item": output}
        case "response.function_call_arguments.done":
            return {"type": type_, **place, "call_id": f"call_{n}", "name": "weather", "arguments": "{}"}
    return {"type": type_, **place, "delta": words}


_EVENTS = st.builds(
    _event,
    st.sampled_from(
        [
            "response.created",
            "response.done",
            "response.output_audio_transcript.delta",
            "response.function_call_arguments.done",
            "output_audio_buffer.started",
            "output_audio_buffer.stopped",
            "session.updated",
            "conversation.item.added",
            "error",
        ]
    ),
    _IDS,
    st.sampled_from(["a refund", "Be rude.", "ref", "und"]),
)
_FRAME = st.tuples(st.just("frame"), _EVENTS, st.sampled_from([0, 0, 0, 1]))
_ANSWER = st.tuples(st.just("answer"), st.integers(0, 5))
_STEPS = st.one_of(
    *[_FRAME] * 8,
    *[_ANSWER] * 4,
    st.tuples(st.just("refuse"), st.integers(0, 5)),
    st.tuples(st.just("tool"), st.integers(1, 5), st.booleans()),
    st.tuples(st.just("attach")),
    st.tuples(st.just("close")),
    st.tuples(st.just("wait"), st.floats(0.0, 20.0)),
    st.tuples(st.just("wake")),
    st.tuples(st.just("hung_up"), st.just(None)),
)
_ENDS = st.sampled_from([(), (("drain",),), (("hung_up", True), ("close",))])
_PLAYS = st.tuples(st.lists(_STEPS, min_size=20, max_size=80), _ENDS).map(lambda parts: [*parts[0], *parts[1]])


def _perform(play: Play, step: tuple[Any, ...]) -> None:
    is_attached = play.machine.phase is Phase.ATTACHED
    match step:
        case ("frame", event, pressure):
            if is_attached:
                play.frame(event, pressure)
        case ("answer", number):
            if is_attached and play.sent:
                for event in answers(play.sent[-1 - number % len(play.sent)]):
                    play.frame(event)
        case ("refuse", number):
            if is_attached and play.sent:
                event_id = play.sent[-1 - number % len(play.sent)]["event_id"]
                play.frame({"type": "error", "error": {"code": "invalid_value", "event_id": event_id}})
        case ("tool", number, is_answered):
            play.answer_tool(f"ask_{number}", "sun" if is_answered else None, None if is_answered else "it failed")
        case (name, *arguments):
            getattr(play, name)(*arguments)


def _acts(play: Play) -> list[Send]:
    """Give what was sent for policies; what a gap swallowed is asked for by the observer itself."""
    return [send for send in play.of(Send) if send.row.source != "system"]


def _played(steps: list[tuple[Any, ...]], *policies: Policy) -> Play:
    play = Play(policies=policies, session=SESSION)
    play.attach()
    for step in steps:
        _perform(play, step)
    return play


@settings(max_examples=200, deadline=None)
@given(_PLAYS)
def test_policies_that_observe_do_nothing_but_decide(steps: list[tuple[Any, ...]]) -> None:
    play = _played(steps, *(replace(each, mode="observe") for each in POLICIES))
    assert not _acts(play) + play.of(HangUp) + play.of(Notify) + play.of(AskTool)
    assert {row.type for row in play.of(CommandRow) if row.source != "system"} <= {"timer"}
    assert all(row.outcome == "observed" and not row.acted for row in play.decisions)


@settings(max_examples=300, deadline=None)
@given(_PLAYS)
def test_a_command_is_recorded_before_it_is_sent_and_sent_once(steps: list[tuple[Any, ...]]) -> None:
    play = _played(steps, *POLICIES)
    recorded: set[str] = set()
    sent: Counter[str] = Counter()
    for effect in play.all:
        if isinstance(effect, Record) and effect.kind == COMMAND:
            recorded.add(effect.event_id or "")
        elif isinstance(effect, Send):
            assert effect.event_id in recorded
            assert (effect.row.policy is None) == (effect.decision is None) == (effect.row.source == "system")
            sent[effect.event_id] += 1
    assert all(count == 1 for count in sent.values())
    outputs = Counter(each["item"]["call_id"] for each in play.sent if each.get("item", {}).get("call_id"))
    assert all(count == 1 for count in outputs.values()), "a function call is answered once"
    assert len(play.of(AskTool)) == len({ask.body["function_call_id"] for ask in play.of(AskTool)})


@settings(max_examples=300, deadline=None)
@given(_PLAYS)
def test_numbers_grow_and_each_decision_has_a_place_of_its_own(steps: list[tuple[Any, ...]]) -> None:
    play = _played(steps, *POLICIES)
    seqs = [record.seq for record in play.records]
    assert seqs == sorted(set(seqs))
    rows = {id(row): row for row in play.of(DecisionRow)}.values()
    places = Counter((row.seq, row.policy) for row in rows)
    assert all(count == 1 for count in places.values())
    assert all(row.seq <= play.machine.ledger.seq for row in rows)


@settings(max_examples=200, deadline=None)
@given(_PLAYS)
def test_every_decision_has_its_outcome_once_the_call_is_over(steps: list[tuple[Any, ...]]) -> None:
    play = _played([step for step in steps if step[0] != "drain"], *POLICIES)
    if play.machine.phase is Phase.ATTACHED:
        play.close()
    play.fail(404)
    assert play.ending is not None
    assert [row for row in play.decisions if row.outcome is None] == []


@settings(max_examples=200, deadline=None)
@given(_PLAYS)
def test_a_cancel_names_the_response_that_was_matched(steps: list[tuple[Any, ...]]) -> None:
    play = _played(steps, policy(rules.CancelResponse(), trigger=MONEY))
    for send in _acts(play):
        event = json.loads(send.text)
        assert send.decision is not None
        if event["type"] == "response.cancel":
            assert event["response_id"] == send.decision.response_id


@settings(max_examples=200, deadline=None)
@given(_PLAYS)
def test_a_machine_with_policies_asks_to_be_woken_for_a_reason(steps: list[tuple[Any, ...]]) -> None:
    play = _played(steps, *POLICIES)
    for _ in range(30):
        due = play.machine.wake_at()
        if due is None:
            return
        play.wait(max(0.0, due - play.now))
        play.wake()
        again = play.machine.wake_at()
        assert again is None or again > play.now, "woken, it asks for the same moment again"
