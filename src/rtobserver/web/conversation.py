"""Shape what was folded from a call as the API gives it: lines, turns, usage, decisions, hits, sums. Pure.

As in `shapes.py`, the fields are defined here once, for answers and for the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from rtobserver.realtime import rows, turns
from rtobserver.realtime.transcript import Line as FoldedLine
from rtobserver.store import calls, decisions, search, stats
from rtobserver.web import shapes
from rtobserver.web.shapes import InputTokens, Latency, OutputTokens, Percentiles, Place, Time, time, time_or_none

MODES = ("observe", "canary", "enforce")
DECISION_OUTCOMES = ("observed", "not_in_canary", "fault", "done", "failed", "unknown", "no_response")


def _one_of(*words: str) -> Meta:
    return Meta(extra_json_schema={"enum": list(words)})


Role = Annotated[str, _one_of("user", "assistant", "system", "tool")]
Kind = Annotated[str, _one_of("speech", "text", "tool_call", "tool_output")]
Money = Annotated[str | None, Meta(description="USD, an exact decimal; null where no price is known.")]


class Line(Struct, frozen=True):
    """Be one line of a transcript."""

    item_id: str
    response_id: str | None
    role: Role
    text: Annotated[str, Meta(description="What was said or typed; a tool call's arguments, a tool output's output.")]
    heard_text: Annotated[
        str | None, Meta(description="What of it was played before it was cut; null where nothing was cut.")
    ]
    heard_confidence: Annotated[str, _one_of("exact", "estimated")] | None
    status: Annotated[str, _one_of("in_progress", "completed", "incomplete", "deleted", "failed")]
    interrupted: Annotated[bool, Meta(description="Whether a speech was cut off, by the user, a policy or an order.")]
    started_at: Time | None
    ended_at: Time | None
    kind: Kind
    tool_name: str | None
    recovered: Annotated[bool, Meta(description="A gap had swallowed the text, which was then asked for.")]


class Tool(Struct, frozen=True):
    """Be one call of a tool, with what it gave back."""

    name: str | None
    function_call_id: Annotated[str | None, Meta(description="`call_...`; null for MCP.")]
    arguments: str
    output: str | None
    latency_ms: Annotated[int | None, Meta(description="From the complete arguments to the output.")]
    status: Annotated[str, _one_of("in_progress", "unanswered", "completed", "failed")]


class Turn(Struct, frozen=True):
    """Be one turn: what the user said, and all that came of it."""

    index: int
    user_item_id: Annotated[str | None, Meta(description="Null where the model began.")]
    response_ids: list[str]
    started_at: Time | None
    ended_at: Time | None
    user_text: str
    assistant_text: Annotated[str, Meta(description="What was generated; the transcript has what of it was heard.")]
    heard_latency_ms: Annotated[
        int | None, Meta(description="From the end of the user's speech to the start of the playback.")
    ]
    generation_latency_ms: Annotated[
        int | None, Meta(description="From the end of the user's speech to the first output.")
    ]
    tool_latency_ms: Annotated[int | None, Meta(description="Time in which at least one tool was at work.")]
    interrupted: Annotated[bool, Meta(description="Whether the user cut in, as `interruption_count` counts it.")]
    tools: list[Tool]


class Tokens(Struct, frozen=True):
    """Count the tokens of one response."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    input: InputTokens
    output: OutputTokens
    cached: InputTokens


class ResponseUsage(Struct, frozen=True):
    """Say what one response used."""

    response_id: str
    position: Annotated[Place, Meta(description="The first entry that named it.")]
    status: Annotated[str, _one_of("in_progress", "completed", "cancelled", "incomplete", "failed")]
    reason: Annotated[str | None, Meta(description="Why it was not completed, or the error's code.")]
    out_of_band: Annotated[bool, Meta(description="Whether it belongs to no conversation.")]
    created_at: Time | None
    done_at: Time | None
    usage: Annotated[Tokens | None, Meta(description="Null until upstream told it.")]


class Cost(Struct, frozen=True):
    """Be one part of what a call cost."""

    meter: Annotated[str, _one_of("responses", "transcription")]
    model: str | None
    cost_usd: Money


class CallUsage(shapes.Usage, frozen=True, kw_only=True):
    """Say what a call used and cost: its own sums, and what they are made of."""

    cost_usd: Annotated[
        str | None, Meta(description="Exact decimal; null where anything that was used has no known price.")
    ]
    costs: Annotated[list[Cost], Meta(description="The parts of the cost, by model, as far as prices are known.")]
    unpriced_models: Annotated[
        list[str], Meta(description="Models without a known price: with any, `cost_usd` is null.")
    ]
    responses: list[ResponseUsage]


class Decision(Struct, frozen=True):
    """Be one policy's verdict on one entry."""

    position: Annotated[Place, Meta(description="The entry that triggered it.")]
    policy: str
    policy_set: Annotated[str, Meta(description="Hash of the set of policies that was active.")]
    trigger: str
    mode: Annotated[str, _one_of(*MODES), Meta(description="`observe` too where the policy was demoted.")]
    acted: Annotated[bool, Meta(description="Whether the actions were to be done.")]
    actions: Annotated[list[Any], Meta(description="Names of the actions, in the order of the file.")]
    received_at: Annotated[Time, Meta(description="When what triggered it was here.")]
    matched_at: Annotated[Time, Meta(description="When it was decided.")]
    sent_at: Annotated[Time | None, Meta(description="When the first of its commands left.")]
    acknowledged_at: Annotated[Time | None, Meta(description="When the last of its commands was acknowledged.")]
    outcome: Annotated[str, _one_of(*DECISION_OUTCOMES)] | None
    detail: Annotated[str | None, Meta(description="What there is to say about the outcome: why it failed.")]
    match: Annotated[
        str | None, Meta(description="The words that matched; null where none did, and where they must not be kept.")
    ]
    item_id: Annotated[str | None, Meta(description="The item in which it matched.")]
    response_id: Annotated[str | None, Meta(description="The response that it was about.")]
    played_ms: Annotated[
        int | None, Meta(description="Of a cancelled response: about how much of what matched was heard.")
    ]


class Hit(Struct, frozen=True):
    """Be one line in which something was found."""

    call_id: str
    call_started_at: Time
    profile: str
    user: str | None
    item_id: str
    role: Role
    kind: Kind
    started_at: Time | None
    text: str
    snippet: Annotated[str, Meta(description="The text around what was found, each match between \u27e6 and \u27e7.")]


class GroupTokens(Struct, frozen=True):
    """Count the tokens of a group of calls."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int


class Group(Struct, frozen=True):
    """Sum up a group of calls."""

    group: Annotated[str, Meta(description="`all`, the hour or day (UTC), the profile, model or policy.")]
    call_count: int
    minutes: Annotated[float, Meta(description="How long the calls that ended lasted together.")]
    turn_count: int
    interruption_count: int
    error_count: int
    usage: GroupTokens
    cost_usd: Annotated[
        str | None, Meta(description="Of the calls whose cost is known, and of no others; null where there is none.")
    ]
    unpriced_call_count: Annotated[int, Meta(description="Calls whose cost is not known: `cost_usd` lacks them.")]
    latency: Annotated[Latency, Meta(description="Percentiles over all turns of the group.")]


class Stats(Struct, frozen=True):
    """Be sums by group; all of them in one page."""

    group_by: Annotated[str, _one_of(*stats.GROUPS)]
    since: Time
    until: Time
    data: list[Group]
    next_cursor: Annotated[None, Meta(description="Always null: groups are not paged.")] = None


def line(row: FoldedLine) -> Line:
    """Shape a line."""
    return Line(
        item_id=row.item_id,
        response_id=row.response_id,
        role=row.role,
        text=row.text,
        heard_text=row.heard_text,
        heard_confidence=row.heard_confidence,
        status=row.status,
        interrupted=row.interrupted,
        started_at=time_or_none(row.started_at),
        ended_at=time_or_none(row.ended_at),
        kind=row.kind,
        tool_name=row.tool_name,
        recovered=row.recovered,
    )


def turn(row: turns.Turn) -> Turn:
    """Shape a turn."""
    return Turn(
        index=row.index,
        user_item_id=row.user_item_id,
        response_ids=row.response_ids,
        started_at=time_or_none(row.started_at),
        ended_at=time_or_none(row.ended_at),
        user_text=row.user_text,
        assistant_text=row.assistant_text,
        heard_latency_ms=row.heard_latency_ms,
        generation_latency_ms=row.generation_latency_ms,
        tool_latency_ms=row.tool_latency_ms,
        interrupted=row.interrupted,
        tools=[
            Tool(
                name=tool.name,
                function_call_id=tool.call_id,
                arguments=tool.arguments,
                output=tool.output,
                latency_ms=tool.latency_ms,
                status=tool.status,
            )
            for tool in row.tools
        ],
    )


def usage(call: calls.Call, responses: Iterable[rows.ResponseRow]) -> CallUsage:
    """Shape what a call used."""
    return msgspec.convert(
        {
            **call.usage,
            "cost_usd": call.cost_usd,
            "costs": call.metrics.get("costs", []),
            "unpriced_models": call.metrics.get("unpriced_models", []),
            "responses": [_response(row) for row in responses],
        },
        CallUsage,
    )


def decision(row: decisions.Decision) -> Decision:
    """Shape a decision."""
    return Decision(
        position=str(row.position),
        policy=row.policy,
        policy_set=row.policy_set,
        trigger=row.trigger,
        mode=row.mode,
        acted=row.acted,
        actions=list(row.actions),
        received_at=time(row.received_at),
        matched_at=time(row.matched_at),
        sent_at=time_or_none(row.sent_at),
        acknowledged_at=time_or_none(row.acknowledged_at),
        outcome=row.outcome,
        detail=row.detail,
        match=row.match,
        item_id=row.item_id,
        response_id=row.response_id,
        played_ms=row.played_ms,
    )


def hit(row: search.Hit) -> Hit:
    """Shape a hit."""
    return Hit(
        call_id=row.call.call_id,
        call_started_at=time(row.call.started_at),
        profile=row.call.profile,
        user=row.call.user,
        item_id=row.item.item_id,
        role=row.item.role,
        kind=row.item.kind,
        started_at=time_or_none(row.item.started_at),
        text=row.item.text,
        snippet=row.snippet,
    )


def group(row: stats.Group) -> Group:
    """Shape the sums of a group."""
    return Group(
        group=row.group,
        call_count=row.call_count,
        minutes=round(row.duration_us / 60_000_000, 3),
        turn_count=row.turn_count,
        interruption_count=row.interruption_count,
        error_count=row.error_count,
        usage=GroupTokens(row.input_tokens, row.output_tokens, row.total_tokens, row.cached_tokens),
        cost_usd=None if row.cost_usd is None else format(row.cost_usd.normalize(), "f"),
        unpriced_call_count=row.unpriced_call_count,
        latency=Latency(Percentiles(*row.first_audio_ms), Percentiles(*row.generation_ms)),
    )


def _response(row: rows.ResponseRow) -> ResponseUsage:
    return ResponseUsage(
        response_id=row.response_id,
        position=f"{row.epoch}:{row.seq}",
        status=row.status,
        reason=row.reason,
        out_of_band=row.out_of_band,
        created_at=time_or_none(row.created_at),
        done_at=time_or_none(row.done_at),
        usage=None if row.usage is None else _tokens(row.usage),
    )


def _tokens(used: rows.Usage) -> Tokens:
    return Tokens(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        total_tokens=used.total_tokens,
        cached_tokens=used.cached_tokens,
        input=InputTokens(used.input_text, used.input_audio, used.input_image),
        output=OutputTokens(used.output_text, used.output_audio),
        cached=InputTokens(used.cached_text, used.cached_audio, used.cached_image),
    )
