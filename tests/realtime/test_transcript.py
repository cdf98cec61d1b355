from __future__ import annotations

from rtobserver.realtime.rows import ItemRow
from rtobserver.realtime.transcript import order, transcript


def row(item_id: str, seq: int, previous: str | None = None, *, out_of_band: bool = False) -> ItemRow:
    return ItemRow(
        item_id=item_id, epoch=1, seq=seq, previous_item_id=previous, role="user", kind="text", out_of_band=out_of_band
    )


def ids(rows: list[ItemRow]) -> list[str]:
    return [each.item_id for each in order(rows)]


def test_the_chain_decides_not_the_arrival() -> None:
    assert ids([row("c", 1, "b"), row("b", 2, "a"), row("a", 3)]) == ["a", "b", "c"]


def test_an_insertion_stands_right_after_its_predecessor() -> None:
    assert ids([row("a", 1), row("b", 2, "a"), row("c", 3, "b"), row("new", 4, "a")]) == ["a", "new", "b", "c"]


def test_an_unknown_predecessor_leaves_an_item_where_it_arrived() -> None:
    assert ids([row("a", 1), row("b", 2, "a"), row("d", 5, "lost"), row("e", 6, "d")]) == ["a", "b", "d", "e"]


def test_a_system_item_without_predecessor_was_inserted_at_the_front() -> None:
    system = ItemRow(item_id="y", epoch=1, seq=3, role="system", kind="text")
    assert ids([row("a", 1), row("b", 2, "a"), system, row("c", 4, "b")]) == ["y", "a", "b", "c"]
    assert ids([row("a", 1), row("b", 2), system]) == ["a", "b", "y"]


def test_a_later_epoch_comes_later() -> None:
    later = ItemRow(item_id="b", epoch=2, seq=1, role="user", kind="text")
    assert ids([later, row("a", 9)]) == ["a", "b"]


def test_a_circle_loses_no_line() -> None:
    assert sorted(ids([row("a", 1, "b"), row("b", 2, "a"), row("c", 3), row("d", 4, "d")])) == ["a", "b", "c", "d"]


def test_a_chain_may_be_as_long_as_it_likes() -> None:
    rows = [row(str(number), number, str(number - 1) if number else None) for number in range(5000)]
    assert ids(list(reversed(rows))) == [str(number) for number in range(5000)]


def test_out_of_band_items_come_last_and_are_no_lines() -> None:
    rows = [row("x", 1, out_of_band=True), row("a", 2)]
    assert ids(rows) == ["a", "x"]
    assert [line.item_id for line in transcript(rows)] == ["a"]
