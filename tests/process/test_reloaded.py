"""`rtobserver serve` whose policies change while it runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from rtobserver.simulator.server import Simulator
from tests.process.stage import Daemon, configure, ground, run
from tests.process.test_killed import further, observed, simulator
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

            hook = '[[webhook]]\nid = "alerts"\nurl = "https://ops.example.com/secret"\n'
            rules.write_text(policy("third") + hook)
            await daemon.command.logged("policies_reloaded", added=["third"], webhooks=["alerts"])
            shown = (await daemon.get("/system"))["config"]["webhook"]
            assert [(each["id"], each["url"]) for each in shown] == [("alerts", "https://ops.example.com/***")]
            daemon.process.send_signal(signal.SIGHUP)
            told = await daemon.command.logged("policies_unchanged", by="signal")
            assert (await force(daemon))["last_reload"]["ok"] is True
            assert await daemon.status("/readyz") == 200
            daemon.process.send_signal(signal.SIGTERM)
            code, _, log = await daemon.command.ended()
            assert (code, "Traceback" in log) == (0, False), log


async def test_calls_that_go_on_are_under_the_new_policies_and_keep_what_the_old_ones_did(tmp_path: Path) -> None:
    async with ground(tmp_path, simulator()) as here:
        rules = tmp_path / "policies.toml"
        rules.write_text("")
        here.config.write_text('include = ["policies.toml"]\n' + here.config.read_text())
        async with here.serving() as daemon:
            call_id = await daemon.place()
            await observed(here.simulator, [call_id])
            await further(here.simulator, [call_id], 10)
            assert (await daemon.get(f"/calls/{call_id}/decisions"))["data"] == []

            rules.write_text(tagging("one"))
            one = await daemon.command.logged("policies_reloaded", added=["one"])
            await daemon.call_with(call_id, tags=["one"])

            rules.write_text("[[policy]]\n")
            await daemon.command.logged("policies_not_reloaded")
            rules.write_text(tagging("two"))
            two = await daemon.command.logged("policies_reloaded", added=["two"], removed=["one"])
            await daemon.call_with(call_id, tags=["one", "two"])

            decisions = (await daemon.get(f"/calls/{call_id}/decisions"))["data"]
            assert [(each["policy"], each["policy_set"]) for each in decisions] == [
                ("one", one["new"]),
                ("two", two["new"]),
            ]
            assert two["old"] == one["new"] != two["new"]
            await daemon.command.stopped()


def tagging(id_: str) -> str:
    keys = {"on": '"response.*"', "mode": '"enforce"', "limit": "{ per_call = 1 }", "do": f'[{{ tag = "{id_}" }}]'}
    return "\n".join(["[[policy]]", f'id = "{id_}"', *(f"{key} = {value}" for key, value in keys.items()), ""])


async def test_serve_refuses_to_start_with_mistakes_in_its_policies(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9/openai/v1", more=policy("first", turns="-1") + policy("first"))
    code, out, log = await run("serve", "--config", "config.toml", folder=tmp_path)
    assert (code, out) == (2, ""), log
    assert "2 mistakes in the configuration" in log
    assert "policy[0].turns" in log
