"""Somebody looks for what was said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.dashboard import dashboard, screenshots
from tests.browser.test_calls_page import fill
from tests.web.operator_stage import stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_words_are_found_and_lead_to_their_place_in_the_call(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        fill(api)
        async with dashboard(browser, api.url, api.key, "/search") as shown:
            page = shown.page
            await expect(page.get_by_label("Words to find")).to_be_focused()
            await screenshots(page, "search-before")
            await page.get_by_label("Words to find").fill("parc*")
            await page.keyboard.press("Enter")
            await expect(page).to_have_url(re.compile(r"/search\?q=parc(\*|%2A)$"))
            await expect(page.locator("mark")).to_have_text(["parcel", "parcel"])
            assert await page.locator("main img").count() == 0
            assert await page.title() == "Search · rtobserver"
            await screenshots(page, "search")
            link = page.get_by_role("link", name="Where is my parcel, please?")
            assert (await link.get_attribute("href")) == "/calls/rtc_003?item=item_1#line"
            await page.get_by_label("Words to find").fill("elephant")
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("Nothing was found.")).to_be_visible()
            await screenshots(page, "search-nothing")
