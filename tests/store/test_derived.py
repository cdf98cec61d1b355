from __future__ import annotations

from typing import Any

from rtobserver.store import derived, tables
from rtobserver.store.derived import Fact
from rtobserver.store.identity import CallRef
from tests.store import stored

A, B = stored.ref("rtc_a"), stored.ref("rtc_b")


def _gap(seq: int, **values: Any) -> dict[str, Any]:
    given = {"epoch": 1, "seq": seq, "from_at": 1, "reason": "shed", "state": "open", **values}
    return {column.name: given.get(column.name) for column in tables.gap.columns}


def _rows(*facts: Fact, erased: tuple[CallRef, ...] = ()) -> list[tuple[str, list[tuple[Any, ...]]]]:
    found = derived.statements(facts, lambda call: call not in erased)
    return [(statement.sql, statement.rows) for statement in found]


def test_of_one_row_only_the_last_is_written() -> None:
    [(sql, rows)] = _rows(
        (tables.gap, A, _gap(1)),
        (tables.gap, A, _gap(2)),
        (tables.gap, B, _gap(1)),
        (tables.gap, A, _gap(1, state="bounded")),
    )
    assert sql.startswith("INSERT INTO gap")
    assert "ON CONFLICT (call_key, day, epoch, seq) DO UPDATE" in sql
    named = [(dict(zip(tables.gap.columns.keys(), row, strict=True))) for row in rows]
    assert [(row["call_key"], row["seq"], row["state"]) for row in named] == [
        (A.key, 1, "bounded"),
        (A.key, 2, "open"),
        (B.key, 1, "open"),
    ]


def test_columns_of_a_call_are_joined_and_keep_their_order() -> None:
    assert _rows(
        (tables.call, A, {"status": "live"}),
        (tables.call, B, {"turn_count": 1, "entry_count": 2}),
        (tables.call, A, {"outcome": "hung_up", "status": "ended"}),
    ) == [
        ("UPDATE call SET status=?, outcome=? WHERE call.call_key = ?", [("ended", "hung_up", A.key)]),
        ("UPDATE call SET turn_count=?, entry_count=? WHERE call.call_key = ?", [(1, 2, B.key)]),
    ]


def test_of_an_erased_call_only_its_end_is_told() -> None:
    ended = {"status": "ended", "usage": "{}"}
    [(sql, rows)] = _rows((tables.gap, A, _gap(1)), (tables.call, A, ended), erased=(A,))
    assert sql == "UPDATE call SET status=? WHERE call.call_key = ?"
    assert rows == [("ended", A.key)]
    assert _rows((tables.call, A, {"usage": "{}"}), erased=(A,)) == []
