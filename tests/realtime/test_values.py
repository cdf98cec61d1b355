from __future__ import annotations

import math
from decimal import Decimal

import pytest

from rtobserver.realtime import values


@pytest.mark.parametrize(
    ("given", "read"),
    [("a", "a"), ("ä\0b", "ä\N{REPLACEMENT CHARACTER}b"), ("\ud800x", "?x"), (None, None), (3, None), (["a"], None)],
)
def test_text_is_storable_or_none(given: object, read: str | None) -> None:
    assert values.text(given) == read


def test_text_is_bounded() -> None:
    assert values.text("x" * (values.MAX_TEXT + 1)) == "x" * values.MAX_TEXT


@pytest.mark.parametrize("given", ["", "x" * 513, "a\0b", "\ud800", None, 3, {}])
def test_what_cannot_be_an_id_is_none(given: object) -> None:
    assert values.identifier(given) is None
    assert values.identifier("item_1") == "item_1"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (3, 3),
        (3.0, 3),
        (3.5, 0),
        (-1, 0),
        (True, 0),
        ("3", 0),
        (None, 0),
        (math.inf, 0),
        (math.nan, 0),
        (10**40, 10**12),
    ],
)
def test_a_count_is_a_count_or_zero(given: object, read: int) -> None:
    assert values.count(given) == read


def test_a_number_that_is_absent_is_told_from_zero() -> None:
    assert values.whole(None) is None
    assert values.whole(False) is None
    assert values.whole(0) == 0


@pytest.mark.parametrize(
    ("given", "read"), [(3, "3"), (2.7, "2.7"), (-1, "0"), (math.inf, "0"), (10**9, "0"), ("3", "0"), (True, "0")]
)
def test_seconds_keep_the_digits_they_were_written_with(given: object, read: str) -> None:
    assert values.seconds(given) == Decimal(read)


def test_containers_of_the_wrong_type_are_empty() -> None:
    assert values.mapping([1]) == {}
    assert values.objects({"a": 1}) == []
    assert values.objects([{"a": 1}, 2, None]) == [{"a": 1}]
