"""The demo page says in plain words what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from rtobserver.config.sections import FilePath, Public
from rtobserver.demo import PAGE
from rtobserver.simulator.faults import parse_faults
from tests.browser.chromium import Tab, browsing, tab
from tests.support.stage import Setting, Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVED = Setting(public=Public(static_dir=FilePath(str(PAGE))))


@asynccontextmanager
async def opened(browser: Browser, folder: Path, *faults: str) -> AsyncIterator[tuple[Tab, Stage]]:
    """Open the page before an upstream without media and with these faults."""
    async with (
        staged(folder, SERVED, faults=parse_faults(faults)) as stage,
        tab(browser, stage.daemon.public_url) as shown,
    ):
        yield shown, stage


async def test_it_says_that_there_is_no_microphone_and_offers_a_call_without(tmp_path: Path) -> None:
    async with browsing(microphone="none") as browser, opened(browser, tmp_path) as (shown, stage):
        page = shown.page
        await page.get_by_role("button", name="Start a call").click()
        await expect(page.get_by_role("alert")).to_contain_text("No microphone was found.")
        await expect(page.get_by_role("status")).to_have_text("Call failed")
        assert stage.simulator.calls == {}
        await expect(page.get_by_role("button", name="Go on without a microphone")).to_be_visible()
        assert shown.complaints == []


async def test_it_says_that_permission_was_refused_and_how_to_give_it(tmp_path: Path) -> None:
    async with browsing(microphone="refused") as browser, opened(browser, tmp_path) as (shown, stage):
        await shown.page.get_by_role("button", name="Start a call").click()
        alert = shown.page.get_by_role("alert")
        await expect(alert).to_contain_text("This page may not use the microphone.")
        await expect(alert).to_contain_text("Allow it in the browser")
        await expect(shown.page.get_by_role("button", name="Start a call")).to_be_enabled()
        assert stage.simulator.calls == {}
        assert shown.complaints == []


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (("calls.status=429", "calls.retry_after=7"), 429, "Simulated fault."),
        (("calls.status=401",), 502, "did not accept the server's credential"),
        (("calls.status=503",), 503, "cannot be reached or failed"),
    ],
    ids=["429", "401", "503"],
)
async def test_it_says_why_the_negotiation_was_refused(
    fault: tuple[str, ...], status: int, words: str, browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path, *fault) as (shown, _):
        await shown.page.get_by_role("button", name="Start a call").click()
        alert = shown.page.get_by_role("alert")
        await expect(alert).to_contain_text(f"The call was refused ({status}).")
        await expect(alert).to_contain_text(words)
        # Chromium itself writes a line for every refused request
        assert [line for line in shown.complaints if "Failed to load resource" not in line] == []


async def test_it_says_that_rtobserver_cannot_be_reached(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (shown, _):
        await shown.page.context.set_offline(True)
        await shown.page.get_by_role("button", name="Start a call").click()
        await expect(shown.page.get_by_role("alert")).to_contain_text("rtobserver could not be reached.")


async def test_it_says_that_no_path_for_the_media_was_found(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (shown, _):
        page = shown.page
        await page.clock.install()
        await page.get_by_role("button", name="Start a call").click()
        await expect(page.get_by_role("status")).to_have_text("Connecting")
        await page.clock.fast_forward(25_000)
        await expect(page.get_by_role("alert")).to_contain_text("ICE failed")
        await expect(page.get_by_role("status")).to_have_text("Call failed")
        assert shown.complaints == []


async def test_it_says_that_a_call_has_no_id(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path, "location=missing") as (shown, _):
        await shown.page.get_by_role("button", name="Start a call").click()
        await expect(shown.page.get_by_role("alert")).to_contain_text("no id")
        await expect(shown.page.locator("#record")).to_be_hidden()


async def test_a_call_can_be_given_up_while_it_connects(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (shown, _):
        page = shown.page
        await page.get_by_role("button", name="Start a call").click()
        await expect(page.get_by_role("status")).to_have_text("Connecting")
        await page.get_by_role("button", name="End the call").click()
        await expect(page.get_by_role("status")).to_have_text("Call ended")
        await expect(page.get_by_role("alert")).to_be_empty()
        assert await page.evaluate("connections.every(({ connectionState }) => connectionState === 'closed')")
