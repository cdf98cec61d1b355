"""Events of items: how they come into the conversation, what is in them, how they leave it."""

from __future__ import annotations

from rtobserver.realtime.conversation import Changes
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.fold import MAX_NAMED, Fold, Step
from rtobserver.realtime.names import canonical
from rtobserver.realtime.rows import Kind
from rtobserver.realtime.values import identifier, mapping, text, whole

GATHERED: dict[str, Kind] = {
    "response.output_audio_transcript.delta": "speech",
    "response.output_text.delta": "text",
    "response.function_call_arguments.delta": "tool_call",
    "response.mcp_call_arguments.delta": "tool_call",
}
"""Deltas whose text is gathered, by the kind of item that they make."""

_FINALS: dict[str, tuple[str, Kind]] = {
    "response.output_audio_transcript.done": ("transcript", "speech"),
    "response.output_text.done": ("text", "text"),
    "response.function_call_arguments.done": ("arguments", "tool_call"),
    "response.mcp_call_arguments.done": ("arguments", "tool_call"),
}


def _add(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    told = fields(frame)
    value = mapping(told.get("item"))
    item = fold.introduce_item(value.get("id"))
    if item is None:
        return None
    fresh, item.added = not item.added, True
    item.absorb(value, talk.at)
    if fresh:
        talk.link(item, told.get("previous_item_id"))
        if item.role == "user" and item.visible:
            talk.last_user_id = None if item.idle else item.id
            item.ended_at = talk.at if item.ended_at is None else item.ended_at
    fold.answer_tool(item)
    response = talk.responses.get(item.response_id or "")
    if response is None:
        return talk.changes([item])
    talk.belong(item, response)
    return fold.changes_of(response) if fresh else talk.changes([item])


def _finish(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    told = fields(frame)
    value = mapping(told.get("item"))
    item = fold.name_item(value.get("id"))
    if item is None:
        return None
    fold.complete_item(item, value)
    # null here says nothing, even where `.added` had a value
    previous = identifier(told.get("previous_item_id"))
    if item.previous is None and previous is not None:
        fold.talk.link(item, previous)
    return fold.talk.changes([item])


def _put_out(fold: Fold, event: Event, frame: bytes) -> None:
    talk = fold.talk
    told = fields(frame)
    value = mapping(told.get("item"))
    item = fold.introduce_item(value.get("id"))
    if item is None:
        return
    response = talk.response(told.get("response_id"))
    talk.belong(item, response)
    item.absorb(value, talk.at)
    talk.put_out(response)
    # no row yet: the item's `.added` follows at once and tells its place


def _finish_output(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    told = fields(frame)
    value = mapping(told.get("item"))
    item = fold.name_item(value.get("id"))
    if item is None:
        return None
    talk.belong(item, talk.response(told.get("response_id")))
    fold.complete_item(item, value)
    return talk.changes([item])


def _gather(fold: Fold, event: Event, frame: bytes) -> None:
    """Take a delta that is not simply one more: from here on the fold's hot path appends by itself."""
    talk = fold.talk
    item = fold.name_item(event.item_id)
    if item is None:
        return
    response = talk.response(event.response_id)
    talk.belong(item, response)
    talk.put_out(response)
    kind = GATHERED.get(canonical(event.type or ""))
    if kind is None or item.is_done or item.skipped:
        return
    item.kind, item.visible = kind, True
    talk.gather(item)
    if event.delta:
        item.parts.append(event.delta)
        item.size += len(event.delta)


def _finish_text(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    item = fold.name_item(event.item_id)
    if item is None:
        return None
    told = fields(frame)
    key, kind = _FINALS[canonical(event.type or "")]
    talk.belong(item, talk.response(event.response_id))
    item.kind, item.visible = kind, True
    final = text(told.get(key))
    if final is not None:
        fold.recovered.pop(item.id, None)
        index = 0 if kind == "tool_call" else whole(told.get("content_index")) or 0
        if not item.finish_part(index, final) and len(fold.broken) < MAX_NAMED:
            fold.broken[item.id] = None
    if kind != "tool_call":
        return None
    item.tool_call_id = identifier(told.get("call_id")) or item.tool_call_id
    item.tool_name = text(told.get("name")) or item.tool_name
    fold.expect_tool(item)
    return talk.changes([item])


def _finish_piece(fold: Fold, event: Event, frame: bytes) -> None:
    item = fold.name_item(event.item_id)
    if item is not None and not item.introduced:
        fold.talk.belong(item, fold.talk.response(event.response_id))


def _run_mcp(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    item = fold.name_item(event.item_id)
    if item is None:
        return None
    item.kind, item.visible = "tool_call", True
    if event.type == "response.mcp_call.in_progress":
        item.called_at = talk.at
        return None
    if item.ended_at is None:
        fold.time_tool(item.called_at)
    item.ended_at = talk.at
    if event.type == "response.mcp_call.failed":
        item.fail(item.error or mapping(fields(frame).get("error")) or "mcp_call_failed")
    elif item.status == "in_progress":
        item.status = "completed"
    return talk.changes([item])


def _truncate(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    talk = fold.talk
    item = fold.name_item(event.item_id)
    if item is None:
        return None
    item.visible = True
    item.truncated_ms = whole(fields(frame).get("audio_end_ms")) or 0
    response = talk.responses.get(item.response_id or "")
    if response is None:
        return talk.changes([item])
    response.truncated = True
    return fold.changes_of(response)


def _recover(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    """Take the text of an item that somebody asked for, where what should have told it did not come."""
    value = mapping(fields(frame).get("item"))
    item = fold.talk.recover(identifier(value.get("id")) or "", value)
    if item is None:
        return None
    if len(fold.recovered) < MAX_NAMED:
        fold.recovered[item.id] = None
    if item.kind == "tool_output":
        # when the tool gave it nobody knows, so that it counts for no latency
        call_item_id, _ = fold.waiting_tools.pop(item.tool_call_id or "", ("", 0))
        call = fold.talk.items.get(call_item_id)
        item.tool_name = call.tool_name if call is not None else item.tool_name
    return fold.talk.changes([item])


def _delete(fold: Fold, event: Event, frame: bytes) -> Changes | None:
    item = fold.talk.items.get(event.item_id or "")
    if item is None:
        return None
    item.status = "deleted"
    return fold.talk.changes([item])


STEPS: dict[str, Step] = {
    "conversation.item.added": _add,
    "conversation.item.done": _finish,
    "conversation.item.truncated": _truncate,
    "conversation.item.deleted": _delete,
    "conversation.item.retrieved": _recover,
    "response.output_item.added": _put_out,
    "response.output_item.done": _finish_output,
    "response.output_audio.delta": _gather,
    "response.output_audio.done": _finish_piece,
    "response.content_part.done": _finish_piece,
    "response.mcp_call.in_progress": _run_mcp,
    "response.mcp_call.completed": _run_mcp,
    "response.mcp_call.failed": _run_mcp,
    **dict.fromkeys(GATHERED, _gather),
    **dict.fromkeys(_FINALS, _finish_text),
}
