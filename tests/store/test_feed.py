from __future__ import annotations

from pathlib import Path

from rtobserver.store import feed, tables
from rtobserver.store.database import Database
from rtobserver.store.feed import START, Mark
from rtobserver.store.identity import call_key
from rtobserver.store.places import Place
from rtobserver.store.writer import Writer
from tests.store import stored


def _insert(place: Place, *names: tuple[str, int]) -> None:
    # each in a transaction of its own
    for call_id, seq in names:
        stored.insert(place, tables.entry, stored.entry(call_id, seq))


async def test_entries_of_all_calls_come_in_the_order_of_their_commits(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"), stored.call("rtc_2"))
    _insert(place, ("rtc_2", 1), ("rtc_1", 1), ("rtc_2", 2))
    newest = await feed.newest(reads)
    found = await feed.behind(reads, START, until=newest, limit=10)
    assert [(fed.call_id, fed.entry.seq) for fed in found] == [("rtc_2", 1), ("rtc_1", 1), ("rtc_2", 2)]
    assert found[-1].mark <= newest
    assert await feed.behind(reads, newest, until=newest, limit=10) == []


async def test_a_page_ends_at_its_limit_and_at_the_mark_and_holds_the_calls_that_were_named(
    place: Place, reads: Database
) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"), stored.call("rtc_2"))
    _insert(place, *[(f"rtc_{1 + seq % 2}", seq) for seq in range(1, 11)])
    newest = await feed.newest(reads)
    assert len(await feed.behind(reads, START, until=newest, limit=3)) == 3
    first = await feed.behind(reads, START, until=newest, limit=4)
    rest = await feed.behind(reads, first[-1].mark, until=newest, limit=100)
    assert len(first) + len(rest) == 10
    assert len(await feed.behind(reads, START, until=first[-1].mark, limit=100)) == 4
    own = await feed.behind(reads, START, until=newest, keys=[call_key("rtc_1")], limit=100)
    assert {fed.call_id for fed in own} == {"rtc_1"}
    assert len(own) == 5


async def test_a_large_payload_comes_whole(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1"))
    payload = b'"%b"' % (b"x" * 100_000)
    stored.insert(place, tables.entry, stored.entry("rtc_1", 1, payload))
    [fed] = await feed.behind(reads, START, until=await feed.newest(reads), limit=10)
    assert fed.entry.payload == payload


async def test_what_is_being_erased_is_gone_at_once(place: Place, reads: Database) -> None:
    stored.insert(place, tables.call, stored.call("rtc_1", purged_at=0))
    _insert(place, ("rtc_1", 1))
    assert await feed.behind(reads, START, until=await feed.newest(reads), limit=10) == []


async def test_a_mark_stays_while_its_row_is_there_and_is_set_back_when_its_number_was_given_again(
    path: Path, database: Database, writer: Writer
) -> None:
    stored.insert(path, tables.call, stored.call("rtc_1"))
    _insert(path, *[("rtc_1", seq) for seq in range(1, 6)])
    mark = await feed.newest(database)
    assert await feed.settle(database, mark) == mark
    await writer.run(lambda work: work.execute(tables.entry.delete().where(tables.entry.c.seq > 3)))
    assert (await feed.settle(database, mark)).second == 3
    _insert(path, *[("rtc_1", seq) for seq in range(6, 9)])
    assert (await feed.newest(database)) >= mark
    back = await feed.settle(database, mark)
    found = await feed.behind(database, back, until=await feed.newest(database), limit=10)
    assert [fed.entry.seq for fed in found] == [6, 7, 8]
    await writer.run(lambda work: work.execute(tables.entry.delete()))
    assert await feed.settle(database, mark) == START
    assert await feed.newest(database) == START


async def test_the_beginning_needs_no_row(reads: Database) -> None:
    assert await feed.settle(reads, START) == START


async def test_a_file_that_lost_the_row_of_a_mark_is_read_from_the_beginning(database: Database) -> None:
    assert await feed.settle(database, Mark(5, stored.START, 5)) == START


async def test_rows_of_calls_are_those_that_are_named_go_on_or_are_new(place: Place, reads: Database) -> None:
    day = 86_400_000_000
    stored.insert(
        place,
        tables.call,
        stored.call("rtc_live"),
        stored.call("rtc_old", status="ended"),
        stored.call("rtc_new", status="failed", started_at=stored.START + day),
    )
    found = await feed.rows_of_calls(reads, [call_key("rtc_old")])
    assert [feed.call_of(row).call_id for row in found.values()] == ["rtc_old"]
    found = await feed.rows_of_calls(reads, [], all_since=stored.START + day)
    assert {feed.call_of(row).call_id for row in found.values()} == {"rtc_live", "rtc_new"}
