"""What upstream does about each client event (protocol.md 2.7 and 3.3)."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from rtobserver.simulator.beats import Beat, Emit, Json, Play
from rtobserver.simulator.conversation import Answer, Conversation
from rtobserver.simulator.responses import answer_whole, close
from rtobserver.simulator.session import Refusal, merge
from rtobserver.simulator.user import commit

_TYPES = (
    "session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear",
    "output_audio_buffer.clear", "conversation.item.create", "conversation.item.delete", "conversation.item.retrieve",
    "conversation.item.truncate", "response.create", "response.cancel",
)  # fmt: skip
_CONTENT = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text", "output_audio"),
}
_SHORTEST_COMMIT = 0.1
"""Seconds of sound below which upstream calls its buffer empty."""
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")


class Acknowledgements:
    """Carry out client events, whichever peer sends them."""

    def __init__(self, call: Conversation, replies: tuple[str, ...]) -> None:
        self._call = call
        self._replies = replies or ("All right.",)
        self._replied = 0

    def receive(self, message: str | bytes, origin: str) -> list[Beat]:
        """Carry out one message of the peer `origin` and give what upstream does about it."""
        cause: str | None = None
        try:
            event = _parse(message)
            cause = _event_id(event)
            return self._carry_out(event)
        except Refusal as exc:
            return [Emit(self._call.frames.error(exc.code, exc.message, param=exc.param, cause=cause), origin)]

    def _carry_out(self, event: Json) -> list[Beat]:
        match event["type"]:
            case "session.update":
                return self._update(event)
            case "conversation.item.create":
                return self._create_item(event)
            case "conversation.item.delete":
                item = self._item(event, "delete")
                del self._call.items[item["id"]]
                return self._emit("conversation.item.deleted", item_id=item["id"])
            case "conversation.item.retrieve":
                return self._emit("conversation.item.retrieved", item=self._with_audio(self._item(event, "retrieve")))
            case "conversation.item.truncate":
                return self._truncate(event)
            case "response.create":
                return self._respond(event)
            case "response.cancel":
                return self._cancel(event)
            case "output_audio_buffer.clear":
                return self._clear_output()
            case "input_audio_buffer.commit":
                return self._commit()
            case "input_audio_buffer.clear":
                if self._call.voice is not None:
                    self._call.voice.buffered_seconds = 0.0
                return self._emit("input_audio_buffer.cleared")
            case _:
                return []

    def _emit(self, kind: str, **fields: object) -> list[Beat]:
        return [Emit(self._call.frames.plain(kind, **fields))]

    def _update(self, event: Json) -> list[Beat]:
        patch = event.get("session")
        if not isinstance(patch, dict):
            raise Refusal("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        if "type" not in patch:
            raise Refusal("missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type")
        self._call.session = merge(self._call.session, patch, spoke=self._call.last_spoken is not None)
        return self._emit("session.updated", session=self._call.session)

    def _create_item(self, event: Json) -> list[Beat]:
        given = event.get("item")
        if not isinstance(given, dict):
            raise Refusal("missing_required_parameter", "Missing required parameter: 'item'.", "item")
        after = _string(event, "previous_item_id")
        if after is not None and after != "root" and after not in self._call.items:
            raise Refusal("invalid_value", f"Previous item with item_id not found: '{after}'.", "previous_item_id")
        item_id = _string(given, "id") or self._call.ids.stamped("item_")
        if item_id in self._call.items:
            raise Refusal("invalid_value", f"Item with item_id already exists: '{item_id}'.", "item.id")
        added, done = self._call.add_item(self._complete(item_id, given), after=after)
        return [Emit(added), Emit(done)]

    def _complete(self, item_id: str, given: Json) -> Json:
        match _string(given, "type"):
            case "message":
                role = _string(given, "role")
                if role not in _CONTENT:
                    raise Refusal("invalid_value", f"Invalid value: '{role}'.", "item.role")
                content = given.get("content")
                if not isinstance(content, list):
                    raise Refusal("missing_required_parameter", "Missing parameter: 'item.content'.", "item.content")
                for position, part in enumerate(content):
                    if not isinstance(part, dict) or part.get("type") not in _CONTENT[role]:
                        raise Refusal("invalid_value", "Invalid value.", f"item.content[{position}].type")
                return {"id": item_id, "type": "message", "status": "completed", "role": role, "content": content}
            case "function_call_output":
                call_id, output = _string(given, "call_id"), _string(given, "output") or ""
                self._check_output(call_id)
                return {"id": item_id, "type": "function_call_output", "call_id": call_id, "output": output}
            case "function_call":
                return {
                    "id": item_id,
                    "type": "function_call",
                    "status": "completed",
                    "name": _string(given, "name") or "",
                    "call_id": _string(given, "call_id") or f"call_{self._call.ids.letters(16)}",
                    "arguments": _string(given, "arguments") or "",
                }
            case "mcp_approval_response":
                return {**given, "id": item_id}
            case kind:
                raise Refusal("invalid_value", f"Invalid value: '{kind}'.", "item.type")

    def _check_output(self, function_call_id: object) -> None:
        items = [item for item in self._call.items.values() if item.get("call_id") == function_call_id]
        if not any(item["type"] == "function_call" for item in items):
            raise Refusal("invalid_tool_call_id", f"Tool call ID '{function_call_id}' not found in conversation.")
        if any(item["type"] == "function_call_output" for item in items):
            raise Refusal("invalid_tool_call_id", f"Tool call ID '{function_call_id}' already has an output.")

    def _truncate(self, event: Json) -> list[Beat]:
        item, end = self._item(event, "truncate"), event.get("audio_end_ms")
        if item.get("role") != "assistant" or item["id"] not in self._call.audio_seconds:
            raise Refusal("invalid_value", "Only an assistant's message with sound can be truncated.", "item_id")
        length = round(self._call.audio_seconds[item["id"]] * 1000)
        if not isinstance(end, int) or not 0 <= end <= length:
            raise Refusal(
                "invalid_value", f"Audio content of {length}ms is already shorter than {end}ms.", "audio_end_ms"
            )
        index = event.get("content_index", 0)
        return self._emit("conversation.item.truncated", item_id=item["id"], content_index=index, audio_end_ms=end)

    def _respond(self, event: Json) -> list[Beat]:
        call, request = self._call, event.get("response") or {}
        if not isinstance(request, dict):
            raise Refusal("invalid_value", "Invalid value for 'response': expected an object.", "response")
        if request.get("output_modalities") not in (None, ["audio"], ["text"]):
            raise Refusal("invalid_value", "Supported are ['text'] and ['audio'].", "response.output_modalities")
        audio = request.get("audio") or {}
        if not isinstance(audio, dict) or not isinstance(audio.get("output") or {}, dict):
            raise Refusal("invalid_value", "Invalid value: expected an object.", "response.audio")
        metadata = request.get("metadata") or {}
        if not isinstance(metadata, dict) or len(metadata) > 16:
            raise Refusal("invalid_value", "Invalid 'response.metadata': at most 16 pairs.", "response.metadata")
        apart = request.get("conversation") == "none"
        if not apart and call.active is not None:
            raise Refusal(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {call.active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        answer = self._answer(request, apart=apart)
        response = call.begin(request)
        return [Play(answer_whole(call, response, answer), f"respond {response.id}")]

    def _answer(self, request: Json, *, apart: bool) -> Answer:
        """Choose the words: those prepared by the script, those quoted in the instructions, or a reply in turn."""
        quoted = _QUOTED.search(str(request.get("instructions") or ""))
        if quoted is not None:
            return Answer(quoted.group(1))
        if not apart and self._call.prepared is not None:
            answer, self._call.prepared = self._call.prepared, None
            return answer
        self._replied += 1
        return Answer(self._replies[(self._replied - 1) % len(self._replies)])

    def _cancel(self, event: Json) -> list[Beat]:
        call, wanted = self._call, _string(event, "response_id")
        response = call.active
        if wanted is not None and (response is None or response.id != wanted):
            response = call.apart.get(wanted)
        if response is None:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found.")
        return [Emit(done) for done in close(call, response, "cancelled", "client_cancelled")]

    def _commit(self) -> list[Beat]:
        voice = self._call.voice
        if voice is None or voice.buffered_seconds < _SHORTEST_COMMIT:
            raise Refusal("input_audio_buffer_commit_empty", "The input audio buffer is empty; there is no sound.")
        return list(commit(self._call, voice))

    def _clear_output(self) -> list[Beat]:
        playback = self._call.stop_playing()
        response_id = playback.response_id if playback is not None else self._call.last_spoken
        if response_id is None:
            return []
        return [Emit(self._call.frames.buffer("cleared", response_id))]

    def _item(self, event: Json, verb: str) -> Json:
        item_id = _string(event, "item_id")
        if item_id is None or item_id not in self._call.items:
            code = f"item_{verb}_invalid_item_id"
            raise Refusal(code, f"Error with item: the item with id '{item_id}' does not exist.", "item_id")
        return self._call.items[item_id]

    def _with_audio(self, item: Json) -> Json:
        seconds = self._call.audio_seconds.get(item["id"], 0.0)
        if not seconds or "content" not in item:
            return item
        audio = base64.b64encode(bytes(round(seconds * 24000) * 2)).decode()
        content = [
            {"type": part["type"], "audio": audio, **{k: v for k, v in part.items() if k != "type"}}
            if part["type"] in ("input_audio", "output_audio") else part
            for part in item["content"]
        ]  # fmt: skip
        return {**item, "content": content}


def _parse(message: str | bytes) -> Json:
    try:
        event: Any = json.loads(message)
    except (ValueError, RecursionError):
        raise Refusal("invalid_event", "The event could not be parsed as JSON.") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise Refusal("invalid_event", "The 'type' field is missing.", "type")
    if event["type"] not in _TYPES:
        supported = ", ".join(f"'{name}'" for name in _TYPES)
        raise Refusal("invalid_value", f"Invalid value: '{event['type']}'. Supported values are: {supported}.", "type")
    return event


def _event_id(event: Json) -> str | None:
    given = event.get("event_id")
    if given is None or (isinstance(given, str) and len(given) <= 512):
        return given
    raise Refusal("invalid_value", "Invalid 'event_id': expected a string of at most 512 characters.", "event_id")


def _string(holder: Json, key: str) -> str | None:
    value = holder.get(key)
    if value is None or isinstance(value, str):
        return value
    raise Refusal("invalid_type", f"Invalid type for '{key}': expected a string.", key)
