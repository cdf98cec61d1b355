"""Write calls, entries, gaps and commands as the API shows them. Pure.

Every field is always there, null where its value is not known. The payload of an entry is spliced
in as it was received: nothing decodes it and writes it anew.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from rtobserver.store.calls import Call
from rtobserver.store.commands import Command
from rtobserver.store.entries import Entry
from rtobserver.store.gaps import Gap
from rtobserver.store.tables import FLAG_JSON, FLAG_OVERLAP, FLAG_STRIPPED, KIND_COMMAND, KIND_EVENT, KIND_GAP

KINDS = {"event": KIND_EVENT, "command": KIND_COMMAND, "gap": KIND_GAP}
_KIND_NAMES = {number: name for name, number in KINDS.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_USAGE: dict[str, Any] = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "cached_tokens": 0,
    "input": {"text": 0, "audio": 0, "image": 0},
    "output": {"text": 0, "audio": 0},
    "cached": {"text": 0, "audio": 0, "image": 0},
    "transcription": {"tokens": 0, "seconds": 0.0},
    "responses_without_usage": 0,
}
_LATENCY: dict[str, Any] = {
    "first_audio_ms": {"p50": None, "p95": None},
    "generation_ms": {"p50": None, "p95": None},
}

encode = msgspec.json.Encoder().encode


def time(microseconds: int | None) -> str | None:
    """Write a time as RFC 3339 has it, in UTC, with microseconds."""
    if microseconds is None:
        return None
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def call(row: Call) -> dict[str, Any]:
    """Shape a call."""
    return {
        "call_id": row.call_id,
        "protocol": row.protocol,
        "status": row.status,
        "outcome": row.outcome,
        "started_at": time(row.started_at),
        "ended_at": time(row.ended_at),
        "duration_seconds": None if row.ended_at is None else (row.ended_at - row.started_at) / 1_000_000,
        "profile": row.profile,
        "model": row.model,
        "user": row.user,
        "labels": row.labels,
        "tags": row.tags,
        "entry_count": row.entry_count,
        "turn_count": row.turn_count,
        "interruption_count": row.interruption_count,
        "error_count": row.error_count,
        "tampered": row.tampered,
        "usage": _filled(_USAGE, row.usage),
        "cost_usd": row.cost_usd,
        "latency": _filled(_LATENCY, row.latency),
        "attach_latency_ms": row.attach_latency_ms,
        "completeness": row.completeness,
        "gap_count": row.gap_count,
    }


def entry(row: Entry) -> bytes:
    """Write an entry as one line of JSON, without its end."""
    head = encode(
        {
            "position": str(row.position),
            "epoch": row.epoch,
            "seq": row.seq,
            "at": time(row.at),
            "offset_ms": row.offset_us / 1000,
            "kind": _KIND_NAMES[row.kind],
            "type": row.type,
            "event_id": row.event_id,
            "stripped": bool(row.flags & FLAG_STRIPPED),
            "overlap": bool(row.flags & FLAG_OVERLAP),
        }
    )
    if row.flags & FLAG_JSON:
        return b'%b,"payload":%b}' % (head[:-1], row.payload)
    return b'%b,"payload_base64":"%b"}' % (head[:-1], base64.b64encode(row.payload))


def gap(row: Gap) -> dict[str, Any]:
    """Shape a gap."""
    return {
        "from": time(row.from_at),
        "to": time(row.to_at),
        "reason": row.reason,
        "epoch": row.position.epoch,
        "after": row.after,
        "state": row.state,
        "lost": row.lost,
        "lost_by_type": row.lost_by_type,
    }


def command(row: Command) -> dict[str, Any]:
    """Shape a command."""
    return {
        "event_id": row.event_id,
        "type": row.type,
        "source": row.source,
        "policy": row.policy,
        "state": row.state,
        "sent_at": time(row.sent_at),
        "acknowledged_at": time(row.acknowledged_at),
        "error": row.error,
    }


def _filled(shape: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values in their whole shape, whatever of it they have."""
    return {
        name: _filled(inner, values.get(name) or {}) if isinstance(inner, dict) else values.get(name, inner)
        for name, inner in shape.items()
    }
