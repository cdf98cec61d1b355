"""Replaying a recording with the policies that were in force gives the decisions that were recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtobserver.observation.phases import Phase
from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Decided, Place
from rtobserver.policy.recordings import Recorded
from rtobserver.policy.replay import Replay, Watched, decided
from rtobserver.policy.rules import Limit, Policy, PolicySet
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import DecisionRow, Record
from tests.observation.play import START, SUBJECT, Play, Store

SESSION = {"type": "realtime", "instructions": "Be kind.", "tools": []}
REFUND = rules.Phrase(speaker="assistant", phrases=("refund",))


def rule(id_: str, trigger: rules.Trigger, *actions: rules.Action, **values: Any) -> Policy:
    return Policy(id=id_, trigger=trigger, actions=actions, **({"mode": "enforce"} | values))


POLICIES = (
    rule("refund", REFUND, rules.CancelResponse(), rules.Say(text="No refund."), rules.Tag(tag="refund")),
    rule("own", REFUND, rules.CreateItem(item={"type": "message", "role": "user"}), limit=Limit(per_call=3)),
    rule("number", rules.Regex(speaker="user", pattern="[0-9]{4}"), rules.Tag(tag="number"), limit=Limit(cooldown=5.7)),
    rule("tagged", rules.On(types=("response.*",)), rules.Tag(tag="x"), when='"number" in call.tags'),
    rule("errors", rules.Count(on=rules.On(types=("error",)), at_least=2, within=10.0003), rules.MuteModel()),
    rule("idle", rules.Idle(seconds=7.0003), rules.Say(text="Still there?"), mode="canary", canary_percent=50),
    rule("quiet", rules.DeadAir(seconds=3.0003), rules.Tag(tag="quiet"), mode="observe"),
    rule("old", rules.After(seconds=30.0003), rules.Tag(tag="old")),
    rule("notice", rules.Absent(what=REFUND, within=20.0003), rules.Tag(tag="no-notice")),
    rule("turns", rules.Turns(at_least=2), rules.Tag(tag="long")),
    rule("rows", rules.On(types=("error",)), rules.Tag(tag="rows"), limit=Limit(consecutive=2)),
    rule("broken", rules.On(types=("error",)), rules.Tag(tag="b"), when="event.number / 0 == 1"),
    rule("tool", rules.UnansweredTool(seconds=2.0003), rules.Say(text="One moment.")),
    rule("calls", rules.Tool(name="get_*", arguments={}), rules.AnswerTool(url="https://tools.example.com/")),
    rule("watch", rules.Tampered(keys=None), rules.RestoreSession()),
    rule("last", rules.Tampered(keys=None), rules.RestoreSession(), rules.Tag(tag="tampered")),
)

TIMED = ("after", "idle", "dead_air", "unanswered_tool", "absent")

Json = dict[str, Any]


def item(role: str, number: int, **values: Any) -> Json:
    return {"id": f"i{number}", "type": "message", "role": role, "status": "in_progress", "content": []} | values


def frames(kind: str, number: int) -> list[Json]:
    """What upstream says when something happens in the call."""
    response = {"id": f"r{number}", "status": "in_progress", "conversation_id": "conv_1"}
    place = {"response_id": f"r{number}", "item_id": f"i{number}"}
    delta = {"type": "response.output_audio_transcript.delta", **place}
    call = {"id": f"i{number}", "type": "function_call", "name": "get_time", "call_id": f"c{number}", "arguments": "{}"}
    typed = item("user", number, status="completed", content=[{"type": "input_text", "text": f"it is {number:04}"}])
    made: dict[str, list[Json]] = {
        "begin": [
            {"type": "response.created", "response": response},
            {"type": "response.output_item.added", "response_id": f"r{number}", "item": item("assistant", number)},
            {"type": "conversation.item.added", "item": item("assistant", number)},
        ],
        "half": [{**delta, "delta": " ref"}],
        "rest": [{**delta, "delta": "und it"}],
        "word": [{**delta, "delta": " well"}],
        "end": [{"type": "response.done", "response": response | {"status": "completed", "output": []}}],
        "types": [
            {"type": "conversation.item.added", "item": typed},
            {"type": "conversation.item.done", "item": typed},
        ],
        "speaks": [{"type": "input_audio_buffer.speech_started", "item_id": f"i{number}"}],
        "stops": [
            {"type": "input_audio_buffer.speech_stopped", "item_id": f"i{number}"},
            {"type": "input_audio_buffer.committed", "item_id": f"i{number}"},
        ],
        "plays": [{"type": "output_audio_buffer.started", "response_id": f"r{number}"}],
        "played": [{"type": "output_audio_buffer.stopped", "response_id": f"r{number}"}],
        "error": [{"type": "error", "error": {"code": "x"}, "number": 1}],
        "calls": [{"type": "response.output_item.done", "response_id": f"r{number}", "item": call}],
        "answers": [
            {
                "type": "conversation.item.added",
                "item": {"id": f"o{number}", "type": "function_call_output", "call_id": f"c{number}", "output": "1"},
            }
        ],
        "tampers": [{"type": "session.updated", "session": {"instructions": f"Be rude {number}.", "tools": []}}],
        "nonsense": [{"type": "x.unknown", "number": number}],
    }
    return made[kind]


KINDS = (
    *("begin", "half", "rest", "word", "end", "types", "speaks", "stops", "plays", "played", "error", "calls"),
    *("answers", "tampers", "nonsense"),
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(1, 12_000)),
    st.tuples(st.just("acknowledge"), st.integers(0, 3)),
    st.tuples(st.just("tool"), st.integers(0, 3)),
    st.tuples(st.just("breaks"), st.integers(1, 2_000)),
)


def perform(play: Play, step: tuple[str, int]) -> None:
    name, number = step
    match name:
        case "wait":
            # the machine is woken at its moments, as the observer wakes it
            until = play.now + number / 1000
            while (due := play.machine.wake_at()) is not None and due <= until:
                play.wait(max(0.0, due - play.now))
                play.wake()
                if play.machine.wake_at() == due:
                    break
            play.wait(max(0.0, until - play.now))
        case "acknowledge":
            outstanding = [id_ for id_, row in play.commands.items() if row.state == "sent" and row.type != "hangup"]
            if outstanding and play.machine.phase is Phase.ATTACHED:
                play.acknowledge(outstanding[min(number, len(outstanding) - 1)])
        case "tool":
            play.answer_tool(f"ask_{number}", "noon")
        case "breaks":
            if play.machine.phase is Phase.ATTACHED:
                play.close(1006)
                perform(play, ("wait", number))
                play.attach()
        case _:
            if play.machine.phase is Phase.ATTACHED:
                for frame in frames(name, number):
                    play.wait(0.001)
                    play.frame(frame)


def recorded(row: DecisionRow) -> Decided:
    return Decided(
        policy=row.policy,
        position=Place(row.epoch, row.seq),
        trigger=row.trigger,
        mode=row.mode,
        acts=row.acted,
        would_act=row.outcome != "fault",
        actions=row.actions,
        match=row.match,
    )


def entry(record: Record) -> Recorded:
    names = Recorded._fields
    return Recorded(**{name: getattr(record, name) for name in names})


def without_words(each: Decided) -> tuple[Any, ...]:
    return (*each.key, each.trigger, each.mode, each.acts, each.would_act, each.actions, each.match)


def replayed(play: Play, policies: Sequence[Policy]) -> list[Decided]:
    owners = {id_: row.policy for id_, row in play.commands.items() if row.policy is not None}
    replay = Replay(type(play.active)(play.active.policies), SUBJECT, CallState(), session=SESSION, commands=owners)
    found = [ruling for record in play.records for ruling in replay.take(entry(record))]
    found += replay.pass_time(play.machine.ledger.offset_us(play.now) / 1e6)
    return [decided(each) for each in found]


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_a_replay_gives_the_decisions_that_were_recorded(steps: list[tuple[str, int]]) -> None:
    play = Play(policies=POLICIES, session=SESSION)
    play.attach()
    for step in steps:
        perform(play, step)
    live = [recorded(row) for row in play.decisions]
    again = replayed(play, POLICIES)
    assert sorted(map(without_words, again)) == sorted(map(without_words, live))


RUNS = st.lists(
    st.tuples(
        st.lists(STEPS, max_size=25),
        st.integers(0, 5),
        st.sampled_from(["crash", "drain"]),
        st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 3)), max_size=2),
        st.integers(1, 12_000),
    ),
    min_size=1,
    max_size=3,
)


# a function call is answered for by the run after the one that asked, and then by the page too
@example(runs=[([], 0, "crash", [], 1)] * 2 + [([("calls", 1)], 0, "crash", [], 1)], steps=[("answers", 1)])
@settings(max_examples=400, deadline=None)
@given(RUNS, st.lists(STEPS, max_size=25))
def test_a_replay_gives_the_decisions_that_were_recorded_by_several_runs(
    runs: list[tuple[list[tuple[str, int]], int, str, list[tuple[str, int]], int]], steps: list[tuple[str, int]]
) -> None:
    store, play, stops = Store(), Play(policies=POLICIES, session=SESSION), []
    for before, lost, end, late, ms in runs:
        play.attach()
        for step in before:
            perform(play, step)
        store.commit(play.all)
        if end == "crash":
            # what happens now is not stored any more
            for step in before[:lost]:
                perform(play, step)
        else:
            committed = len(play.all)
            play.drain()
            stops.append(play.machine.ledger.offset_us(play.now) / 1e6)
            for kind, number in late:
                for frame in frames(kind, number):
                    play.wait(0.001)
                    play.frame(frame)
            store.commit(play.all[committed:])
        play = play.taken_over(store, policies=POLICIES, seconds=ms / 1000)
        play.wake()
    play.attach()
    for step in steps:
        perform(play, step)
    store.commit(play.all)

    rows = list(store.decisions.values())
    timed = [row for row in rows if row.trigger in TIMED]
    moments = {
        epoch: sorted((row.received_at - START) / 1e6 for row in timed if row.epoch == epoch)
        for epoch in {row.epoch for row in timed}
    }
    owners = {id_: row.policy for id_, row in store.commands.items() if row.policy is not None}
    replay = Replay(
        Active(PolicySet(policies=POLICIES)),
        SUBJECT,
        CallState(),
        session=SESSION,
        commands=owners,
        watched=Watched(play.epoch, stops, moments),
    )
    found = [ruling for record in store.records for ruling in replay.take(entry(record))]
    found += replay.pass_time(play.machine.ledger.offset_us(play.now) / 1e6)
    assert sorted(map(without_words, map(decided, found))) == sorted(without_words(recorded(row)) for row in rows), (
        runs,
        steps,
    )
