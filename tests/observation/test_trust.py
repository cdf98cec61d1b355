"""How long a replica may act by itself, as pure arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.observation.trust import MARGIN, SET_SECONDS, Pace, Ration, Trust

SECONDS = st.floats(0, 1e6)


def test_nothing_is_trusted_before_the_first_renewal() -> None:
    assert not Trust(10.0).holds(0.0)


def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    trust = Trust(10.0)
    trust.renewed(100.0)
    assert trust.holds(107.9)
    assert not trust.holds(108.0)
    assert trust.left(105.0) == 3.0


def test_an_answer_that_comes_late_shortens_no_window() -> None:
    trust = Trust(10.0)
    trust.renewed(104.0)
    trust.renewed(101.0)
    assert trust.holds(111.0)


def test_whoever_was_fenced_is_never_trusted_again() -> None:
    trust = Trust(10.0)
    trust.renewed(100.0)
    trust.lose()
    trust.renewed(101.0)
    assert not trust.holds(101.0)
    assert trust.left(101.0) == 0.0


@given(ttl=st.floats(1, 600), asked=SECONDS, took=st.floats(0, 20), later=st.floats(0, 1200))
def test_no_replica_acts_when_its_lease_may_have_run_out(ttl: float, asked: float, took: float, later: float) -> None:
    """The database begins to count when it has the statement, which is after it was asked for."""
    trust = Trust(ttl)
    trust.renewed(asked)
    runs_out_at = asked + took + ttl
    if trust.holds(asked + later):
        assert asked + later < runs_out_at


@given(ttl=st.floats(1, 600))
def test_two_renewals_in_a_row_may_fail(ttl: float) -> None:
    trust = Trust(ttl)
    trust.renewed(0.0)
    assert 2.9 * trust.interval < ttl * (1 - MARGIN)


@given(asks=st.lists(st.tuples(st.integers(0, 100), st.floats(0, 2)), max_size=50))
def test_a_ration_gives_no_more_than_its_rate_and_one_burst(asks: list[tuple[int, float]]) -> None:
    ration, now, taken = Ration(50.0, 25), 0.0, 0
    for wanted, later in asks:
        now += later
        got = ration.take(wanted, now)
        assert 0 <= got <= wanted
        taken += got
        assert taken <= 25 + 50.0 * now + 1e-6


def test_whoever_waits_as_long_as_a_ration_says_gets_what_was_asked_for() -> None:
    ration = Ration(50.0, 25)
    assert ration.take(100, 0.0) == 25
    wait = ration.wait(10, 0.0)
    assert wait == 0.2
    assert ration.take(10, wait + 1e-9) == 10


def test_what_was_taken_in_vain_can_be_taken_again() -> None:
    ration = Ration(50.0, 25)
    assert ration.take(25, 0.0) == 25
    ration.give_back(20)
    assert ration.take(25, 0.0) == 20


@given(
    ahead=st.floats(-1e6, 1e6),
    readings=st.lists(st.tuples(st.floats(0, 60), st.floats(0, 3), st.floats(0, 1)), min_size=2, max_size=20),
    jump=st.floats(SET_SECONDS + 3.1, 1e4) | st.floats(-1e4, -SET_SECONDS - 3.1),
)
def test_a_clock_that_is_set_is_told_from_answers_that_take_long(
    ahead: float, readings: list[tuple[float, float, float]], jump: float
) -> None:
    pace, now = Pace(), 100.0
    for later, took, part in readings:
        now += later
        assert not pace.was_set(now + took * part + ahead, now, now + took)
        now += took
    assert pace.was_set(now + ahead + jump, now, now + 0.1)
    assert not pace.was_set(now + 1 + ahead + jump, now + 1, now + 1.1)
