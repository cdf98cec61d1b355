"""Every simulated frame is one that the official client's models know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from rtobserver.simulator.ids import Provider
from rtobserver.simulator.server import SimulatorOptions
from tests.fidelity.recorded import all_received
from tests.fidelity.simulated import FAULT_FREE, frames_of

MODELS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


def unknown_fields(value: Any, path: str) -> Iterator[str]:
    """Name the fields that the models do not declare."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from unknown_fields(inner, f"{path}[]")


def unknown_of(frame: bytes) -> set[str]:
    model = MODELS.validate_json(frame)
    kind = json.loads(frame)["type"]
    assert model.type == kind, f"{kind} is no type that the models know"
    return set(unknown_fields(model, kind))


@pytest.mark.parametrize("provider", ["azure", "openai"])
@pytest.mark.parametrize("scenario", FAULT_FREE)
async def test_every_frame_validates(provider: str, scenario: str) -> None:
    options = SimulatorOptions(provider=cast("Provider", provider), scenario=scenario, pace=0.0, begin="attached")
    frames = await frames_of(options)
    assert len(frames) > 10
    undeclared = set[str]().union(*(unknown_of(frame) for frame in frames))
    both = all_received("azure") + all_received("openai")
    recorded = set[str]().union(*(unknown_of(json.dumps(event).encode()) for event in both))
    assert undeclared <= recorded, f"neither declared nor recorded: {sorted(undeclared - recorded)}"


@pytest.mark.parametrize("provider", ["azure", "openai"])
async def test_a_flood_validates(provider: str) -> None:
    options = SimulatorOptions(provider=cast("Provider", provider), scenario="chatty", pace=0.0, begin="attached")
    for frame in await frames_of(options, last="response.output_audio_transcript.delta"):
        unknown_of(frame)


ACKNOWLEDGED: list[tuple[dict[str, Any], str]] = [
    ({"type": "session.update", "session": {"type": "realtime"}}, "session.updated"),
    ({"type": "input_audio_buffer.clear"}, "input_audio_buffer.cleared"),
    ({"type": "response.cancel", "event_id": "e1"}, "error"),
    ({"type": "nonsense"}, "error"),
    ({"type": "response.create", "response": {"conversation": "none", "metadata": {"a": "b"}}}, "response.done"),
    ({"type": "conversation.item.retrieve", "item_id": "item_1"}, "conversation.item.retrieved"),
    ({"type": "conversation.item.delete", "item_id": "item_1"}, "conversation.item.deleted"),
]


@pytest.mark.parametrize(("event", "last"), ACKNOWLEDGED)
async def test_every_acknowledgement_validates(event: dict[str, Any], last: str) -> None:
    item = {"id": "item_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    seeding = {"type": "conversation.item.create", "item": item}
    frames = await frames_of(SimulatorOptions(scenario="quiet", pace=0.0), client_events=[seeding, event], last=last)
    for frame in frames:
        unknown_of(frame)
