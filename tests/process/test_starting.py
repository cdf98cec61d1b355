"""A start that has to wait for its database says so, refuses calls, and goes on by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.faults.acts import place
from tests.faults.disks import fill, held, small_disk
from tests.faults.ground import Logged, Site, record, site, stream
from tests.faults.test_storage_full import on
from tests.process.replicas import heard, placed, replicas
from tests.process.stage import Command, Daemon, command, configure, until
from tests.process.test_killed import observed
from tests.support import postgres
from tests.support.watch import Watch

pytestmark = [pytest.mark.timeout(240)]


async def readiness(daemon: Daemon) -> tuple[int, dict[str, Any]]:
    async with daemon.http.get(f"{daemon.operator}/readyz") as answer:
        return answer.status, await answer.json()


async def waiting(begun: Logged | Command, here: Any, reason: str) -> Daemon:
    """Wait until a start says where it listens; what it answers meanwhile must be as promised."""
    said = await begun.logged("still_starting")
    daemon = Daemon(begun, here.http, said["public"], said["operator"], "", 0)
    assert await daemon.status("/livez") == 200
    told: dict[str, Any] = {}
    async with asyncio.timeout(60):
        while reason not in told.get("reasons", []):
            status, told = await readiness(daemon)
            assert (status, told["status"], told["reasons"][0]) == (503, "unavailable", "it is starting"), told
    assert await daemon.offer() == (503, "starting")
    async with daemon.http.post(f"{daemon.public}/v1/realtime/calls", data=b"v=0") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.content_type == "application/problem+json"
    assert await daemon.status("/api/v1/calls") == 503
    return daemon


@asynccontextmanager
async def left(folder: Path, disk: Path | None) -> AsyncIterator[tuple[Site, list[str], str]]:
    """Have a daemon killed in the middle of two calls; gives them, and a key."""
    if disk is not None:
        on(disk, folder)
    async with site(folder, scenario=stream(20)) as here:
        async with here.serving() as daemon:
            call_ids = await place(daemon, here, 2, events=40)
            key = daemon.key
            daemon.process.kill()
            await daemon.command.ended()
        yield here, call_ids, key


async def went_on(here: Site, begun: Logged, waited: Daemon, call_ids: list[str], key: str) -> None:
    """See that a start went on: at the same addresses, with the calls of before and with new ones."""
    daemon = await here.listening(begun, key)
    assert (daemon.public, daemon.operator, daemon.adopted) == (waited.public, waited.operator, len(call_ids))
    await observed(here.simulator, call_ids)
    assert (await readiness(daemon))[0] == 200
    assert len(here.simulator.calls) == len(call_ids), "what was refused was never asked of upstream"
    further = await place(daemon, here, 1, events=5)
    await here.end(daemon, [*call_ids, *further])
    figures = await here.figures(daemon, [*call_ids, *further])
    assert (figures.missing_unexplained, figures.holes, figures.forgotten) == (0, 0, 0), figures
    assert [gap["reason"] for gap in (await record(daemon, call_ids[0])).gaps][-1] == "takeover"
    await daemon.command.stopped()


async def test_a_start_on_a_database_that_another_program_holds_waits_and_says_so(tmp_path: Path) -> None:
    async with left(tmp_path, None) as (here, call_ids, key), here.starting() as begun:
        async with held(here.store):
            await begun.logged("starting")
            waited = await waiting(begun, here, "another program holds the database")
        await went_on(here, begun, waited, call_ids, key)


async def test_a_start_on_a_full_disk_waits_for_room_and_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path, 32) as disk:
        async with left(tmp_path, disk) as (here, call_ids, key):
            # what a database that was killed leaves beside its file would make room
            (disk / "calls.db.ballast").unlink(missing_ok=True)
            filler = fill(disk)
            async with here.starting() as begun:
                waited = await waiting(begun, here, "the disk is full")
                await asyncio.to_thread(filler.unlink)
                await went_on(here, begun, waited, call_ids, key)


@pytest.mark.parametrize("trouble", ["held", "full"])
async def test_a_start_that_waits_ends_within_two_seconds_of_sigterm(tmp_path: Path, trouble: str) -> None:
    with small_disk(tmp_path, 32) if trouble == "full" else nullcontext() as disk:
        async with left(tmp_path, disk) as (here, _, _):
            if disk is not None:
                (disk / "calls.db.ballast").unlink(missing_ok=True)
                fill(disk)
            async with nullcontext() if disk is not None else held(here.store), here.starting() as begun:
                await begun.logged("still_starting")
                watch = Watch()
                begun.process.send_signal(signal.SIGTERM)
                code, _, log = await begun.ended()
                took = watch.seconds() - watch.starved()
    assert (code, "Traceback" in log) == (0, False), log
    assert took <= 2.0


async def test_a_start_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    with postgres.running() as cluster:
        async with replicas(tmp_path, cluster=cluster) as them:
            await asyncio.to_thread(cluster.stop, "fast")
            folder = tmp_path / "a"
            folder.mkdir()
            config = configure(folder, them.simulator.base_url)
            text = config.read_text().replace("sqlite:///calls.db", them.server.url)
            config.write_text(text.replace("[public]", f'[public]\ntoken_key = "{"A" * 43}"', 1))
            async with command("serve", "--config", config, "--log-format", "json", folder=folder) as begun:
                waited = await waiting(begun, them, "the database is away")
                await asyncio.to_thread(cluster.start)
                said = await begun.logged("listening")
                assert (said["public"], said["operator"]) == (waited.public, waited.operator)
                daemon = Daemon(begun, them.http, said["public"], said["operator"], them.key, 0)
                [call_id] = await placed(daemon, 1)
                await heard(them.simulator, [call_id])

                async def shipped() -> bool:
                    return await daemon.status(f"/api/v1/calls/{call_id}") == 200

                await until(shipped)
                assert (await readiness(daemon)) == (200, {"status": "ok", "reasons": []})
                await daemon.command.stopped()
