"""Times are written to the microsecond, in UTC."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.realtime.times import rfc3339


def test_a_time_is_written_with_six_digits_and_a_z() -> None:
    assert rfc3339(1_800_000_000_000_001) == "2027-01-15T08:00:00.000001Z"


@given(st.integers(0, 4_000_000_000_000_000))
def test_what_is_written_reads_back(at_us: int) -> None:
    text = rfc3339(at_us)
    moment = datetime.fromisoformat(text)
    assert round(moment.timestamp() * 1e6) == at_us
    assert len(text) == 27
