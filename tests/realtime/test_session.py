"""A browser's wishes are taken as far as the operator allows, and never over the operator's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.realtime.session import admit, lookup, merge

ASKED = {
    "type": "realtime",
    "instructions": "mine",
    "audio": {"output": {"voice": "cedar", "speed": 2}, "input": {"noise_reduction": None}},
}


def test_only_allowed_keys_are_taken_and_the_rest_is_named() -> None:
    taken, dropped = admit(ASKED, ["audio.output.voice"])
    assert taken == {"audio": {"output": {"voice": "cedar"}}}
    assert dropped == ["type", "instructions", "audio.output.speed", "audio.input"]


def test_an_allowed_object_is_taken_whole() -> None:
    assert admit(ASKED, ["audio.output"])[0] == {"audio": {"output": {"voice": "cedar", "speed": 2}}}


def test_nothing_is_taken_where_nothing_is_allowed() -> None:
    assert admit(ASKED, []) == ({}, ["type", "instructions", "audio"])


def test_the_operators_values_lie_over_the_browsers() -> None:
    profile = {"instructions": "ours", "audio": {"output": {"voice": "marin"}}}
    assert merge({"audio": {"output": {"voice": "cedar", "speed": 2}}}, profile) == {
        "instructions": "ours",
        "audio": {"output": {"voice": "marin", "speed": 2}},
    }


def test_arrays_are_replaced_whole() -> None:
    assert merge({"tools": [1, 2]}, {"tools": [3]}) == {"tools": [3]}


def test_a_dotted_key_is_looked_up() -> None:
    assert lookup(ASKED, "audio.output.voice") == "cedar"
    assert lookup(ASKED, "audio.output.voice.x") is None
    assert lookup(ASKED, "nothing.here") is None


_objects = st.recursive(
    st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_sessions = st.dictionaries(st.sampled_from("abc"), _objects, max_size=3)


@given(_sessions, _sessions)
def test_whatever_the_profile_sets_wins(browser: dict[str, object], profile: dict[str, object]) -> None:
    merged = merge(browser, profile)
    assert merge(merged, profile) == merged


@given(_sessions, st.lists(st.sampled_from(["a", "a.b", "b.c.a", "c"]), max_size=3))
def test_what_is_taken_is_allowed(browser: dict[str, object], keys: list[str]) -> None:
    taken, _ = admit(browser, keys)
    assert admit(taken, keys) == (taken, [])
