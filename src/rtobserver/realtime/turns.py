"""Divide a call into turns: what the user said, and all that came of it.

Works on rows alone, so that the query API computes from its tables what the live call would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.realtime.transcript import order


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Be one call of a tool, with what it gave back."""

    name: str | None
    call_id: str | None
    """The function call's id (`call_…`), never the call's; None for MCP."""
    arguments: str
    output: str | None
    latency_ms: int | None
    """From the complete arguments to the output, as the observer saw both."""
    status: Literal["in_progress", "unanswered", "completed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Be one turn of a conversation. Times are microseconds since 1970."""

    index: int
    number: int | None
    """Which of the user's turns it is, from 1, as `turn_count` counts them; None where the model began."""
    user_item_id: str | None
    """None where the model began: a greeting, or its answer to an idle time-out."""
    response_ids: list[str]
    started_at: int | None
    ended_at: int | None
    user_text: str
    assistant_text: str
    """What was generated, one line for each item; what of it was heard is in the transcript."""
    heard_latency_ms: int | None
    generation_latency_ms: int | None
    tool_latency_ms: int | None
    """Time in which at least one tool was at work."""
    interrupted: bool
    """Whether the user cut in, as `interruption_count` of the call counts it; what else cut it short does not count."""
    tools: list[Tool]


@dataclass(slots=True)
class _Draft:
    opener: ItemRow | None
    items: list[ItemRow] = field(default_factory=list)
    responses: list[ResponseRow] = field(default_factory=list)


def is_user_turn(item: ItemRow) -> bool:
    """Say whether an item is a turn of the user: all but what an idle time-out committed."""
    return item.role == "user" and not item.idle_timeout and not item.out_of_band


def turns(items: Iterable[ItemRow], responses: Iterable[ResponseRow]) -> list[Turn]:
    """Divide a call into turns, in the order of the conversation.

    Responses that were chained (a tool's output led to the next one) belong to the same turn.
    Out-of-band responses and their items belong to none.
    """
    rows = list(items)
    ordered = order(item for item in rows if not item.out_of_band)
    within = sorted((each for each in responses if not each.out_of_band), key=lambda each: (each.epoch, each.seq))
    drafts = [_Draft(None)]
    by_user: dict[str, _Draft] = {}
    by_response: dict[str, _Draft] = {}
    answers = {each.response_id: each.user_item_id for each in within}
    for item in ordered:
        if item.role == "user":
            drafts.append(_Draft(item))
            by_user[item.item_id] = drafts[-1]
    current = drafts[0]
    for item in ordered:
        if item.role == "user":
            current = by_user[item.item_id]
        elif item.role != "system":
            user = answers.get(item.response_id or "")
            draft = by_user.get(user or "", current)
            draft.items.append(item)
            by_response.setdefault(item.response_id or "", draft)
    for response in within:
        draft = (
            by_user.get(response.user_item_id or "")
            or by_response.get(response.response_id)
            or _before(drafts, response)
        )
        draft.responses.append(response)
    filled = [each for each in drafts if each.items or each.responses or (each.opener and is_user_turn(each.opener))]
    outputs = {item.tool_call_id: item for item in rows if item.kind == "tool_output" and item.tool_call_id}
    found = []
    number = 0
    for index, draft in enumerate(filled):
        opener = draft.opener if draft.opener and is_user_turn(draft.opener) else None
        number += opener is not None
        found.append(_turn(index, number, opener, draft, outputs))
    return found


def _before(drafts: list[_Draft], response: ResponseRow) -> _Draft:
    # a response without items and without a link: by order
    latest = drafts[0]
    for draft in drafts[1:]:
        if draft.opener and (draft.opener.epoch, draft.opener.seq) < (response.epoch, response.seq):
            latest = draft
    return latest


def _turn(index: int, number: int, user: ItemRow | None, draft: _Draft, outputs: dict[str, ItemRow]) -> Turn:
    calls = [(item, outputs.get(item.tool_call_id or "")) for item in draft.items if item.kind == "tool_call"]
    spans = [span for call, output in calls if (span := tool_span(call, output))]
    times = [
        time
        for row in ([user] if user else []) + draft.items
        for time in (row.started_at, row.ended_at)
        if time is not None
    ] + [
        time
        for response in draft.responses
        for time in (response.created_at, response.first_output_at, response.done_at, response.playback_ended_at)
        if time is not None
    ]
    return Turn(
        index=index,
        number=number if user else None,
        user_item_id=user.item_id if user else None,
        response_ids=[response.response_id for response in draft.responses],
        started_at=min(times, default=None),
        ended_at=max(times, default=None),
        user_text=user.text if user else "",
        assistant_text="\n".join(
            item.text for item in draft.items if item.role == "assistant" and item.kind != "tool_call" and item.text
        ),
        heard_latency_ms=_first([response.heard_latency_ms for response in draft.responses]),
        generation_latency_ms=_first([response.generation_latency_ms for response in draft.responses]),
        tool_latency_ms=_covered(spans) // 1000 if spans else None,
        interrupted=any(response.interrupted for response in draft.responses),
        tools=[tool_of(call, output) for call, output in calls],
    )


def tool_of(call: ItemRow, output: ItemRow | None) -> Tool:
    """Put a tool call and its output together."""
    span = tool_span(call, output)
    status: Literal["in_progress", "unanswered", "completed", "failed"]
    if call.status == "failed":
        status = "failed"
    elif output is not None or (call.tool_call_id is None and call.status == "completed"):
        status = "completed"
    elif call.called_at is not None:
        status = "unanswered"
    else:
        status = "in_progress"
    return Tool(
        name=call.tool_name,
        call_id=call.tool_call_id,
        arguments=call.text,
        output=output.text if output else call.tool_output,
        latency_ms=(span[1] - span[0]) // 1000 if span else None,
        status=status,
    )


def tool_span(call: ItemRow, output: ItemRow | None) -> tuple[int, int] | None:
    """Tell from when to when a tool was at work; None where either is not known."""
    end = output.started_at if output else call.ended_at if call.tool_call_id is None else None
    if call.called_at is None or end is None or end < call.called_at:
        return None
    return call.called_at, end


def _covered(spans: list[tuple[int, int]]) -> int:
    """Measure the time that spans cover together; tools run side by side."""
    covered = 0
    reached: int | None = None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        covered += max(end - begin, 0)
        reached = end if reached is None else max(reached, end)
    return covered


def _first(values: list[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
