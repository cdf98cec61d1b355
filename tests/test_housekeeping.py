from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Retention, Seconds
from rtobserver.housekeeping import Housekeeping
from rtobserver.metrics import Metrics
from rtobserver.realtime.call import CallState
from rtobserver.rebuild import rebuild
from rtobserver.store import calls, erasure, gaps, partitions, phrases, registration, retention, search, tables
from rtobserver.store.calls import Filter
from rtobserver.store.database import Database
from rtobserver.store.identity import day_of
from rtobserver.store.places import Place
from rtobserver.store.retention import Ref
from rtobserver.store.sqlite import transaction
from rtobserver.store.transaction import Transaction
from rtobserver.store.writing import Writing
from tests.store.stored import (
    START,
    call,
    entomb,
    entry,
    fresh,
    insert,
    lent,
    reads_of,
    ref,
    select,
    visit,
    writing_to,
)

DAY = 86400
DAY_US = DAY * 1_000_000


class Clock(SystemClock):
    def __init__(self, now_us: int) -> None:
        self.now = now_us

    def now_us(self) -> int:
        return self.now


@dataclass
class House:
    place: Place
    writer: Writing
    database: Database
    clock: Clock
    metrics: Metrics
    keeping: Housekeeping

    def record(self, call_id: str, days_ago: float, entries: int = 3, status: str = "ended") -> None:
        began = START - round(days_ago * DAY_US)
        values = {"started_at": began, "status": status, "entry_count": entries}
        insert(self.place, tables.call, call(call_id, **values))
        day = ref(call_id, began).day
        if entries:
            insert(self.place, tables.entry, *[entry(call_id, seq, day=day) for seq in range(1, entries + 1)])
        position = {"call_key": ref(call_id).key, "day": day, "epoch": 1, "seq": 1}
        insert(
            self.place,
            tables.response,
            position
            | {
                "response_id": "resp_1",
                "status": "completed",
                "out_of_band": False,
                "playback_cleared": False,
                "interrupted": False,
            },
        )
        insert(
            self.place,
            tables.item,
            position
            | {
                "item_id": "item_1",
                "role": "user",
                "kind": "speech",
                "text": f"hello {call_id}",
                "status": "completed",
                "interrupted": False,
                "out_of_band": False,
                "idle_timeout": False,
                "recovered": False,
            },
        )

    def count(self, table: sa.Table) -> int:
        return int(select(self.place, sa.select(sa.func.count()).select_from(table))[0][0])

    def calls(self) -> dict[str, bool]:
        """Give the calls that are left, and whether what was said was taken away."""
        rows = select(self.place, sa.select(tables.call.c.call_id, tables.call.c.purged_at))
        return {call_id: bool(purged_at) for call_id, purged_at in rows}

    def change(self, statement: sa.Update) -> None:
        visit(self.place, lambda connection: connection.execute(statement))


@pytest.fixture(params=["sqlite", "postgresql"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    clock, metrics = Clock(START), Metrics()
    with lent(request.param, tmp_path) as place:
        async with writing_to(place, tmp_path) as writer, reads_of(place, clock) as database:
            keeping = Housekeeping(
                database=database,
                writer=writer,
                clock=clock,
                metrics=metrics,
                retention=Retention(entries=Seconds(30 * DAY), calls=Seconds(365 * DAY)),
            )
            yield House(place, writer, database, clock, metrics, keeping)


async def test_what_was_said_goes_first_and_the_rest_later(house: House) -> None:
    for call_id, days in (("new", 29.9), ("old", 30.1), ("ancient", 365.1)):
        house.record(call_id, days)
    await house.keeping.sweep()
    assert house.calls() == {"new": False, "old": True}
    assert (house.count(tables.entry), house.count(tables.item), house.count(tables.response)) == (3, 1, 2)
    house.clock.now += 335 * DAY_US
    await house.keeping.sweep()
    assert house.calls() == {"new": True}
    assert (house.count(tables.entry), house.count(tables.response)) == (0, 1)


async def test_a_purged_line_is_not_found_any_more(house: House) -> None:
    house.record("old", 31)
    await house.keeping.sweep()
    found = phrases.read("hello")
    assert found is not None
    assert await search.page(house.database, found, Filter(), limit=5) == ([], None)


@pytest.mark.parametrize("status", ["live", "connecting"])
async def test_a_call_that_goes_on_is_left_alone(house: House, status: str) -> None:
    house.record("odd", 400, status=status)
    await house.keeping.sweep()
    assert house.calls() == {"odd": False}
    assert house.count(tables.entry) == 3


async def test_no_transaction_takes_more_rows_than_it_may(house: House) -> None:
    for number in range(7):
        house.record(f"old_{number}", 31 + number, entries=number * 3)
    found = await retention.recordings(house.database, START - 30 * DAY_US, 100)
    rows = done = steps = 0
    while found:
        step = await house.writer.run(retention.purge(found, START, rows=5))
        assert step.rows <= 5
        rows, done, steps, found = rows + step.rows, done + step.calls, steps + 1, found[step.calls :]
    assert (rows, done) == (sum(number * 3 for number in range(7)) + 7, 7)
    assert steps >= rows / 5
    assert house.count(tables.entry) == 0
    assert all(house.calls().values())


async def test_a_purge_that_a_crash_interrupted_is_ended_later(house: House) -> None:
    house.record("old", 31, entries=20)
    await house.writer.run(retention.purge([Ref(ref("old").key, ref("old", START - 31 * DAY_US).day)], START, rows=5))
    assert house.calls() == {"old": False}
    assert 0 < house.count(tables.entry) < 20
    await house.keeping.sweep()
    assert house.calls() == {"old": True}
    assert house.count(tables.entry) == 0


async def test_a_purge_takes_the_minted_session_and_what_policies_matched_too(house: House) -> None:
    house.record("old", 31)
    where = ref("old", START - 31 * DAY_US)
    decided = {"call_key": where.key, "day": where.day, "epoch": 1, "seq": 1, "policy": "p", "policy_set": "s"}
    decided |= {"trigger": "phrase", "mode": "observe", "acted": False, "actions": "[]", "received_at": 1}
    house.change(sa.update(tables.call).values(session='{"instructions":"secret"}'))
    values = {"matched_at": 1, "match": "secret", "detail": "secret", "outcome": "observed"}
    insert(house.place, tables.decision, decided | values)
    await house.keeping.sweep()
    assert select(house.place, sa.select(tables.call.c.session)) == [(None,)]
    columns = tables.decision.c
    found = select(house.place, sa.select(columns.match, columns.detail, columns.outcome))
    assert found == [(None, None, "observed")]


async def test_a_purged_call_says_what_it_lost(house: House) -> None:
    house.record("old", 31, entries=20)
    ended = START - 30 * DAY_US
    house.change(sa.update(tables.call).values(completeness="complete", ended_at=ended))
    where = Ref(ref("old").key, ref("old", START - 31 * DAY_US).day)
    # a crash comes between: the next run adds to the same gap
    await house.writer.run(retention.purge([where], START, rows=5))
    await house.keeping.sweep()
    [gap] = await gaps.page(house.database, where, limit=10)
    assert (gap.from_at, gap.to_at, gap.reason, gap.state) == (START - 31 * DAY_US, ended, "erased", "final")
    assert (gap.position, gap.lost, gap.counted) == ((1, 21), 20, True)
    found = await calls.find(house.database, "old")
    assert found is not None
    assert (found.gap_count, found.completeness, found.purged_at) == (1, "complete_with_gaps", START)


async def test_a_call_without_entries_loses_nothing(house: House) -> None:
    house.record("old", 31, entries=0)
    await house.keeping.sweep()
    assert house.count(tables.gap) == 0


async def test_what_was_erased_leaves_no_gap(house: House) -> None:
    house.record("old", 1)
    where = Ref(ref("old").key, ref("old", START - DAY_US).day)
    await house.writer.run(erasure.begin(where, actor="key", at=START))
    await house.keeping.complete()
    assert (house.count(tables.entry), house.count(tables.gap)) == (0, 0)


async def test_it_counts_what_it_took(house: House) -> None:
    house.record("old", 31)
    house.record("ancient", 400)
    due = await retention.due(house.database, recordings_before=START - 30 * DAY_US, calls_before=START - 365 * DAY_US)
    assert (due.recordings, due.entries, due.calls) == (2, 6, 1)
    heard: list[tuple[str, int]] = []
    await house.keeping.sweep(lambda what, calls: heard.append((what, calls)))
    assert heard == [("recordings", 2), ("calls", 1)]
    text = house.metrics.render().decode()
    assert 'rtobserver_purged_rows_total{what="recordings"} 8.0' in text
    assert 'rtobserver_purged_rows_total{what="calls"} 3.0' in text


async def test_a_rebuild_leaves_alone_and_names_what_was_purged_or_erased(house: House) -> None:
    for call_id in ("kept", "erased", "half_purged"):
        house.record(call_id, 1, entries=20)
    house.record("old", 31)
    await house.keeping.sweep()
    await house.writer.run(erasure.begin(ref("erased", START - DAY_US), actor="key", at=START))
    await house.writer.run(retention.purge([Ref(ref("half_purged").key, ref("half_purged", START - DAY_US).day)], 1, 5))
    left = house.count(tables.item)
    found = {
        each.call_id: each.left_alone async for each in rebuild(house.place, lambda _, model: CallState(model=model))
    }
    assert found == {"kept": False, "erased": True, "half_purged": True, "old": True}
    assert house.count(tables.item) <= left


async def test_an_id_that_was_erased_is_never_registered_again(house: House) -> None:
    entomb(house.place, "rtc_1")
    new = registration.NewCall(call_id="rtc_1", started_at=START, profile="p", model="m", max_duration_us=0)
    with pytest.raises(registration.CallExists, match="erased"):
        await house.writer.run(registration.register(new.ref(), new))


async def test_the_oldest_calls_are_found_through_their_index(tmp_path: Path) -> None:
    with transaction(fresh(tmp_path)) as connection:
        plan = connection.execute(
            sa.text(
                "EXPLAIN QUERY PLAN SELECT call_key FROM call WHERE started_at < 1 "
                "AND (call.purged_at IS NULL OR call.purged_at = 0) ORDER BY started_at"
            )
        ).all()
    assert "ix_call_unpurged" in str(plan)


async def test_a_day_whose_calls_are_all_due_goes_as_a_whole(house: House) -> None:
    await house.writer.run(partitions.prepare(day_of(START) - 32))
    for call_id, days in (("old", 31.5), ("older", 31.9), ("recent", 28)):
        house.record(call_id, days)
    day = day_of(START) - 32
    on_server = not isinstance(house.place, Path)
    assert (day in await house.writer.run(days_of)) == on_server
    await house.keeping.sweep()
    assert house.calls() == {"old": True, "older": True, "recent": False}
    assert house.count(tables.entry) == 3
    assert day not in await house.writer.run(days_of)
    told = [await gaps.page(house.database, Ref(ref(each).key, day), limit=5) for each in ("old", "older")]
    assert [gap.lost for [gap] in told] == [3, 3]


async def test_a_day_with_a_call_that_goes_on_is_left(house: House) -> None:
    await house.writer.run(partitions.prepare(day_of(START) - 40))
    house.record("old", 40)
    house.record("endless", 40, status="live")
    await house.keeping.sweep()
    assert house.calls() == {"old": True, "endless": False}
    entry_ = tables.entry.c
    kept = select(house.place, sa.select(sa.func.count()).where(entry_.call_key == ref("endless").key))
    assert kept == [(3,)]
    house.change(sa.update(tables.call).where(tables.call.c.call_id == "endless").values(status="ended"))
    await house.keeping.sweep()
    assert house.count(tables.entry) == 0


def days_of(transaction: Transaction) -> list[int]:
    return [] if transaction.dialect == "sqlite" else partitions.days(transaction)
