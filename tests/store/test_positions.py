from __future__ import annotations

import pytest

from rtobserver.store.positions import Position


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":1", "1:2:3", "-1:2", "1:-2", "a:b", "1 :2", "9999999999:1", "\u0661:2"]
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert Position.parse(text) is None


def test_a_position_is_written_as_it_is_read() -> None:
    assert str(Position.parse("12:345")) == "12:345"
