"""Say what the columns of exported tables are, once for CSV and Parquet. Pure.

Columns are named as the API's fields are, `usage.input.audio` being `usage_input_audio`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rtobserver.realtime.rows import Usage
from rtobserver.store.calls import Call
from rtobserver.store.entries import Entry
from rtobserver.store.tables import FLAG_JSON, FLAG_OVERLAP, FLAG_STRIPPED
from rtobserver.web import shapes

Kind = Literal["text", "whole", "number", "truth", "time", "bytes"]
"""What a column holds; times are microseconds since 1970."""
What = Literal["calls", "entries", "items", "responses"]


@dataclass(frozen=True, slots=True)
class Column:
    """Be a column: its name, what it holds, and how a row's value is had."""

    name: str
    kind: Kind
    value: Callable[[Any], Any]


def _json(value: Any) -> str:
    return shapes.encode(value).decode()


def _at(*path: str) -> Callable[[Call], Any]:
    def value(call: Call) -> Any:
        found: Any = getattr(call, path[0])
        for name in path[1:]:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    return value


def _of_call(kind: Kind, *names: str) -> list[Column]:
    return [Column(name.replace(".", "_"), kind, _at(*name.split("."))) for name in names]


def _calls() -> list[Column]:
    return [
        *_of_call("text", "call_id", "protocol", "status", "outcome"),
        *_of_call("time", "started_at", "ended_at"),
        Column("duration_seconds", "number", lambda call: call.ended_at and (call.ended_at - call.started_at) / 1e6),
        *_of_call("text", "profile", "model", "user"),
        Column("labels", "text", lambda call: _json(call.labels)),
        Column("tags", "text", lambda call: _json(call.tags)),
        *_of_call("whole", "entry_count", "turn_count", "interruption_count", "error_count"),
        *_of_call("truth", "tampered"),
        *_of_call("whole", *(f"usage.{name}_tokens" for name in ("input", "output", "total", "cached"))),
        *_of_call("whole", *(f"usage.input.{name}" for name in ("text", "audio", "image"))),
        *_of_call("whole", *(f"usage.output.{name}" for name in ("text", "audio"))),
        *_of_call("whole", *(f"usage.cached.{name}" for name in ("text", "audio", "image"))),
        *_of_call("whole", "usage.transcription.tokens"),
        *_of_call("number", "usage.transcription.seconds"),
        *_of_call("whole", "usage.responses_without_usage"),
        *_of_call("text", "cost_usd"),
        *_of_call(
            "whole", *(f"latency.{name}_ms.{p}" for name in ("first_audio", "generation") for p in ("p50", "p95"))
        ),
        *_of_call("whole", "attach_latency_ms"),
        *_of_call("text", "completeness"),
        *_of_call("whole", "gap_count"),
        Column("purged_at", "time", lambda call: call.purged_at or None),
    ]


def _of_row(kind: Kind, *names: str) -> list[Column]:
    def of(name: str) -> Column:
        return Column(name, kind, lambda pair: getattr(pair[1], name))

    return [of(name) for name in names]


_CALL_ID = Column("call_id", "text", lambda pair: pair[0].call_id)


def _position(pair: tuple[Call, Any]) -> str:
    return f"{pair[1].epoch}:{pair[1].seq}"


_PLACE = [_CALL_ID, Column("position", "text", _position)]


def _entries() -> list[Column]:
    def is_json(entry: Entry) -> bool:
        return bool(entry.flags & FLAG_JSON)

    return [
        *_PLACE,
        *_of_row("whole", "epoch", "seq"),
        *_of_row("time", "at"),
        Column("offset_ms", "number", lambda pair: pair[1].offset_us / 1000),
        Column("kind", "text", lambda pair: shapes.KIND_NAMES[pair[1].kind]),
        *_of_row("text", "type", "event_id"),
        Column("stripped", "truth", lambda pair: bool(pair[1].flags & FLAG_STRIPPED)),
        Column("overlap", "truth", lambda pair: bool(pair[1].flags & FLAG_OVERLAP)),
        Column("payload", "text", lambda pair: pair[1].payload.decode() if is_json(pair[1]) else None),
        Column("payload_bytes", "bytes", lambda pair: None if is_json(pair[1]) else pair[1].payload),
    ]


def _items() -> list[Column]:
    return [
        *_PLACE,
        *_of_row("text", "item_id", "previous_item_id", "response_id", "role", "kind", "text"),
        *_of_row("text", "heard_text", "heard_confidence", "status"),
        *_of_row("truth", "interrupted"),
        *_of_row("time", "started_at", "ended_at"),
        *_of_row("text", "tool_name", "tool_call_id"),
        *_of_row("time", "called_at"),
        *_of_row("text", "tool_output"),
        *_of_row("truth", "out_of_band", "idle_timeout"),
        *_of_row("text", "error"),
        *_of_row("truth", "recovered"),
    ]


def _responses() -> list[Column]:
    def of_usage(name: str) -> Column:
        return Column(f"usage_{name}", "whole", lambda pair: pair[1].usage and getattr(pair[1].usage, name))

    return [
        *_PLACE,
        *_of_row("text", "response_id", "status", "reason"),
        *_of_row("truth", "out_of_band"),
        *_of_row("text", "user_item_id"),
        *_of_row("time", "created_at", "done_at", "first_output_at", "playback_started_at", "playback_ended_at"),
        *_of_row("truth", "playback_cleared", "interrupted"),
        *_of_row("whole", "heard_latency_ms", "generation_latency_ms"),
        *(of_usage(name) for name in Usage.__struct_fields__),
    ]


COLUMNS: Mapping[What, Sequence[Column]] = {
    "calls": _calls(),
    "entries": _entries(),
    "items": _items(),
    "responses": _responses(),
}
"""Columns by table; rows are calls, or pairs of a call and its row."""


def line(what: What, row: Any) -> bytes:
    """Write a row as one line of NDJSON, without its end."""
    if what == "calls":
        return shapes.encode(shapes.call(row))
    if what == "entries":
        call, entry = row
        # the entry's own line, its payload untouched
        return b'{"call_id":%b,%b' % (shapes.encode(call.call_id), shapes.entry(entry)[1:])
    return shapes.encode({column.name: _plain(column, column.value(row)) for column in COLUMNS[what]})


def cell(column: Column, row: Any) -> str:
    """Write a value as the cell of a table that a spreadsheet may open."""
    value = _plain(column, column.value(row))
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    # a spreadsheet would take it for a formula
    return f"'{text}" if column.kind == "text" and text.startswith(("=", "+", "-", "@", "\t", "\r", "\0")) else text


def _plain(column: Column, value: Any) -> Any:
    return shapes.time_or_none(value) if column.kind == "time" else value
