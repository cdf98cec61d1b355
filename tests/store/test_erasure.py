from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.errors import StoreUnavailable
from rtobserver.store import erasure, tables
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from rtobserver.store.writer import Writer
from rtobserver.store.writing import Writing
from tests.store import stored
from tests.store.stored import START, call, entry, insert, ref
from tests.web.test_api_erasure import item


def seqs(place: Place) -> list[tuple[int, int]]:
    return sorted(stored.select(place, sa.select(tables.entry.c.call_key, tables.entry.c.seq)))


async def test_rows_of_an_erased_call_are_refused_and_no_others(place: Place, writing: Writing) -> None:
    insert(place, tables.call, call("rtc_1", status="ended"), call("rtc_2"))
    for seq in (1, 2):
        for call_id in ("rtc_1", "rtc_2"):
            row = entry(call_id, seq)
            writing.entry((ref(call_id), *[row[name] for name in list(row)[2:]]))
        if seq == 1:
            # what is handed over next comes late
            await writing.readable()
            assert await writing.run(erasure.begin(ref("rtc_1"), actor="key", at=START))
    await writing.readable()
    assert [key for key, _ in seqs(place)].count(ref("rtc_2").key) == 2
    assert (ref("rtc_1").key, 2) not in seqs(place)


async def test_what_was_handed_over_before_an_erasure_is_refused_in_the_same_flush(path: Path, writer: Writer) -> None:
    insert(path, tables.call, call("rtc_1", status="ended"))
    row = entry("rtc_1", 1)
    erasing = writer.post(erasure.begin(ref("rtc_1"), actor="key", at=START))
    writer.entry((ref("rtc_1"), *[row[name] for name in list(row)[2:]]))
    assert await erasing
    assert seqs(path) == []


async def test_how_an_erased_call_ended_may_still_be_told(place: Place, writing: Writing) -> None:
    insert(place, tables.call, call("rtc_1", status="unobserved", user="ann", labels={"a": "b"}, tags=["x"]))
    assert await writing.run(erasure.begin(ref("rtc_1"), actor="key", at=START))
    assert not await writing.run(erasure.begin(ref("rtc_1"), actor="key", at=START))
    writing.fact(tables.call, ref("rtc_1"), {"status": "ended", "ended_at": START, "tags": '["x"]', "user": "ann"})
    await writing.readable()
    [values] = stored.select(place, sa.select(tables.call))
    row = dict(zip(tables.call.c.keys(), values, strict=True))
    assert (row["status"], row["ended_at"]) == ("ended", START)
    assert (row["user"], row["labels"], row["tags"], row["checks"]) == (None, "{}", "[]", "{}")


async def test_the_search_index_forgets_words_only_when_it_is_whole(path: Path, writer: Writer) -> None:
    insert(path, tables.call, call("rtc_1", status="ended"), call("rtc_2"))
    words = {"rtc_1": "xylophone", "rtc_2": "marmalade"}
    # so few that the index merges none of its parts by itself
    insert(path, tables.item, *[item(call_id, 1, word) for call_id, word in words.items()])

    def in_index(word: str) -> bool:
        with sqlite3.connect(path) as connection:
            blocks = connection.execute("SELECT block FROM search_index_data").fetchall()
        connection.close()
        return any(word.encode() in bytes(block) for (block,) in blocks)

    await writer.run(erasure.begin(ref("rtc_1"), actor="key", at=START))
    assert in_index("xylophone")
    steps = 1
    done = await writer.run(erasure.merge(first=True))
    while not done:
        done = await writer.run(erasure.merge(first=False))
        steps += 1
    assert steps < 10
    assert not in_index("xylophone")
    assert in_index("marmalade")


async def test_the_wal_is_cut_off_unless_a_reader_is_in_the_way(path: Path, writer: Writer, database: Database) -> None:
    wal = path.with_name(f"{path.name}-wal")
    insert(path, tables.call, call("rtc_1"))
    async with database.reading() as connection:
        await connection.execute(sa.text("BEGIN"))
        await connection.execute(sa.select(tables.call))
        insert(path, tables.call, call("rtc_2"))
        assert not await writer.between(erasure.cut_wal)
        await connection.execute(sa.text("COMMIT"))
    assert await writer.between(erasure.cut_wal)
    assert wal.stat().st_size == 0


async def test_work_between_flushes_raises_what_it_raises(writer: Writer) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writer.between(wrong)
    with pytest.raises(StoreUnavailable, match="no such table"):
        await writer.between(lambda connection: connection.execute("SELECT 1 FROM nowhere"))
    assert await writer.run(lambda transaction: transaction.execute(sa.select(sa.literal(1)))) == [(1,)]


async def test_unfinished_erasures_are_those_without_a_word_of_completion(
    place: Place, writing: Writing, reads: Database
) -> None:
    insert(place, tables.call, call("rtc_1"), call("rtc_2"))
    insert(place, tables.tombstone, *[{"call_key": ref(f"rtc_{n}").key, "erased_at": 1, "actor": "k"} for n in (1, 2)])
    found = await erasure.unfinished(reads)
    assert sorted(each.call_id for each in found) == ["rtc_1", "rtc_2"]
    await writing.run(erasure.complete([each for each in found if each.call_id == "rtc_1"], START))
    assert [each.call_id for each in await erasure.unfinished(reads)] == ["rtc_2"]
    assert found[0].day == ref("rtc_1").day
