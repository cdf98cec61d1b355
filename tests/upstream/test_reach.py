"""What is upstream's fault is told until something gets through again; what is a caller's own is not."""

from __future__ import annotations

import pytest

from rtobserver.clock import SystemClock
from rtobserver.errors import (
    CredentialError,
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from rtobserver.upstream.attach import AttachFailed, AttachRefused
from rtobserver.upstream.reach import Reach


class Clock(SystemClock):
    """Be a wall clock that stands still until it is set."""

    at = 1_000_000

    def now_us(self) -> int:
        return self.at


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (UpstreamUnavailable("x"), "no answer"),
        (UpstreamUnavailable("x", status=503), "it answers 503"),
        (UpstreamTimeout("x"), "no answer in time"),
        (UpstreamRefused(401), "it does not take our credential (401)"),
        (UpstreamRefused(403), "it does not take our credential (403)"),
        (CredentialError("x"), "no credential for it can be had"),
        (UpstreamBroken("x"), "its answer cannot be used"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{type(value).__name__} {getattr(value, 'status', '')}",
)
def test_what_keeps_everybody_out_is_a_reason_in_plain_words(exc: UpstreamError, words: str) -> None:
    reach = Reach("offer", Clock())
    reach.missed(exc, 0.0)
    assert reach.reasons() == {f"no offer gets through to upstream: {words} (once)": 1_000_000}


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
def test_what_one_offer_is_refused_for_is_no_reason_and_does_not_take_one_away(status: int) -> None:
    reach = Reach("offer", Clock())
    reach.missed(UpstreamRefused(status, "invalid_offer"), 0.0)
    assert reach.reasons() == {}
    reach.missed(UpstreamTimeout("x"), 1.0)
    reach.missed(UpstreamRefused(status, "invalid_offer"), 2.0)
    assert len(reach.reasons()) == 1


def test_the_reason_counts_from_the_first_miss_and_goes_with_the_first_that_gets_through() -> None:
    clock = Clock()
    reach = Reach("offer", clock)
    reach.missed(UpstreamTimeout("x"), 0.0)
    clock.at = 9_000_000
    reach.missed(UpstreamUnavailable("x"), 1.0)
    assert reach.reasons() == {"no offer gets through to upstream: no answer (2 times)": 1_000_000}
    reach.got_through(2.0)
    assert reach.reasons() == {}
    reach.missed(UpstreamUnavailable("x"), 3.0)
    assert reach.reasons() == {"no offer gets through to upstream: no answer (once)": 9_000_000}


def test_one_that_is_given_up_late_does_not_outweigh_a_newer_one_that_got_through() -> None:
    reach = Reach("offer", Clock())
    reach.got_through(5.0)
    reach.missed(UpstreamTimeout("x"), 4.0)
    assert reach.reasons() == {}


def test_what_may_be_the_fault_of_one_call_takes_a_second_call_to_be_a_reason() -> None:
    clock = Clock()
    reach = Reach("attach", clock, several=True)
    for began in range(5):
        reach.missed(AttachRefused(503), began, "rtc_1")
    assert (reach.reasons(), reach.is_failing) == ({}, False)
    clock.at = 9_000_000
    reach.missed(AttachRefused(503), 5, "rtc_2")
    assert reach.reasons() == {"no attach gets through to upstream: it answers 503 (6 times)": 1_000_000}
    reach.got_through(6)
    assert (reach.reasons(), reach.is_failing) == ({}, False)
    reach.missed(AttachRefused(503), 7, "rtc_2")
    assert reach.reasons() == {}


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (AttachRefused(401), "it does not take our credential (401)"),
        (AttachRefused(502), "it answers 502"),
        (AttachFailed("OSError"), "no answer"),
        (CredentialError("x"), "no credential for it can be had"),
    ],
)
def test_an_attach_that_fails_for_everybody_is_a_reason_in_plain_words(exc: UpstreamError, words: str) -> None:
    reach = Reach("attach", Clock(), several=True)
    reach.missed(exc, 0.0, "rtc_1")
    reach.missed(exc, 0.0, "rtc_2")
    assert reach.reasons() == {f"no attach gets through to upstream: {words} (2 times)": 1_000_000}


@pytest.mark.parametrize(
    ("status", "words"), [(404, "it knows none of the calls that it accepts (404)"), (409, "it answers 409")]
)
def test_a_call_that_is_over_says_nothing_but_calls_given_up_unheard_do(status: int, words: str) -> None:
    reach = Reach("attach", Clock(), several=True)
    for call_id in ("rtc_1", "rtc_2", "rtc_3"):
        reach.missed(AttachRefused(status), 0.0, call_id)
    assert reach.reasons() == {}
    for call_id in ("rtc_1", "rtc_2"):
        reach.missed(AttachRefused(status), 0.0, call_id, is_given_up=True)
    assert reach.reasons() == {f"no attach gets through to upstream: {words} (2 times)": 1_000_000}
