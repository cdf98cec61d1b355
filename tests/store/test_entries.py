from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from rtobserver.store import entries, feed, tables
from rtobserver.store import sqlite as store
from rtobserver.store.database import Database
from rtobserver.store.entries import Entry, Filter
from rtobserver.store.places import Place
from rtobserver.store.positions import Position
from tests.store import stored

CALL = stored.ref("rtc_1")


async def read(
    reads: Database, wanted: Filter | None = None, *, after: Position | None = None, limit: int | None = None
) -> list[Entry]:
    return [entry async for entry in entries.read(reads, CALL, wanted, after=after, limit=limit)]


async def test_entries_come_by_position_over_epochs_and_chunks(place: Place, reads: Database) -> None:
    count = entries.CHUNK_ROWS * 2 + 3
    rows = [stored.entry("rtc_1", seq, epoch=epoch) for epoch in (2, 10, 1) for seq in range(1, count + 1)]
    stored.insert(place, tables.entry, *rows, stored.entry("rtc_2", 1))
    found = [entry.position for entry in await read(reads)]
    assert found == [(epoch, seq) for epoch in (1, 2, 10) for seq in range(1, count + 1)]
    behind = [entry.position for entry in await read(reads, after=Position(2, count - 1), limit=3)]
    assert behind == [(2, count), (10, 1), (10, 2)]


async def test_exactly_a_chunk_ends(place: Place, reads: Database) -> None:
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", seq) for seq in range(1, entries.CHUNK_ROWS + 1)])
    assert len(await read(reads)) == entries.CHUNK_ROWS
    assert len(await read(reads, limit=entries.CHUNK_ROWS)) == entries.CHUNK_ROWS
    assert await read(reads, after=Position(1, entries.CHUNK_ROWS)) == []


async def test_an_overlap_is_left_out_unless_it_is_asked_for(place: Place, reads: Database) -> None:
    stored.insert(place, tables.entry, stored.entry("rtc_1", 1), stored.entry("rtc_1", 2, flags=tables.FLAG_OVERLAP))
    assert [entry.seq for entry in await read(reads)] == [1]
    assert [entry.seq for entry in await read(reads, Filter(overlap=True))] == [1, 2]


TYPES = ["response.done", "response.output_audio.delta", "session.updated", "a[b]c", "ab", "RESPONSE.DONE", "", None]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("response.*", {"response.done", "response.output_audio.delta"}),
        ("*.delta", {"response.output_audio.delta"}),
        ("a[b]c", {"a[b]c"}),
        ("a[*", {"a[b]c"}),
        ("a?", {"ab"}),
        ("*", {kind for kind in TYPES if kind is not None}),
        ("", {""}),
        ("' OR 1=1 --", set()),
        ("response%", set()),
    ],
)
async def test_a_pattern_of_types_knows_star_and_question_mark_only(
    place: Place, reads: Database, pattern: str, found: set[str]
) -> None:
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", n, type=kind) for n, kind in enumerate(TYPES, start=1)])
    assert {entry.type for entry in await read(reads, Filter(type=pattern))} == found


async def test_several_types_are_read_at_once(place: Place, reads: Database) -> None:
    rows = [stored.entry("rtc_1", seq, type=type_) for seq, type_ in enumerate(TYPES, start=1)]
    stored.insert(place, tables.entry, *rows)
    found = await read(reads, Filter(types={"response.done", "ab", "of.tomorrow"}))
    assert [entry.type for entry in found] == ["response.done", "ab"]


async def test_the_first_entry_and_the_last_are_found(place: Place, reads: Database) -> None:
    assert await entries.ends(reads, CALL) is None
    stored.insert(place, tables.entry, stored.entry("rtc_1", 7, epoch=1), stored.entry("rtc_2", 1))
    first, last = await entries.ends(reads, CALL) or (None, None)
    assert first == last == (stored.START + 7000, (1, 7))
    stored.insert(
        place,
        tables.entry,
        *[stored.entry("rtc_1", seq, epoch=2) for seq in (1, 2)],
        stored.entry("rtc_1", 3, epoch=2, flags=tables.FLAG_OVERLAP),
    )
    assert [end.position for end in await entries.ends(reads, CALL) or ()] == [(1, 7), (2, 2)]


async def test_kinds_are_told_apart(place: Place, reads: Database) -> None:
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", kind, kind=kind) for kind in (1, 2, 3)])
    assert [entry.seq for entry in await read(reads, Filter(kind=tables.KIND_GAP))] == [3]


async def test_every_byte_comes_back_whatever_the_size(place: Place, reads: Database) -> None:
    sizes = [0, 1, entries.INLINE_BYTES, entries.INLINE_BYTES + 1, 3_000_000]
    payloads = [bytes(range(256)) * (size // 256) + b"\x00" * (size % 256) for size in sizes]
    stored.insert(
        place, tables.entry, *[stored.entry("rtc_1", n, payload) for n, payload in enumerate(payloads, start=1)]
    )
    assert [entry.payload for entry in await read(reads)] == payloads


async def test_memory_stays_flat_over_a_long_call_with_large_payloads(place: Place, reads: Database) -> None:
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", seq, b"x" * 3_000_000) for seq in range(1, 21)])
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", seq, b"y" * 300) for seq in range(21, 20_000)])
    tracemalloc.start()
    try:
        count = 0
        async for _ in entries.read(reads, CALL):
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 19_999
    assert peak < 16_000_000


async def test_entries_that_are_recorded_meanwhile_come_at_the_end(place: Place, reads: Database) -> None:
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", seq) for seq in range(1, entries.CHUNK_ROWS + 1)])
    seen: list[int] = []
    async for entry in entries.read(reads, CALL):
        if not seen:
            stored.insert(place, tables.entry, stored.entry("rtc_1", entries.CHUNK_ROWS + 1))
        seen.append(entry.seq)
    assert seen == list(range(1, entries.CHUNK_ROWS + 2))


async def test_a_bound_leaves_out_what_is_recorded_meanwhile(place: Place, reads: Database) -> None:
    stored.insert(place, tables.entry, *[stored.entry("rtc_1", seq) for seq in range(1, entries.CHUNK_ROWS + 1)])
    bound = Filter(until_number=(await feed.newest(reads)).number)
    stored.insert(place, tables.entry, stored.entry("rtc_1", entries.CHUNK_ROWS + 1))
    assert [entry.seq for entry in await read(reads, bound)] == list(range(1, entries.CHUNK_ROWS + 1))


@pytest.mark.parametrize("after", [None, Position(1, 500)])
def test_a_chunk_follows_the_index_of_its_call(path: Path, after: Position | None) -> None:
    with store.transaction(path) as connection:
        statement = entries.chunk_statement(CALL, Filter(type="response.*", kind=1, until_number=9), after, 100)
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert len(plan) == 1
    assert "USING INDEX" in plan[0]
    assert ("call_key=? AND day=? AND (epoch,seq)>(?,?)" if after else "call_key=? AND day=?") in plan[0]
