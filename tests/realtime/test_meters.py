from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from rtobserver.realtime.cost import Prices
from rtobserver.realtime.meters import Meters, percentile
from rtobserver.realtime.rows import Usage
from rtobserver.realtime.usage import Transcribed

NOON = 1_795_003_200_000_000 - 1_795_003_200_000_000 % 86_400_000_000 + 43_200_000_000
DAY = 86_400_000_000
TABLE = """
    [[model]]
    name = "talker"
    text = { out = 10 }
    [[model]]
    name = "writer"
    minute = 6
"""
PRICES = Prices.parse(TABLE)


def test_responses_without_usage_are_counted_and_not_priced() -> None:
    meters = Meters()
    meters.add(None, NOON)
    meters.add(Usage(output_text=3, output_tokens=3, total_tokens=3), NOON)
    assert (meters.without_usage, meters.usage.total_tokens) == (1, 3)
    assert meters.bill(PRICES, ["talker"], None)[:2] == (Decimal("0.00003"), ())


def test_the_first_name_that_has_a_price_is_taken() -> None:
    meters = Meters()
    meters.add(Usage(output_text=1), NOON)
    assert meters.bill(PRICES, ["our-deployment", "talker"], None)[:2] == (Decimal("0.00001"), ())


def test_a_model_without_a_price_leaves_no_cost_and_is_named() -> None:
    meters = Meters()
    meters.add(Usage(output_text=1), NOON)
    assert meters.bill(PRICES, ["our-deployment", None], None)[:2] == (None, ("our-deployment",))


def test_a_transcription_without_a_price_leaves_no_cost_and_is_named() -> None:
    meters = Meters()
    meters.add(Usage(output_text=1), NOON)
    meters.add_transcribed("our-ears", Transcribed(seconds=Decimal(10)), NOON)
    assert meters.bill(PRICES, ["talker"], None)[:2] == (None, ("our-ears",))
    assert [cost.usd for cost in meters.bill(PRICES, ["talker"], None).costs] == [Decimal("0.00001"), None]


def test_a_transcriber_that_becomes_known_later_prices_what_went_before() -> None:
    meters = Meters()
    meters.add(Usage(output_text=1), NOON)
    meters.add_transcribed(None, Transcribed(seconds=Decimal(10)), NOON)
    assert meters.bill(PRICES, ["talker"], None)[:2] == (None, ("unknown transcription",))
    assert meters.bill(PRICES, ["talker"], "writer")[:2] == (Decimal("1.00001"), ())


def test_a_call_over_midnight_is_priced_by_each_day() -> None:
    today = date(1970, 1, 1) + timedelta(days=NOON // DAY)
    tomorrow = today + timedelta(days=1)
    prices = Prices.parse(
        f'[[model]]\nname = "m"\nuntil = {tomorrow}\ntext = {{ out = 10 }}\n'
        f'[[model]]\nname = "m"\nfrom = {tomorrow}\ntext = {{ out = 20 }}\n'
    )
    meters = Meters()
    meters.add(Usage(output_text=1), NOON)
    meters.add(Usage(output_text=1), NOON + DAY)
    assert meters.bill(prices, ["m"], None)[:2] == (Decimal("0.00003"), ())


def test_clocks_gone_wrong_lose_no_usage_and_cost_no_memory() -> None:
    meters = Meters()
    for day in range(-100, 100):
        meters.add(Usage(output_text=1), day * DAY * 10**6)
    assert meters.bill(PRICES, ["talker"], None)[:2] == (Decimal("0.002"), ())


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([7], 95, 7),
        ([3, 1, 2], 50, 2),
        ([4, 3, 2, 1], 50, 2),
        (list(range(1, 21)), 95, 19),
        (list(range(1, 22)), 95, 20),
    ],
)
def test_percentiles_are_of_the_nearest_rank(values: list[int], percent: int, expected: int | None) -> None:
    assert percentile(values, percent) == expected
