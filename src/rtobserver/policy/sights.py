"""Say what a trigger sees at one moment of a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rtobserver.policy import rules
from rtobserver.policy.replay import Replay
from rtobserver.policy.rules import Json, Trigger
from rtobserver.realtime.events import fields
from rtobserver.realtime.heard import AUDIO_TOKEN_MS
from rtobserver.realtime.values import mapping

SHOWN = 200
"""Characters of a text that are shown, its last ones."""


class Sight(NamedTuple):
    """Be what a trigger sees."""

    says: str
    values: Mapping[str, Json]


def sight(trigger: Trigger, replay: Replay, age: float) -> Sight:
    """Say what a trigger sees where a replay stands, at an age that is the last entry's or later."""
    match trigger:
        case rules.On():
            return Sight(f"the entry is {replay.event.type or 'no event'}", {"event.type": replay.event.type})
        case rules.Count():
            return sight(trigger.on, replay, age)
        case rules.Phrase() | rules.Regex():
            return _said(trigger.speaker, replay)
        case rules.Tool():
            return _called(replay)
        case rules.After():
            return _aged(age)
        case rules.Absent():
            inner, aged = sight(trigger.what, replay, age), _aged(age)
            return Sight(f"{aged.says}; {inner.says}", {**aged.values, **inner.values})
        case rules.Idle():
            # at an entry that is an event, the silence has just been broken
            silent = age - replay.heard_age
            return Sight(f"the last event came {silent:.3f} s before", {"silent_seconds": round(silent, 6)})
        case rules.DeadAir():
            return _quiet(replay, age)
        case rules.UnansweredTool():
            return _unanswered(replay, age)
        case rules.Usage():
            return _used(trigger, replay)
        case rules.Turns():
            turns = replay.state.turn_count
            return Sight(f"the call has {turns} turns", {"call.turn_count": turns})
        case rules.Tampered():
            keys = list(replay.keys)
            says = f"somebody else changed {', '.join(keys)}" if keys else "nothing was tampered with"
            return Sight(says, {"keys": keys})


def _aged(age: float) -> Sight:
    return Sight(f"the call is {age:.3f} s old", {"call.age_seconds": round(age, 6)})


def _said(speaker: str, replay: Replay) -> Sight:
    item_id = replay.event.item_id
    if item_id is None:
        item_id = mapping(fields(replay.frame).get("item")).get("id")
    if not isinstance(item_id, str):
        return Sight("the entry is about nothing that was said", {})
    row = next((each for each in replay.state.items() if each.item_id == item_id), None)
    if row is None or row.role != speaker:
        whose = "an unknown item" if row is None else f"an item of the {row.role}'s"
        return Sight(f"the entry is about {whose}", {"item_id": item_id})
    shown = row.text if len(row.text) <= SHOWN else f"...{row.text[-SHOWN:]}"
    return Sight(f"{speaker} has said {shown!r} in {item_id}", {"item_id": item_id, "text": row.text})


def _called(replay: Replay) -> Sight:
    event = fields(replay.frame)
    item = mapping(event.get("item"))
    found = event if "arguments" in event else item
    if found.get("arguments") is None:
        return Sight("the entry is about no function call", {})
    name, arguments = found.get("name"), found.get("arguments")
    return Sight(f"the function call is {name}({arguments})", {"name": name, "arguments": arguments})


def _quiet(replay: Replay, age: float) -> Sight:
    since = replay.state.quiet_since
    if since is None:
        return Sight("somebody speaks, something plays, its end was missed, or there was no sound yet", {})
    quiet = max(0, _at(replay, age) - since) / 1e6
    return Sight(f"it has been quiet for {quiet:.3f} s", {"quiet_seconds": quiet})


def _unanswered(replay: Replay, age: float) -> Sight:
    at = _at(replay, age)
    waiting = {call_id: max(0, at - since) / 1e6 for call_id, (_, since) in replay.state.waiting_tools.items()}
    if not waiting:
        return Sight("no function call waits for an output", {})
    shown = ", ".join(f"{call_id} waits for {seconds:.3f} s" for call_id, seconds in waiting.items())
    return Sight(shown, {"waiting_seconds": waiting})


def _at(replay: Replay, age: float) -> int:
    """Give the time at an age, by the clock of the last entry."""
    return replay.at + round((age - replay.entry_age) * 1e6)


def _used(trigger: rules.Usage, replay: Replay) -> Sight:
    usage = replay.state.usage
    match trigger.meter:
        case "cost_usd":
            cost = replay.state.cost_usd
            value: Json = None if cost is None else float(cost)
        case "total_tokens":
            value = usage.total_tokens
        case "output_audio_seconds":
            value = usage.output_audio * AUDIO_TOKEN_MS / 1000
    return Sight(f"{trigger.meter} is {'not known' if value is None else value}", {trigger.meter: value})
