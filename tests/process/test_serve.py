"""`rtobserver serve` from the outside: what it says, and how it refuses to start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from rtobserver.simulator.server import Simulator
from rtobserver.store import schema, sqlite
from tests.process import stage
from tests.process.stage import Ground, configure, ground, run
from tests.process.test_killed import further, observed, simulator

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

NOWHERE = "http://127.0.0.1:9/openai/v1"


async def refused(folder: Path, code: int) -> str:
    """Try to serve from a folder; gives what it said, which is for people."""
    found, out, log = await run("serve", "--config", "config.toml", folder=folder)
    assert (found, out) == (code, ""), log
    assert "Traceback" not in log
    return log


async def test_one_line_says_where_it_listens_on_ports_that_it_picked(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator()) as here, here.starting() as starting:
        said = await starting.logged("listening")
        for url, status in ((said["public"], 404), (said["operator"], 200)):
            assert url.startswith("http://127.0.0.1:")
            assert not url.endswith(":0")
            async with here.http.get(f"{url}/livez") as answer:
                assert answer.status == status
        assert said["public"] != said["operator"]
        await starting.stopped()


async def test_it_runs_as_a_module_too(tmp_path: Path) -> None:
    configure(tmp_path, NOWHERE)
    words = (sys.executable, "-m", "rtobserver", "serve", "--config", "config.toml", "--log-format", "json")
    async with stage.spawned(*words, folder=tmp_path) as starting:
        await starting.logged("listening")
        assert await starting.stopped() < 2


async def test_the_database_stands_beside_the_configuration_wherever_it_is_started(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    configure(tmp_path, NOWHERE)
    words = ("serve", "--config", tmp_path / "config.toml", "--log-format", "json")
    async with stage.command(*words, folder=elsewhere) as starting:
        await starting.logged("listening")
        await starting.stopped()
    assert (tmp_path / "calls.db").stat().st_mode & 0o777 == 0o600
    assert not list(elsewhere.iterdir())


async def test_a_second_daemon_on_the_same_file_is_refused(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator()) as here, here.serving() as daemon:
        assert "another rtobserver runs on" in await refused(tmp_path, 1)
        assert await daemon.status("/readyz") == 200
        await daemon.command.stopped()


async def test_a_taken_port_is_told_in_a_sentence(tmp_path: Path) -> None:
    config = configure(tmp_path, NOWHERE)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for section in ("public", "operator"):
            text = config.read_text()
            config.write_text(text.replace(f"[{section}]\nport = 0", f"[{section}]\nport = {port}"))
            log = await refused(tmp_path, 1)
            config.write_text(text)
            assert f"rtobserver: 127.0.0.1:{port} cannot be listened on: " in log
            assert "address already in use" in log.lower()


async def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    config = configure(tmp_path, NOWHERE)
    (tmp_path / "file").write_text("")
    text = config.read_text()
    config.write_text(text.replace("calls.db", "file/calls.db"))
    assert "file cannot be made: File exists" in await refused(tmp_path, 1)
    # what keeps root out too
    (tmp_path / "calls.db.lock").mkdir()
    config.write_text(text)
    assert f"rtobserver: {tmp_path}/calls.db.lock cannot be made: Is a directory\n" in await refused(tmp_path, 1)


async def test_a_file_that_is_no_database_is_told_in_a_sentence(tmp_path: Path) -> None:
    configure(tmp_path, NOWHERE)
    (tmp_path / "calls.db").write_text("these are notes, not a database\n" * 100)
    assert "file is not a database" in await refused(tmp_path, 1)


async def test_all_mistakes_of_a_configuration_are_told_at_once(tmp_path: Path) -> None:
    config = configure(tmp_path, "https://example.org/openai/v1?x=1", profile='max_duration = "soon"')
    config.write_text(config.read_text().replace("[operator]", "[operator]\nprot = 1"))
    log = await refused(tmp_path, 2)
    assert "3 mistakes in the configuration" in log
    for place in ("upstream.base_url", "operator.prot", "profile[0].max_duration"):
        assert place in log


async def test_what_this_release_cannot_do_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    configure(tmp_path, NOWHERE, more='[recording]\nredact = ["mail"]')
    assert "recording.redact: this release cannot do it yet" in await refused(tmp_path, 2)


async def test_another_schema_is_refused_with_a_code_of_its_own(tmp_path: Path) -> None:
    configure(tmp_path, NOWHERE, more="")
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("[store]", "[store]\nmigrate_on_start = false"))
    assert "run `rtobserver migrate`" in await refused(tmp_path, 3)
    code, out, _ = await run("migrate", "--config", "config.toml", folder=tmp_path)
    assert (code, "went from nothing to" in out) == (0, True)
    with contextlib.closing(sqlite.open_writer(tmp_path / "calls.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert f"has schema 9999, newer than this release's {schema.head()}" in await refused(tmp_path, 3)
    code, _, log = await run("migrate", "--config", "config.toml", folder=tmp_path)
    assert (code, "has schema 9999" in log) == (3, True)


async def test_a_call_that_cannot_be_read_keeps_nobody_from_starting(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        async with here.serving() as first:
            call_ids = [await first.place() for _ in range(2)]
            await further(here.simulator, call_ids, 10)
            await first.command.stopped()
        await asyncio.to_thread(_spoil_a_gap, here)
        async with here.serving() as second:
            await observed(here.simulator, call_ids)
            await second.command.logged("call_not_restored")
            await further(here.simulator, call_ids, 5)
            for call_id in call_ids:
                await second.call_with(call_id, status="live")
                assert (await second.entries(call_id))[-1].position[0] == 2
            # it has said more than it says on a good day
            second.process.send_signal(signal.SIGTERM)
            assert (await second.command.ended())[0] == 0


def _spoil_a_gap(here: Ground) -> None:
    with contextlib.closing(sqlite.open_writer(here.store)) as connection:
        connection.execute("UPDATE gap SET lost_by_type = '{' WHERE call_key = (SELECT min(call_key) FROM call)")


async def test_a_daemon_whose_file_is_destroyed_moves_it_aside_and_records_on(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here, here.serving() as daemon:
        call_id = await daemon.place()
        await further(here.simulator, [call_id], 10)
        await daemon.get(f"/calls/{call_id}")
        await asyncio.to_thread(_destroy, here.store)
        # nothing could be read of it; the keys are held in memory
        await daemon.command.logged("database_overwritten")
        await further(here.simulator, [call_id], 10)
        async with daemon.http.get(f"{daemon.operator}/readyz") as answer:
            assert answer.status == 200
            assert (await answer.json())["status"] == "degraded"
        await here.simulator.end_call(call_id)
        await daemon.command.logged("call_finished", call_id=call_id)
        assert (await daemon.get(f"/calls/{call_id}"))["completeness"] == "complete_with_gaps"
        await daemon.command.stopped()
    with sqlite3.connect(here.store) as connection:
        gaps = connection.execute("SELECT reason, lost FROM gap WHERE reason = 'corrupt'").fetchall()
        [(count,)] = connection.execute("SELECT count(*) FROM entry").fetchall()
        [(last,)] = connection.execute("SELECT max(seq) FROM entry").fetchall()
    [(_, lost)] = gaps
    assert lost > 0
    assert count + lost == last, "the gap counts what is not there"
    [aside] = [path for path in here.folder.glob("calls.db.foreign-*") if not path.name.endswith(("-wal", "-shm"))]
    assert aside.stat().st_size > 0


def _destroy(store: Path) -> None:
    for path in (store, Path(f"{store}-wal"), Path(f"{store}-shm")):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(os.urandom(size))
