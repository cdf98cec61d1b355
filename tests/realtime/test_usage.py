from __future__ import annotations

from decimal import Decimal

from rtobserver.realtime.rows import Usage
from rtobserver.realtime.usage import Transcribed, read, read_transcribed, total
from tests.realtime.script import USAGE


def test_every_modality_is_read() -> None:
    assert read(USAGE) == Usage(
        input_tokens=132,
        output_tokens=121,
        total_tokens=253,
        cached_tokens=64,
        input_text=112,
        input_audio=20,
        output_text=30,
        output_audio=91,
        cached_text=64,
    )


def test_usage_that_is_not_there_is_not_zero() -> None:
    assert read(None) is None
    assert read({}) is None
    assert read({"input_tokens": 0, "output_tokens": 0}) == Usage()


def test_reasoning_counts_once_whether_nested_in_the_text_or_beside_it() -> None:
    nested = read({"output_tokens": 100, "output_token_details": {"text_tokens": 100, "reasoning_tokens": 60}})
    beside = read({"output_tokens": 100, "output_token_details": {"text_tokens": 40, "reasoning_tokens": 60}})
    assert nested is not None
    assert nested == beside
    assert (nested.output_text, nested.output_tokens) == (100, 100)


def test_counts_without_details_are_text() -> None:
    usage = read({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15})
    assert usage == Usage(input_tokens=10, output_tokens=5, total_tokens=15, input_text=10, output_text=5)


def test_a_cache_without_details_holds_text_first() -> None:
    details = {"text_tokens": 10, "audio_tokens": 20, "cached_tokens": 15}
    usage = read({"input_tokens": 30, "input_token_details": details})
    assert usage is not None
    assert (usage.cached_text, usage.cached_audio, usage.cached_tokens) == (10, 5, 15)


def test_the_cache_is_never_more_than_the_input() -> None:
    details = {"text_tokens": 10, "cached_tokens": 99, "cached_tokens_details": {"text_tokens": 99, "audio_tokens": 9}}
    usage = read({"input_tokens": 10, "input_token_details": details})
    assert usage is not None
    assert (usage.cached_text, usage.cached_audio) == (10, 0)


def test_transcriptions_are_metered_in_tokens_or_in_seconds() -> None:
    tokens = {
        "type": "tokens",
        "total_tokens": 35,
        "input_tokens": 26,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 26},
        "output_tokens": 9,
    }
    assert read_transcribed(tokens) == Transcribed(tokens=35, audio_in=26, text_out=9)
    assert read_transcribed({"type": "duration", "seconds": 2.7}) == Transcribed(seconds=Decimal("2.7"))
    assert read_transcribed(None) is None
    assert read_transcribed({"type": "tokens"}) is None


def test_sums_are_sums_of_each_count() -> None:
    one = Usage(input_tokens=1, input_text=1, total_tokens=1)
    assert total(one, one) == Usage(input_tokens=2, input_text=2, total_tokens=2)
    assert Transcribed(tokens=1, seconds=Decimal("0.1")) + Transcribed(seconds=Decimal("0.2")) == Transcribed(
        tokens=1, seconds=Decimal("0.3")
    )
