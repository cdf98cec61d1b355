"""Limits hold, and what ends is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.config.sections import Limits
from rtobserver.errors import RequestError
from rtobserver.quota import Quota


def _begin(quota: Quota, user: str | None, mono: float = 0.0) -> bool:
    try:
        quota.begin(user, mono)
    except RequestError as exc:
        if exc.status != 429 or not exc.retry_after:
            raise
        return False
    return True


def test_without_limits_everything_is_allowed() -> None:
    quota = Quota(Limits())
    assert all(_begin(quota, "a") for _ in range(1000))


def test_a_user_holds_only_so_many_calls_at_once() -> None:
    quota = Quota(Limits(concurrent_calls_per_user=2))
    assert [_begin(quota, "a") for _ in range(3)] == [True, True, False]
    assert _begin(quota, "b")
    quota.ended("a")
    assert _begin(quota, "a")


def test_all_calls_together_are_limited() -> None:
    quota = Quota(Limits(concurrent_calls=2))
    assert [_begin(quota, user) for user in "abc"] == [True, True, False]


def test_calls_without_an_identity_count_as_one_users() -> None:
    quota = Quota(Limits(concurrent_calls_per_user=1))
    assert [_begin(quota, None), _begin(quota, None)] == [True, False]


def test_a_minute_slides() -> None:
    quota = Quota(Limits(connects_per_minute_per_user=2))
    assert [_begin(quota, "a", at) for at in (0.0, 30.0, 59.9)] == [True, True, False]
    assert [_begin(quota, "a", at) for at in (60.0, 61.0)] == [True, False]


async def test_a_call_that_failed_is_not_counted() -> None:
    quota = Quota(Limits(concurrent_calls=1))
    with pytest.raises(ValueError, match="upstream"):
        async with quota.connecting("a", 0.0):
            raise ValueError("upstream")
    async with quota.connecting("a", 0.0):
        assert not _begin(quota, "b")
    assert not _begin(quota, "b")


def test_calls_of_an_earlier_run_count() -> None:
    quota = Quota(Limits(concurrent_calls_per_user=1))
    quota.resumed("a")
    assert not _begin(quota, "a")


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_the_limit_is_never_exceeded(limit: int, steps: list[tuple[str, bool]]) -> None:
    quota = Quota(Limits(concurrent_calls_per_user=limit))
    held = dict.fromkeys("abc", 0)
    for user, begins in steps:
        if begins:
            held[user] += _begin(quota, user)
        elif held[user]:
            quota.ended(user)
            held[user] -= 1
        assert held[user] <= limit


def test_no_more_calls_begin_than_can_be_observed() -> None:
    quota = Quota(Limits(), room=2)
    quota.resumed("a")
    assert _begin(quota, "b")
    with pytest.raises(RequestError) as refused:
        quota.begin("c", 0.0)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "no_room", 5)
    quota.ended("a")
    assert _begin(quota, "c")
