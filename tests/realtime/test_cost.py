"""Prices, with sums worked by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from importlib.resources import files

import pytest

from rtobserver.errors import ConfigError
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.rows import Usage
from rtobserver.realtime.usage import Transcribed

DAY = date(2026, 11, 23)
TABLE = files("rtobserver.realtime").joinpath("prices.toml").read_text(encoding="utf-8")
PRICES = Prices.parse(TABLE, {"Our-Voice": "gpt-realtime", "our-ears": "gpt-realtime-whisper"})


def test_the_protocol_s_example() -> None:
    usage = Usage(
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
    # text in   112 - 64 = 48 at  4     =  192
    # cached              64 at  0.40  =   25.6
    # text out            30 at 16     =  480
    # audio in            20 at 32     =  640
    # audio out           91 at 64     = 5824
    #                                   -------
    #                                    7161.6 millionths of a dollar
    assert PRICES.cost("gpt-realtime", usage, DAY) == Decimal("0.0071616")


def test_three_spoken_turns_with_cached_audio() -> None:
    usage = Usage(input_text=121, input_audio=247, cached_tokens=64, cached_audio=64, output_text=53, output_audio=183)
    # 121*4 + (247-64)*32 + 64*0.40 + 53*16 + 183*64 = 484 + 5856 + 25.6 + 848 + 11712 = 18925.6
    assert PRICES.cost("gpt-realtime", usage, DAY) == Decimal("0.0189256")


def test_images_in_a_small_model() -> None:
    usage = Usage(input_image=1000, cached_image=250, output_text=10)
    # 750*0.80 + 250*0.08 + 10*2.40 = 600 + 20 + 24 = 644
    assert PRICES.cost("gpt-realtime-2.1-mini", usage, DAY) == Decimal("0.000644")


def test_a_preview_of_october_2024_cost_more_than_that_of_december() -> None:
    usage = Usage(input_audio=1000, output_audio=1000)
    assert PRICES.cost("gpt-4o-realtime-preview-2024-10-01", usage, DAY) == Decimal("0.3")  # 100 + 200
    assert PRICES.cost("gpt-4o-realtime-preview-2024-12-17", usage, DAY) == Decimal("0.12")  # 40 + 80


def test_a_release_date_leads_to_the_model() -> None:
    usage = Usage(output_text=1)
    assert PRICES.cost("gpt-realtime-2025-08-28", usage, DAY) == Decimal("0.000016")


def test_a_deployment_is_priced_by_its_alias_whatever_its_case() -> None:
    assert PRICES.cost("OUR-VOICE", Usage(output_text=1), DAY) == Decimal("0.000016")


def test_what_has_no_price_has_no_cost() -> None:
    assert PRICES.cost("gpt-realtime-9", Usage(output_text=1), DAY) is None
    assert PRICES.cost(None, Usage(), DAY) is None
    # a preview that never took images
    assert PRICES.cost("gpt-4o-realtime-preview", Usage(input_image=1), DAY) is None
    assert not PRICES.knows("gpt-realtime-9", DAY)


def test_nothing_used_costs_nothing_and_reads_like_money() -> None:
    assert str(PRICES.cost("gpt-realtime", Usage(), DAY)) == "0"
    assert str(PRICES.cost("gpt-realtime", Usage(output_text=10**8), DAY)) == "1600"


def test_transcription_by_the_minute() -> None:
    # 9 s at 0.017 a minute: 0.153 / 60 = 0.00255
    assert PRICES.transcription_cost("our-ears", Transcribed(seconds=Decimal(9)), DAY) == Decimal("0.00255")
    # 1 s at 0.017 a minute has no end; ten places are kept
    assert PRICES.transcription_cost("our-ears", Transcribed(seconds=Decimal(1)), DAY) == Decimal("0.0002833333")


def test_transcription_by_tokens() -> None:
    # 26*2.50 + 9*10 = 65 + 90 = 155
    used = Transcribed(tokens=35, audio_in=26, text_out=9)
    assert PRICES.transcription_cost("gpt-4o-transcribe", used, DAY) == Decimal("0.000155")


def test_a_meter_that_the_model_does_not_have_has_no_cost() -> None:
    assert PRICES.transcription_cost("gpt-4o-transcribe", Transcribed(seconds=Decimal(1)), DAY) is None
    assert PRICES.transcription_cost("whisper-1", Transcribed(tokens=1, audio_in=1), DAY) is None
    assert PRICES.transcription_cost(None, Transcribed(), DAY) is None


def test_prices_hold_from_a_day_until_another() -> None:
    table = """
        [[model]]
        name = "m"
        until = 2026-12-01
        text = { out = 16 }
        [[model]]
        name = "m"
        from = 2026-12-01
        text = { out = 8 }
    """
    prices = Prices.parse(table)
    assert prices.cost("m", Usage(output_text=1), date(2026, 11, 30)) == Decimal("0.000016")
    assert prices.cost("m", Usage(output_text=1), date(2026, 12, 1)) == Decimal("0.000008")


def test_aliases_may_stand_in_the_table_and_those_given_win() -> None:
    table = '[aliases]\nd = "a"\n[[model]]\nname = "a"\ntext = { in = 1 }\n[[model]]\nname = "b"\ntext = { in = 2 }\n'
    assert Prices.parse(table).cost("d", Usage(input_text=1), DAY) == Decimal("0.000001")
    assert Prices.parse(table, {"d": "b"}).cost("d", Usage(input_text=1), DAY) == Decimal("0.000002")


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("model = 3", "model"),
        ("nonsense", ""),
        ("price = 3", "price"),
        ("aliases = { a = 1 }", "aliases"),
        ("[[model]]\ntext = { in = 1 }", "model[0].name"),
        ('[[model]]\nname = "m"\ntext = { in = -1 }', "model[0].text.in"),
        ('[[model]]\nname = "m"\ntext = { in = nan }', "model[0].text.in"),
        ('[[model]]\nname = "m"\ntext = { in = "1" }', "model[0].text.in"),
        ('[[model]]\nname = "m"\ntext = 1', "model[0].text"),
        ('[[model]]\nname = "m"\nimage = { out = 1 }', "model[0].image.out"),
        ('[[model]]\nname = "m"\nhour = 1', "model[0].hour"),
        ('[[model]]\nname = "m"\nminute = true', "model[0].minute"),
        ('[[model]]\nname = "m"\nfrom = 2026', "model[0].from"),
        ('[[model]]\nname = "m"\n[[model]]\nname = "M"', "model[1]"),
    ],
)
def test_a_mistake_is_named_by_its_place(table: str, path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Prices.parse(table)
    assert [mistake.path for mistake in refused.value.mistakes] == [path]
