"""Read what upstream says was used: tokens of responses, tokens or seconds of transcriptions."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from rtobserver.realtime.rows import Usage
from rtobserver.realtime.values import count, mapping, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcribed:
    """Count what transcriptions used; they are metered apart from the responses."""

    tokens: int = 0
    text_in: int = 0
    audio_in: int = 0
    text_out: int = 0
    seconds: Decimal = Decimal(0)

    def __add__(self, other: Transcribed) -> Transcribed:
        return Transcribed(
            tokens=self.tokens + other.tokens,
            text_in=self.text_in + other.text_in,
            audio_in=self.audio_in + other.audio_in,
            text_out=self.text_out + other.text_out,
            seconds=self.seconds + other.seconds,
        )


def read(value: object) -> Usage | None:
    """Read the `usage` of a response; None where it holds no count.

    Tokens that no modality claims are text: reasoning tokens are text that some servers nest in
    `text_tokens` and others count beside it, and either way they are counted once.
    """
    usage = mapping(value)
    if not usage.keys() & {"input_tokens", "output_tokens", "total_tokens"}:
        return None
    into = mapping(usage.get("input_token_details"))
    out = mapping(usage.get("output_token_details"))
    input_audio, input_image = count(into.get("audio_tokens")), count(into.get("image_tokens"))
    output_audio = count(out.get("audio_tokens"))
    input_text = max(count(into.get("text_tokens")), count(usage.get("input_tokens")) - input_audio - input_image)
    output_text = max(count(out.get("text_tokens")), count(usage.get("output_tokens")) - output_audio)
    cached = mapping(into.get("cached_tokens_details"))
    cached_audio = min(count(cached.get("audio_tokens")), input_audio)
    cached_image = min(count(cached.get("image_tokens")), input_image)
    # without details the cache is taken to hold text first, then audio: instructions come before speech
    unclaimed = max(count(into.get("cached_tokens")) - cached_audio - cached_image, count(cached.get("text_tokens")))
    cached_text = min(unclaimed, input_text)
    if not cached:
        cached_audio = min(unclaimed - cached_text, input_audio)
    input_tokens = max(count(usage.get("input_tokens")), input_text + input_audio + input_image)
    output_tokens = max(count(usage.get("output_tokens")), output_text + output_audio)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=count(usage.get("total_tokens")) or input_tokens + output_tokens,
        cached_tokens=cached_text + cached_audio + cached_image,
        input_text=input_text,
        input_audio=input_audio,
        input_image=input_image,
        output_text=output_text,
        output_audio=output_audio,
        cached_text=cached_text,
        cached_audio=cached_audio,
        cached_image=cached_image,
    )


def read_transcribed(value: object) -> Transcribed | None:
    """Read the `usage` of a transcription, in tokens or in seconds; None where there is none."""
    usage = mapping(value)
    if "seconds" in usage:
        return Transcribed(seconds=seconds(usage["seconds"]))
    if not usage.keys() & {"input_tokens", "output_tokens", "total_tokens"}:
        return None
    details = mapping(usage.get("input_token_details"))
    text_in = count(details.get("text_tokens"))
    audio_in = max(count(details.get("audio_tokens")), count(usage.get("input_tokens")) - text_in)
    text_out = count(usage.get("output_tokens"))
    return Transcribed(
        tokens=count(usage.get("total_tokens")) or text_in + audio_in + text_out,
        text_in=text_in,
        audio_in=audio_in,
        text_out=text_out,
    )


def total(first: Usage, second: Usage) -> Usage:
    """Add two counts."""
    return Usage(**{name: getattr(first, name) + getattr(second, name) for name in _NAMES})


_NAMES = Usage.__struct_fields__
