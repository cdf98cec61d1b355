"""Shape calls, entries, gaps and commands as the API gives them. Pure.

The fields are defined here once: answers are encoded from these values and the OpenAPI document is
made of the same definitions. Every field is always there, null where its value is not known. The
payload of an entry is put in as it was received: nothing decodes it and writes it anew.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from rtobserver.store import calls, commands, entries, gaps
from rtobserver.store.tables import FLAG_JSON, FLAG_OVERLAP, FLAG_STRIPPED, KIND_COMMAND, KIND_EVENT, KIND_GAP

STATUSES = ("connecting", "live", "ended", "unobserved", "lost", "failed")
OUTCOMES = (
    "browser_left",
    "hung_up",
    "expired",
    "max_duration",
    "policy",
    "undelivered",
    "refused",
    "upstream_error",
    "timeout",
    "no_location",
    "attach_failed",
    "lost",
)
GAP_REASONS = (
    "before_attach",
    "reattach",
    "takeover",
    "oversize",
    "protocol",
    "shed",
    "disk",
    "corrupt",
    "paused",
    "erased",
    "unknown_end",
)
KINDS: Mapping[str, int] = {"event": KIND_EVENT, "command": KIND_COMMAND, "gap": KIND_GAP}

KIND_NAMES = {number: name for name, number in KINDS.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


def _one_of(words: Iterable[str]) -> Meta:
    return Meta(extra_json_schema={"enum": list(words)})


Status = Annotated[str, _one_of(STATUSES)]
Outcome = Annotated[str, _one_of(OUTCOMES)]
Time = Annotated[
    str, Meta(description="RFC 3339, in UTC, with microseconds.", extra_json_schema={"format": "date-time"})
]
Place = Annotated[str, Meta(pattern=r"^[0-9]{1,9}:[0-9]{1,9}$", description="A position in its call, `EPOCH:SEQ`.")]

encode = msgspec.json.Encoder().encode


class Listed(Struct, Generic[T], frozen=True):
    """Be one page of a list."""

    data: list[T]
    next_cursor: Annotated[
        str | None, Meta(description="Pass it on as `cursor` for the next page; null at the end of the list.")
    ]


class InputTokens(Struct, frozen=True):
    """Count tokens of one direction by what they stand for."""

    text: int = 0
    audio: int = 0
    image: int = 0


class OutputTokens(Struct, frozen=True):
    """Count tokens that the model made, by what they stand for."""

    text: int = 0
    audio: int = 0


class Transcribed(Struct, frozen=True):
    """Count what the transcription model was asked for."""

    tokens: int = 0
    seconds: float = 0.0


class Usage(Struct, frozen=True):
    """Count the tokens of a call."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: Annotated[int, Meta(description="Part of the input tokens.")] = 0
    input: InputTokens = InputTokens()
    output: OutputTokens = OutputTokens()
    cached: InputTokens = InputTokens()
    transcription: Transcribed = Transcribed()
    responses_without_usage: Annotated[
        int, Meta(description="Finished responses that said nothing of their usage: the sums lack them.")
    ] = 0


class Percentiles(Struct, frozen=True):
    """Sum up a latency over the turns of a call."""

    p50: int | None = None
    p95: int | None = None


class Latency(Struct, frozen=True):
    """Say how long users waited for the model, in milliseconds."""

    first_audio_ms: Annotated[
        Percentiles, Meta(description="From the end of the user's speech to the start of the playback.")
    ] = Percentiles()
    generation_ms: Annotated[
        Percentiles, Meta(description="From the end of the user's speech to the first output.")
    ] = Percentiles()


class Metrics(Struct, frozen=True):
    """Say more of how a call went."""

    user_talk_ms: Annotated[int, Meta(description="By the media clock, less what voice detection adds.")] = 0
    assistant_talk_ms: Annotated[
        int, Meta(description="Playback; reckoned from tokens where upstream reported none.")
    ] = 0
    dead_air_ms: Annotated[
        int | None,
        Meta(description="Nobody spoke and nothing played, between the first sound and the last; null if unknown."),
    ] = None
    tool_latency_ms: Annotated[Percentiles, Meta(description="From a tool's complete arguments to its output.")] = (
        Percentiles()
    )
    transcription_failure_count: int = 0
    transcription_hint: Annotated[
        str | None, Meta(description="What may be wrong where the user's speech could not be transcribed.")
    ] = None


class Call(Struct, frozen=True):
    """Be a call."""

    call_id: str
    protocol: str
    status: Status
    outcome: Annotated[Outcome | None, Meta(description="How it ended; null while it has not.")]
    started_at: Time
    ended_at: Time | None
    duration_seconds: float | None
    profile: str
    model: str
    user: str | None
    labels: dict[str, str]
    tags: list[str]
    entry_count: int
    turn_count: Annotated[int, Meta(description="Committed turns of the user, spoken or typed.")]
    interruption_count: int
    error_count: int
    tampered: Annotated[
        bool, Meta(description="Whether somebody else changed the session's configuration or put items into it.")
    ]
    usage: Usage
    cost_usd: Annotated[str | None, Meta(description="Exact decimal; null where a price is not known.")]
    latency: Latency
    attach_latency_ms: Annotated[int | None, Meta(description="From the answer to the observer's connection.")]
    completeness: Annotated[str, _one_of(("complete", "complete_with_gaps", "incomplete"))] | None
    gap_count: int
    metrics: Metrics
    purged_at: Annotated[
        Time | None,
        Meta(description="When retention took its entries and transcript away; null while it has them."),
    ]


class Entry(Struct, frozen=True):
    """Be one recorded line of a call; it has either `payload` or `payload_base64`."""

    position: Place
    epoch: int
    seq: int
    at: Time
    offset_ms: Annotated[float, Meta(description="From the start of the call, by a clock that nobody sets.")]
    kind: Annotated[str, _one_of(KINDS)]
    type: Annotated[str | None, Meta(description="The event's type; null where the frame has none.")]
    event_id: str | None
    stripped: Annotated[bool, Meta(description="Whether audio was replaced by its length and keyed hash.")]
    overlap: Annotated[bool, Meta(description="Whether an old owner received it after its successor had attached.")]
    payload: Annotated[
        Raw | UnsetType, Meta(description="The frame as it was received, where it can stand in JSON unchanged.")
    ] = UNSET
    payload_base64: Annotated[str | UnsetType, Meta(description="The frame's exact bytes, where it cannot.")] = UNSET


class Gap(Struct, frozen=True, rename={"from_": "from"}):
    """Be one admitted loss."""

    from_: Time
    to: Time | None
    reason: Annotated[str, _one_of(GAP_REASONS)]
    epoch: int
    after: Annotated[Place | None, Meta(description="The last entry before it.")]
    state: Annotated[str, _one_of(("open", "bounded", "recovered", "final"))]
    lost: Annotated[int | None, Meta(description="Frames that are missing; null where nobody can know.")]
    lost_by_type: dict[str, int]


class Command(Struct, frozen=True):
    """Be one client event that rtobserver sent into a call."""

    event_id: str
    type: str
    source: Annotated[str, _one_of(("policy", "operator", "system"))]
    policy: str | None
    state: Annotated[str, _one_of(("sent", "acknowledged", "failed", "unknown"))]
    sent_at: Time | None
    acknowledged_at: Time | None
    error: str | None


def time(microseconds: int) -> str:
    """Write a time as RFC 3339 has it, in UTC, with microseconds."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_or_none(microseconds: int | None) -> str | None:
    """Write a time, if there is one."""
    return None if microseconds is None else time(microseconds)


def call(row: calls.Call) -> Call:
    """Shape a call."""
    return Call(
        call_id=row.call_id,
        protocol=row.protocol,
        status=row.status,
        outcome=row.outcome,
        started_at=time(row.started_at),
        ended_at=time_or_none(row.ended_at),
        duration_seconds=None if row.ended_at is None else (row.ended_at - row.started_at) / 1_000_000,
        profile=row.profile,
        model=row.model,
        user=row.user,
        labels=dict(row.labels),
        tags=list(row.tags),
        entry_count=row.entry_count,
        turn_count=row.turn_count,
        interruption_count=row.interruption_count,
        error_count=row.error_count,
        tampered=row.tampered,
        usage=msgspec.convert(row.usage, Usage),
        cost_usd=row.cost_usd,
        latency=msgspec.convert(row.latency, Latency),
        attach_latency_ms=row.attach_latency_ms,
        completeness=row.completeness,
        gap_count=row.gap_count,
        metrics=msgspec.convert(row.metrics, Metrics),
        # 0 while it goes on
        purged_at=time_or_none(row.purged_at or None),
    )


def entry(row: entries.Entry) -> bytes:
    """Write an entry as one line of JSON, without its end."""
    embedded = row.flags & FLAG_JSON
    return encode(
        Entry(
            str(row.position),
            row.epoch,
            row.seq,
            time(row.at),
            row.offset_us / 1000,
            KIND_NAMES[row.kind],
            row.type,
            row.event_id,
            bool(row.flags & FLAG_STRIPPED),
            bool(row.flags & FLAG_OVERLAP),
            payload=Raw(row.payload) if embedded else UNSET,
            payload_base64=UNSET if embedded else base64.b64encode(row.payload).decode(),
        )
    )


def gap(row: gaps.Gap) -> Gap:
    """Shape a gap."""
    return Gap(
        from_=time(row.from_at),
        to=time_or_none(row.to_at),
        reason=row.reason,
        epoch=row.position.epoch,
        after=row.after,
        state=row.state,
        lost=row.lost,
        lost_by_type=dict(row.lost_by_type),
    )


def command(row: commands.Command) -> Command:
    """Shape a command."""
    return Command(
        event_id=row.event_id,
        type=row.type,
        source=row.source,
        policy=row.policy,
        state=row.state,
        sent_at=time_or_none(row.sent_at),
        acknowledged_at=time_or_none(row.acknowledged_at),
        error=row.error,
    )
