from __future__ import annotations

import pytest
from multidict import MultiDict

from rtobserver.errors import RequestError
from rtobserver.web.parameters import LIMIT_DEFAULT, Parameters

NOW = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000


def query(**values: str) -> Parameters:
    return Parameters(MultiDict(values), tuple(values))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T00:00:00Z", NOW),
        ("2026-01-01t00:00:00z", NOW),
        ("2026-01-01", NOW),
        ("2026-01-01T00:00:00", NOW),
        ("2026-01-01T00:00:00.000001Z", NOW + 1),
        ("2026-01-01T02:30:00+02:30", NOW),
        ("2026-01-01T02:30:00 02:30", NOW),
        ("2025-12-31T23:00:00-01:00", NOW),
        ("1970-01-01", 0),
        ("7d", NOW - 7 * 86400 * SECOND),
        ("1.5h", NOW - 5400 * SECOND),
        ("250ms", NOW - 250_000),
        ("999999999d", 0),
    ],
)
def test_a_moment_is_a_time_or_lies_before_now(text: str, moment: int) -> None:
    assert query(since=text).moment("since", NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "7",
        "-7d",
        "2026",
        "20260101",
        "2026-W01-1",
        "2026-02-30",
        "2026-01-01T25:00:00Z",
        "1969-12-31",
        "7 d",
    ],
)
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="2026-01-31T08:00:00Z") as caught:
        query(since=text).moment("since", NOW)
    assert caught.value.status == 400


ALL_OF_TIME = 253_402_300_800 * SECOND


@pytest.mark.parametrize(
    ("text", "length"),
    [("0", 0), ("10", 10 * SECOND), ("0.5", 500_000), ("20ms", 20_000), ("106751992d", ALL_OF_TIME)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: str, length: int) -> None:
    assert query(min_duration=text).duration_us("min_duration") == length


def test_what_is_absent_is_none() -> None:
    nothing = Parameters(MultiDict(), ("since",))
    assert (nothing.text("since"), nothing.moment("since", NOW), nothing.limit()) == (None, None, LIMIT_DEFAULT)


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(RequestError, match="did you mean `status`"):
        Parameters(MultiDict({"statu": "live"}), ("status", "limit"))


def test_a_name_that_cannot_be_shown_is_not() -> None:
    with pytest.raises(RequestError, match=r"`\?`"):
        Parameters(MultiDict({"\x1b[31m": "live"}), ("status",))


def test_a_family_is_given_by_the_rest_of_its_names() -> None:
    labels = Parameters(MultiDict({"label.team": "a", "label.x": ""}), ("status",), families=("label.",))
    assert labels.family("label.") == {"team": "a", "x": ""}
