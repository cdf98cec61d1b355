"""How often upstream is asked again: attempts, tokens, and the waits that it wishes for."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.observation.effects import RefreshCredential
from rtobserver.upstream import backoff
from tests.observation.play import Play, plan


def _attempts(play: Play, outcomes: tuple[str, ...], seconds: float) -> int:
    """Let attempts have these outcomes, over and over, for so long; counts them."""
    count, until = 0, play.now + seconds
    for outcome in cycle(outcomes):
        due = play.machine.attach_due
        if due is None or due > until:
            return count
        play.wait(max(0.0, due - play.now))
        count += 1
        if outcome == "dies":
            play.attach()
            play.close(1011)
        else:
            play.fail(503)
    return count


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 1013, 4000])
@given(outcomes=st.lists(st.sampled_from(["dies", "refused"]), min_size=1, max_size=4).map(tuple))
def test_a_close_leads_to_a_dozen_attempts_in_half_a_minute_at_most(code: int, outcomes: tuple[str, ...]) -> None:
    play = Play(plan(max_duration=0.0, idle_probe=0.0))
    play.attach()
    play.wait(60.0)
    play.close(code)
    assert 5 <= _attempts(play, outcomes, 30.0) <= 12


def test_each_attach_refreshes_the_credential_once_at_most() -> None:
    play = Play()
    for number in range(1, 4):
        play.fail(401)
        assert len(play.of(RefreshCredential)) == number
        play.attach()
        play.wait(60.0)
        play.close(1000)
    play.fail(401)
    play.fail(503)
    play.fail(403)
    assert len(play.of(RefreshCredential)) == 4
    assert play.columns["status"] == "lost"


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7.0, 9.0), ("1000000000", 60.0, 60.0), ("Mon, 23 Nov 2026 12:00:20 GMT", 20.0, 24.0), ("soon", 0.1, 0.3)],
    ids=["seconds", "too_long", "date", "garbage"],
)
def test_what_upstream_wishes_is_waited_up_to_a_minute(header: str, least: float, most: float) -> None:
    play = Play()
    play.fail(429, backoff.retry_after(header, 1_795_435_200.0))
    assert play.machine.attach_due is not None
    assert least <= play.machine.attach_due - play.now <= most
