"""The page about the daemon itself, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from rtobserver.outbound import HookState
from rtobserver.store import tables
from tests.browser.dashboard import dashboard, screenshots
from tests.store.stored import call, ref
from tests.support.stage import Setting, staged
from tests.web.operator_stage import stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_it_reloads_itself_and_leaves_the_reader_where_he_is(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        now = api.clock.now_us()
        api.insert(tables.call, call("rtc_1", started_at=now, status="live"))
        gap = {
            "call_key": ref("rtc_1").key,
            "day": ref("rtc_1", now).day,
            "epoch": 1,
            "seq": 9,
            "from_at": now,
            "to_at": None,
            "reason": "reattach",
            "state": "open",
            "after": "1:8",
            "lost": None,
            "lost_by_type": "{}",
            "counted": True,
        }
        api.insert(tables.gap, gap)
        api.metrics.upstream_requests.labels("calls", "429").inc(3)
        api.facts.webhooks = [HookState("alerts", 4, now, False)]
        async with dashboard(browser, api.url, api.make_key("admin"), "/system") as shown:
            page = shown.page
            verdict = page.get_by_role("region", name="Verdict")
            await expect(verdict).to_have_text("Recording works. No offer came yet.")
            await screenshots(page, "system")
            config = page.get_by_role("group").filter(has_text="public")
            await config.locator("summary").click()
            link = page.get_by_role("link", name="rtc_1")
            await link.focus()
            began = page.get_by_role("row").filter(has=link).locator("time")
            # in the viewer's zone, and it stays so when the server's words come again
            in_zone = await began.text_content()
            assert "UTC" not in (in_zone or "UTC")

            api.facts.degraded = ["the disk is full"]
            api.metrics.upstream_requests.labels("calls", "429").inc(4)
            await expect(verdict).to_contain_text("the disk is full", timeout=15_000)
            await expect(page.get_by_role("row", name="open a call 429 7")).to_be_visible()
            await expect(link).to_be_focused()
            await expect(began).to_have_text(in_zone or "")
            await expect(config.locator("table")).to_be_visible()
            await screenshots(page, "system-degraded")


@pytest.mark.parametrize("width", [390, 320])
async def test_with_all_of_the_configuration_open_it_is_no_wider_than_a_phone(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    size = {"width": width, "height": 844}
    async with (
        staged(tmp_path, Setting()) as running,
        dashboard(browser, running.daemon.operator_url, running.key, "/system", viewport=size) as shown,
    ):
        sections = shown.page.locator("details.config")
        assert await sections.count() > 3
        for section in await sections.all():
            await section.locator("summary").click()
            await expect(section.locator("table")).to_be_visible()
        assert await shown.page.evaluate("() => document.documentElement.scrollWidth") <= width


async def test_a_daemon_that_does_not_answer_is_told_and_its_return_too(browser: Browser, tmp_path: Path) -> None:
    async with (
        stage(tmp_path) as api,
        dashboard(browser, api.url, api.key, "/system", reduced_motion="reduce") as shown,
    ):
        page = shown.page
        stale = page.get_by_role("alert").filter(has_text="The daemon does not answer.")
        await expect(page.get_by_role("region", name="Verdict")).to_be_visible()
        await page.context.set_offline(True)
        await expect(stale).to_be_visible(timeout=30_000)
        assert "T" not in (await stale.locator("time").text_content() or "T")
        await page.context.set_offline(False)
        await expect(stale).to_be_hidden(timeout=15_000)
        # what Chromium and htmx say of requests that reach nobody
        said = ("net::ERR_", "Failed to fetch")
        shown.complaints[:] = [each for each in shown.complaints if not any(words in each for words in said)]
