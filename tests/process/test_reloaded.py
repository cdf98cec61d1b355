"""`rtobserver serve` whose policies change while it runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from rtobserver.simulator.server import Simulator
from tests.process.stage import Daemon, configure, ground, run
from tests.test_reloading import policy

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


async def force(daemon: Daemon) -> dict[str, Any]:
    return await daemon.get("/policies")


async def test_serve_reads_its_policies_again_at_a_signal_and_when_a_file_changes(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator()) as here:
        text = here.config.read_text()
        rules = tmp_path / "policies" / "a.toml"
        rules.parent.mkdir()
        here.config.write_text('include = ["policies/*.toml"]\n' + text)
        rules.write_text(policy("first"))
        async with here.serving() as daemon:
            before = await force(daemon)
            assert [each["id"] for each in before["policies"]] == ["first"]
            assert before["last_reload"] is None

            rules.write_text(policy("first") + policy("second"))
            told = await daemon.command.logged("policies_reloaded", by="files")
            assert (told["added"], told["old"]) == (["second"], before["policy_set"])
            good = await force(daemon)
            assert [each["id"] for each in good["policies"]] == ["first", "second"]
            assert good["policy_set"] == told["new"]

            rules.write_text(policy("first", turns="-1") + policy("second", mode='"sometimes"') + policy("second"))
            told = await daemon.command.logged("policies_not_reloaded")
            assert len(told["mistakes"]) == 3
            kept = await force(daemon)
            assert kept["policy_set"] == good["policy_set"]
            assert [mistake["file"] for mistake in kept["last_reload"]["mistakes"]] == ["policies/a.toml"] * 3
            assert [mistake["path"] for mistake in kept["last_reload"]["mistakes"]] != [""] * 3

            rules.write_text(policy("third"))
            await daemon.command.logged("policies_reloaded", added=["third"])
            daemon.process.send_signal(signal.SIGHUP)
            told = await daemon.command.logged("policies_unchanged", by="signal")
            assert (await force(daemon))["last_reload"]["ok"] is True
            assert await daemon.status("/readyz") == 200
            daemon.process.send_signal(signal.SIGTERM)
            code, _, log = await daemon.command.ended()
            assert (code, "Traceback" in log) == (0, False), log


async def test_serve_refuses_to_start_with_mistakes_in_its_policies(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9/openai/v1", more=policy("first", turns="-1") + policy("first"))
    code, out, log = await run("serve", "--config", "config.toml", folder=tmp_path)
    assert (code, out) == (2, ""), log
    assert "2 mistakes in the configuration" in log
    assert "policy[0].turns" in log
