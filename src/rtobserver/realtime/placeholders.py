"""Write what is stored in the place of a frame that must not be, and read what that still tells. Pure.

A placeholder keeps a class of size, the ids of the items and responses that the frame is about, and, where it
gives the output of a function call that was on record, that call's id. With the entry's type they tell who
made a sound, which response went on and what was answered, and nothing of what was said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rtobserver.realtime.events import Event, fields, read
from rtobserver.realtime.names import canonical

SIZES = ((256, "under_256"), (1024, "under_1k"), (4096, "under_4k"), (65536, "under_64k"))
"""Classes of size, by the bytes that they are below."""
LARGEST = "64k_or_more"

_MARK = b'{"paused":true'
_OF_RESPONSES = ("response.created", "response.done")


def placeholder(frame: bytes, ids: list[str], answers: Iterable[str] = ()) -> bytes:
    """Write what is stored in the place of a frame, or of a client event, that names these items and responses.

    `answers` are the function calls whose output it gives.
    """
    size = next((name for limit, name in SIZES if len(frame) < limit), LARGEST)
    told: dict[str, Any] = {"paused": True, "size_class": size, "ids": ids}
    if answered := list(answers):
        told["answers"] = answered
    return msgspec.json.encode(told)


def is_placeholder(payload: bytes) -> bool:
    """Say whether a stored payload stands for another."""
    return payload.startswith(_MARK)


def ids_of(payload: bytes) -> list[str]:
    """List the items and responses that a placeholder names."""
    return _texts(fields(payload).get("ids"))


def outline(type_: str | None, payload: bytes) -> tuple[Event, bytes]:
    """Make of a stored event's type and placeholder an event that says what is known of it, and no more."""
    told: dict[str, Any] = {} if type_ is None else {"type": type_}
    ids, name = ids_of(payload), canonical(type_ or "")
    if name in _OF_RESPONSES and ids:
        told["response"] = {"id": ids[0], "output": [{"id": each} for each in ids[1:]]}
    elif name.startswith("response.output_item.") and len(ids) == 2:
        told["response_id"], told["item"] = ids[0], {"id": ids[1]}
    elif name.startswith("response.") and len(ids) == 2:
        told["item_id"], told["response_id"] = ids
    elif name.startswith("output_audio_buffer.") and ids:
        told["response_id"] = ids[0]
    elif name.startswith(("conversation.item.added", "conversation.item.done", "conversation.item.retrieved")) and ids:
        answers = _texts(fields(payload).get("answers"))
        output = {"type": "function_call_output", "call_id": answers[0]} if answers else {}
        told["item"] = {"id": ids[0], **output}
    elif name.startswith(("input_audio_buffer.", "conversation.item.")) and ids:
        told["item_id"] = ids[0]
    frame = msgspec.json.encode(told)
    return read(frame)[0], frame


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
