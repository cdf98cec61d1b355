from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtobserver.store import calls, tables
from rtobserver.store import sqlite as store
from rtobserver.store.calls import Before, Call, Filter
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from tests.store import stored

SECOND = 1_000_000
STATUSES, USERS, TAGS = ("live", "ended", "lost"), (None, "ann", "bob"), ("refund", 'it\'s "odd"', "ü")
VALUES = ("x", "", "it's", "%", "ü\U0001f600")


def many() -> list[dict[str, Any]]:
    """Make calls in which every filter finds some and many begin in the same microsecond."""
    return [
        stored.call(
            f"rtc_{number}",
            started_at=stored.START + number // 4 * SECOND,
            ended_at=None if number % 3 == 0 else stored.START + (number // 4 + number % 7) * SECOND,
            status=STATUSES[number % 3],
            outcome=(None, "hung_up", "lost")[number % 3],
            profile=("default", "support")[number % 2],
            model=("gpt-realtime", "mini")[number // 2 % 2],
            user=USERS[number // 3 % 3],
            labels={"team": VALUES[number % 5]} | ({"a-b_C9": VALUES[number % 2]} if number % 2 else {}),
            tags=[tag for bit, tag in enumerate(TAGS) if number >> bit & 1],
            gap_count=number % 4 // 3,
            interruption_count=number % 5 // 4,
            error_count=number % 2,
            tampered=number % 11 == 0,
        )
        for number in range(60)
    ]


def reference(row: Mapping[str, Any], wanted: Filter) -> bool:
    """Say in Python what a filter means."""
    labels, tags = json.loads(row["labels"]), json.loads(row["tags"])
    length = None if row["ended_at"] is None else row["ended_at"] - row["started_at"]
    has = {
        "gap": row["gap_count"] > 0,
        "interruption": row["interruption_count"] > 0,
        "error": row["error_count"] > 0,
        "tampered": row["tampered"],
    }
    return (
        all(getattr(wanted, name) in (None, row[name]) for name in ("status", "outcome", "profile", "model", "user"))
        and all(labels.get(name) == value for name, value in wanted.labels.items())
        and all(tag in tags for tag in wanted.tags)
        and (wanted.since is None or row["started_at"] >= wanted.since)
        and (wanted.until is None or row["started_at"] < wanted.until)
        and (wanted.min_duration_us is None or (length is not None and length >= wanted.min_duration_us))
        and all(has[name] for name in wanted.has)
    )


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


FILTERS = st.builds(
    Filter,
    status=maybe(st.sampled_from(STATUSES)),
    outcome=maybe(st.sampled_from(("hung_up", "lost"))),
    profile=maybe(st.sampled_from(("default", "support"))),
    model=maybe(st.sampled_from(("gpt-realtime", "mini"))),
    user=maybe(st.sampled_from(("ann", "bob", "'; --"))),
    labels=st.dictionaries(st.sampled_from(("team", "a-b_C9", "none")), st.sampled_from(VALUES), max_size=2),
    tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
    since=maybe(st.integers(-1, 16).map(lambda n: stored.START + n * SECOND)),
    until=maybe(st.integers(-1, 16).map(lambda n: stored.START + n * SECOND)),
    min_duration_us=maybe(st.integers(0, 8).map(lambda n: n * SECOND)),
    has=st.lists(st.sampled_from(calls.HAS), unique=True, max_size=2).map(tuple),
)


async def walk(reads: Database, wanted: Filter, limit: int) -> list[Call]:
    found: list[Call] = []
    before: Before | None = None
    while True:
        page, before = await calls.page(reads, wanted, before=before, limit=limit)
        assert len(page) <= limit
        found += page
        if before is None:
            return found
        assert len(page) == limit


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(wanted=FILTERS, limit=st.integers(1, 70))
def test_filters_and_pages_agree_with_plain_python(place: Place, wanted: Filter, limit: int) -> None:
    rows = many()
    if not stored.select(place, sa.select(tables.call.c.call_key).limit(1)):
        stored.insert(place, tables.call, *rows)

    async def read() -> list[Call]:
        async with stored.reads_of(place) as database:
            return await walk(database, wanted, limit)

    chosen = [row for row in rows if reference(row, wanted)]
    newest_first = sorted(chosen, key=lambda row: (row["started_at"], row["call_key"]), reverse=True)
    assert [call.call_id for call in asyncio.run(read())] == [row["call_id"] for row in newest_first]


async def test_calls_that_begin_between_two_pages_move_nothing(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, *many())
    first, before = await calls.page(reads, Filter(), limit=20)
    late = [stored.call(f"rtc_late{n}", started_at=stored.START + n * SECOND) for n in range(14, 20)]
    stored.insert(place, tables.call, *late)
    seen = [call.call_id for call in first]
    while before is not None:
        page, before = await calls.page(reads, Filter(), before=before, limit=20)
        seen += [call.call_id for call in page]
    assert len(seen) == len(set(seen))
    assert {row["call_id"] for row in many()} <= set(seen)


async def test_a_call_is_found_whole(place: Place, reads: Database) -> None:
    stored.insert(
        place,
        tables.call,
        stored.call(
            "rtc_1",
            labels={"team": "ü"},
            tags=["refund"],
            usage='{"input_tokens": 3}',
            latency='{"first_audio_ms": {"p50": 1}}',
            cost_usd="0.10",
        ),
    )
    call = await calls.find(reads, "rtc_1")
    assert call is not None
    assert (call.labels, call.tags, call.usage["input_tokens"]) == ({"team": "ü"}, ("refund",), 3)
    assert (call.cost_usd, call.tampered) == ("0.10", False)
    assert await calls.find(reads, "rtc_2") is None


async def test_an_erased_call_is_known_by_its_tombstone(place: Place, reads: Database) -> None:
    stored.insert(
        place,
        tables.tombstone,
        {"call_key": stored.ref("rtc_1").key, "erased_at": stored.START, "actor": "k"},
    )
    assert await calls.was_erased(reads, "rtc_1", None)
    assert not await calls.was_erased(reads, "rtc_2", None)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "ix_call_started"),
        (Filter(status="live"), "ix_call_status_started"),
        (Filter(user="ann"), "ix_call_user_started"),
        (Filter(profile="default"), "ix_call_profile_started"),
        (Filter(since=1, until=2), "ix_call_started"),
        (Filter(tags=("x",), labels={"a": "b"}, has=("gap",)), "ix_call_started"),
    ],
)
@pytest.mark.parametrize("before", [None, Before(stored.START, 5)])
def test_a_page_follows_an_index_and_sorts_nothing(
    path: Path, wanted: Filter, index: str, before: Before | None
) -> None:
    with store.transaction(path) as connection:
        text = calls.page_statement(wanted, before, 50).compile(connection, compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert index in plan[0]
    assert not [step for step in plan if "TEMP B-TREE" in step]
