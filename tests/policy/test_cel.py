"""Conditions in CEL: what the adapter promises, whatever the library under it does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.policy.cel import (
    MAX_EVENT,
    ConditionError,
    ConditionFault,
    Shown,
    compile_condition,
)
from tests.support.watch import quickest

SCOPE: dict[str, Any] = {
    "event": {
        "type": "response.done",
        "n": None,
        "one": 1,
        "half": 0.5,
        "yes": True,
        "text": "Grüße 😀",
        "list": [1, 2, 3],
        "empty": [],
        "response": {"id": "resp_1", "usage": {"total_tokens": 253}, "output": [{"type": "message"}]},
    },
    "call": {"turn_count": 3, "cost_usd": 0.25, "labels": {"plan": "gold"}, "user": None, "tags": ["vip"]},
    "match": {"text": "Refund", "item_id": None, "keys": ["tools"]},
}


@pytest.mark.parametrize(
    "source",
    [
        "true",
        "call.turn_count > 1",
        "call.turn_count == 3.0",
        "call.cost_usd >= 0.25",
        "event.one == 1 && event.half < 1",
        "event.yes",
        "event['type'] == 'response.done'",
        "event.type.startsWith('response.') && !event.type.endsWith('x')",
        "event.text.contains('üße')",
        "event.text.size() == 7",
        "match.text.matches('(?i)^refund$')",
        "matches(match.text, r'^Re\\w+')",
        "'vip' in call.tags",
        "'plan' in call.labels && call.labels.plan == 'gold'",
        "has(event.response.usage) && event.response.usage.total_tokens > 250",
        "event.response.output.exists(each, each.type == 'message')",
        "event.list.all(x, x > 0) && event.list.filter(x, x > 1).size() == 2",
        "event.n == null",
        "!has(event.absent)",
        "event.absent || true",
        "event.absent == 1 || call.turn_count == 3",
        "event.one in [1, 2]",
        "event.list[0] == 1",
        "string(event.one) == '1'",
        "call.turn_count > 2 ? true : event.absent",
        "'tools' in match.keys",
        "timestamp('2026-01-01T00:00:00Z') < timestamp('2026-01-02T00:00:00Z')",
        "'matches(' != 'all('",
    ],
)
def test_what_is_true_matches(source: str) -> None:
    assert compile_condition(source).matches(SCOPE)
    assert compile_condition(f"({source}) && true").matches(Shown(SCOPE))


@pytest.mark.parametrize("source", ["false", "call.turn_count > 3", "event.n", "event.one", "event.list", "event.text"])
def test_only_a_boolean_true_matches(source: str) -> None:
    assert not compile_condition(source).matches(SCOPE)


@pytest.mark.parametrize(
    "source",
    [
        "event.absent",
        "event.absent == 1",
        "event.absent != 1",
        "!event.absent",
        "!(event.absent == 1)",
        "event.absent.deeper.still > 1",
        "has(event.absent.deeper)",
        "event.n.deeper == 1",
        "has(event.n.deeper)",
        "event.n > 1",
        "event.n['x'] == 1",
        "event.text.deeper == 1",
        "event.empty[0] == 1",
        "event.list[7] == 1",
        "match.item_id == 'x'",
        "call.absent < 1.0",
        "event.absent.contains('x')",
        "event.absent.exists(x, true)",
        "'x' in event.absent",
        "event.one == 1 && event.absent",
    ],
)
def test_a_missing_field_neither_matches_nor_fails(source: str) -> None:
    assert not compile_condition(source).matches(SCOPE)
    assert not compile_condition(source).matches({})


@pytest.mark.parametrize(
    "source",
    [
        "1 / 0 == 1",
        "event.one % 0 == 1",
        "event.one + 9223372036854775807 > 0",
        "event.text > 1",
        "event.one + 'x' == '1x'",
        "event.one + 0.5 > 1.0",
        "int(event.text) == 1",
        "timestamp(event.text) > timestamp('2026-01-01T00:00:00Z')",
    ],
)
def test_what_cannot_be_evaluated_is_a_fault(source: str) -> None:
    with pytest.raises(ConditionFault) as told:
        compile_condition(source).matches(SCOPE)
    assert 0 < len(str(told.value)) <= 300


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "yntax"),
        ("event.one ==", "yntax"),
        ("nothing == 1", "undeclared"),
        ("event.frobnicate(1)", "undeclared"),
        ("'yes'", "STRING"),
        ("1 + 1", "INT"),
        ("[true]", "LIST"),
        ("1 == 'x'", "overload"),
        ("'open", "end"),
        ("event.list.all(x, event.list.all(y, x == y))", "loop"),
        ("event.list.map(x, event.list.filter(y, x == y).size()).size() > 0", "loop"),
        ("event.text.matches(event.pattern)", "literal"),
        ("event.text.matches('a' + 'b')", "literal"),
        ("matches(event.text, event.text)", "literal"),
        ("event.text.matches('(')", "RE2"),
        ("event.text.matches('[ab]{900}[ab]{900}[ab]{900}')", "too large"),
        ("event.text.matches('x*')", "empty text"),
        ("event.one == 1 || " * 200 + "true", "longer"),
        ("(" * 300 + "true" + ")" * 300, "recursion"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_the_reason(source: str, said: str) -> None:
    with pytest.raises(ConditionError, match=said):
        compile_condition(source)


def test_two_loops_beside_each_other_are_taken() -> None:
    assert compile_condition("event.list.all(x, x > 0) && event.list.exists(x, x == 3)").matches(SCOPE)


@pytest.mark.parametrize("odd", [10**30, -(10**400), 2**63, "\ud800", {"\ud800": [10**30]}, float("inf")])
def test_what_the_library_cannot_hold_hides_nothing_else(odd: Any) -> None:
    event = {"type": "error", "odd": odd}
    assert compile_condition("event.type == 'error'").matches(Shown({"event": event}))
    assert not compile_condition("event.odd == 'x'").matches({"event": event})


def test_an_event_that_is_too_large_is_a_fault() -> None:
    frame = b"x" * (MAX_EVENT + 1)
    with pytest.raises(ConditionFault, match="too large"):
        compile_condition("event.one == 1").matches(SCOPE, frame=frame)
    assert compile_condition("call.turn_count == 3").matches(SCOPE, frame=frame)


@pytest.mark.parametrize(
    "source",
    [
        "event.l.all(x, x in event.l)",
        "event.l.all(x, event.l == event.l)",
        "event.l.exists(x, event.s.contains('b' + string(x)))",
        "event.l.map(x, event.s + event.s).size() > 0",
        "event.s.matches('(?:[ab]{0,20}){0,20}c')",
        "event.l == event.l && event.l == event.l && event.l == event.l",
        "event.s + event.s + event.s == event.s",
        "event.l.all(x, event.s.matches('[ab]*a[ab]{50}c'))",
        "(((event.s + event.s) + (event.s + event.s)) + ((event.s + event.s) + (event.s + event.s))).contains('bbb')",
        "event.l.exists(x, " + " || ".join(["x in event.l"] * 100) + ")",
    ],
)
@pytest.mark.parametrize(("numbers", "letters"), [(10_000, 100), (100, 60_000), (4000, 30_000), (200, 1000)])
def test_nothing_takes_long(source: str, numbers: int, letters: int) -> None:
    event = {"l": list(range(1000, 1000 + numbers)), "s": "ab" * (letters // 2)}
    frame = str(event).replace(" ", "").encode()
    assert len(frame) <= MAX_EVENT
    condition = compile_condition(source)

    def match() -> None:
        with contextlib.suppress(ConditionFault):
            condition.matches({"event": event, "call": {}, "match": {}}, frame=frame)

    assert quickest(match, 0.05) < 0.05


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    JSON,
    st.sampled_from(
        ["event.a == 1", "event.a", "event.a.b > 1", "event.a[0] == 'x'", "'x' in event.a", "event.a == event.a"]
    ),
)
def test_any_event_gives_a_boolean_or_a_fault(value: Any, source: str) -> None:
    with contextlib.suppress(ConditionFault):
        assert compile_condition(source).matches({"event": {"a": value}}) in (True, False)


def test_without_the_extra_the_message_says_how_to_install_it() -> None:
    code = """
        import sys
        sys.modules["cel_expr_python"] = None
        from rtobserver.policy.cel import CelMissing, compile_condition
        try:
            compile_condition("true")
        except CelMissing as problem:
            print(problem)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "install `rtobserver[cel]`" in done.stdout
