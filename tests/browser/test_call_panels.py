"""What stands beside the timeline on a call's page: it grows with the call, and is left as its reader arranged it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.simulator.scenario import Hold, Scenario, Spoken
from rtobserver.store import folds, tables
from tests.browser.dashboard import PHONE, dashboard, lawful
from tests.store import stored
from tests.support.stage import SESSION, Setting, staged
from tests.web.operator_stage import stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASKED, ANSWERED = "What is the weather like?", "It is sunny in Bern today."
SCENARIO = Scenario(
    name="weather",
    ending="stay",
    steps=(
        Hold(),
        Spoken(user=ASKED, assistant=ANSWERED),
        Hold(name="more"),
        Spoken(user="And tomorrow?", assistant="Rain, I am afraid."),
        Hold(name="silence"),
    ),
)
SETTING = Setting(
    profile={"session": SESSION | {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}},
)
CHART = """async () => {
    const {chartOf} = await import(document.querySelector('script[src$="call-panels.js"]')
        .src.replace(/[^/]+$/, "charts.js"));
    const made = chartOf(document.querySelector("figure[data-chart]"));
    return made ? made.values() : null;
}"""


@pytest.mark.timeout(120)
async def test_a_call_is_followed_and_ended_on_its_page(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SETTING, pace=1.0, begin="attached", scenario=SCENARIO) as running:
        call_id = await running.call()
        await running.until(call_id, status="live")
        async with dashboard(browser, running.daemon.operator_url, running.key, f"/calls/{call_id}") as shown:
            page = shown.page
            await expect(page.locator(".tl-state")).to_have_text("Live")
            await expect(page.locator(".states")).to_contain_text("live")
            assert await page.evaluate(CHART) is None
            running.simulator.release(call_id)
            await expect(page.locator('.line[data-role="assistant"] .words').first).to_have_text(ANSWERED)
            responses = page.locator("details.responses")
            await responses.locator("summary").click()
            await expect(responses.locator("tbody tr")).to_have_count(1)
            line = await page.locator(".line").first.element_handle()

            running.simulator.release(call_id, "more")
            await expect(page.locator("#transcript")).to_contain_text("Rain, I am afraid.")
            await expect(responses.locator("tbody tr")).to_have_count(2)
            await expect(responses).to_have_attribute("open", "")
            assert line is not None
            assert await line.evaluate("line => line.isConnected && line === document.querySelector('.line')")
            await expect(page.locator("#latencies tbody tr")).to_have_count(2)
            await shown.until(f"({CHART})().then((drawn) => drawn?.x.length === 2)")

            controls = page.locator("[data-controls]")
            await controls.get_by_label("Tag").fill("weather <b>")
            await controls.get_by_role("button", name="Add tag", exact=True).click()
            await expect(page.locator(".states .tag")).to_have_text("weather <b>")
            await controls.get_by_role("button", name="End call…", exact=True).click()
            await page.locator("dialog.ask[open]").get_by_role("button", name="End call", exact=True).click()
            await expect(page.locator(".states")).to_contain_text("ended hung up")
            await expect(controls.get_by_role("button", name="Say", exact=True)).to_be_disabled()
            told = await running.row(call_id)
            assert told["outcome"] == "hung_up"
            read_out = await running.document(f"/api/v1/calls/{call_id}/verdict")
            await expect(page.locator(".verdict li")).to_have_text(read_out["verdict"])
            await lawful(page)


async def test_the_chart_shows_what_the_table_of_latencies_says(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        ref = stored.ref("rtc_1")
        own = {"call_key": ref.key, "day": ref.day}
        values: dict[str, Any] = {"status": "ended", "ended_at": stored.START + 60_000_000, "entry_count": 1}
        api.insert(tables.call, stored.call("rtc_1", **values))
        api.insert(tables.entry, stored.entry("rtc_1", 1))
        for number, heard in enumerate((900, None, 1250), start=1):
            user = ItemRow(
                item_id=f"item_{number}",
                epoch=1,
                seq=number,
                role="user",
                kind="speech",
                text="words",
                started_at=stored.START + number * 1_000_000,
            )
            answer = ResponseRow(
                response_id=f"resp_{number}",
                epoch=1,
                seq=number,
                user_item_id=user.item_id,
                heard_latency_ms=heard,
                generation_latency_ms=100 * number,
            )
            api.insert(tables.item, own | folds.item_values(user))
            api.insert(tables.response, own | folds.response_values(answer))
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1") as shown:
            await shown.until(f"({CHART})().then(Boolean)")
            drawn = await shown.page.evaluate(CHART)
            assert drawn["x"] == [1, 2, 3]
            assert {each["label"]: each["values"] for each in drawn["series"]} == {
                "Heard": [900, None, 1250],
                "Generated": [100, 200, 300],
                "Tools": [None, None, None],
            }
            assert await shown.page.locator("[data-controls]").count() == 0
            await shown.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            # charts and timeline follow their room when the browser tells of it
            await shown.until(f"document.documentElement.scrollWidth <= {PHONE['width']}")


async def test_a_call_that_was_erased_or_never_was_is_told_of_in_words(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        api.insert(tables.call, stored.call("rtc_1", status="ended", ended_at=stored.START))
        api.insert(tables.call, stored.call("rtc_2", status="failed", outcome="refused", ended_at=stored.START))
        assert (await api.delete("/api/v1/calls/rtc_1", key=api.make_key("admin"))).status == 204
        async with dashboard(browser, api.url, api.key, "/calls/rtc_2") as shown:
            page = shown.page
            await expect(page.locator(".verdict")).to_have_text(
                "The call never began, so that there is nothing to record."
            )
            await expect(page.locator(".states")).to_have_text("failed refused by upstream", use_inner_text=True)
            await lawful(page)
            for call_id, title in (("rtc_1", "This recording was erased"), ("rtc_3", "There is nothing here")):
                await page.goto(f"{api.url}/calls/{call_id}")
                await expect(page.get_by_role("heading", level=1)).to_have_text(title)
                await lawful(page)
            # Chromium tells of each refusal
            assert len(shown.complaints) == 2
            shown.complaints.clear()


@pytest.mark.parametrize("width", [390, 320])
async def test_a_label_with_a_name_as_long_as_can_be_makes_the_page_no_wider_than_a_phone(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    labels = {"k" * 64: "v" * 200, "team": "north"}
    async with stage(tmp_path) as api:
        api.insert(tables.call, stored.call("rtc_1", status="ended", labels=labels))
        size = {"width": width, "height": 844}
        async with dashboard(browser, api.url, api.key, "/calls/rtc_1", viewport=size) as shown:
            page = shown.page
            value = page.locator("dl.facts dd", has_text="vvvv")
            await expect(value).to_be_visible()
            assert await page.evaluate("() => document.documentElement.scrollWidth") <= width
            # and leaves room for the value
            assert await value.evaluate("value => value.clientWidth") > width / 4
