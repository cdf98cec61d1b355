import json
from typing import Any

import pytest

from rtobserver.policy import rules, samples
from rtobserver.policy.view import Subject, view
from rtobserver.realtime.call import CallState
from rtobserver.realtime.events import read
from rtobserver.realtime.names import BETA_NAMES
from tests.fidelity.recorded import all_received
from tests.policy.play import Play, policy


@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_every_field_of_every_recorded_event_is_in_the_samples(provider: str) -> None:
    known = samples.events()
    for event in all_received(provider):
        for path in paths(event):
            found = any(samples.has(sample, path) for sample in known[event["type"]])
            assert found, (event["type"], path)


def paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, part in inner for each in paths(part, (*path, str(key))))]


def test_there_are_samples_of_all_types_under_their_present_names() -> None:
    known = samples.events()
    assert len(known) == 45
    assert set(BETA_NAMES.values()) <= set(known)
    assert not set(BETA_NAMES) & set(known)


def test_samples_can_be_read_as_events() -> None:
    for type_, found in samples.events().items():
        for sample in found:
            event, embeddable = read(json.dumps(sample).encode())
            assert (event.type, embeddable) == (type_, True)
    ids = [sample["event_id"] for sample in samples.every() if "event_id" in sample]
    assert len(set(ids)) == len(ids)


def test_the_sample_of_a_call_has_what_rules_are_shown() -> None:
    subject = Subject(call_id="rtc_1", profile="default", model="m", started_at=0, user="u", labels={"a": "b"})
    shown = view(subject, CallState(), age=1.0, attach_latency_ms=1)
    assert set(shown) <= set(samples.CALL)
    for path in paths(shown):
        assert samples.has(samples.CALL, path), path


def test_a_path_is_there_if_some_sample_has_it_and_what_is_empty_can_hold_anything() -> None:
    sample: dict[str, Any] = {"a": {"b": None, "c": {}, "d": [{"e": 1}, {"f": 2}], "g": "text"}}
    for path in ("a", "a.b.x.y", "a.c.x", "a.d.0.f", "a.d.7.e"):
        assert samples.has(sample, path.split("."))
    for path in ("b", "a.x", "a.d.e", "a.d.0.g", "a.g.length"):
        assert not samples.has(sample, path.split("."))
    assert samples.nearest([sample], ("a", "d", "0", "ee")) == "e"
    assert samples.nearest([sample], ("a", "something")) == ""


def test_what_can_be_at_a_trigger_is_what_its_types_have() -> None:
    assert {each["type"] for each in samples.of(rules.On(types=("response.output_text.*", "future")))} == {
        "response.output_text.delta",
        "response.output_text.done",
    }
    assert samples.of(rules.After(seconds=1.0)) == ()
    assert samples.of(rules.On(types=("future.event",))) == ()
    assert len(samples.of(rules.Turns(at_least=1))) == len(list(samples.every()))


PLACE = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
CALLED = {"type": "response.function_call_arguments.done", "call_id": "call_1", "name": "f", "arguments": "{}", **PLACE}
SAID = {"type": "response.output_audio_transcript.delta", "delta": "refund", **PLACE}


@pytest.mark.parametrize(
    ("trigger", "event", "fills"),
    [
        (rules.On(types=("response.*",)), CALLED, {"item_id", "response_id"}),
        (rules.Phrase(speaker="assistant", phrases=("refund",)), SAID, {"text", "item_id", "response_id"}),
        (rules.Regex(speaker="assistant", pattern="refund"), SAID, {"text", "item_id", "response_id"}),
        (rules.Tool(name="*", arguments={}), CALLED, {"item_id", "response_id", "name", "arguments"}),
        (rules.UnansweredTool(seconds=1.0), CALLED, {"item_id", "response_id", "name", "arguments"}),
    ],
)
def test_what_a_match_can_hold_is_what_the_engine_fills_in(
    trigger: rules.Trigger, event: dict[str, Any], fills: set[str]
) -> None:
    play = Play(policy(trigger))
    verdicts = play.hear(event) or play.wait(5.0)
    filled = {name for name in samples.MATCH if getattr(verdicts[0].match, name)}
    assert filled == fills == set(samples.match_of(trigger))
