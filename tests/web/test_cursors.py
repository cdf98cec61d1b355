from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.store.calls import Before
from rtobserver.store.decided import Spot
from rtobserver.store.positions import Position
from rtobserver.web import cursors


@given(started_at=st.integers(0, (1 << 63) - 1), key=st.integers(0, (1 << 63) - 1))
def test_a_place_among_calls_survives_its_cursor(started_at: int, key: int) -> None:
    cursor = cursors.of_calls(Before(started_at, key))
    assert cursor is not None
    assert cursors.to_calls(cursor) == (started_at, key)


@given(epoch=st.integers(0, 999_999_999), seq=st.integers(0, 999_999_999))
def test_a_place_in_a_call_survives_its_cursor(epoch: int, seq: int) -> None:
    cursor = cursors.of_positions(Position(epoch, seq))
    assert cursor is not None
    assert cursors.to_positions(cursor) == (epoch, seq)


NUMBERS = st.integers(0, (1 << 63) - 1)
SMALL = st.integers(0, 999_999_999)


@given(spot=st.builds(Spot, NUMBERS, NUMBERS, SMALL, SMALL, st.text("abc:-_", min_size=1, max_size=160)))
def test_a_place_among_all_decisions_survives_its_cursor(spot: Spot) -> None:
    cursor = cursors.of_all_decisions(spot)
    assert cursor is not None
    assert cursors.to_all_decisions(cursor) == spot


def test_the_end_has_no_cursor() -> None:
    assert cursors.of_all_decisions(None) is None
    assert cursors.of_calls(None) is None
    assert cursors.of_positions(None) is None


@given(text=st.text())
def test_any_other_text_is_refused(text: str) -> None:
    for read in (cursors.to_calls, cursors.to_positions, cursors.to_all_decisions):
        assert read(text) is None


def test_one_lists_cursor_is_not_anothers() -> None:
    assert cursors.to_calls(cursors.of_positions(Position(1, 2)) or "") is None
    assert cursors.to_positions(cursors.of_calls(Before(1, 2)) or "") is None
