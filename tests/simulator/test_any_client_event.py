"""Whatever a client sends, upstream answers and goes on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.simulator.acknowledgements import Acknowledgements
from rtobserver.simulator.beats import Emit, Play
from rtobserver.simulator.conversation import Conversation
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.ids import Ids
from rtobserver.simulator.session import default_session

KEYS = [
    "type", "event_id", "session", "item", "item_id", "previous_item_id", "response", "response_id", "audio", "input",
    "output", "turn_detection", "transcription", "format", "voice", "speed", "tools", "name", "id", "role", "content",
    "call_id", "conversation", "metadata", "output_modalities", "instructions", "model", "audio_end_ms", "threshold",
    "max_output_tokens", "noise_reduction", "create_response", "text",
]  # fmt: skip
WORDS = [
    "session.update", "conversation.item.create", "conversation.item.delete", "conversation.item.retrieve",
    "conversation.item.truncate", "response.create", "response.cancel", "output_audio_buffer.clear",
    "input_audio_buffer.commit", "message", "function_call", "function_call_output", "user", "assistant", "system",
    "input_text", "output_audio", "root", "none", "realtime", "server_vad", "semantic_vad", "function", "", "item_1",
]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers(-5, 5000) | st.sampled_from(WORDS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(WORDS[:9])},
    optional={key: values for key in KEYS if key != "type"},
)


def conversation() -> Conversation:
    ids = Ids("azure", seed=1)
    call = Conversation("azure", ids, Faults(), default_session("sess_1", "gpt-realtime"))
    content = [{"type": "output_audio", "transcript": "Hi."}]
    call.add_item({"id": "item_1", "type": "message", "status": "completed", "role": "assistant", "content": content})
    call.audio_seconds["item_1"] = 0.01
    return call


@settings(max_examples=100, deadline=None)
@given(st.lists(events, min_size=1, max_size=6))
def test_no_client_event_upsets_the_conversation(sent: list[dict[str, Any]]) -> None:
    call = conversation()
    acknowledgements = Acknowledgements(call, ())
    for event in sent:
        for beat in acknowledgements.receive(json.dumps(event), "sb1"):
            assert isinstance(beat, Emit | Play)
            produced = beat.timeline if isinstance(beat, Play) else [beat]
            for step in produced:
                if isinstance(step, Emit):
                    assert json.loads(json.dumps(step.event))["type"]
        assert call.active is None
        assert set(call.items) == {item["id"] for item in call.items.values()}
