"""Other commands beside a running daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtobserver.simulator.server import Simulator
from tests.process.stage import Daemon, Watch, ground, run, until
from tests.process.test_killed import simulator

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


async def keys(folder: Path, *words: str) -> str:
    code, out, log = await run("keys", *words, "--config", "config.toml", folder=folder)
    assert (code, log) == (0, "")
    return out.strip()


@pytest.mark.parametrize("word", ["migrate", "rebuild"])
async def test_what_changes_rows_is_refused_while_a_daemon_runs(tmp_path: Path, word: str) -> None:
    async with ground(tmp_path, simulator()) as here, here.serving() as daemon:
        code, out, log = await run(word, "--config", "config.toml", folder=tmp_path)
        assert (code, out) == (1, "")
        assert log == f"rtobserver: another rtobserver runs on {here.store}\n"
        assert await daemon.status("/readyz") == 200
        await daemon.command.stopped()


async def test_a_key_works_as_soon_as_it_is_made_and_not_when_it_is_revoked(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator()) as here, here.serving() as daemon:
        key = await keys(tmp_path, "create", "--name", "dashboards", "--scope", "read", "--expires-in", "90d")
        assert key.startswith("rto_")
        assert await daemon.status("/api/v1/calls", key) == 200
        assert await daemon.status("/metrics", key) == 403

        listed = [json.loads(line) for line in (await keys(tmp_path, "list", "--json")).splitlines()]
        [made] = [each for each in listed if each["name"] == "dashboards"]
        assert (made["scopes"], made["revoked_at"]) == (["read"], None)
        assert key not in json.dumps(listed)

        assert await keys(tmp_path, "revoke", made["key_id"]) == f"{made['key_id']} is revoked"
        watch = Watch()
        await until(lambda: _is_refused(daemon, key))
        assert watch.seconds() < 1
        code, _, log = await run("keys", "revoke", made["key_id"], "--config", "config.toml", folder=tmp_path)
        assert (code, made["key_id"] in log) == (1, True)
        await daemon.command.stopped()


async def _is_refused(daemon: Daemon, key: str) -> bool:
    return await daemon.status("/api/v1/calls", key) == 401
