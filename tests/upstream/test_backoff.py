import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.upstream.backoff import LONGEST, Hold, delay, retry_after

NOW = 1795400000.0  # Mon, 23 Nov 2026 02:13:20 GMT
jitters = st.floats(0, 1, exclude_max=True)


def test_delays_double_from_a_quarter_of_a_second_to_four_seconds() -> None:
    assert [delay(attempt, 0.0) for attempt in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_half_a_minute_holds_at_most_a_dozen_attempts() -> None:
    at, attempts = 0.0, 1
    while (at := at + delay(attempts - 1, 0.5)) < 30:
        attempts += 1

    assert attempts <= 12


@given(st.integers(0, 10**9), jitters)
def test_a_delay_is_within_a_fifth_of_its_nominal_length(attempt: int, jitter: float) -> None:
    nominal = delay(attempt, 0.0)

    assert 0.8 * nominal <= delay(attempt, jitter) <= nominal <= 4.0


@given(st.integers(0, 100), jitters, st.floats(0, 1e12))
def test_upstreams_own_wish_is_the_least_and_a_minute_the_most(attempt: int, jitter: float, wish: float) -> None:
    waited = delay(attempt, jitter, retry_after=wish)

    assert min(wish, LONGEST) <= waited <= LONGEST


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("1000000000", 60.0),
        ("Mon, 23 Nov 2026 02:13:30 GMT", 10.0),
        ("Mon, 23 Nov 2026 10:33:20 GMT", 60.0),
        ("Tue, 24 Nov 2020 00:00:00 GMT", 0.0),
    ],
)
def test_a_header_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "-5",
        "1e3",
        "inf",
        "nan",
        "7 seconds",
        "\u0667",
        "9" * 400,
        "Tue, 99 Nov 2026 00:00:00 GMT",
        "Tue, 24 Xyz 2026 00:00:00 GMT",
        "2026-11-24T00:00:00Z",
    ],
)
def test_garbage_is_as_good_as_no_header(value: str | None) -> None:
    assert retry_after(value, NOW) is None


@given(st.text())
def test_no_header_raises(value: str) -> None:
    found = retry_after(value, NOW)

    assert found is None or 0 <= found <= LONGEST


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e9)), min_size=1))
def test_what_upstream_asked_of_anybody_holds_for_all_up_to_a_minute(asked: list[tuple[float, float]]) -> None:
    hold = Hold()
    for mono, seconds in asked:
        hold.asked(seconds, mono)
    until = max(mono + min(LONGEST, seconds) for mono, seconds in asked)

    assert hold.left(0.0) == until
    assert hold.left(until) == 0.0
