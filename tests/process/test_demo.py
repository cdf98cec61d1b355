"""`rtobserver demo`, which must work for whoever tries it first."""

from __future__ import annotations

import json
import shlex
import signal
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import aiohttp
import pytest

from tests.process.stage import Json, command

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WORDS = ("demo", "--no-browser", "--public-port", "0", "--operator-port", "0", "--log-format", "json")


async def test_one_call_is_placed_recorded_and_said_where(tmp_path: Path) -> None:
    async with command(*WORDS, "--once", folder=tmp_path, TMPDIR=str(tmp_path)) as demo:
        code, out, log = await demo.ended()
    assert code == 0, log
    assert "Traceback" not in log
    [recorded] = [line for line in out.splitlines() if line.startswith("recorded rtc_")]
    assert recorded.endswith(f" in {kept(tmp_path)}")
    call_id = recorded.split()[1]
    # nobody serves it any more
    assert "curl" not in out
    call, entries = [await run_as_printed(line) for line in out.splitlines() if line.startswith("  ")]
    assert call_id in call
    assert "response.done" in entries


async def test_without_media_nobody_is_invited_to_talk(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['aiortc'] = None\n")
    folders = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    async with command(*WORDS, folder=tmp_path, **folders) as demo:
        public = await demo.printed("public=")
        operator, key = await demo.printed("operator="), await demo.printed("key=")
        await demo.printed("read it with:")
        await demo.printed("  curl")
        await demo.printed("  curl")
        assert "pip install 'rtobserver[demo]'" in await demo.printed("to talk to the model yourself: ")
        assert json.loads(await run_as_printed(f"curl -s {public}/here.json"))["media"] is False
        await has_three_examples(operator, key)
        assert await demo.stopped() < 2


async def test_the_printed_link_signs_one_browser_in_and_no_other(tmp_path: Path) -> None:
    async with command(*WORDS, folder=tmp_path, TMPDIR=str(tmp_path)) as demo:
        operator, key = await demo.printed("operator="), await demo.printed("key=")
        door = await demo.printed("dashboard: ")
        assert key not in door
        # cookies of an address without a name are kept
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser, browser.get(door) as page:
            assert (page.status, str(page.url.origin())) == (200, operator)
            assert "Sign out" in await page.text()
            [cookie] = [cookie for cookie in jar if cookie.key.startswith("rtobserver_")]
            assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
            async with browser.get(f"{operator}/system") as page:
                assert page.status == 200
        async with aiohttp.ClientSession() as other, other.get(door) as refusal:
            assert refusal.status == 410
            assert "Set-Cookie" not in refusal.headers
        assert await demo.stopped() < 2


async def test_the_printed_commands_read_the_call_until_it_is_ended(tmp_path: Path) -> None:
    async with command(*WORDS, folder=tmp_path, TMPDIR=str(tmp_path)) as demo:
        assert (await demo.printed("public=")).startswith("http://127.0.0.1:")
        operator, key = await demo.printed("operator="), await demo.printed("key=")
        assert key.startswith("rto_")
        await demo.printed("read it with:")
        call = await read(await demo.printed("  curl"))
        entries = await read(await demo.printed("  curl"))
        await demo.printed("Ctrl-C ends it")
        await has_three_examples(operator, key)
        assert await demo.stopped() < 2
    assert (call["status"], call["completeness"], call["turn_count"]) == ("ended", "complete", 2)
    assert len(entries["data"]) == min(call["entry_count"], 100) > 40
    assert call["interruption_count"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_in_the_middle_of_the_call_ends_it_well(tmp_path: Path, number: signal.Signals) -> None:
    async with command(*WORDS, folder=tmp_path, TMPDIR=str(tmp_path)) as demo:
        await demo.printed("key=")
        demo.process.send_signal(number)
        code, _, log = await demo.ended()
    assert code == 0, log
    assert "Traceback" not in log


async def test_a_simulator_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    words = ("simulate", "--no-media", "--port", "0", "--ledger", tmp_path / "ledger")
    async with command(*words, folder=tmp_path) as simulator:
        said = await simulator.logged("listening")
        assert said["base_url"].endswith("/openai/v1")
        assert await simulator.stopped() < 2


async def has_three_examples(operator: str, key: str) -> None:
    """Find an interruption, decisions that acted, a tool's answer and a gap among them."""
    asked = f"curl -s -H 'Authorization: Bearer {key}' {operator}/api/v1/calls"
    calls = {call["profile"]: call for call in json.loads(await run_as_printed(asked))["data"]}
    assert {call["status"] for call in calls.values()} == {"ended"}
    assert calls["default"]["interruption_count"] == 1
    claims, order = calls["claims"], calls["orders"]
    assert (claims["outcome"], claims["tags"]) == ("policy", ["promise", "escalation"])
    decisions = json.loads(await run_as_printed(f"{asked}/{claims['call_id']}/decisions"))["data"]
    assert {each["policy"] for each in decisions if each["acted"]} == {"no-promises", "escalation", "goodbye"}
    assert (order["gap_count"], order["completeness"]) == (1, "complete_with_gaps")
    system = json.loads(await run_as_printed(asked.replace("/calls", "/system")))
    assert system["since_start"]["gaps"] == {"before_attach": 3, "reattach": 1}
    assert [gap["call_id"] for gap in system["recent_gaps"]] == [order["call_id"]]
    assert "on its way" in await run_as_printed(f"{asked}/{order['call_id']}/transcript")


def kept(folder: Path) -> Path:
    """Give the database that a demonstration left."""
    [database] = folder.glob("*/demo.db")
    return database


async def read(words: str) -> Json:
    """Run what was printed, as it stands."""
    document: Json = json.loads(await run_as_printed(f"curl {words}"))
    return document


async def run_as_printed(words: str) -> str:
    """Run a command and give what it prints."""
    process = await create_subprocess_exec(*shlex.split(words), stdout=PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()
