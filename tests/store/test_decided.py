"""What was decided in all calls, newest first, and how often by stretches of time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtobserver.store import decided, tables
from rtobserver.store.database import Database
from rtobserver.store.decided import Count, Spot, Wanted
from rtobserver.store.places import Place
from tests.store import stored
from tests.store.stored import START
from tests.store.test_tallies import decision, steps

HOUR = 3_600_000_000


@pytest.fixture
def filled(place: Place) -> Place:
    stored.insert(place, tables.call, stored.call("rtc_1"), stored.call("rtc_2"))
    stored.insert(
        place,
        tables.decision,
        decision("rtc_1", 1, "a", received_at=START),
        decision("rtc_2", 1, "b", received_at=START + HOUR, mode="enforce", acted=True, outcome="done"),
        decision("rtc_1", 2, "a", received_at=START + HOUR, outcome="fault", detail="no such field"),
        decision("rtc_1", 2, "b", received_at=START + HOUR, mode="enforce", acted=True, outcome=None),
        decision("rtc_2", 9, "a", received_at=START + HOUR - 1),
    )
    return place


def names(found: list[decided.Told]) -> list[tuple[str, int, str]]:
    return [(each.call_id, each.decision.position.seq, each.decision.policy) for each in found]


async def test_the_newest_come_first_and_pages_part_what_came_at_once(filled: Place, reads: Database) -> None:
    everything = await decided.newest(reads, Wanted(), limit=10)
    assert sorted(names(everything)[:3]) == [("rtc_1", 2, "a"), ("rtc_1", 2, "b"), ("rtc_2", 1, "b")]
    assert names(everything)[3:] == [("rtc_2", 9, "a"), ("rtc_1", 1, "a")]
    paged: list[decided.Told] = []
    before: Spot | None = None
    while page := await decided.newest(reads, Wanted(), before=before, limit=1):
        paged += page
        before = page[-1].spot
    assert paged == everything


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(policy="a"), [("rtc_1", 2, "a"), ("rtc_2", 9, "a"), ("rtc_1", 1, "a")]),
        (Wanted(outcome="fault"), [("rtc_1", 2, "a")]),
        (Wanted(policy="b", mode="observe"), []),
        (Wanted(since=START + 1, until=START + HOUR), [("rtc_2", 9, "a")]),
    ],
)
async def test_decisions_are_chosen_by_all_that_is_said_of_them(
    filled: Place, reads: Database, wanted: Wanted, found: list[tuple[str, int, str]]
) -> None:
    assert names(await decided.newest(reads, wanted, limit=10)) == found


async def test_decisions_of_a_call_that_is_being_erased_are_not_told(filled: Place, reads: Database) -> None:
    stored.entomb(filled, "rtc_1")
    assert {each.call_id for each in await decided.newest(reads, Wanted(), limit=10)} == {"rtc_2"}


async def test_decisions_are_counted_by_stretch_mode_and_outcome(filled: Place, reads: Database) -> None:
    since, until = START - 5, START + 2 * HOUR
    assert await decided.counts(reads, "a", since=since, until=until, step=HOUR) == [
        Count(START, "observe", "observed", 2),
        Count(START + HOUR, "observe", "fault", 1),
    ]
    assert await decided.counts(reads, "b", since=since, until=until, step=24 * HOUR) == [
        Count(START, "enforce", None, 1),
        Count(START, "enforce", "done", 1),
    ]
    assert await decided.counts(reads, "b", since=START, until=START + HOUR, step=HOUR) == []


def test_counts_are_read_from_an_index_alone(path: Path) -> None:
    first = steps(path, decided.counts_statement("a", START, START + HOUR, HOUR))[0]
    assert first.startswith(
        "SEARCH decision USING COVERING INDEX ix_decision_policy (policy=? AND received_at>? AND received_at<?)"
    )


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(), "ix_decision_received (received_at<?)"),
        (Wanted(outcome="fault"), "ix_decision_received (received_at<?)"),
        (Wanted(policy="a"), "ix_decision_policy (policy=? AND received_at<?)"),
    ],
)
def test_a_page_is_read_from_where_the_last_one_ended(path: Path, wanted: Wanted, index: str) -> None:
    found = steps(path, decided.newest_statement(wanted, Spot(START, 1, 1, 1, "a"), 50))
    assert found[0] == f"SEARCH decision USING INDEX {index}"
    assert not [step for step in found if step.startswith("SCAN")]
    # what came at the same microsecond is sorted, never all
    assert all("RIGHT PART" in step or "LAST" in step for step in found if "TEMP B-TREE" in step)
