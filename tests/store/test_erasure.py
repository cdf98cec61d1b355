from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.errors import StoreUnavailable
from rtobserver.store import erasure, sqlite, tables
from rtobserver.store.database import Database
from rtobserver.store.writer import Writer
from tests.store.stored import START, call, entry, insert, ref
from tests.web.test_api_erasure import item


def seqs(path: Path) -> list[tuple[int, int]]:
    with sqlite.transaction(path) as connection:
        rows = connection.execute(sa.select(tables.entry.c.call_key, tables.entry.c.seq))
        return sorted(tuple(row) for row in rows)


async def test_rows_of_an_erased_call_are_refused_and_no_others(path: Path, writer: Writer) -> None:
    insert(path, tables.call, call("rtc_1", status="ended"), call("rtc_2"))
    for call_id in ("rtc_1", "rtc_2"):
        for seq in (1, 2):
            if seq == 2 and call_id == "rtc_1":
                # handed over before the erasure, and written in the same flush or later
                erasing = writer.post(erasure.begin(ref("rtc_1"), actor="key", at=START))
            row = entry(call_id, seq)
            writer.entry((ref(call_id), *[row[name] for name in list(row)[2:]]))
    assert await erasing
    await writer.run(lambda _: None)
    assert [key for key, _ in seqs(path)].count(ref("rtc_2").key) == 2
    assert (ref("rtc_1").key, 2) not in seqs(path)


async def test_how_an_erased_call_ended_may_still_be_told(path: Path, writer: Writer) -> None:
    insert(path, tables.call, call("rtc_1", status="unobserved", user="ann", labels={"a": "b"}, tags=["x"]))
    assert await writer.run(erasure.begin(ref("rtc_1"), actor="key", at=START))
    assert not await writer.run(erasure.begin(ref("rtc_1"), actor="key", at=START))
    writer.fact(tables.call, ref("rtc_1"), {"status": "ended", "ended_at": START, "tags": '["x"]', "user": "ann"})
    await writer.run(lambda _: None)
    with sqlite.transaction(path) as connection:
        row = connection.execute(sa.select(tables.call)).mappings().one()
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
    path: Path, writer: Writer, database: Database
) -> None:
    insert(path, tables.call, call("rtc_1"), call("rtc_2"))
    insert(path, tables.tombstone, *[{"call_key": ref(f"rtc_{n}").key, "erased_at": 1, "actor": "k"} for n in (1, 2)])
    found = await erasure.unfinished(database)
    assert sorted(each.call_id for each in found) == ["rtc_1", "rtc_2"]
    await writer.run(erasure.complete([each for each in found if each.call_id == "rtc_1"], START))
    assert [each.call_id for each in await erasure.unfinished(database)] == ["rtc_2"]
    assert found[0].day == ref("rtc_1").day
