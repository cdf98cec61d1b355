"""Show rules the call as the API does: `call.` in conditions and templates. Pure.

Live calls and replays are shown by the same function. What is not known is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rtobserver.policy.rules import Json
from rtobserver.realtime.call import CallState
from rtobserver.realtime.times import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Be what is known of a call from its beginning on."""

    call_id: str
    profile: str
    model: str
    started_at: int
    """Microseconds since 1970."""
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "realtime"


def view(
    subject: Subject,
    state: CallState,
    *,
    age: float,
    tags: Sequence[str] = (),
    entry_count: int = 0,
    gap_count: int = 0,
    tampered: bool = False,
    attach_latency_ms: int | None = None,
) -> dict[str, Json]:
    """Give the fields of a call of this age that is going on, and `age_seconds`."""
    totals = state.totals()
    usage = totals.usage
    shown: dict[str, Json] = {
        "call_id": subject.call_id,
        "protocol": subject.protocol,
        "status": "live",
        "started_at": rfc3339(subject.started_at),
        "duration_seconds": age,
        "age_seconds": age,
        "profile": subject.profile,
        "model": subject.model,
        "user": subject.user,
        "labels": dict(subject.labels),
        "tags": list(tags),
        "entry_count": entry_count,
        "gap_count": gap_count,
        "turn_count": totals.turn_count,
        "interruption_count": totals.interruption_count,
        "error_count": totals.error_count,
        "tampered": tampered,
        "attach_latency_ms": attach_latency_ms,
        "cost_usd": None if totals.cost_usd is None else float(totals.cost_usd),
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.cached_tokens,
            "input": {"text": usage.input_text, "audio": usage.input_audio, "image": usage.input_image},
            "output": {"text": usage.output_text, "audio": usage.output_audio},
            "cached": {"text": usage.cached_text, "audio": usage.cached_audio, "image": usage.cached_image},
            "transcription": {"tokens": totals.transcription_tokens, "seconds": totals.transcription_seconds},
            "responses_without_usage": totals.responses_without_usage,
        },
        "latency": {
            "first_audio_ms": _percentiles(totals.first_audio_p50_ms, totals.first_audio_p95_ms),
            "generation_ms": _percentiles(totals.generation_p50_ms, totals.generation_p95_ms),
        },
    }
    return {name: value for name, value in shown.items() if value is not None}


def _percentiles(p50: int | None, p95: int | None) -> dict[str, int]:
    return {name: value for name, value in (("p50", p50), ("p95", p95)) if value is not None}
