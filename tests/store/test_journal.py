"""The journal and its shipper, on real files and a real PostgreSQL: everything arrives, in order, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from rtobserver.clock import Uptime
from rtobserver.store import registration, shipping, tables, unfinished
from rtobserver.store.commits import EntryRow
from rtobserver.store.identity import CallRef, call_key
from rtobserver.store.journal import Journal
from rtobserver.store.journal_files import Files
from rtobserver.store.places import Server
from rtobserver.store.postgres import Postgres
from rtobserver.store.registration import NewCall
from tests.store.stored import START, fresh_server, insert
from tests.support import postgres

PATIENCE = 20.0


class Heard:
    """What a journal told of its flushes and of the database."""

    def __init__(self) -> None:
        self.shipped_rows = 0
        self.problems: list[str] = []
        self.times_back = 0

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None: ...

    def failing(self, problem: str, tries: int, trouble: Any) -> None:
        self.problems.append(problem)

    def recovered(self) -> None: ...

    def shipped(self, rows: int) -> None:
        self.shipped_rows += rows

    def away(self, problem: str) -> None:
        self.problems.append(problem)

    def back(self) -> None:
        self.times_back += 1


class Ground:
    def __init__(self, folder: Path) -> None:
        self.server = fresh_server()
        self.folder = folder / "journal"
        self.heard = Heard()
        self.refused: list[EntryRow] = []
        self.disowned: list[CallRef] = []

    @asynccontextmanager
    async def journal(self, server: Server | None = None, **options: Any) -> AsyncIterator[Journal]:
        database = Postgres(server or self.server)
        journal = Journal(
            database,
            Files(self.folder, **options),
            replica_id="rep_1",
            flushes=self.heard,
            ships=self.heard,
            refused=self.refused.extend,
        )
        journal.disown = self.disowned.append
        await journal.open()
        try:
            yield journal
        finally:
            await journal.close()
            await database.close()

    def rows(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in postgres.shared().execute(sql, *args, url=self.server.url)]

    def entries(self, ref: CallRef) -> list[tuple[int, bytes]]:
        sql = "SELECT seq, payload FROM entry WHERE call_key = $1 ORDER BY epoch, seq"
        return [(seq, bytes(payload)) for seq, payload in self.rows(sql, ref.key)]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def new(call_id: str, started_at: int = START) -> NewCall:
    return NewCall(call_id=call_id, status="live", started_at=started_at, profile="p", model="m", max_duration_us=0)


def entry(ref: CallRef, seq: int, payload: bytes = b"{}", type_: str | None = "a", epoch: int = 1) -> EntryRow:
    return ref, epoch, seq, 1, START + seq, seq, type_, None, payload, 4


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.01)


async def test_what_is_recorded_can_be_read_from_the_database(ground: Ground) -> None:
    async with ground.journal() as journal:
        call = new("rtc_1")
        ref = call.ref()
        journal.note(registration.register(ref, call))
        for seq in range(1, 101):
            journal.entry(entry(ref, seq, b'{"n":%d}' % seq))
        journal.fact(tables.call, ref, {"status": "ended", "entry_count": 100, "tampered": True})
        await journal.readable()
        assert ground.entries(ref) == [(seq, b'{"n":%d}' % seq) for seq in range(1, 101)]
        assert ground.rows("SELECT call_key, status, entry_count, tampered FROM call") == [
            (call_key("rtc_1"), "ended", 100, True)
        ]
        assert ground.heard.shipped_rows == 100
        assert journal.waiting == 0
        assert journal.oldest_at is None


async def test_a_negotiation_s_row_gives_way_to_its_call_s(ground: Ground) -> None:
    async with ground.journal() as journal:
        negotiation, call = new("neg_1"), new("rtc_1", START + 1)
        first, ref = negotiation.ref(), call.ref()
        journal.note(registration.register(first, negotiation))
        journal.note(registration.register(ref, call, instead_of=first))
        journal.entry(entry(ref, 1))
        await journal.readable()
    assert ground.rows("SELECT call_id FROM call") == [("rtc_1",)]
    assert ground.entries(ref) == [(1, b"{}")]


async def test_an_id_that_is_on_record_already_is_not_mixed_with_its_namesake(ground: Ground) -> None:
    async with ground.journal() as journal:
        older = new("rtc_1")
        old = older.ref()
        journal.note(registration.register(old, older))
        journal.entry(entry(old, 1, b"old"))
        negotiation, newer = new("neg_2", START + 5), new("rtc_1", START + 6)
        stub, ref = negotiation.ref(), newer.ref()
        journal.note(registration.register(stub, negotiation))
        journal.note(registration.register(ref, newer, instead_of=stub))
        journal.entry(entry(ref, 1, b"new"))
        await journal.readable()
        await until(lambda: bool(ground.disowned))
    # a later run does not mix them either
    async with ground.journal() as journal:
        journal.entry(entry(ref, 2, b"newer"))
        journal.entry(entry(old, 2, b"older"))
        await journal.readable()
    assert [(each.call_id, each.origin) for each in ground.disowned] == [("rtc_1", "neg_2")]
    assert ground.entries(CallRef("rtc_1", old.day)) == [(1, b"old"), (2, b"older")]
    assert ground.entries(CallRef("neg_2", old.day)) == [(1, b"new"), (2, b"newer")]


async def test_a_call_whose_key_is_taken_is_recorded_under_another_one(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def colliding(call_id: str, attempt: int = 0) -> int:
        return 7 + attempt

    monkeypatch.setattr(registration, "call_key", colliding)
    async with ground.journal() as journal:
        refs = []
        for name in ("rtc_1", "rtc_2"):
            call = new(name)
            refs.append(call.ref())
            journal.note(registration.register(refs[-1], call))
            journal.entry(entry(refs[-1], 1, name.encode()))
            journal.fact(tables.call, refs[-1], {"entry_count": len(refs)})
        await journal.readable()
    async with ground.journal() as journal:
        for ref in refs:
            journal.entry(entry(ref, 2, ref.call_id.encode()))
        await journal.readable()
    assert ground.rows("SELECT call_key, call_id, entry_count FROM call ORDER BY call_key") == [
        (7, "rtc_1", 1),
        (8, "rtc_2", 2),
    ]
    found = ground.rows("SELECT call_key, convert_from(payload, 'UTF8') FROM entry ORDER BY call_key, seq")
    assert found == [(7, "rtc_1"), (7, "rtc_1"), (8, "rtc_2"), (8, "rtc_2")]


async def test_an_earlier_epoch_s_late_word_changes_nothing_that_its_successor_told(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal() as journal:
        ref, later = call.ref(), call.ref()
        later.epoch = 2
        journal.note(registration.register(ref, call))
        await journal.readable()
        await journal.run(registration.next_epoch(later))
        journal.fact(tables.call, later, {"status": "live", "entry_count": 9})
        journal.entry(entry(ref, 1, b"late"))
        journal.fact(tables.call, ref, {"status": "ended", "entry_count": 1})
        await journal.readable()
    assert ground.rows("SELECT status, entry_count, epoch FROM call") == [("live", 9, 2)]
    assert ground.entries(ref) == [(1, b"late")]


async def test_text_that_postgresql_cannot_hold_is_stored_as_near_as_it_can(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal() as journal:
        ref = call.ref()
        journal.note(registration.register(ref, call))
        journal.entry(entry(ref, 1, b"a\0b", "ty\0pe"))
        journal.fact(tables.call, ref, {"user": "half \ud800 of \0 a character"})
        await journal.readable()
    assert ground.rows("SELECT type, payload FROM entry") == [("ty\ufffdpe", b"a\0b")]
    assert ground.rows('SELECT "user" FROM call') == [("half \ufffd of \ufffd a character",)]


async def test_a_mark_comes_to_all_with_what_it_knows_of_its_machine(ground: Ground) -> None:
    replica = {"replica_id": "rep_1", "started_at": START, "beat_at": START, "number": 1, "version": "0"}
    insert(ground.server, tables.replica, replica)
    marks = [
        unfinished.Mark(START + 1, {"rtc_1": START}, Uptime("this start", 7_000_000), was_set_back=True),
        unfinished.Mark(START + 2),
    ]
    async with ground.journal() as journal, Postgres(ground.server) as reads:
        for mark in marks:
            journal.note(unfinished.beat("rep_1", mark))
            await journal.readable()
            assert await unfinished.mark_of(reads, "rep_1") == mark
        assert await unfinished.mark_of(reads, "rep_2") is None


async def test_an_entry_that_the_database_refuses_costs_only_itself(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal() as journal:
        ref = call.ref()
        journal.note(registration.register(ref, call))
        for seq in (1, 2, 2**31 + 1, 3, 4):
            journal.entry(entry(ref, seq))
        journal.fact(tables.gap, ref, {"epoch": 1, "seq": 5, "from_at": "no number"})
        journal.note(unfinished.beat("rep_1", unfinished.Mark(START)))
        await journal.readable()
        await until(lambda: bool(ground.refused))
    assert ground.rows("SELECT count(*) FROM gap") == [(0,)]
    assert [seq for seq, _ in ground.entries(ref)] == [1, 2, 3, 4]
    assert [row[2] for row in ground.refused] == [2**31 + 1]


async def test_an_entry_that_sqlite_refuses_is_in_quarantine_with_its_bytes(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal() as journal:
        ref = call.ref()
        journal.note(registration.register(ref, call))
        journal.entry(entry(ref, 1, b"\xff\0", "\ud800"))
        journal.entry(entry(ref, 2))
        await journal.readable()
    assert [seq for seq, _ in ground.entries(ref)] == [2]
    assert [row[2] for row in ground.refused] == [1]
    assert ground.rows("SELECT seq, payload FROM quarantine") == [(1, b"\xff\0")]


async def test_what_was_not_shipped_is_shipped_by_the_next_run(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    nowhere = Server("postgresql://127.0.0.1:1/away")
    async with ground.journal(nowhere) as journal:
        journal.note(registration.register(ref, call))
        journal.entry(entry(ref, 1))
        await journal.kept()
        await until(lambda: bool(ground.heard.problems))
        journal.hurry()
    async with ground.journal(nowhere) as journal:
        journal.entry(entry(ref, 2))
        await journal.kept()
        journal.hurry()
    async with ground.journal() as journal:
        journal.entry(entry(ref, 3))
        await journal.readable()
        assert [seq for seq, _ in ground.entries(ref)] == [1, 2, 3]
        await until(lambda: len(journal.files.standing()) == 1)


async def test_files_are_begun_anew_and_forgotten_once_they_are_shipped(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal(file_bytes=10_000, file_seconds=0.2) as journal:
        ref = call.ref()
        journal.note(registration.register(ref, call))
        for seq in range(1, 51):
            journal.entry(entry(ref, seq, b"x" * 1_000))
            if seq % 5 == 0:
                await journal.kept()
        await journal.readable()
        await until(lambda: len(journal.files.standing()) == 1)
        # the newest grows old too, and then nothing that was said is left on this machine
        await until(lambda: not any(b"xxx" in path.read_bytes() for path in ground.folder.glob("*.journal*")))
        [(_oldest_at,)] = ground.rows("SELECT oldest_at FROM journal")
        await until(lambda: ground.rows("SELECT oldest_at FROM journal") == [(None,)])
    assert [seq for seq, _ in ground.entries(ref)] == list(range(1, 51))


async def test_an_erased_call_takes_nothing_more(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal() as journal:
        ref = call.ref()
        journal.note(registration.register(ref, call))
        await journal.readable()
        await journal.run(
            lambda transaction: transaction.execute(
                tables.tombstone.insert().values(call_key=ref.key, erased_at=START, actor="key")
            )
        )
        journal.entry(entry(ref, 1))
        journal.fact(tables.call, ref, {"status": "ended", "user": "somebody"})
        await journal.readable()
    assert ground.entries(ref) == []
    assert ground.rows('SELECT status, "user" FROM call') == [("ended", None)]


async def test_a_folder_that_was_set_back_loses_nothing_new(ground: Ground) -> None:
    call = new("rtc_1")
    async with ground.journal() as journal:
        ref = call.ref()
        journal.note(registration.register(ref, call))
        for seq in range(1, 51):
            journal.entry(entry(ref, seq))
        await journal.readable()
        first = journal.journal_id
    for path in ground.folder.glob("*.journal*"):
        path.unlink()
    async with ground.journal() as journal:
        assert journal.journal_id == first
        journal.entry(entry(ref, 51))
        await journal.readable()
        assert journal.journal_id != first
    assert [seq for seq, _ in ground.entries(ref)] == list(range(1, 52))


async def test_what_a_database_that_was_set_back_in_part_has_already_is_not_doubled(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    many = 2 * shipping.ROWS
    async with ground.journal() as journal:
        journal.note(registration.register(ref, call))
        for seq in range(1, many + 1):
            journal.entry(entry(ref, seq, b"%d" % seq))
        await journal.readable(PATIENCE)
    # as a restore of some tables has it: how far the journal came is forgotten, and of the rest a part is there
    ground.rows("DELETE FROM journal")
    ground.rows("DELETE FROM entry WHERE seq % 10 = 0")
    with capture_logs() as logs:
        async with ground.journal() as journal:
            for seq in range(many + 1, many + 101):
                journal.entry(entry(ref, seq, b"%d" % seq))
            await journal.readable(PATIENCE)
    assert ground.entries(ref) == [(seq, b"%d" % seq) for seq in range(1, many + 101)]
    there = [line["count"] for line in logs if line["event"] == "entries_there_already"]
    assert sum(there) == many * 9 // 10


async def test_work_that_cannot_be_done_while_the_database_is_away_says_so(ground: Ground) -> None:
    from rtobserver.errors import StoreUnavailable

    async with ground.journal(Server("postgresql://127.0.0.1:1/away")) as journal:
        with pytest.raises(StoreUnavailable):
            await journal.run(lambda transaction: transaction.execute(sa.select(1)))
        journal.entry(entry(new("rtc_1").ref(), 1))
        with pytest.raises(StoreUnavailable):
            await journal.readable(0.1)
        journal.hurry()


@pytest.mark.parametrize("is_live", [True, False])
async def test_a_damaged_file_costs_only_what_cannot_be_read_and_that_is_declared(
    ground: Ground, is_live: bool
) -> None:
    call = new("rtc_1")
    ref = call.ref()
    async with ground.journal(Server("postgresql://127.0.0.1:1/away")) as journal:
        journal.note(registration.register(ref, call))
        for seq in range(1, 2_001):
            journal.entry(entry(ref, seq, b"x" * 300))
        await journal.kept()
        journal.hurry()
    [path] = [path for path in ground.folder.glob("*.journal") if path.stat().st_size > 100_000]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    told: list[Any] = []
    async with ground.journal() as journal:
        journal.live = lambda: [ref] if is_live else []
        journal.begun_anew = told.append
        await journal.readable(PATIENCE)
        await until(lambda: bool(journal.files.damaged_files))
        there = {seq for seq, _ in ground.entries(ref)}
        assert 1_000 < len(there) < 2_000
        lost = 2_000 - len(there)
        if is_live:
            await until(lambda: bool(told))
            [found] = told
            assert sum(loss.lost for losses in found.values() for loss in losses) == lost
        else:
            assert ground.rows("SELECT sum(lost), min(reason) FROM gap") == [(lost, "corrupt")]
    assert [path for path in ground.folder.iterdir() if path.suffix == ".damaged"]


async def test_the_newest_file_is_written_again_where_somebody_took_it_away(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    async with ground.journal(Server("postgresql://127.0.0.1:1/away")) as journal:
        journal.note(registration.register(ref, call))
        journal.entry(entry(ref, 1))
        await journal.kept()
        for path in ground.folder.glob("*.journal*"):
            path.unlink()
        await until(lambda: journal.files.written_again == 1)
        assert len(journal.files.standing()) == 2
        journal.entry(entry(ref, 2))
        await journal.kept()
        journal.hurry()
    async with ground.journal() as journal:
        await journal.readable(PATIENCE)
    assert [seq for seq, _ in ground.entries(ref)] == [1, 2]


async def test_an_older_file_that_somebody_took_away_holds_nothing_up(ground: Ground) -> None:
    call = new("rtc_1")
    ref = call.ref()
    nowhere = Server("postgresql://127.0.0.1:1/away")
    async with ground.journal(nowhere, file_bytes=1) as journal:
        journal.note(registration.register(ref, call))
        for seq in (1, 2, 3):
            journal.entry(entry(ref, seq))
            await journal.kept()
        journal.hurry()
    files = sorted(ground.folder.glob("*.journal"))
    for path in ground.folder.glob(f"{files[1].name}*"):
        path.unlink()
    told: list[Any] = []
    async with ground.journal() as journal:
        journal.live, journal.begun_anew = (lambda: [ref]), told.append
        journal.entry(entry(ref, 4))
        await journal.readable(PATIENCE)
        await until(lambda: bool(told))
    assert [seq for seq, _ in ground.entries(ref)] == [1, 3, 4]
    assert [(loss.lost, loss.after) for losses in told[0].values() for loss in losses] == [(1, "1:1")]
