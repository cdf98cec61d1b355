"""What stands for a frame that must not be stored, and what it still tells."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rtobserver.realtime.events import read
from rtobserver.realtime.placeholders import is_placeholder, outline, placeholder


@pytest.mark.parametrize(
    ("type_", "ids", "told"),
    [
        ("output_audio_buffer.stopped", ["resp_1"], {"response_id": "resp_1"}),
        ("input_audio_buffer.speech_started", ["item_1"], {"item_id": "item_1"}),
        ("conversation.item.deleted", ["item_1"], {"item_id": "item_1"}),
        ("conversation.item.created", ["item_1"], {"item": {"id": "item_1"}}),
        ("response.done", ["resp_1", "item_1"], {"response": {"id": "resp_1", "output": [{"id": "item_1"}]}}),
        ("response.output_item.added", ["resp_1", "item_1"], {"response_id": "resp_1", "item": {"id": "item_1"}}),
        ("response.output_text.delta", ["item_1", "resp_1"], {"item_id": "item_1", "response_id": "resp_1"}),
        ("response.output_text.delta", ["resp_1"], {}),
        ("response.done", [], {}),
        ("rate_limits.updated", [], {}),
    ],
)
def test_an_outline_says_what_a_placeholder_is_about_and_no_more(
    type_: str, ids: list[str], told: dict[str, Any]
) -> None:
    kept = placeholder(b"the words", ids)
    assert is_placeholder(kept)
    event, frame = outline(type_, kept)
    assert msgspec.json.decode(frame) == {"type": type_, **told}
    assert event == read(frame)[0]


def test_an_outline_names_the_function_call_that_was_answered() -> None:
    kept = placeholder(b"the words", ["item_1"], ["fc_1"])
    _, frame = outline("conversation.item.added", kept)
    item = msgspec.json.decode(frame)["item"]
    assert item == {"id": "item_1", "type": "function_call_output", "call_id": "fc_1"}


def test_a_placeholder_without_a_type_tells_nothing() -> None:
    assert outline(None, placeholder(b"the words", ["item_1"])) == (read(b"{}")[0], b"{}")


def test_what_others_write_is_no_placeholder() -> None:
    assert not is_placeholder(b'{"type":"x","paused":true}')
