"""However a browser leaves, its call ends in the record."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from rtobserver.config.sections import FilePath, Public
from rtobserver.demo import PAGE
from tests.browser.chromium import Tab, browsing, kill_tabs, tab
from tests.support.stage import Setting, Stage, staged
from tests.support.watch import Watch

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVED = Setting(public=Public(static_dir=FilePath(str(PAGE))))
WITH_MEDIA: dict[str, Any] = {"media": True, "pace": 1.0, "begin": "answered"}


async def place(shown: Tab, stage: Stage) -> str:
    """Place a call from the demo page and wait until it is observed."""
    await shown.page.get_by_role("button", name="Start a call").click()
    await expect(shown.page.get_by_role("status")).to_have_text("Connected")
    [call_id] = stage.simulator.calls
    await stage.until(call_id, status="live")
    return call_id


async def test_a_call_whose_peer_connection_is_closed_ends_within_two_seconds(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SERVED, **WITH_MEDIA) as stage, tab(browser, stage.daemon.public_url) as shown:
        call_id = await place(shown, stage)
        watch = Watch()
        await shown.page.evaluate("connections.forEach((connection) => connection.close())")
        row = await stage.ended(call_id, "browser_left")
        assert watch.seconds() < 2
        assert row["gap_count"] == 0


async def test_a_call_whose_tab_is_closed_ends_within_two_seconds(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SERVED, **WITH_MEDIA) as stage, tab(browser, stage.daemon.public_url) as shown:
        call_id = await place(shown, stage)
        watch = Watch()
        await shown.page.close(run_before_unload=False)
        await stage.ended(call_id, "browser_left")
        assert watch.seconds() < 2


@pytest.mark.timeout(150)
async def test_a_call_whose_tab_is_killed_without_a_goodbye_ends_within_75_seconds(tmp_path: Path) -> None:
    async with (
        staged(tmp_path, SERVED, **WITH_MEDIA) as stage,
        browsing() as own,
        tab(own, stage.daemon.public_url) as shown,
    ):
        call_id = await place(shown, stage)
        crashed = asyncio.Event()
        shown.page.on("crash", lambda _: crashed.set())
        await kill_tabs(own)
        async with asyncio.timeout(10):
            await crashed.wait()
        watch = Watch()
        began = time.monotonic()
        row = await stage.ended(call_id, "browser_left", patience=100.0)
        # sooner would mean that somebody did say goodbye
        assert time.monotonic() - began > 5
        assert watch.seconds() < 75
        assert (row["gap_count"], row["completeness"]) == (0, "complete")
