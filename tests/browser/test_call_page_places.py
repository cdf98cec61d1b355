"""Somebody goes to a place in a call, however long: by keys, from a search, from one part of its page to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, Page, expect

from rtobserver.store import tables
from tests.browser.dashboard import DESKTOP, dashboard
from tests.store.stored import START, call, entry
from tests.web.operator_stage import Stage
from tests.web.operator_stage import stage as operator
from tests.web.pages.test_call import SECOND, item

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMELINE = "document.querySelector('rto-timeline')"
SPEECHES = 1_200
CHOSEN = '.line[aria-current="true"]'
SELECTED = '.en-row[aria-selected="true"]'


def fill(api: Stage, *seqs: int, last_epoch: int = 0, **values: Any) -> None:
    """Insert a call with entries of the first epoch, and so many of the second."""
    ended: dict[str, Any] = {
        "status": "ended",
        "outcome": "browser_left",
        "ended_at": START + 100 * SECOND,
        "entry_count": 1,
    }
    api.insert(tables.call, call("rtc_1", **(ended | values)))
    payload = b'{"type":"response.done"}'
    positions = [(1, seq) for seq in seqs] + [(2, seq) for seq in range(1, last_epoch + 1)]
    api.insert(
        tables.entry,
        *(
            entry("rtc_1", seq, payload, epoch=epoch, type="response.done" if seq % 10 else "error")
            for epoch, seq in positions
        ),
    )


def fill_with_speech(api: Stage) -> None:
    """Insert a call of which so many speeches are known, one a second."""
    ended_at = START + 2 * SPEECHES * SECOND
    api.insert(
        tables.call, call("rtc_1", status="ended", outcome="browser_left", ended_at=ended_at, entry_count=2 * SPEECHES)
    )
    entries = []
    for number in range(1, SPEECHES + 1):
        for kind, offset in (("started", 0), ("stopped", 600_000)):
            at = number * SECOND + offset
            name = f"input_audio_buffer.speech_{kind}"
            told = {"type": name, "item_id": f"item_{number}", "audio_start_ms": at // 1000, "audio_end_ms": at // 1000}
            seq = 2 * number - (kind == "started")
            entries.append(entry("rtc_1", seq, json.dumps(told).encode(), type=name, at=START + at, offset_us=at))
    api.insert(tables.entry, *entries)
    api.insert(
        tables.item,
        *(
            item(
                number, seq=2 * number - 1, text=f"remark number{number}", ended_at=START + (number * 10 + 6) * 100_000
            )
            for number in range(1, SPEECHES + 1)
        ),
    )


async def chosen(page: Page, position: str) -> None:
    await expect(page.locator(SELECTED)).to_have_attribute("data-position", position)
    await expect(page.locator(SELECTED)).to_be_in_viewport()


async def rows_in_view(page: Page) -> int:
    """Count the rows of the list that are seen whole; a turned page moves by one less."""
    return int(await page.locator(".en-list").evaluate("(list) => Math.floor(list.clientHeight / 28)"))


async def test_the_last_of_many_entries_is_one_key_away(browser: Browser, tmp_path: Path) -> None:
    # some positions are nobody's
    seqs = [seq for seq in range(1, 10_001) if seq % 7]
    async with operator(tmp_path) as api:
        fill(api, *seqs)
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1", viewport=DESKTOP) as shown:
            page = shown.page
            await expect(page.locator(".en-row").first).to_have_attribute("data-position", "1:1")
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url) if "/entries?" in request.url else None)
            await page.get_by_role("listbox").focus()
            await page.keyboard.press("End")
            await chosen(page, "1:10000")
            await expect(page.locator(".en-detail")).to_contain_text("1:10000")
            await expect(page.locator(".en-count")).to_have_text(f"{len(seqs):,} entries")
            await expect(page.locator(SELECTED)).to_have_attribute("aria-posinset", str(len(seqs)))
            # one for the end, one for what stands before it, one for the entry itself
            assert len(asked) <= 4, asked
            await page.keyboard.press("ArrowUp")
            await chosen(page, "1:9999")
            # the page draws what keys did when it can: where they lead is reckoned, not looked for
            index = seqs.index(9999) - 100 * (await rows_in_view(page) - 1)
            assert index < len(seqs) - 1000
            for _ in range(100):
                await page.keyboard.press("PageUp")
            await chosen(page, f"1:{seqs[index]}")
            await expect(page.locator(SELECTED)).to_have_attribute("data-index", str(index))
            await page.keyboard.press("Home")
            await chosen(page, "1:1")
            # both ends meet, and nothing is there twice
            await page.locator(".en-list").evaluate("(list) => list.scrollTo(0, list.scrollHeight / 2)")
            middle = page.locator(f'.en-row[data-index="{len(seqs) // 2}"]')
            await expect(middle).to_have_attribute("data-position", f"1:{seqs[len(seqs) // 2]}")
            await expect(page.locator(".en-count")).to_have_text(f"{len(seqs):,} entries")


async def test_the_last_entry_is_found_whichever_epoch_it_is_of_and_behind_whatever_filter(
    browser: Browser, tmp_path: Path
) -> None:
    async with operator(tmp_path) as api:
        fill(api, *range(1, 3_001), last_epoch=30)
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1") as shown:
            page = shown.page
            await expect(page.locator(".en-row").first).to_have_attribute("data-position", "1:1")
            await page.get_by_role("listbox").focus()
            await page.keyboard.press("End")
            await chosen(page, "2:30")
            for _ in range(40):
                await page.keyboard.press("ArrowUp")
            await chosen(page, "1:2990")
            await expect(page.locator(".en-count")).to_have_text("3,030 entries")
            await page.get_by_label("Type").fill("response.*")
            await expect(page.locator(".en-count")).not_to_have_text("3,030 entries")
            await page.get_by_role("listbox").focus()
            await page.keyboard.press("End")
            await chosen(page, "2:29")
            await expect(page.locator(".en-count")).to_have_text("2,727 entries")
            await page.keyboard.press("Home")
            await chosen(page, "1:1")


async def test_pages_of_entries_are_turned_from_where_one_looks(browser: Browser, tmp_path: Path) -> None:
    async with operator(tmp_path) as api:
        fill(api, *range(1, 1_001))
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1") as shown:
            page = shown.page
            entries = page.locator(".en-list")
            await expect(page.locator(".en-row").first).to_have_attribute("data-position", "1:1")
            await entries.focus()
            inside = await rows_in_view(page)
            await page.keyboard.press("PageDown")
            await chosen(page, f"1:{inside}")
            await entries.evaluate("(list) => list.scrollTo(0, 28 * 500)")
            await expect(page.locator('.en-row[data-index="500"]')).to_have_attribute("data-position", "1:501")
            await page.keyboard.press("PageDown")
            await chosen(page, f"1:{500 + inside}")


async def test_what_was_found_is_shown_where_it_was_said(browser: Browser, tmp_path: Path) -> None:
    async with operator(tmp_path) as api:
        fill_with_speech(api)
        for start in ("/search?q=number345", "/calls?q=number345"):
            async with dashboard(browser, api.url, api.key, start, viewport=DESKTOP) as shown:
                page = shown.page
                await page.locator(".place").click()
                line = page.locator(".line", has_text="remark number345")
                await expect(line).to_be_in_viewport()
                await expect(line).to_have_attribute("aria-current", "true")
                await expect(line.get_by_role("button")).to_be_focused()
                await shown.until(f"{TIMELINE}.current?.itemId === 'item_345'")
                await shown.until(f"{TIMELINE}.cursor === 345000")
                await expect(page.locator(SELECTED)).to_have_attribute("data-position", "1:689")
                await expect(page.locator(".en-detail pre")).to_contain_text("item_345")
                # the address leads there again
                assert page.url.endswith("/calls/rtc_1?item=item_345#line")
                await page.reload()
                await expect(line.get_by_role("button")).to_be_focused()
                await expect(line).to_be_in_viewport()


async def test_a_line_that_is_not_on_the_page_yet_is_fetched_when_its_speech_or_entry_is_chosen(
    browser: Browser, tmp_path: Path
) -> None:
    async with operator(tmp_path) as api:
        fill_with_speech(api)
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1", viewport=DESKTOP) as shown:
            page = shown.page
            await shown.until(f"{TIMELINE}.boxes?.().length > 0")
            await expect(page.locator(".line").first).to_contain_text("number701")
            await page.locator(".tl-plot").focus()
            for key in ("ArrowDown", "Home"):
                await page.keyboard.press(key)
            await expect(page.locator(CHOSEN)).to_contain_text("remark number1")
            await expect(page.locator(".line")).to_have_count(500)
            await expect(page.locator(".tl-plot")).to_be_focused()

            entries = page.get_by_role("listbox")
            await entries.focus()
            await page.keyboard.press("End")
            await expect(page.locator(CHOSEN)).to_contain_text("remark number1200")
            # the moment of the entry itself, not that at which its line begins
            await shown.until(f"{TIMELINE}.cursor === 1200600")
            await expect(entries).to_be_focused()
            assert await page.evaluate(f"{TIMELINE}.view.to_ms") >= 1_200_600


async def test_an_entry_that_a_link_names_is_in_sight(browser: Browser, tmp_path: Path) -> None:
    async with operator(tmp_path) as api:
        fill(api, *range(1, 3_001))
        where: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1#1:2997", **where) as shown:
            detail = shown.page.locator(".en-detail")
            await expect(detail).to_contain_text("1:2997")
            await expect(detail.locator("pre")).to_be_in_viewport(ratio=1)
            await chosen(shown.page, "1:2997")


async def test_entries_are_counted_as_the_api_counts_them_whatever_was_filtered(
    browser: Browser, tmp_path: Path
) -> None:
    async with operator(tmp_path) as api:
        # a live call's row counts later than entries come
        fill(api, *range(1, 402), status="live", outcome=None, ended_at=None, entry_count=0)
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1") as shown:
            count, type_ = shown.page.locator(".en-count"), shown.page.get_by_label("Type")
            await expect(count).to_have_text("401 entries")
            await type_.fill("error")
            await expect(count).to_have_text("40 entries")
            await type_.fill("")
            await expect(count).to_have_text("401 entries")
            api.insert(tables.entry, entry("rtc_1", 402, b"{}"), entry("rtc_1", 404, b"{}"))
            await expect(count).to_have_text("403 entries")
