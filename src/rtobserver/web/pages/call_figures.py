"""Make of a call's rows the tables of its page: what it used, how long it took, what was decided and lost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rtobserver.realtime.turns import Turn
from rtobserver.store import commands, decisions, gaps
from rtobserver.web import shapes, verdicts
from rtobserver.web.conversation import CallUsage
from rtobserver.web.pages.call_lines import clock

OUTCOMES: Mapping[str | None, str] = {
    "observed": "only observed",
    "not_in_canary": "not among the calls in which it acts",
    "fault": "fault",
    "done": "done",
    "failed": "failed",
    "unknown": "nothing was heard of it",
    "no_response": "there was no response to act on",
    None: "not known yet",
}
"""What came of a decision."""
_TONES: Mapping[str | None, str] = {
    "done": "good",
    "fault": "bad",
    "failed": "bad",
    "unknown": "warn",
    "acknowledged": "good",
}


@dataclass(frozen=True, slots=True)
class Lag:
    """Be a later time of something, and how long after the first it came."""

    at: str
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Be a row of the table of decisions."""

    key: str
    position: str
    policy: str
    trigger: str
    mode: str
    acted: bool
    actions: list[str]
    received_at: int
    clock: str
    matched: Lag | None
    sent: Lag | None
    acknowledged: Lag | None
    outcome: str
    tone: str
    detail: str | None
    match: str | None
    played_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Be a row of the table of commands."""

    position: str
    event_id: str
    type: str
    source: str
    policy: str | None
    state: str
    tone: str
    sent_at: int | None
    clock: str
    acknowledged: Lag | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Be a row of the table of gaps."""

    position: str
    after: str | None
    from_at: int
    to_at: int | None
    clock: str
    seconds: float | None
    reason: str
    words: str
    state: str
    tone: str
    lost: int | None
    types: list[tuple[str, int]]
    counts: bool
    """False where nothing is known to have happened meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Be a turn in the table of latencies."""

    place: int
    """Among all turns."""
    number: int | None
    """Among the user's; None where the model began."""
    clock: str
    heard_ms: int | None
    generation_ms: int | None
    tool_ms: int | None
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """Be a row of the table of tokens; None where such tokens do not exist."""

    name: str
    text: int | None
    audio: int | None
    image: int | None
    total: int


def decision(row: decisions.Decision, started_at: int) -> Decision:
    """Make the row of a decision."""
    first = row.received_at
    return Decision(
        key=f"{row.position} {row.policy}",
        position=str(row.position),
        policy=row.policy,
        trigger=row.trigger,
        mode=row.mode,
        acted=row.acted,
        actions=[str(action) for action in row.actions],
        received_at=first,
        clock=_clock(first, started_at),
        matched=_lag(row.matched_at or None, first),
        sent=_lag(row.sent_at, first),
        acknowledged=_lag(row.acknowledged_at, first),
        outcome=OUTCOMES.get(row.outcome, row.outcome or ""),
        tone=_TONES.get(row.outcome, ""),
        detail=row.detail,
        match=row.match,
        played_ms=row.played_ms,
    )


def command(row: commands.Command, started_at: int) -> Command:
    """Make the row of a command."""
    return Command(
        position=str(row.position),
        event_id=row.event_id,
        type=row.type,
        source=row.source,
        policy=row.policy,
        state=row.state,
        tone=_TONES.get(row.state, ""),
        sent_at=row.sent_at,
        clock=_clock(row.sent_at, started_at),
        acknowledged=_lag(row.acknowledged_at, row.sent_at),
        error=row.error,
    )


def gap(row: gaps.Gap, started_at: int) -> Gap:
    """Make the row of a gap."""
    tones = {"open": "bad", "recovered": "good"}
    return Gap(
        position=str(row.position),
        after=row.after,
        from_at=row.from_at,
        to_at=row.to_at,
        clock=_clock(row.from_at, started_at),
        seconds=None if row.to_at is None else (row.to_at - row.from_at) / 1_000_000,
        reason=row.reason,
        words=verdicts.GAPS.get(row.reason, row.reason),
        state=row.state,
        tone=tones.get(row.state, ""),
        lost=row.lost,
        counts=row.counted or row.state == "open",
        types=sorted(row.lost_by_type.items(), key=lambda each: (-each[1], each[0])),
    )


def latencies(found: Iterable[Turn], started_at: int) -> list[Latency]:
    """Make the table of latencies; turns of which no latency is known are left out."""
    return [
        Latency(
            place=turn.index + 1,
            number=turn.number,
            clock=_clock(turn.started_at, started_at),
            heard_ms=turn.heard_latency_ms,
            generation_ms=turn.generation_latency_ms,
            tool_ms=turn.tool_latency_ms,
            interrupted=turn.interrupted,
        )
        for turn in found
        if {turn.heard_latency_ms, turn.generation_latency_ms, turn.tool_latency_ms} != {None}
    ]


def tokens(usage: CallUsage) -> list[Tokens]:
    """Make the table of tokens."""
    given, cached, made = usage.input, usage.cached, usage.output
    return [
        Tokens("Input", given.text, given.audio, given.image, usage.input_tokens),
        Tokens("of it cached", cached.text, cached.audio, cached.image, usage.cached_tokens),
        Tokens("Output", made.text, made.audio, None, usage.output_tokens),
    ]


def _lag(at: int | None, since: int | None) -> Lag | None:
    return None if at is None or since is None else Lag(shapes.time(at), (at - since) / 1000)


def _clock(at: int | None, started_at: int) -> str:
    return clock(None if at is None else max(at - started_at, 0) / 1000)
