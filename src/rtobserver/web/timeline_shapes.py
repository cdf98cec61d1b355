"""Shape a call over time as the API gives it. Pure.

As in `shapes.py`, the fields are defined here once, for answers and for the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from rtobserver.realtime import timeline as drawn
from rtobserver.realtime.turns import Turn as FoldedTurn
from rtobserver.store import calls
from rtobserver.web.shapes import Place, Time, time

_Milliseconds = Meta(description="Milliseconds from the beginning of the call.")


def _one_of(*words: str) -> Meta:
    return Meta(extra_json_schema={"enum": list(words)})


class Span(Struct, frozen=True):
    """Be something that took time."""

    id: Annotated[str, Meta(description="Stays the same while the call grows.")]
    lane: Annotated[str, _one_of("user", "assistant", "playback", "tools", "gaps")]
    kind: Annotated[
        str, _one_of("speech", "typed", "generation", "out_of_band", "heard", "function_call", "mcp", "gap")
    ]
    from_ms: Annotated[float, _Milliseconds]
    to_ms: Annotated[float | None, Meta(description="Null while it goes on.")]
    label: Annotated[str, Meta(description="The beginning of its text, a tool's name, or a gap's reason.")]
    position: Annotated[Place, Meta(description="The entry behind its beginning.")]
    to_position: Annotated[Place | None, Meta(description="The entry behind its end; null where none tells it.")]
    item_id: str | None
    response_id: str | None
    status: Annotated[
        str | None,
        Meta(description="What became of it; `unfinished` where the call ended before it did, or nobody told its end."),
    ]
    interrupted: Annotated[bool, Meta(description="Whether the user cut the response short.")]


class Mark(Struct, frozen=True):
    """Be something that happened at once."""

    id: Annotated[str, Meta(description="Stays the same while the call grows.")]
    lane: Annotated[str, _one_of("assistant", "playback", "tools", "commands", "decisions", "errors", "call")]
    kind: Annotated[
        str,
        _one_of(
            "barge_in", "cleared", "truncated", "command", "decision", "error", "transcription_failed", "began", "ended"
        ),
    ]
    at_ms: Annotated[float, _Milliseconds]
    label: Annotated[str, Meta(description="A command's type, a decision's trigger, an error's words, an outcome.")]
    position: Annotated[Place | None, Meta(description="The entry behind it; null where there is none.")]
    policy: str | None
    state: Annotated[
        str | None, Meta(description="A command's state, a decision's outcome, the status of a call that ended.")
    ]
    acted: Annotated[bool | None, Meta(description="Of a decision: whether its actions were to be done.")]
    item_id: str | None
    response_id: str | None


class Turn(Struct, frozen=True):
    """Say from when to when a turn took; `index` is that of the list of turns."""

    index: int
    number: Annotated[
        int | None,
        Meta(description="Which of the user's turns it is, as `turn_count` counts them; null where the model began."),
    ]
    from_ms: Annotated[float, _Milliseconds]
    to_ms: Annotated[float, _Milliseconds]


class Timeline(Struct, frozen=True):
    """Be a call over time; each list is in the order of time."""

    call_id: str
    started_at: Time
    live: Annotated[bool, Meta(description="Whether it still grows.")]
    duration_ms: Annotated[
        float, Meta(description="Until the end of the call; while it is live, until its last entry.")
    ]
    spans: list[Span]
    marks: list[Mark]
    turns: list[Turn]
    after: Annotated[Place | None, Meta(description="The last entry that was looked at; null where there is none.")]


def timeline(call: calls.Call, found: drawn.Drawing) -> Timeline:
    """Shape a call over time."""
    start = call.started_at
    return Timeline(
        call_id=call.call_id,
        started_at=time(start),
        live=found.is_live,
        duration_ms=_ms(found.until_at, start),
        spans=[_span(span, start) for span in found.spans],
        marks=[_mark(mark, start) for mark in found.marks],
        turns=list(_turns(found.turns, start)),
        after=found.after,
    )


def _span(span: drawn.Span, start: int) -> Span:
    return Span(
        id=span.id,
        lane=span.lane,
        kind=span.kind,
        from_ms=_ms(span.from_at, start),
        to_ms=None if span.to_at is None else _ms(span.to_at, start),
        label=span.label,
        position=span.position,
        to_position=span.to_position,
        item_id=span.item_id,
        response_id=span.response_id,
        status=span.status,
        interrupted=span.interrupted,
    )


def _mark(mark: drawn.Mark, start: int) -> Mark:
    return Mark(
        id=mark.id,
        lane=mark.lane,
        kind=mark.kind,
        at_ms=_ms(mark.at, start),
        label=mark.label,
        position=mark.position,
        policy=mark.policy,
        state=mark.state,
        acted=mark.acted,
        item_id=mark.item_id,
        response_id=mark.response_id,
    )


def _turns(found: Iterable[FoldedTurn], start: int) -> Iterable[Turn]:
    for turn in found:
        if turn.started_at is not None:
            ended_at = turn.started_at if turn.ended_at is None else turn.ended_at
            yield Turn(turn.index, turn.number, _ms(turn.started_at, start), _ms(ended_at, start))


def _ms(at: int, start: int) -> float:
    # a clock that was set back may put things before the beginning
    return max(at - start, 0) / 1000
