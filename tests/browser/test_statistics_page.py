"""The page of sums in a browser: its charts show what its table and the API say."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from rtobserver.realtime.rows import ResponseRow
from rtobserver.store import folds, tables
from rtobserver.store.identity import day_of
from tests.browser.chromium import Tab, until
from tests.browser.dashboard import PHONE, dashboard, screenshots
from tests.store import stored
from tests.web.operator_stage import Stage, stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY = 86_400_000_000
HOSTILE = '<img src=x onerror="document.title=1">\u202eABC' + "w" * 300
CHARTS = """async () => {
    const {chartOf} = await import(document.querySelector('script[src$="figures.js"]')
        .src.replace("figures.js", "charts.js"));
    return [...document.querySelectorAll("figure[data-chart]")].map((figure) => {
        const {x, series} = chartOf(figure).values();
        const canvas = figure.querySelector("canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const inks = new Set();
        for (let at = 0; at < pixels.length; at += 4) {
            if (pixels[at + 3] === 255) inks.add(`${pixels[at]},${pixels[at + 1]},${pixels[at + 2]}`);
        }
        const colours = [...figure.querySelectorAll(".legend i")].map((swatch) => {
            const [red, green, blue] = getComputedStyle(swatch).backgroundColor.match(/\\d+/gu);
            return `${red},${green},${blue}`;
        });
        return {
            name: figure.querySelector("figcaption").textContent,
            x, series, width: canvas.clientWidth, drawn: colours.map((colour) => inks.has(colour)), colours,
        };
    });
}"""


def fill(api: Stage) -> None:
    calls, responses = [], []
    for number in range(120):
        began = api.clock.now_us() - number % 9 * DAY - number * 1_000_000
        call_id = f"rtc_{number}"
        profile = ("default", "support", HOSTILE)[number % 3]
        row = stored.call(
            call_id,
            started_at=began,
            ended_at=began + (60 + number) * 1_000_000,
            profile=profile,
            model=("gpt-realtime", "gpt-realtime-mini")[number % 2],
            cost_usd=f"0.{number:03}",
            turn_count=2,
            interruption_count=number % 4,
            error_count=number % 50 == 0,
        )
        calls.append(row | {"day": day_of(began)})
        ref = stored.ref(call_id, began)
        answer = ResponseRow(
            response_id="r",
            epoch=1,
            seq=1,
            heard_latency_ms=500 + number * 10,
            generation_latency_ms=200 + number * 5,
        )
        responses.append({"call_key": ref.key, "day": ref.day, **folds.response_values(answer)})
    api.insert(tables.call, *calls)
    api.insert(tables.response, *responses)


async def charts(shown: Tab) -> dict[str, Any]:
    """Give the charts once all their series are to be seen in the legend's colours."""

    async def look() -> list[dict[str, Any]] | None:
        if not await shown.page.evaluate("() => Boolean(document.querySelector('figure canvas'))"):
            return None
        found: list[dict[str, Any]] = await shown.page.evaluate(CHARTS)
        return found if all(all(each["drawn"]) for each in found) else None

    return {each["name"].split(":")[0]: each for each in await until(look)}


async def test_the_charts_show_what_the_api_sums_up_in_both_themes_and_at_any_width(
    browser: Browser, tmp_path: Path
) -> None:
    async with stage(tmp_path) as api:
        fill(api)
        sums = {each["group"]: each for each in (await api.get("/api/v1/stats?since=9d")).json["data"]}
        async with dashboard(browser, api.url, api.key, "/stats") as shown:
            found = await charts(shown)
            assert list(found) == ["Calls", "Minutes", "Cost", "First audio", "Generation", "Interruptions and errors"]
            [names, *_] = await shown.page.evaluate(
                "() => [[...document.querySelectorAll('#by-time tbody th')].map((cell) => cell.textContent)]"
            )
            assert len(names) == 7
            assert found["Calls"]["series"] == [
                {"label": "Calls", "values": [sums[name]["call_count"] for name in names]}
            ]
            assert found["First audio"]["series"] == [
                {"label": label, "values": [sums[name]["latency"]["first_audio_ms"][label] for name in names]}
                for label in ("p50", "p95")
            ]
            assert found["Cost"]["series"][0]["values"] == [float(sums[name]["cost_usd"]) for name in names]

            figure = shown.page.locator("figure", has_text="First audio")
            await figure.locator(".u-over").hover()
            middle = sums[names[3]]["latency"]["first_audio_ms"]
            day = datetime.date.fromisoformat(names[3])
            await expect(figure.locator(".legend li")).to_have_text(
                [f"p50 {middle['p50']:,} ms", f"p95 {middle['p95']:,} ms", f"{day:%b} {day.day}, {day.year} UTC"]
            )

            await shown.page.emulate_media(color_scheme="dark")
            assert (await charts(shown))["Calls"]["colours"] != found["Calls"]["colours"]

            await shown.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            await shown.until("document.querySelector('figure canvas').clientWidth < 360")
            await shown.page.locator("summary").click()
            await screenshots(shown.page, "stats")


async def test_the_time_is_chosen_by_links_and_fields_and_kept_in_the_address(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        fill(api)
        async with dashboard(browser, api.url, api.key, "/stats?profile=support") as shown:
            page = shown.page
            await page.get_by_role("link", name="30 days").click()
            await page.wait_for_url("**/stats?profile=support&range=30d")
            assert len((await charts(shown))["Calls"]["x"]) == 30
            await page.get_by_label("From (UTC)").fill("2026-01-02")
            await page.get_by_label("Before (UTC)").fill("2026-01-01")
            shown.complaints.clear()
            await page.get_by_role("button", name="Show").click()
            await page.get_by_role("alert").get_by_text("The time ends before it begins.").wait_for()
            assert page.url.endswith("/stats?since=2026-01-02&until=2026-01-01&profile=support")
            # the page that says so is a refusal by its status, which Chromium notes on its console
            assert all("400" in each for each in shown.complaints)
            shown.complaints.clear()


async def test_a_table_is_copied_as_lines_of_cells(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        fill(api)
        granted = ["clipboard-read", "clipboard-write"]
        async with dashboard(browser, api.url, api.key, "/stats", permissions=granted) as shown:
            await shown.page.get_by_role("button", name="Copy the table by model").click()
            await shown.page.get_by_role("status").get_by_text("Copied.").wait_for()
            text = await shown.page.evaluate("() => navigator.clipboard.readText()")
            head, *rows = [line.split("\t") for line in text.splitlines()]
            assert head[:4] == ["Model", "Calls", "Minutes", "Cost"]
            groups = (await api.get("/api/v1/stats?group_by=model&since=7d")).json["data"]
            assert [row[0] for row in rows] == [each["group"] for each in groups]
