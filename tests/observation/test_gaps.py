"""What a call's gaps say of how far it is accounted for."""

from __future__ import annotations

import pytest

from rtobserver.observation.gaps import last_attach
from rtobserver.realtime.entries import GapReason, GapRow


def gap(reason: GapReason, from_at: int, to_at: int | None) -> GapRow:
    return GapRow(1, 1, from_at, reason, None, to_at=to_at)


@pytest.mark.parametrize(
    ("gaps", "at"),
    [
        pytest.param([], None, id="no gap"),
        pytest.param([gap("before_attach", 10, 20)], 20, id="the first attach"),
        pytest.param([gap("takeover", 40, 50), gap("before_attach", 10, 20)], 50, id="the last of several"),
        pytest.param([gap("before_attach", 10, 20), gap("reattach", 60, None)], 20, id="one that goes on"),
        pytest.param([gap("shed", 60, 70), gap("paused", 60, 80)], None, id="nobody was away"),
        pytest.param(
            [gap("before_attach", 10, 20), gap("takeover", 90, 101)], 20, id="a clock that was set back since"
        ),
    ],
)
def test_up_to_the_last_attach_all_that_is_missing_is_declared(gaps: list[GapRow], at: int | None) -> None:
    assert last_attach(gaps, 100) == at
