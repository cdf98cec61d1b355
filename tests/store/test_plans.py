"""No question about one call reads another call, and nothing is found without an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.store import calls, entries, positions, sqlite, tables
from rtobserver.store.calls import Filter
from rtobserver.store.positions import Position
from tests.store import stored

CALL = stored.ref("rtc_1")


def steps(path: Path, statement: sa.Select[Any]) -> list[str]:
    with sqlite.transaction(path) as connection:
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]


@pytest.mark.parametrize("after", [None, Position(1, 7)])
@pytest.mark.parametrize(
    "table", [tables.item, tables.response, tables.gap, tables.command], ids=lambda each: each.name
)
def test_rows_of_a_call_are_found_by_the_call(path: Path, table: sa.Table, after: Position | None) -> None:
    found = steps(path, positions.rows_statement(table, CALL, after, 100))
    searched = [step for step in found if step.startswith(("SEARCH", "SCAN"))]
    assert len(searched) == 1
    assert searched[0].startswith(
        f"SEARCH {table.name} USING INDEX sqlite_autoindex_{table.name}_1 (call_key=? AND day=?"
    )


@pytest.mark.parametrize(
    "wanted",
    [
        entries.Filter(),
        entries.Filter(type="response.*", kind=1),
        entries.Filter(types=("error", "response.done"), kind=1),
        entries.Filter(until_number=7),
    ],
)
@pytest.mark.parametrize("after", [None, Position(1, 7)])
def test_entries_come_in_the_order_of_their_index(path: Path, wanted: entries.Filter, after: Position | None) -> None:
    [step] = steps(path, entries.chunk_statement(CALL, wanted, after, 500))
    assert step.startswith("SEARCH entry USING INDEX sqlite_autoindex_entry_1 (call_key=? AND day=?")


@pytest.mark.parametrize("last", [False, True])
def test_the_ends_of_a_call_are_found_without_walking_through_it(path: Path, last: bool) -> None:
    [step] = steps(path, entries.end_statement(CALL, last=last))
    assert step.startswith("SEARCH entry USING INDEX sqlite_autoindex_entry_1 (call_key=? AND day=?")


def test_the_checks_of_a_call_are_found_by_its_key(path: Path) -> None:
    [step] = steps(path, calls.checks_statement(7))
    assert step == "SEARCH call USING INDEX sqlite_autoindex_call_1 (call_key=?)"


def test_a_call_is_found_by_its_id(path: Path) -> None:
    [step] = steps(path, calls.find_statement("rtc_1"))
    assert step == "SEARCH call USING INDEX sqlite_autoindex_call_2 (call_id=?)"


@pytest.mark.parametrize("wanted", [Filter(), Filter(policy="p", tags=("t",)), Filter(outcome="lost", model="m")])
def test_pages_of_calls_are_read_in_the_order_of_an_index(path: Path, wanted: Filter) -> None:
    found = steps(path, calls.page_statement(wanted, calls.Before(5, 5), 50))
    assert found[0].startswith("SEARCH call USING INDEX ix_call_started")
    assert not [step for step in found if "TEMP B-TREE" in step]
