"""A new file takes the place of another so that whoever comes after a kill finishes it, or begins again."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.clock import Uptime
from rtobserver.errors import StoreBusy, StoreUnavailable
from rtobserver.store import damage, keys, replacement, sqlite, tables
from rtobserver.store.transaction import Transaction
from rtobserver.store.unfinished import Mark
from tests.store import stored

NOW = stored.START


def made_whole(path: Path) -> Path:
    replacement.begin(path).write_text("new")
    return replacement.complete(path, "damaged")


def parts(path: Path) -> None:
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).write_text(f"old{part}")


def test_a_whole_file_takes_the_place_and_the_old_one_keeps_its_wal(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    parts(path)
    aside = made_whole(path)
    assert path.read_text() == "old"
    assert replacement.pending(path) == [aside]
    assert replacement.finish(path) == [aside]
    assert (path.read_text(), aside.read_text()) == ("new", "old")
    assert aside.with_name(f"{aside.name}-wal").read_text() == "old-wal"
    assert not path.with_name("a.db-wal").exists()
    assert replacement.finish(path) == []
    assert replacement.left(path, "damaged") == [aside.name]


@pytest.mark.parametrize("moved", [("-wal",), ("-wal", "-shm"), ("-wal", "-shm", "")])
def test_what_was_cut_off_at_any_step_is_finished(tmp_path: Path, moved: tuple[str, ...]) -> None:
    path = tmp_path / "a.db"
    parts(path)
    aside = made_whole(path)
    for part in moved:
        path.with_name(path.name + part).rename(aside.with_name(aside.name + part))
    with sqlite.hold(path):
        assert (path.read_text(), aside.read_text()) == ("new", "old")
        assert aside.with_name(f"{aside.name}-wal").read_text() == "old-wal"
    assert sorted(found.name for found in tmp_path.iterdir() if "whole" in found.name) == []


def test_a_file_that_somebody_put_there_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    parts(path)
    aside = made_whole(path)
    replacement.put_aside(path, aside)
    path.write_text("a backup")
    assert replacement.finish(path) == []
    assert path.read_text() == "a backup"
    assert path.with_name(f"{aside.name}-copy").read_text() == "new"


def test_an_unfinished_file_says_that_the_old_one_is_suspected_until_somebody_has_looked(path: Path) -> None:
    replacement.begin(path).write_bytes(b"half" * 1000)
    assert damage.prepare(path) is None, "it is sound, as far as there was time to look"
    assert replacement.was_cut_off(path)
    assert path.with_name(f"{path.name}.unfinished").stat().st_size == 0, "the room is given back"
    replacement.forget(path)
    assert not replacement.was_cut_off(path)


def test_a_key_that_is_made_while_the_file_is_put_in_place_is_no_lost_key(path: Path, tmp_path: Path) -> None:
    def visit() -> None:
        with sqlite.transaction(path) as connection:
            connection.execute(tables.secret.insert().values(name="a", value=b"x"))
            path.rename(tmp_path / "other.db")
            sqlite.create(path)

    with pytest.raises(StoreUnavailable, match="another file"):
        visit()


def test_other_programs_wait_while_the_daemon_puts_a_new_file_in_place(path: Path) -> None:
    with sqlite.hold(path):
        made_whole(path)
        with pytest.raises(StoreBusy):
            keys.create(path, name="mine", now_us=1)


def test_rows_of_live_calls_are_written_again_and_count_what_was_stored(path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_a", entry_count=3))
    ref = stored.ref("rtc_a")
    gap = {"epoch": 1, "seq": 9, "reason": "corrupt", "state": "final", "counted": True, "after": None, "lost": 4}
    times = {"from_at": NOW, "to_at": NOW, "lost_by_type": "{}"}
    stored.insert(path, tables.gap, {"call_key": ref.key, "day": ref.day, **gap, **times})
    ref.stored = 20
    registered: list[Transaction] = []
    with sqlite.transaction(path) as connection:
        damage.write_again(Transaction(connection, set()), {ref: registered.append})
        assert connection.execute(sa.select(tables.call.c.entry_count)).scalar() == 24
    assert len(registered) == 1


UP = Uptime("this start", 500_000_000)


def mark(**changes: object) -> Mark:
    return Mark(NOW, **{"uptime": UP, **changes})  # type: ignore[arg-type]


def later(seconds: float, boot_id: str = UP.boot_id) -> Uptime:
    return Uptime(boot_id, UP.us + int(seconds * 1e6))


def test_how_long_ago_a_call_was_last_heard_of_is_known_by_the_uptime() -> None:
    assert mark().since("rtc_a", NOW - 9_000_000, later(7)) == (NOW, 7.0)
    assert mark().since("rtc_a", NOW + 400_000, later(7)) == (NOW + 400_000, 6.6)
    assert mark(doubts={"rtc_a": NOW - 3_000_000}).since("rtc_a", NOW - 9_000_000, later(7)) == (NOW - 3_000_000, 10.0)


def test_an_event_that_a_set_clock_puts_behind_the_mark_is_not_believed() -> None:
    assert mark().since("rtc_a", NOW + 3_600_000_000, later(7)) == (NOW, 7.0), "it would come after now"
    assert mark(was_set_back=True).since("rtc_a", NOW + 5_000_000, later(7)) == (NOW, 7.0)


@pytest.mark.parametrize("now", [None, later(7, "another start")])
def test_after_a_restart_of_the_machine_only_the_wall_clock_tells(now: Uptime | None) -> None:
    assert mark().since("rtc_a", NOW + 1_000, now) == (NOW + 1_000, None)
    assert mark(uptime=None).since("rtc_a", NOW - 1_000, later(7)) == (NOW, None)
