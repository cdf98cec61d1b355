"""The disk is full, and is not full any more (case C10)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rtobserver.realtime import shedding
from rtobserver.simulator.scenario import BargeIn, Repeat, Scenario, Spoken, ToolCall, Typed
from rtobserver.store import schema, tables
from tests.faults.acts import place
from tests.faults.disks import fill, small_disk
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.process.stage import Daemon, until
from tests.process.test_killed import further, observed
from tests.store import stored

pytestmark = [pytest.mark.timeout(240)]

TALK = Scenario(name="talk", steps=(Repeat(times=0, steps=(Typed(), Spoken(), BargeIn(), ToolCall())),))
RECOVERY = 30.0
"""Seconds from the return of room within which everything is recorded again."""
LOOKED = 15.0
"""Seconds within which a file that somebody has written over is found out, however slow the writer tries again."""


def on(disk: Path, folder: Path) -> Path:
    """Have the database of a case on a disk of its own; gives its file."""
    (folder / "calls.db").symlink_to(disk / "calls.db")
    return disk / "calls.db"


async def readiness(daemon: Daemon) -> dict[str, Any]:
    async with daemon.http.get(f"{daemon.operator}/readyz") as answer:
        assert answer.status == 200
        told: dict[str, Any] = await answer.json()
        return told


async def figure(daemon: Daemon, name: str) -> float:
    headers = {"Authorization": f"Bearer {daemon.key}"}
    async with daemon.http.get(f"{daemon.operator}/metrics", headers=headers) as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


async def lost_types(here: Site, daemon: Daemon, call_id: str) -> Counter[str]:
    """Count what upstream sent while somebody listened and what is not on record, by type."""
    kept = {entry.fields["event_id"] for entry in (await record(daemon, call_id)).entries}
    attached = min(each.attached_at for each in here.simulator.calls[call_id].sidebands.values())
    sent = [frame for frame in here.simulator.calls[call_id].produced if frame.at >= attached]
    return Counter(str(json.loads(frame.frame)["type"]) for frame in sent if frame.event_id not in kept)


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("ballast", ["kept", "used up"])
@pytest.mark.case("C10")
async def test_a_full_disk_costs_deltas_and_no_more(case: Case, tmp_path: Path, ballast: str) -> None:
    with small_disk(tmp_path, 32) as disk:
        file = on(disk, tmp_path)
        async with site(tmp_path, scenario=TALK, pace=0.25) as here, here.serving() as daemon:
            call_ids = await place(daemon, here, 4, events=60)
            assert (disk / "calls.db.ballast").stat().st_size == 2 * 1024 * 1024
            filler = fill(disk)
            await daemon.command.logged("disk_full")
            if ballast == "used up":
                await daemon.command.logged("ballast_released")
                await asyncio.to_thread(fill, disk)
                await daemon.command.logged("store_failing", trouble="full")
            told = await readiness(daemon)
            assert told["status"] == "degraded"
            assert any("disk is full" in reason for reason in told["reasons"])
            assert await figure(daemon, "rtobserver_disk_full") == 1
            await further(here.simulator, call_ids, 300)
            # a browser still gets its call
            late = await daemon.place()
            await further(here.simulator, [*call_ids, late], 100)
            emptied = time.monotonic()
            await asyncio.to_thread(filler.unlink)
            await daemon.command.logged("disk_has_room")
            recovered = time.monotonic() - emptied

            async def well() -> bool | None:
                return True if (await readiness(daemon))["status"] == "ok" else None

            await until(well)
            assert await figure(daemon, "rtobserver_disk_full") == 0
            await further(here.simulator, call_ids, 60)
            call_ids.append(late)
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            lost = sum([await lost_types(here, daemon, call_id) for call_id in call_ids], Counter())
            reasons = {gap["reason"] for call_id in call_ids for gap in (await record(daemon, call_id)).gaps}
            await daemon.command.stopped()
            failures = len(daemon.command.events("disk_full"))  # type: ignore[attr-defined]
        case.show(figures, t_recover_s=round(recovered, 1), lost=sum(lost.values()), lost_types=len(lost))
        assert lost.total() > 0
        assert max(shedding.shed_class(type_) for type_ in lost) <= shedding.BUFFER_MARK
        assert reasons == {"before_attach", "disk"}
        assert recovered < RECOVERY
        assert failures == 1, "said once, not at each try"
        assert is_sound(file)
        assert (disk / "calls.db.ballast").exists(), "it is there for the next time"


@pytest.mark.case("C10")
async def test_what_retention_frees_within_the_file_is_room_while_the_disk_stays_full(
    case: Case, tmp_path: Path
) -> None:
    with small_disk(tmp_path, 32) as disk:
        file = on(disk, tmp_path)
        await asyncio.to_thread(_fill_with_an_old_call, file)
        async with site(tmp_path, scenario=TALK, pace=0.25) as here, here.serving() as daemon:
            call_ids = await place(daemon, here, 4, events=60)
            await daemon.command.logged("retention_applied", what="recordings")
            await asyncio.to_thread(fill, disk)
            await daemon.command.logged("disk_full")
            await daemon.command.logged("disk_has_room")
            await further(here.simulator, call_ids, 300)
            await here.end(daemon, call_ids)
            figures = await here.figures(daemon, call_ids)
            await daemon.command.stopped()
            states = len(daemon.command.events("disk_full"))  # type: ignore[attr-defined]
        case.show(figures, states=states)
        assert figures.missing < figures.produced / 10
        assert is_sound(file)


@pytest.mark.parametrize("room", ["much", "little"])
@pytest.mark.case("C10")
async def test_a_start_on_a_full_disk_goes_on_in_the_same_file_when_there_is_room(
    case: Case, tmp_path: Path, room: str
) -> None:
    with small_disk(tmp_path, 40) as disk:
        file = on(disk, tmp_path)
        # more than what comes back: a copy would have no room
        await asyncio.to_thread(_fill_with_an_old_call, file)
        async with site(tmp_path, scenario=stream(20)) as here:
            here.configure(more='[retention]\nentries = "9999d"\ncalls = "9999d"\n')
            async with here.serving() as first:
                call_ids = await place(first, here, 2, events=20)
                # into the WAL alone, and more than the file's last page has room for
                await further(here.simulator, call_ids, 200)
                before = {call_id: await payloads(first, call_id) for call_id in call_ids}
                first.process.kill()
                await first.command.ended()
            was = file.stat().st_ino
            (disk / "calls.db.ballast").unlink(missing_ok=True)
            reserve = disk / "reserve"
            reserve.write_bytes(bytes(7 * 1024 * 1024))
            filler = await asyncio.to_thread(fill, disk)
            async with here.starting() as begun:
                await begun.logged("disk_full")
                with contextlib.suppress(TimeoutError):
                    # as many looks as it takes to be sure that somebody has written over a file
                    await here.simulator.until(lambda: bool(begun.events("database_away")), LOOKED)
                emptied = time.monotonic()
                await asyncio.to_thread((reserve if room == "little" else filler).unlink)
                daemon = await here.listening(begun, first.key)
                recovered = time.monotonic() - emptied
                await observed(here.simulator, call_ids)
                await further(here.simulator, call_ids, 20)
                lost = sum([len(before[each] - await payloads(daemon, each)) for each in call_ids])
                await here.end(daemon, call_ids)
                figures = await here.figures(daemon, call_ids)
                begun.process.terminate()
                await begun.ended()
                away = len(begun.events("database_away")) + len(begun.events("store_not_mended"))
        case.show(figures, t_recover_s=round(recovered, 1), lost_behind_a_commit=lost, taken_for_away=away)
        assert (lost, away) == (0, 0)
        assert recovered < RECOVERY
        assert file.stat().st_ino == was, "the file is the one that it was"
        assert not list(disk.glob("*foreign*")) + list(disk.glob("*unfinished*"))
        assert is_sound(file)


async def payloads(daemon: Daemon, call_id: str) -> set[bytes]:
    """Give the payloads of a call's entries."""
    return {entry.payload for entry in (await record(daemon, call_id)).entries}


def _fill_with_an_old_call(file: Path) -> None:
    schema.migrate(file)
    old = stored.START - 400 * 86_400_000_000
    stored.insert(file, tables.call, stored.call("rtc_old", status="ended", started_at=old, entry_count=2000))
    day = stored.ref("rtc_old", old).day
    payload = b"x" * 4000
    stored.insert(file, tables.entry, *[stored.entry("rtc_old", seq, payload, day=day) for seq in range(1, 2001)])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
