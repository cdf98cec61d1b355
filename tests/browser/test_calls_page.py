"""Somebody looks for calls: narrows the list, keeps the address, turns pages, with scripts and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from rtobserver.store import tables
from tests.browser.dashboard import dashboard, lawful, screenshots
from tests.store.stored import call
from tests.web.operator_stage import Stage, stage
from tests.web.test_api_search import item

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = 3_600_000_000
HOSTILE = '<img src=x onerror="document.title=1">\u202egnorw\u202c ' + "x" * 180 + " 👩‍👩‍👧‍👦"


def fill(api: Stage, count: int = 60) -> None:
    now = api.clock.now_us()
    outcomes = ("browser_left", "hung_up", "policy", "max_duration")
    api.insert(
        tables.call,
        *[
            call(
                f"rtc_{number:03}",
                started_at=(at := now - number * number * HOUR // 4),
                status="live" if number == 0 else "lost" if number == 5 else "ended",
                outcome=None if number == 0 else "lost" if number == 5 else outcomes[number % 4],
                ended_at=None if number == 0 else at + (30 + number * 7) * 1_000_000,
                user=HOSTILE if number == 2 else f"caller {number % 7}",
                profile="sales" if number % 3 else "support",
                tags=["vip", HOSTILE[:60]] if number == 2 else ["refund"] if number % 11 == 3 else [],
                labels={"team": "north"} if number % 5 == 1 else {},
                turn_count=number % 9,
                interruption_count=number % 4,
                error_count=int(number == 6),
                gap_count=int(number % 13 == 4),
                completeness="incomplete" if number == 6 else "complete",
                cost_usd=None if number == 7 else f"0.0{number:02}",
            )
            for number in range(count)
        ],
    )
    for number, words in ((2, HOSTILE + " parcel"), (3, "Where is my parcel, please?")):
        api.insert(tables.item, item(f"rtc_{number:03}", 1, words, now - number * number * HOUR // 4))


async def test_calls_are_narrowed_by_filters_that_stay_in_the_address(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        fill(api)
        async with dashboard(browser, api.url, api.make_key("read", "export"), "/calls") as shown:
            page = shown.page
            rows = page.locator("table.calls tbody")
            await expect(rows).to_have_count(60)
            await expect(page.locator(".sums")).to_contain_text("calls, $")
            assert await page.locator(".spark rect").count() > 10
            await screenshots(page, "calls")
            await page.get_by_label("Profile", exact=True).fill("support")
            await page.get_by_label("Status").select_option("ended")
            await page.get_by_role("button", name="Filter").click()
            await expect(page).to_have_url(f"{api.url}/calls?status=ended&profile=support")
            await expect(rows).to_have_count(19)
            await expect(page.get_by_label("Profile", exact=True)).to_have_value("support")
            await page.get_by_text("More filters").click()
            await page.get_by_label("Name of the label").fill("team")
            await page.get_by_label("Value of the label").fill("north")
            await page.get_by_label("interruptions").check()
            await page.keyboard.press("Enter")
            await expect(page).to_have_url(
                f"{api.url}/calls?status=ended&profile=support&has=interruption&label.team=north"
            )
            await expect(rows).to_have_count(3)
            await screenshots(page, "calls-filtered")
            await page.reload()
            await expect(rows).to_have_count(3)
            await page.get_by_label("Began since").fill("yesterday")
            await page.keyboard.press("Enter")
            await expect(page.get_by_label("Began since")).to_have_attribute("aria-invalid", "true")
            await expect(page.get_by_label("team = north")).to_be_checked()
            await screenshots(page, "calls-wrong")
            shown.complaints.clear()  # Chromium tells of the 400


async def test_without_scripts_calls_are_searched_and_paged(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        fill(api)
        path = "/calls?q=parcel"
        async with dashboard(browser, api.url, api.key, path, java_script_enabled=False) as shown:
            page = shown.page
            await expect(page.locator("tr.hit mark")).to_have_text(["parcel", "parcel"])
            assert await page.locator("main img").count() == 0
            await page.goto(f"{api.url}/calls?limit=25")
            await page.get_by_role("link", name="Older calls").click()
            # a second click on the first page would lead to the second one again
            await expect(page).to_have_url(re.compile("[?&]cursor="))
            second = page.url
            await page.get_by_role("link", name="Older calls").click()
            await expect(page).not_to_have_url(second)
            await expect(page.locator("table.calls tbody")).to_have_count(10)
            await page.get_by_role("link", name="Back to the newest").click()
            await expect(page).to_have_url(f"{api.url}/calls?limit=25")
        async with dashboard(browser, api.url, api.key, path) as shown:
            await screenshots(shown.page, "calls-found")


async def test_an_empty_list_says_what_to_do_next(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api, dashboard(browser, api.url, api.key, "/calls") as shown:
        await expect(shown.page.get_by_text("No call was recorded yet.")).to_be_visible()
        await lawful(shown.page)
