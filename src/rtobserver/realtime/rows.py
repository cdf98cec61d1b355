"""What the fold makes of a call: transcript items, responses, sums.

Each is a pure fold over the call's entries, so `rtobserver rebuild` gets the same rows as the live
call did. The store keeps them in the tables `item` and `response` and on the call's row; field
names are column names. Times are microseconds since 1970 (UTC), as received.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

Role = Literal["user", "assistant", "system", "tool"]
Kind = Literal["speech", "text", "tool_call", "tool_output"]


class ItemRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Be one line of a transcript."""

    item_id: str
    epoch: int
    seq: int
    """Position of the first entry that named the item."""
    previous_item_id: str | None = None
    """The item before it in the conversation, as `conversation.item.added` said."""
    response_id: str | None = None
    role: Role
    kind: Kind
    text: str = ""
    """Final text; for a tool call its arguments, for a tool output the output."""
    heard_text: str | None = None
    """What of an assistant's speech was played before it was cut; None where nothing was cut."""
    heard_confidence: Literal["exact", "estimated"] | None = None
    status: str = "in_progress"
    """`in_progress`, `completed`, `incomplete`, `deleted`, or `failed` (transcription)."""
    interrupted: bool = False
    """Whether a speech was cut off, by the user or by whoever else cancelled it."""
    started_at: int | None = None
    ended_at: int | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    """The function call's id (`call_…`), never the call's."""
    called_at: int | None = None
    """When a tool call's arguments were complete, so that the tool could begin."""
    tool_output: str | None = None
    """What an MCP call gave back; a function's output is an item of its own."""
    out_of_band: bool = False
    """True where it came of a response that belongs to no conversation."""
    idle_timeout: bool = False
    """True where an idle time-out committed it, so that it is no turn of the user."""
    error: str | None = None
    """Code of a failed transcription or tool."""
    recovered: bool = False
    """True where a gap had swallowed its text, which was then asked for."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Count tokens; cached counts are part of the input counts."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_text: int = 0
    output_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    cached_image: int = 0


class ResponseRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Be one response of the model."""

    response_id: str
    epoch: int
    seq: int
    """Position of the first entry that named the response."""
    status: str = "in_progress"
    """`in_progress`, `completed`, `cancelled`, `incomplete` or `failed`."""
    reason: str | None = None
    """`status_details.reason`, or the error's code."""
    out_of_band: bool = False
    """True where it belongs to no conversation."""
    user_item_id: str | None = None
    """The user's item that it answers, through the item chain."""
    created_at: int | None = None
    done_at: int | None = None
    first_output_at: int | None = None
    """When its first output item or delta came."""
    playback_started_at: int | None = None
    playback_ended_at: int | None = None
    playback_cleared: bool = False
    interrupted: bool = False
    """Whether the user cut in, before it was done or while it still played."""
    heard_latency_ms: int | None = None
    """From the end of the user's speech to the start of the playback."""
    generation_latency_ms: int | None = None
    """From the end of the user's speech to the first output."""
    usage: Usage | None = None
    """None until it is known; a finished response without usage keeps None."""


class Cost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Be one part of what a call cost."""

    meter: Literal["responses", "transcription"]
    model: str | None
    """None while it is not known."""
    usd: Decimal | None
    """None where no price is known."""


class Totals(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Sum up a call."""

    turn_count: int = 0
    """Committed turns of the user, spoken or typed."""
    interruption_count: int = 0
    error_count: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    transcription_tokens: int = 0
    transcription_seconds: float = 0.0
    responses_without_usage: int = 0
    first_audio_p50_ms: int | None = None
    first_audio_p95_ms: int | None = None
    generation_p50_ms: int | None = None
    generation_p95_ms: int | None = None
    cost_usd: Decimal | None = None
    """None where anything that was used has no known price."""
    missed: bool = False
    """Something before the attach was missed: an item that another one names was never seen, or a
    delta or `.done` came without its item."""
    unfinished: tuple[str, ...] = ()
    """Ids of responses that never ended."""
    broken: tuple[str, ...] = ()
    """Ids of items whose concatenated deltas differ from their final text."""
    open_links: tuple[str, ...] = ()
    """Ids of items that were named and never seen, at whatever point of the call; `missed` is about
    those of them that can only have come before the attach."""
    recovered: tuple[str, ...] = ()
    """Ids of items whose text a gap had swallowed and which was then asked for."""
    unpriced: tuple[str, ...] = ()
    """Models that were used and have no known price; with any, `cost_usd` is None."""
    costs: tuple[Cost, ...] = ()
    transcription_failures: int = 0
    transcription_hint: str | None = None
    """What may be wrong when transcriptions failed."""
    tool_p50_ms: int | None = None
    tool_p95_ms: int | None = None
    user_talk_ms: int = 0
    assistant_talk_ms: int = 0
    dead_air_ms: int | None = None
    """Time in which nobody spoke and nothing played, between the first and the last sound; None where
    upstream reported no playback."""
