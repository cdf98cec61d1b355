from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.store import sqlite, tables, tallies
from rtobserver.store.database import Database
from rtobserver.store.identity import call_key, day_of
from rtobserver.store.places import Place
from rtobserver.store.positions import Position
from rtobserver.store.sqlite import SqliteDatabase
from tests.store import stored
from tests.store.stored import START


def decision(call_id: str, seq: int, policy: str, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "call_key": call_key(call_id),
        "day": day_of(START),
        "epoch": 1,
        "seq": seq,
        "policy": policy,
        "policy_set": "0123456789abcdef",
        "trigger": "phrase",
        "mode": "observe",
        "acted": False,
        "actions": '["tag"]',
        "received_at": START + seq,
        "matched_at": START + seq,
        "outcome": "observed",
        "detail": None,
    }
    return row | values


def steps(path: Path, statement: sa.Select[Any]) -> list[str]:
    with sqlite.transaction(path) as connection:
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]


async def test_decisions_are_counted_by_policy_and_by_what_they_did(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"), stored.call("rtc_2"))
    stored.insert(
        place,
        tables.decision,
        decision("rtc_1", 1, "a"),
        decision("rtc_1", 2, "a", mode="canary", outcome="not_in_canary"),
        decision("rtc_1", 3, "a", mode="enforce", acted=True, outcome="done"),
        decision("rtc_2", 4, "a", mode="enforce", acted=True, outcome=None),
        decision("rtc_2", 5, "a", mode="enforce", outcome="fault", detail="there is no `event.x`"),
        decision("rtc_1", 6, "b"),
        decision("rtc_1", 7, "gone"),
    )
    found = await tallies.tallies(reads, ["a", "b", "never"], since=START)
    later = await tallies.tallies(reads, ["a", "b"], since=START + 6)
    assert found["a"] == tallies.Tally(
        decisions=5,
        acted=2,
        would_have_acted=2,
        faults=1,
        last=tallies.Last(at=START + 5, call_id="rtc_2", position=Position(1, 5)),
        last_faults=(
            tallies.Fault(call_id="rtc_2", position=Position(1, 5), at=START + 5, detail="there is no `event.x`"),
        ),
    )
    newest = tallies.Last(at=START + 6, call_id="rtc_1", position=Position(1, 6))
    assert found["b"] == tallies.Tally(decisions=1, would_have_acted=1, last=newest)
    assert found["never"] == tallies.Tally()
    assert found.keys() == {"a", "b", "never"}
    assert later == {"a": tallies.Tally(last=found["a"].last), "b": found["b"]}


async def test_the_newest_faults_are_given_and_no_more_than_ten(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    rows = [decision("rtc_1", seq, "a", outcome="fault", detail=str(seq)) for seq in range(1, 15)]
    stored.insert(place, tables.decision, *rows)
    tally = (await tallies.tallies(reads, ["a"], since=START))["a"]
    assert tally.faults == 14
    assert [fault.detail for fault in tally.last_faults] == [str(seq) for seq in range(14, 4, -1)]


async def test_faults_of_a_call_that_was_erased_are_counted_and_not_told(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    stored.insert(place, tables.decision, decision("rtc_1", 1, "a", outcome="fault", detail="said"))
    stored.entomb(place, "rtc_1")
    assert (await tallies.tallies(reads, ["a"], since=START))["a"] == tallies.Tally(
        decisions=1, faults=1, last=tallies.Last(at=START + 1, call_id=None, position=Position(1, 1))
    )


async def test_without_policies_nothing_is_asked(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path / "none.db", clock=SystemClock()) as reads:
        assert await tallies.tallies(reads, [], since=START) == {}


def test_counts_are_read_from_an_index_alone(path: Path) -> None:
    [step] = steps(path, tallies.counts_statement(["a", "b"], START))
    assert step.startswith("SEARCH decision USING COVERING INDEX ix_decision_policy (policy=?")


def test_what_a_policy_decided_last_is_found_from_the_newest_on(path: Path) -> None:
    found = steps(path, tallies.last_statement("a"))
    assert found[0] == "SEARCH decision USING INDEX ix_decision_policy (policy=?)"
    assert not [step for step in found if step.startswith("SCAN") or "TEMP B-TREE" in step]


def test_faults_are_found_from_the_newest_on(path: Path) -> None:
    found = steps(path, tallies.faults_statement("a", START))
    assert found[0].startswith("SEARCH decision USING INDEX ix_decision_policy (policy=? AND received_at>?")
    assert not [step for step in found if step.startswith("SCAN") or "TEMP B-TREE" in step]
