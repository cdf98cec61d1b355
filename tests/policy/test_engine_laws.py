"""What holds for the engine whatever happens in a call."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from typing import Any

import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.policy.active import Active
from rtobserver.policy.book import SPOKEN
from rtobserver.policy.limits import ACTIONS_PER_CALL, MAX_FAULTS
from rtobserver.policy.rules import (
    Absent,
    After,
    Count,
    DeadAir,
    Idle,
    Mode,
    On,
    Policy,
    PolicySet,
    Regex,
    Say,
    Tag,
    Tool,
    Trigger,
    Turns,
    UnansweredTool,
    Usage,
)
from rtobserver.policy.verdicts import Verdict
from tests.policy.play import START, Play, past, phrase, policy

WORDS = ("refund", "money", "back", "no")
TRIGGERS: st.SearchStrategy[Trigger] = st.sampled_from(
    [
        On(types=("error",)),
        On(types=("*",)),
        phrase("money back", "no"),
        phrase("refund", speaker="user", whole=True),
        Regex(speaker="assistant", pattern="m[a-z]+y"),
        Tool(name="*", arguments={}),
        After(seconds=3),
        Idle(seconds=2),
        DeadAir(seconds=2),
        UnansweredTool(seconds=2),
        Absent(what=phrase("money"), within=4),
        Count(on=On(types=("error",)), at_least=2, within=5),
        Usage(meter="total_tokens", at_least=Decimal(20)),
        Turns(at_least=2),
    ]
)
FIELDS = [
    *("item", "item_id", "response", "response_id", "delta", "transcript", "text", "content", "role", "type", "id"),
    *("call_id", "name", "arguments", "usage", "status"),
]
MODES: st.SearchStrategy[Mode] = st.sampled_from(["observe", "canary", "enforce"])


@st.composite
def policies(draw: st.DrawFn) -> tuple[Policy, ...]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        limit: dict[str, Any] = {
            "per_call": draw(st.integers(0, 3)),
            "cooldown": draw(st.sampled_from([0.0, 1.0, 5.0])),
            "consecutive": draw(st.sampled_from([1, 1, 2])),
            "per_minute": draw(st.sampled_from([0, 1, 3, 60])),
        }
        actions = draw(st.sampled_from([(Tag(tag="t"),), (Say(text="{{ match.text }}"), Tag(tag="x"))]))
        when = draw(st.sampled_from([None, None, "call.turn_count < 3", "event.error.code == 'x'", "1 / 0 == 0"]))
        made.append(
            policy(draw(TRIGGERS), *actions, id=f"p{number}", mode=draw(MODES), canary_percent=50, when=when, **limit)
        )
    return tuple(made)


def step(play: Play, what: str, number: int, causes: list[str]) -> list[Verdict]:
    if what == "turn":
        return play.turn(f"u{number}", causes=causes)
    if what == "error":
        return play.hear({"type": "error", "error": {"code": "x"}}, causes=causes)
    if what == "tool":
        return play.call_tool(f"call_{number}", "pay")
    if what == "answer":
        return play.answer_tool(f"call_{number - 1}")
    if what == "end":
        return play.end(f"resp_{number}", tokens=15)
    if what == "wait":
        return play.wait(2.5)
    if what == "play":
        told = play.hear({"type": "output_audio_buffer.started", "response_id": "r"})
        return told + play.hear({"type": "output_audio_buffer.stopped", "response_id": "r"})
    if what.startswith("user "):
        return play.transcribe(f"u{number}", what[5:], final=what[5:])
    return play.say(what, item_id=f"i{number // 3}", causes=causes)


STEPS = st.lists(
    st.sampled_from(
        [
            "turn",
            "error",
            "tool",
            "answer",
            "end",
            "wait",
            "play",
            "user a refund",
            " mon",
            "ey ",
            "back ",
            "no ",
            "money ",
        ]
    ),
    max_size=40,
)


@given(policies(), st.lists(STEPS, min_size=1, max_size=3))
@settings(max_examples=150)
def test_no_policy_exceeds_its_limits_and_only_those_act_that_may(
    made: tuple[Policy, ...], calls: list[list[str]]
) -> None:
    active = Active(PolicySet(policies=made))
    acting: dict[str, list[int]] = defaultdict(list)
    now = 0
    for place, steps in enumerate(calls):
        play = Play(active=active, call_id=f"rtc_{place}", start=START + now)
        decided: dict[str, list[tuple[float, Verdict]]] = defaultdict(list)
        causes: list[str] = []
        actions = 0
        for number, what in enumerate(steps):
            before = len(play.all)
            step(play, what, number, causes)
            causes = []
            for verdict in play.all[before:]:
                decided[verdict.policy.id].append((play.age, verdict))
                causes += verdict.causes
                if verdict.acts:
                    actions += len(verdict.actions)
                    acting[verdict.policy.id].append(play.at)
                    assert verdict.policy.mode != "observe"
                    assert verdict.fault is None
        now = play.at - START
        assert actions <= ACTIONS_PER_CALL
        for policy_id, verdicts in decided.items():
            limit = verdicts[0][1].policy.limit
            assert not limit.per_call or sum(verdict.fault is None for _, verdict in verdicts) <= limit.per_call
            assert sum(verdict.fault is not None for _, verdict in verdicts) <= MAX_FAULTS
            assert policy_id in {each.id for each in made}
    for each in made:
        if most := each.limit.per_minute:
            times = acting[each.id]
            assert all(later - earlier > 60_000_000 for earlier, later in zip(times, times[most:], strict=False))


@given(policies(), STEPS)
@settings(max_examples=100)
def test_a_cool_down_is_kept(made: tuple[Policy, ...], steps: list[str]) -> None:
    play = Play(*made)
    for number, what in enumerate(steps):
        step(play, what, number, [])
    for each in made:
        own = [verdict for verdict in play.all if verdict.policy.id == each.id and verdict.fault is None]
        told = [play.ages[id(verdict)] for verdict in own]
        assert all(later - earlier >= each.limit.cooldown for earlier, later in itertools.pairwise(told))


@given(st.lists(st.sampled_from([*WORDS, " ", "! ", "é", "e\u0301", "退款"]), max_size=12), st.data())
def test_verdicts_do_not_depend_on_how_the_text_was_cut(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    made = [
        policy(phrase("money back"), id="a"),
        policy(phrase("no", whole=True), id="b"),
        policy(phrase("退款"), id="c"),
        policy(phrase("é refund", "back no"), id="d", mode="observe"),
        policy(Absent(what=phrase("money"), within=60), id="e"),
    ]

    def play(cuts: list[int]) -> dict[tuple[str, str | None], int]:
        """Give what was decided, and how much of the text had been said."""
        called = Play(*made)
        places = sorted({0, len(text), *cuts})
        told = [(each, end) for start, end in itertools.pairwise(places) for each in called.say(text[start:end])]
        told += [(each, len(text) + 1) for each in called.say(final=text)]
        told += [(each, len(text) + 2) for each in called.wait(100)]
        return {(each.policy.id, each.match.text): end for each, end in told}

    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    places = sorted({0, len(text), len(text) + 1, len(text) + 2, *cuts})
    # the delta that holds the completing character decides
    expected = {what: min(each for each in places if each >= end) for what, end in play(list(range(len(text)))).items()}
    assert play(cuts) == expected


@given(
    st.lists(st.sampled_from(["ref", "und", " ", "12", "3", ".", "\n", "stop", "é"]), max_size=10).map("".join),
    st.sampled_from(
        [
            *(r"ref", r"\bref\b", r"\brefund", r"ref\B", r"(?m)stop$", r"stop$", r"stop\z", r"und|ref\b", r"^ref"),
            *(r"[0-9]{2,3}\b", r"(?:[0-9] ?){3}", r"f\Bu|f\b.", r"[$] ?|stop\b", r"(?m)^stop"),
        ]
    ),
    st.data(),
)
@settings(max_examples=300)
def test_what_a_pattern_finds_does_not_depend_on_how_the_text_was_cut(
    text: str, pattern: str, data: st.DataObject
) -> None:
    def play(cuts: list[int]) -> list[int]:
        """Give how much of the text had been said at each match."""
        called = Play(policy(Regex(speaker="assistant", pattern=pattern)))
        places = sorted({0, len(text), *cuts})
        told = [end for start, end in itertools.pairwise(places) for _ in called.say(text[start:end])]
        return told + [len(text) + 1 for _ in called.say(final=text)]

    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    places = sorted({0, len(text), len(text) + 1, *cuts})
    # the delta that shows the match decides, and no other
    expected = [min(each for each in places if each >= end) for end in play(list(range(len(text))))]
    assert play(cuts) == expected
    assert len(expected) == (re2.search(pattern, text) is not None)


@given(policies(), STEPS, st.integers(0, 40))
@settings(max_examples=150)
def test_a_call_that_is_taken_up_goes_on_as_if_nothing_had_happened(
    made: tuple[Policy, ...], steps: list[str], cut: int
) -> None:
    # conditions look at the call as it is now, and a timer that a cool-down stopped left nothing behind
    made = tuple(replace(each, limit=replace(each.limit, cooldown=0.0)) for each in made if each.when is None)
    whole = Play(*made, call_id="rtc_a")
    first = Play(*made, call_id="rtc_a")
    for number, what in enumerate(steps[:cut]):
        step(whole, what, number, [])
        step(first, what, number, [])
    second = Play(active=first.active, call_id="rtc_a")
    for age, frame in first.frames:
        second.recall(frame, age=age)
    second.engine.restore(past([(first.ages[id(each)], each) for each in first.all]))
    second.age = first.age
    for number, what in enumerate(steps[cut:], cut):
        one = step(whole, what, number, [])
        two = step(second, what, number, [])
        assert [(each.policy.id, each.acts, each.match) for each in one] == [
            (each.policy.id, each.acts, each.match) for each in two
        ]


KINDS = [*SPOKEN, "response.done", "error", "session.updated", "response.function_call_arguments.done", "x"]
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["user", "input_text", "function_call"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=6,
)


@given(
    policies(), st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), ODD)), max_size=8)
)
@settings(max_examples=150)
def test_whatever_comes_is_taken(made: tuple[Policy, ...], events: list[tuple[str, dict[str, Any]]]) -> None:
    play = Play(*made, policy(On(types=("*",)), id="all", when="event.item.content[0].text == 'a'", per_minute=0))
    for kind, told in events:
        play.hear({**told, "type": kind}, causes=["p0"])
        play.tamper("tools", "items")
    for rubbish in (b"", b"{", b"[]", b"\xff", b'{"type":"error","delta":"\\ud800"}', b'{"type":"x","n":1e999}'):
        play.hear(rubbish)
    assert play.engine.wake_at() is None or play.wait(100) is not None
