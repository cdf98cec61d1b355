from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rtobserver.policy.active import DEMOTED
from rtobserver.store import commands, decisions, places, tables
from rtobserver.store import sqlite as store
from rtobserver.store.database import Database
from rtobserver.store.decisions import Decision, Place
from tests.store import stored

CALL = stored.ref("rtc_1")


def row(seq: int, policy: str, **values: Any) -> dict[str, Any]:
    return {
        "call_key": CALL.key, "day": CALL.day, "epoch": 1, "seq": seq, "policy": policy, "policy_set": "s",
        "trigger": "phrase", "mode": "enforce", "acted": True, "actions": json.dumps(["say"]), "received_at": 1,
        "matched_at": 2, "sent_at": 3, "acknowledged_at": None, "outcome": "sent",
    } | values  # fmt: skip


async def test_pages_part_decisions_at_one_entry(place: places.Place, reads: Database) -> None:
    stored.insert(place, tables.decision, *[row(seq, policy) for seq in (10, 9) for policy in ("b", "a", "c")])
    found: list[Decision] = []
    after: Place | None = None
    while page := await decisions.page(reads, CALL, after=after, limit=2):
        found += page
        after = page[-1].place
    assert [each.place for each in found] == [(1, seq, policy) for seq in (9, 10) for policy in ("a", "b", "c")]
    assert (found[0].actions, found[0].acted, found[0].sent_at, found[0].outcome) == (("say",), True, 3, "sent")


def test_a_page_follows_the_key(path: Path) -> None:
    with store.transaction(path) as connection:
        statement = decisions.page_statement(CALL, Place(1, 2, "a"), 10)
        text = statement.compile(connection, compile_kwargs={"literal_binds": True})
        plan = [step[3] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert len(plan) == 1
    assert plan[0].startswith("SEARCH decision USING INDEX sqlite_autoindex_decision_1 (call_key=? AND day=?")


async def test_what_an_observer_writes_is_read_again_for_a_take_over(place: places.Place, reads: Database) -> None:
    written = [row(9, "b", match="refund", played_ms=200), row(9, "a", outcome=None, item_id="item_1"), row(3, "c")]
    stored.insert(
        place, tables.decision, *[{"match": None, "played_ms": None, "item_id": None} | one for one in written]
    )
    found = await decisions.rows(reads, CALL)
    assert [(each.seq, each.policy, each.outcome) for each in found] == [
        (3, "c", "sent"),
        (9, "a", None),
        (9, "b", "sent"),
    ]
    assert (found[2].match, found[2].played_ms, found[2].actions) == ("refund", 200, ("say",))


async def test_rates_are_read_for_those_that_acted_or_would_have_in_another_call(
    place: places.Place, reads: Database
) -> None:
    wanted = [
        row(1, "a", received_at=100),
        row(2, "a", received_at=99),
        row(3, "a", received_at=101, acted=False, outcome="not_in_canary", mode="canary"),
        row(4, "a", received_at=102, acted=False, outcome="observed", mode="observe"),
        row(5, "a", received_at=103, acted=False, outcome="fault"),
        row(6, "b", received_at=104, outcome=None),
        row(7, "gone", received_at=105),
    ]
    stored.insert(place, tables.decision, *wanted)
    assert sorted(await decisions.rates(reads, ["a", "b"], since=100)) == [("a", 100), ("a", 101), ("b", 104)]
    assert await decisions.rates(reads, [], since=0) == []


async def test_demotions_are_found_by_the_decision_that_they_were_made_with(
    place: places.Place, reads: Database
) -> None:
    demoted = {"acted": False, "outcome": "observed", "mode": "observe", "detail": DEMOTED}
    wanted = [
        row(1, "a", received_at=100, **demoted),
        row(2, "a", received_at=102, **demoted),
        row(3, "a", received_at=101, **demoted),
        row(4, "b", received_at=103, **{**demoted, "detail": None}),
        row(5, "gone", received_at=104, **demoted),
    ]
    stored.insert(place, tables.decision, *wanted)
    assert await decisions.demotions(reads, ["a", "b"], since=100) == [("a", 101)]
    assert await decisions.demotions(reads, [], since=0) == []


def test_rates_are_read_from_the_index_alone(path: Path) -> None:
    with store.transaction(path) as connection:
        statement = decisions.rates_statement(["a", "b"], 100)
        text = statement.compile(connection, compile_kwargs={"literal_binds": True})
        plan = [step[3] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert plan == ["SEARCH decision USING COVERING INDEX ix_decision_policy (policy=? AND received_at>?)"]


async def test_commands_of_policies_are_told_from_others(place: places.Place, reads: Database) -> None:
    command = {"call_key": CALL.key, "day": CALL.day, "epoch": 1, "type": "response.create", "state": "sent"}
    rows = [
        {**command, "seq": 1, "event_id": "rto_1_1", "source": "policy", "policy": "p"},
        {**command, "seq": 2, "event_id": "rto_1_2", "source": "operator", "policy": None},
    ]
    stored.insert(place, tables.command, *rows)
    assert await commands.policies(reads, CALL) == {"rto_1_1": "p"}
