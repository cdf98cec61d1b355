"""Know what events, calls and matches look like: samples for dry runs, and the paths that there are in them.

Pure but for reading the samples that come with this release, `samples.ndjson`. What a sample has as
null, or as an empty table or list, can hold anything. Types that have no sample are unknown, and
nothing is said about them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

from rtobserver.policy import globs, rules
from rtobserver.policy.rules import Json, Trigger

_SAID: Mapping[str, tuple[str, ...]] = {
    "assistant": (
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.added",
        "conversation.item.done",
    ),
    "user": (
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.added",
        "conversation.item.done",
    ),
}
"""Events that can complete a match in what a speaker says."""
_CALLED = (
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.done",
    "conversation.item.added",
    "conversation.item.done",
)
"""Events that can complete a function call."""
_CHANGED = ("session.updated", "conversation.item.added", "conversation.item.done")
"""Events that can show tampering."""

CALL: Mapping[str, Json] = {
    "call_id": "rtc_sample",
    "protocol": "realtime",
    "status": "live",
    "started_at": "2026-01-01T12:00:00.000000Z",
    "duration_seconds": 62.5,
    "age_seconds": 62.5,
    "profile": "default",
    "model": "gpt-realtime",
    "user": "somebody",
    "labels": {},
    "tags": [],
    "entry_count": 120,
    "turn_count": 3,
    "interruption_count": 1,
    "error_count": 0,
    "tampered": False,
    "usage": {
        "input_tokens": 132,
        "output_tokens": 121,
        "total_tokens": 253,
        "cached_tokens": 64,
        "input": {"text": 112, "audio": 20, "image": 0},
        "output": {"text": 30, "audio": 91},
        "cached": {"text": 64, "audio": 0, "image": 0},
        "transcription": {"tokens": 35, "seconds": 2.0},
        "responses_without_usage": 0,
    },
    "cost_usd": 0.0125,
    "latency": {"first_audio_ms": {"p50": 700, "p95": 900}, "generation_ms": {"p50": 400, "p95": 500}},
    "attach_latency_ms": 210,
    "gap_count": 0,
    "completeness": None,
}
"""A live call with every field that it can have; `view.view` gives it. What is not known before its end is null."""

MATCH: Mapping[str, Json] = {
    "text": "refund",
    "item_id": "item_A1",
    "response_id": "resp_R1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
    "keys": ["instructions"],
}
"""A match with every field that it can have."""


@cache
def events() -> Mapping[str, tuple[Mapping[str, Json], ...]]:
    """Give samples of the server's events by type."""
    text = files("rtobserver.policy").joinpath("samples.ndjson").read_text(encoding="utf-8")
    found: dict[str, list[Mapping[str, Json]]] = {}
    for line in text.splitlines():
        sample = json.loads(line)
        found.setdefault(sample["type"], []).append(sample)
    return {type_: tuple(samples) for type_, samples in found.items()}


def every() -> Iterable[Mapping[str, Json]]:
    """Give all samples."""
    return (sample for samples in events().values() for sample in samples)


def types(trigger: Trigger) -> tuple[str, ...] | None:
    """Give the types of events at which a trigger can match, which may be globs; None for all, () for none."""
    match trigger:
        case rules.On():
            return trigger.types
        case rules.Count():
            return trigger.on.types
        case rules.Phrase() | rules.Regex():
            return _SAID[trigger.speaker]
        case rules.Tool():
            return _CALLED
        case rules.Tampered():
            return _CHANGED
        case rules.Usage() | rules.Turns():
            return None
    return ()


def of(trigger: Trigger) -> tuple[Mapping[str, Json], ...]:
    """Give samples of the events at which a trigger can match; none for a timer, and for unknown types."""
    wanted = types(trigger)
    return tuple(
        sample
        for type_, samples in events().items()
        if wanted is None or any(globs.matches(pattern, type_) for pattern in wanted)
        for sample in samples
    )


def are_complete(trigger: Trigger) -> bool:
    """Say whether nothing else than what has samples can be an event of a trigger's."""
    wanted = types(trigger)
    return wanted is not None and all(type_ in events() for type_ in wanted)


def match_of(trigger: Trigger) -> Mapping[str, Json]:
    """Give what `match` can hold where a trigger matches."""
    absent = set()
    if not isinstance(trigger, rules.Phrase | rules.Regex):
        absent.add("text")
    if not isinstance(trigger, rules.Tampered):
        absent.add("keys")
    if not isinstance(trigger, rules.Tool | rules.UnansweredTool):
        absent |= {"name", "arguments"}
    if isinstance(trigger, rules.After | rules.Idle | rules.DeadAir | rules.Absent):
        absent.add("item_id")
    return {name: value for name, value in MATCH.items() if name not in absent}


def has(sample: Json, steps: Sequence[str]) -> bool:
    """Say whether a value like this sample can have something at a path."""
    if not steps or sample is None or sample == {} or sample == []:
        return True
    step, rest = steps[0], steps[1:]
    if isinstance(sample, Mapping):
        return step in sample and has(sample[step], rest)
    if isinstance(sample, list):
        return step.isdecimal() and any(has(element, rest) for element in sample)
    return False


def nearest(samples: Iterable[Json], steps: Sequence[str]) -> str:
    """Give the name that was probably meant at the first step that no sample has; empty if none is near."""
    values = list(samples)
    for step in steps:
        inner = [value[step] for value in values if isinstance(value, Mapping) and step in value]
        if isinstance(step, str) and step.isdecimal():
            inner += [element for value in values if isinstance(value, list) for element in value]
        if not inner:
            names = dict.fromkeys(name for value in values if isinstance(value, Mapping) for name in value)
            return next(iter(difflib.get_close_matches(step, names, n=1)), "")
        values = inner
    return ""
