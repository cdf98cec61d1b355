"""What all pages have in common, as a person at a browser meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.chromium import tab
from tests.browser.dashboard import DESKTOP, PHONE, dashboard, lawful, screenshots
from tests.web.operator_stage import stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_person_signs_in_with_a_key_and_out_again(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api, tab(browser, f"{api.url}/nothing?a=1", viewport=DESKTOP) as shown:
        page = shown.page
        await screenshots(page, "nothing")
        shown.complaints.clear()  # Chromium tells of the 404
        await page.goto(f"{api.url}/")
        await expect(page).to_have_url(f"{api.url}/login?next=%2F")
        await screenshots(page, "login")
        await expect(page.get_by_label("Key")).to_be_focused()
        await page.keyboard.type("rto_wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not good")
        await screenshots(page, "login-wrong")
        shown.complaints.clear()  # and of the 401
        await page.get_by_label("Key").fill(api.key)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        assert await page.evaluate("document.cookie") == ""
        assert api.key not in page.url
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(f"{api.url}/login")
        await page.goto(f"{api.url}/")
        await expect(page).to_have_url(f"{api.url}/login?next=%2F")
        assert shown.complaints == []


async def test_the_frame_is_for_everybody(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api, dashboard(browser, api.url, api.key) as shown:
        page = shown.page
        await lawful(page)
        await screenshots(page, "start")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        for link in await page.get_by_role("navigation", name="Pages").get_by_role("link").all():
            box = await link.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"]
            assert box["height"] >= 24
