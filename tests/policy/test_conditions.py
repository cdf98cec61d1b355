"""Conditions are taken apart at their topmost operators, and their paths found."""

from __future__ import annotations

import pytest

from rtobserver.policy.conditions import evaluate, parts, paths, values


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a", []),
        ("a && b", ["a", "b"]),
        ("a && (b || c)", ["a", "(b || c)"]),
        ("(a || b)", ["a", "b"]),
        ("(a) && (b)", ["(a)", "(b)"]),
        ('match.text == "x && y"', []),
        ("event.a == '\\' && ' && b", ["event.a == '\\' && '", "b"]),
        ("[1, 2].exists(x, x > 1 && x < 3)", []),
    ],
)
def test_parts_are_what_the_topmost_operators_join(source: str, found: list[str]) -> None:
    assert parts(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("call.turn_count > 1 && call.turn_count < 5", ["call.turn_count"]),
        ("event.item.content[0].text.contains('call.user')", ["event.item.content[0].text"]),
        ('"vip" in call.tags', ["call.tags"]),
        ("has(event.response.status)", ["event.response.status"]),
        ("call.tags.exists(t, t == match.text)", ["call.tags", "match.text"]),
        ("recall.x == 1 && size(event) > 2", []),
    ],
)
def test_paths_are_what_begins_with_one_of_the_three_names(source: str, found: list[str]) -> None:
    assert paths(source) == found


def test_values_are_those_that_are_there() -> None:
    scope = {"event": {"content": [{"text": "hi"}], "none": None}, "call": {}, "match": None}
    source = "event.content[0].text == 'hi' || event.content[1].text == 'x' || event.none == 1 || match.text == 'a'"
    assert values(source, scope) == {"event.content[0].text": "hi", "event.none": None}


def test_a_part_that_is_no_condition_by_itself_is_a_fault() -> None:
    part = evaluate("event.a +", {"event": {}, "call": {}, "match": None})
    assert not part.holds
    assert part.fault
