"""What counts as tampering with a call, and what does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.policy.tampering import Tampering, merged, reflects
from rtobserver.realtime.events import read
from tests.support import outside

Json = dict[str, Any]

_NAMES = st.sampled_from(["audio", "input", "output", "turn_detection", "type", "tools", "instructions", "name", "x"])

VAD = {"type": "server_vad", "threshold": 0.5}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
MINTED: Json = {
    "type": "realtime",
    "model": "gpt-realtime",
    "instructions": "Be kind.",
    "tools": [TOOL],
    "output_modalities": ["audio"],
    "audio": {"input": {"turn_detection": VAD, "transcription": {"model": "w"}}, "output": {"voice": "marin"}},
}
TOLD: Json = {
    "type": "realtime",
    "object": "realtime.session",
    "id": "sess_1",
    "model": "gpt-realtime-2025-08-28",
    "output_modalities": ["audio"],
    "instructions": "Be kind.",
    "tools": [{**TOOL, "description": "x", "strict": False}],
    "tool_choice": "auto",
    "tracing": None,
    "expires_at": 1784869982,
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "w", "language": None, "prompt": None},
            "noise_reduction": None,
            "turn_detection": {**VAD, "threshold": 0.5000000001, "silence_duration_ms": 200, "create_response": True},
        },
        "output": {"voice": "marin", "speed": 1.0},
    },
}


def hear(tampering: Tampering, event: Json, *owned: str) -> tuple[str, ...]:
    frame = msgspec.json.encode(event)
    return tampering.heard(read(frame)[0], frame, lambda call_id: call_id in owned)


def updated(tampering: Tampering, **changes: Any) -> tuple[str, ...]:
    return hear(tampering, {"type": "session.updated", "session": TOLD | changes})


def listening(**changes: Any) -> Json:
    return {"audio": {**TOLD["audio"], "input": {**TOLD["audio"]["input"], **changes}}}


def added(tampering: Tampering, item: Json, *owned: str, type_: str = "conversation.item.added") -> tuple[str, ...]:
    return hear(tampering, {"type": type_, "item": {"id": "item_1", "status": "completed", **item}}, *owned)


def test_what_upstream_adds_by_itself_is_no_tampering() -> None:
    assert updated(Tampering(MINTED)) == ()


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"instructions": "Be rude."}, ("instructions",)),
        ({"tools": []}, ("tools",)),
        ({"tools": [{**TOOL, "parameters": {"type": "object"}}]}, ("tools",)),
        ({"tools": [TOOL, {**TOOL, "name": "other"}]}, ("tools",)),
        ({"output_modalities": ["text"]}, ("output_modalities",)),
        (listening(turn_detection={"type": "semantic_vad", "eagerness": "auto"}), ("turn_detection",)),
        (listening(turn_detection=None), ("turn_detection",)),
        (listening(turn_detection={**VAD, "threshold": 0.9}), ("turn_detection",)),
        (listening(transcription=None), ("transcription",)),
        (
            {"instructions": "", "audio": {"input": {}, "output": {"voice": "alloy"}}},
            ("instructions", "turn_detection", "transcription", "voice"),
        ),
    ],
)
def test_a_session_that_differs_in_what_was_minted_is_tampering(changes: Json, keys: tuple[str, ...]) -> None:
    assert updated(Tampering(MINTED), **changes) == keys


def test_what_was_not_minted_may_be_anything() -> None:
    changes = {"tool_choice": "none", "tracing": "auto", "max_output_tokens": 5}
    assert updated(Tampering({"instructions": "Be kind."}), **changes, tools=[], **listening(turn_detection=None)) == ()
    assert updated(Tampering({}), instructions="anything") == ()


def test_a_session_that_is_told_in_part_is_judged_by_what_is_told() -> None:
    tampering = Tampering(MINTED)
    assert hear(tampering, {"type": "session.updated", "session": {"type": "realtime", "tracing": "auto"}}) == ()
    # as the beta told it: flat
    flat = {"modalities": ["audio"], "instructions": "Be rude.", "turn_detection": None}
    assert hear(tampering, {"type": "session.updated", "session": flat}) == ("instructions",)


def test_empty_instructions_are_upstreams_own() -> None:
    assert updated(Tampering({"instructions": ""}), instructions="Your knowledge cutoff is 2023-10.") == ()


def test_turn_detection_that_was_minted_as_off_must_stay_off() -> None:
    tampering = Tampering({"audio": {"input": {"turn_detection": None}}})
    assert updated(tampering, **listening(turn_detection=None)) == ()
    assert updated(tampering) == ("turn_detection",)


def test_an_update_of_ours_is_expected_from_its_answer_on() -> None:
    tampering = Tampering(MINTED)
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": {"instructions": "Be brief."}})
    assert updated(tampering, instructions="Be brief.") == ()
    assert tampering.expected["instructions"] == "Be brief."
    assert tampering.expected["audio"] == MINTED["audio"]
    assert updated(tampering) == ("instructions",)


def test_anothers_update_is_not_taken_for_the_answer_to_ours() -> None:
    tampering = Tampering(MINTED)
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": {"instructions": "Be brief."}})
    assert updated(tampering, tools=[]) == ("tools",)
    assert updated(tampering, instructions="Be brief.", tools=[]) == ()
    assert updated(tampering, instructions="Be brief.", tools=[]) == ("tools",)


def test_a_session_that_was_told_before_ours_is_answered_may_show_either_value() -> None:
    tampering = Tampering(MINTED)
    update = {"instructions": "Be brief.", "output_modalities": ["text"]}
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": update})
    assert updated(tampering) == ()
    assert updated(tampering, instructions="Be brief.") == ()


def test_a_refused_update_changes_nothing() -> None:
    tampering = Tampering(MINTED)
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": {"instructions": "Be brief."}})
    hear(tampering, {"type": "error", "error": {"event_id": "rto_1_2", "code": "invalid_value"}})
    assert tampering.intended == MINTED
    assert updated(tampering, instructions="Be brief.") == ("instructions",)


def test_the_same_change_told_again_while_it_is_being_restored_is_nothing_new() -> None:
    tampering = Tampering(MINTED)
    assert updated(tampering, instructions="Be rude.") == ("instructions",)
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": tampering.restoration()})
    assert updated(tampering, instructions="Be rude.", tracing="auto") == ()
    assert updated(tampering, instructions="Be ruder.") == ("instructions",)
    assert updated(tampering) == ()
    assert updated(tampering, instructions="Be ruder.") == ("instructions",)


def test_a_restoration_is_the_expected_session_without_what_cannot_change() -> None:
    tampering = Tampering(MINTED)
    updated(tampering, **listening(turn_detection={"type": "semantic_vad", "eagerness": "auto"}))
    restoration = tampering.restoration()
    assert "model" not in restoration
    assert restoration["type"] == "realtime"
    assert restoration["audio"]["input"]["turn_detection"] == VAD


def test_a_part_of_the_turn_detection_is_completed_and_another_kind_replaces_it() -> None:
    tampering = Tampering(MINTED)

    def complete(detection: Json) -> Json:
        whole = tampering.completed({"audio": {"input": {"turn_detection": detection}}})
        found: Json = whole["audio"]["input"]["turn_detection"]
        return found

    assert complete({"threshold": 0.9}) == {"type": "server_vad", "threshold": 0.9}
    assert complete({"type": "semantic_vad"}) == {"type": "semantic_vad"}
    assert Tampering({}).detection() == {"type": "server_vad"}


def test_user_items_and_the_browsers_own_tool_outputs_are_normal() -> None:
    tampering = Tampering(MINTED)
    assert added(tampering, {"type": "message", "role": "user"}) == ()
    assert added(tampering, {"type": "function_call_output", "call_id": "call_1"}) == ()
    assert hear(tampering, {"type": "session.created", "session": {"instructions": "anything"}}) == ()


@pytest.mark.parametrize("type_", ["conversation.item.added", "conversation.item.created"])
@pytest.mark.parametrize("role", ["system", "assistant"])
def test_an_item_of_the_system_or_the_model_that_nobody_made_is_tampering(role: str, type_: str) -> None:
    assert added(Tampering(MINTED), {"type": "message", "role": role}, type_=type_) == ("items",)


def test_a_function_call_that_no_response_made_is_tampering() -> None:
    tampering = Tampering(MINTED)
    call = {"type": "function_call", "call_id": "call_1", "name": "refund", "arguments": "{}"}
    assert added(tampering, call) == ("items",)
    assert added(tampering, {**call, "id": "item_2", "status": "in_progress"}) == ("items",)
    hear(tampering, {"type": "response.output_item.added", "item": {"id": "item_3", **call}})
    assert added(tampering, {**call, "id": "item_3"}) == ()
    # where the event before was missed
    assert added(tampering, {**call, "id": "item_4", "status": "in_progress", "arguments": ""}) == ()
    tampering.sent({"type": "conversation.item.create", "event_id": "rto_1_3", "item": {"id": "rto_1_3"}})
    assert added(tampering, {**call, "id": "rto_1_3"}) == ()


def test_items_of_the_model_and_of_ours_are_not_tampering_and_a_forged_id_is() -> None:
    tampering = Tampering(MINTED)
    item = {"type": "message", "role": "assistant", "content": []}
    hear(tampering, {"type": "response.output_item.added", "item": {"id": "item_1", **item}})
    assert added(tampering, item) == ()
    tampering.sent({"type": "conversation.item.create", "event_id": "rto_1_3", "item": {"id": "rto_1_3"}})
    system = {"type": "message", "role": "system"}
    assert added(tampering, {**system, "id": "rto_1_3"}) == ()
    assert added(tampering, {**system, "id": "rto_1_4"}) == ("items",)
    # where the event before was missed, an item of the model shows by being empty and unfinished
    assert added(tampering, {**item, "id": "item_2", "status": "in_progress"}) == ()


def test_an_output_for_a_call_that_is_ours_to_answer_is_tampering() -> None:
    tampering = Tampering(MINTED)
    assert added(tampering, {"type": "function_call_output", "call_id": "call_1"}, "call_1") == ("outputs",)


@pytest.mark.parametrize(
    "name", ["azure_spoken_turn_with_tool", "openai_three_spoken_turns", "azure_sideband_text_turn"]
)
def test_what_upstream_answered_in_real_calls_is_what_was_asked_for(name: str) -> None:
    recorded = outside.interactions(name)
    events = [each["data"] for each in recorded if each["kind"] == "message"]
    asked = next(event["session"] for event in events if event["type"] == "session.update")
    tampering = Tampering(asked)
    seen = [event["type"] for event in events if event["type"] == "session.updated"]
    found = [hear(tampering, event) for event in events if event["type"] in ("session.updated", "session.created")]
    assert seen
    assert set(found) == {()}


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(minted=st.dictionaries(_NAMES, _JSON, max_size=4), told=_JSON, update=_JSON, item=_JSON)
def test_nothing_that_is_told_or_sent_is_too_odd(minted: Json, told: Any, update: Any, item: Any) -> None:
    tampering = Tampering(minted)
    hear(tampering, {"type": "session.updated", "session": told})
    tampering.sent({"type": "session.update", "event_id": "rto_1_1", "session": update})
    hear(tampering, {"type": "session.updated", "session": told})
    hear(tampering, {"type": "conversation.item.added", "item": item}, "a")
    tampering.sent({"type": "conversation.item.create", "item": item})
    tampering.restoration()
    tampering.detection()
    tampering.completed(update if isinstance(update, dict) else {})


@given(session=st.dictionaries(_NAMES, _JSON, max_size=4), update=st.dictionaries(_NAMES, _JSON, max_size=4))
def test_a_session_that_took_an_update_shows_it(session: Json, update: Json) -> None:
    assert reflects(update, merged(session, update))
    tampering = Tampering(session)
    tampering.sent({"type": "session.update", "event_id": "rto_1_1", "session": update})
    assert hear(tampering, {"type": "session.updated", "session": merged(session, update)}) == ()


# --- answers that are lost ----------------------------------------------------------------------


def test_a_late_answer_with_more_in_it_than_ours_is_tampering_all_the_same() -> None:
    tampering = Tampering(MINTED)
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": {"instructions": "Be brief."}})
    tampering.lost()
    assert updated(tampering, instructions="Be brief.", tools=[]) == ("tools",)
    assert tampering.expected["instructions"] == "Be brief."


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_next_session_tells_what_became_of_an_update_whose_answer_was_lost(is_shown: bool) -> None:
    tampering = Tampering(MINTED)
    told = "Be brief." if is_shown else "Be kind."
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": {"instructions": "Be brief."}}, 1.0)
    event = {"type": "session.updated", "session": TOLD | {"instructions": told, "tracing": "auto"}}
    frame = msgspec.json.encode(event)
    assert tampering.heard(read(frame)[0], frame, age=11.0) == ()
    assert tampering.intended["instructions"] == told
    other = "Be kind." if is_shown else "Be brief."
    assert updated(tampering, instructions=other) == ("instructions",)


def test_an_update_whose_answer_was_lost_does_not_hide_a_change_that_is_told_twice() -> None:
    tampering = Tampering(MINTED)
    tampering.sent({"type": "session.update", "event_id": "rto_1_2", "session": {"output_modalities": ["text"]}})
    tampering.lost()
    rude = {"instructions": "Be rude.", "output_modalities": ["audio", "text"]}
    assert updated(tampering, **rude) == ("instructions", "output_modalities")
    assert updated(tampering, **rude) == ("instructions", "output_modalities")


_LEAVES = st.sampled_from(["instructions", "tool_choice", "prompt"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.dictionaries(_LEAVES, st.sampled_from(["a", "b", "c"]), min_size=1)),
        st.tuples(st.just("told"), st.dictionaries(_LEAVES, st.sampled_from(["a", "b", "c"]))),
        st.tuples(st.just("lost"), st.just({})),
        st.tuples(st.just("evil"), _LEAVES.map(lambda leaf: {leaf: ""})),
    ),
    max_size=12,
)


@given(_STEPS)
def test_whatever_answers_are_lost_an_overwritten_leaf_is_reported(steps: list[tuple[str, dict[str, str]]]) -> None:
    minted = {"instructions": "a", "tool_choice": "a", "prompt": "a"}
    tampering, session = Tampering(minted), dict(minted)
    for number, (what, values) in enumerate(steps):
        if what == "update":
            session |= values
            tampering.sent({"type": "session.update", "event_id": f"rto_1_{number}", "session": values})
        elif what == "lost":
            tampering.lost()
        elif what == "told":
            hear(tampering, {"type": "session.updated", "session": session | values})
        else:
            # nobody of us ever asked for this value
            [leaf] = values
            told = {"type": "session.updated", "session": session | {leaf: f"evil {number}"}}
            assert leaf in hear(tampering, told)


@given(st.lists(st.tuples(st.dictionaries(_LEAVES, st.sampled_from(["a", "b", "c"]), min_size=1), st.booleans())))
def test_whatever_answers_are_lost_our_own_updates_are_never_reported(steps: list[tuple[dict[str, str], bool]]) -> None:
    tampering, session = Tampering({"instructions": "a", "tool_choice": "a"}), {"instructions": "a", "tool_choice": "a"}
    for number, (update, is_lost) in enumerate(steps):
        session |= update
        tampering.sent({"type": "session.update", "event_id": f"rto_1_{number}", "session": update})
        if is_lost:
            tampering.lost()
        else:
            assert hear(tampering, {"type": "session.updated", "session": session}) == ()
            assert hear(tampering, {"type": "session.updated", "session": {**session, "tracing": "auto"}}) == ()
