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
