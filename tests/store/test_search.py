from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtobserver.realtime.rows import ItemRow
from rtobserver.store import calls, folds, phrases, search, search_fts, tables
from rtobserver.store import sqlite as store
from rtobserver.store.calls import Before, Call, Filter
from rtobserver.store.database import Database
from rtobserver.store.identity import call_key
from rtobserver.store.places import Place
from rtobserver.store.search import Hit
from rtobserver.store.writing import Writing
from tests.store import stored

SECOND = 1_000_000
WORDS = ("refund", "please", "money", "back", "naïve", "東京")


def line(call_id: str, item_id: str, text: str, started_at: int = stored.START, **values: Any) -> dict[str, Any]:
    """Make an item's row."""
    given: dict[str, Any] = {"role": "user", "kind": "speech", "status": "completed"} | values
    row = ItemRow(item_id=item_id, epoch=1, seq=1, text=text, **given)
    ref = stored.ref(call_id, started_at)
    return {"call_key": ref.key, "day": ref.day, **folds.item_values(row)}


def asked(text: str) -> tuple[phrases.Phrase, ...]:
    found = phrases.read(text)
    assert found is not None
    return found


async def every_hit(reads: Database, text: str, wanted: Filter | None = None, limit: int = 100) -> list[Hit]:
    found: list[Hit] = []
    before: search.HitPlace | None = None
    while True:
        page, before = await search.page(reads, asked(text), wanted or Filter(), before=before, limit=limit)
        found += page
        if before is None:
            return found
        assert len(page) == limit


async def texts(reads: Database, text: str) -> list[str]:
    return [hit.item.text for hit in await every_hit(reads, text)]


async def test_words_are_found_whatever_their_case_and_accents(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    stored.insert(place, tables.item, line("rtc_1", "i1", "A Refund, please!"), line("rtc_1", "i2", "How naïve."))
    assert await texts(reads, "REFUND") == ["A Refund, please!"]
    assert await texts(reads, "naive") == await texts(reads, "NAI\u0308VE") == ["How naïve."]
    assert await texts(reads, "please refund") == ["A Refund, please!"]
    assert await texts(reads, '"please refund"') == []
    assert await texts(reads, '"refund please"') == ["A Refund, please!"]
    assert await texts(reads, "ref*") == ["A Refund, please!"]
    assert await texts(reads, "ref") == []


async def test_a_hit_shows_what_was_found_between_marks_that_are_no_markup(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    said = "<b>I</b> want \u27e6my\u27e7 money back & more"
    stored.insert(place, tables.item, line("rtc_1", "i1", said))
    [hit] = await every_hit(reads, '"money back" want')
    assert hit.snippet == "<b>I</b> \u27e6want\u27e7 [my] \u27e6money back\u27e7 & more"
    assert (hit.item.item_id, hit.item.text, hit.call.call_id) == ("i1", said, "rtc_1")


async def test_a_long_line_is_cut_around_what_was_found(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    stored.insert(place, tables.item, line("rtc_1", "i1", " ".join([*["word"] * 500, "needle", *["word"] * 500])))
    [hit] = await every_hit(reads, "needle")
    assert "\u27e6needle\u27e7" in hit.snippet
    assert len(hit.snippet.split()) <= search.SNIPPET_WORDS


@pytest.mark.parametrize(
    "values",
    [
        {"status": "in_progress"},
        {"kind": "tool_call", "role": "assistant"},
        {"kind": "tool_output", "role": "tool"},
        {"role": "system", "kind": "text"},
        {"out_of_band": True},
    ],
)
async def test_what_is_no_final_line_of_the_conversation_is_not_found(
    place: Place, reads: Database, values: dict[str, Any]
) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    stored.insert(place, tables.item, line("rtc_1", "i1", "needle", **values))
    assert await texts(reads, "needle") == []
    assert indexed(place) == []


def indexed(place: Place) -> list[tuple[Any, ...]]:
    if not isinstance(place, Path):
        return stored.select(place, sa.select(tables.item.c.item_id).where(sa.text("words IS NOT NULL")))
    with store.transaction(place) as connection:
        found = [tuple(row) for row in connection.exec_driver_sql("SELECT line_id, item_id FROM search_line")]
        # raises where the index and the texts disagree
        connection.exec_driver_sql("INSERT INTO search_index(search_index, rank) VALUES ('integrity-check', 1)")
        return found


async def test_the_index_follows_the_writer(place: Place, reads: Database, writing: Writing) -> None:
    ref = stored.ref("rtc_1")
    stored.insert(place, tables.call, stored.call("rtc_1"))

    async def write(**values: Any) -> None:
        row = line("rtc_1", "i1", **({"text": ""} | values))
        writing.fact(tables.item, ref, {name: row[name] for name in row if name not in ("call_key", "day")})
        await writing.readable()

    await write()
    assert await texts(reads, "first") == []
    await write(text="first words")
    assert await texts(reads, "first") == ["first words"]
    await write(text="first words", interrupted=True)
    assert await texts(reads, "first") == ["first words"]
    await write(text="other words")
    assert (await texts(reads, "first"), await texts(reads, "other")) == ([], ["other words"])
    assert len(indexed(place)) == 1
    await writing.run(folds.forget(ref))
    assert await texts(reads, "other") == []
    assert indexed(place) == []


async def test_hits_come_by_calls_newest_first_and_each_once(place: Place, reads: Database) -> None:
    for number in (3, 1, 2):
        at = stored.START + number * SECOND
        stored.insert(place, tables.call, stored.call(f"rtc_{number}", started_at=at))
        stored.insert(place, tables.item, *[line(f"rtc_{number}", f"i{n}", f"needle {n}", at) for n in range(5)])
    expected = [(f"rtc_{number}", f"i{n}") for number in (3, 2, 1) for n in reversed(range(5))]
    for limit in (1, 4, 15, 100):
        found = await every_hit(reads, "needle", limit=limit)
        assert [(hit.call.call_id, hit.item.item_id) for hit in found] == expected


NASTY = ['he"llo', "NEAR(", "*", "-x", "col:x", "a AND", "^a", "{a b}:c", "a NOT b", "(", "text:refund", "'; --", "+ +"]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=st.sampled_from(NASTY) | st.text(max_size=40))
def test_no_text_is_a_syntax_error(place: Place, text: str) -> None:
    found = phrases.read(text.replace("\0", " ").encode("utf-8", "replace").decode())
    if found is None:
        return

    async def read() -> None:
        async with stored.reads_of(place) as database:
            await search.page(database, found, Filter(), limit=5)
            await search.call_page(database, found, Filter(), limit=5)

    asyncio.run(read())


def many(place: Place) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Write calls of which many begin in the same millisecond; give them, and what is said in them."""
    rows, said, items = [], {}, []
    for number in range(40):
        at = stored.START + number // 5 * 700
        call_id = f"rtc_{number}"
        rows.append(stored.call(call_id, started_at=at, user=("ann", "bob", None)[number % 3], error_count=number % 2))
        said[call_id] = [
            " ".join(word for bit, word in enumerate(WORDS) if (number * 7 + n * 13) >> bit & 1) for n in range(4)
        ]
        items += [line(call_id, f"i{n}", text, at) for n, text in enumerate(said[call_id])]
    stored.insert(place, tables.call, *rows)
    stored.insert(place, tables.item, *items)
    return rows, said


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2, unique=True),
    user=st.sampled_from((None, "ann", "bob")),
    has=st.sampled_from(((), ("error",))),
    since=st.none() | st.integers(0, 6000).map(lambda us: stored.START + us),
    until=st.none() | st.integers(0, 6000).map(lambda us: stored.START + us),
    limit=st.integers(1, 50),
)
def test_search_and_its_filters_agree_with_plain_python(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    user: str | None,
    has: tuple[calls.Has, ...],
    since: int | None,
    until: int | None,
    limit: int,
) -> None:
    place, rows, said = _written(kind, tmp_path_factory)
    wanted = Filter(user=user, has=has, since=since, until=until)

    def holds(row: dict[str, Any]) -> bool:
        return (
            user in (None, row["user"])
            and (not has or row["error_count"] > 0)
            and (since is None or row["started_at"] >= since)
            and (until is None or row["started_at"] < until)
        )

    chosen = [row for row in rows if holds(row)]
    lines = {
        (row["call_id"], f"i{n}")
        for row in chosen
        for n, text in enumerate(said[row["call_id"]])
        if set(words) <= set(text.split())
    }
    having = {call_id for call_id, _ in lines}
    newest = sorted(
        [(row["started_at"], row["call_key"], row["call_id"]) for row in chosen if row["call_id"] in having],
        reverse=True,
    )

    async def read() -> tuple[list[Hit], list[Call]]:
        async with stored.reads_of(place) as database:
            hits = await every_hit(database, " ".join(words), wanted, limit)
            found: list[Call] = []
            before: Before | None = None
            while True:
                page, before = await search.call_page(
                    database, asked(" ".join(words)), wanted, before=before, limit=limit
                )
                found += page
                if before is None:
                    return hits, found

    hits, found = asyncio.run(read())
    assert [call.call_id for call in found] == [call_id for _, _, call_id in newest]
    assert len(hits) == len(lines)
    assert {(hit.call.call_id, hit.item.item_id) for hit in hits} == lines
    starts = [hit.call.started_at // 1000 for hit in hits]
    assert starts == sorted(starts, reverse=True)


_made: dict[str, tuple[Place, list[dict[str, Any]], dict[str, list[str]]]] = {}


def _written(kind: str, factory: pytest.TempPathFactory) -> tuple[Place, list[dict[str, Any]], dict[str, list[str]]]:
    if kind not in _made:
        place = stored.fresh(factory.mktemp("search")) if kind == "sqlite" else stored.fresh_server()
        _made[kind] = (place, *many(place))
    return _made[kind]


def plan(path: Path, statement: sa.Select[Any]) -> list[str]:
    with store.transaction(path) as connection:
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}".replace("%%", "%"))]


def test_every_step_of_a_search_follows_an_index(path: Path) -> None:
    found = plan(path, search_fts.found_statement(asked("a b*"), first=9, least=3, limit=10))
    assert any("search_index VIRTUAL TABLE INDEX" in step for step in found)
    assert any(step.startswith("SEARCH search_line USING INTEGER PRIMARY KEY") for step in found)
    assert not [step for step in found if "TEMP B-TREE" in step or step.startswith("SCAN search_line")]
    [shown] = plan(path, search_fts.snippet_statement(asked("a"), [1, 2]))
    assert "VIRTUAL TABLE INDEX" in shown
    assert "=" in shown
    filtered = plan(path, calls.among_statement([1, 2, 3], Filter(user="ann", since=1, until=5, policy="p")))
    assert filtered[0].startswith("SEARCH call USING INDEX sqlite_autoindex_call_1 (call_key=?")
    assert any("sqlite_autoindex_decision_1" in step for step in filtered)


def test_a_line_is_numbered_without_reading_others(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'search_insert'").fetchone()[0]
    [numbering] = re.findall(r"SELECT line_id \+ 1 FROM search_line WHERE.*?LIMIT 1", sql, re.DOTALL)
    with sqlite3.connect(path) as connection:
        steps = connection.execute("EXPLAIN QUERY PLAN " + numbering.replace("first", "5")).fetchall()
    connection.close()
    assert [step[3] for step in steps] == ["SEARCH search_line USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]


async def test_calls_are_found_by_the_policies_that_decided_in_them(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"), stored.call("rtc_2"))
    stored.insert(
        place,
        tables.decision,
        {
            "call_key": call_key("rtc_1"), "day": stored.ref("rtc_1").day, "epoch": 1, "seq": 4,
            "policy": "refunds", "policy_set": "s", "trigger": "phrase", "mode": "observe", "acted": False,
            "actions": "[]", "received_at": 1, "matched_at": 1,
        },
    )  # fmt: skip
    found, _ = await calls.page(reads, Filter(policy="refunds"), limit=5)
    assert [call.call_id for call in found] == ["rtc_1"]
    assert (await calls.page(reads, Filter(policy="other"), limit=5))[0] == []
