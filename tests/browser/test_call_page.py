"""Somebody asks what happened in a call: by pointer, by keyboard, through thousands of entries, whatever was said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from rtobserver.simulator.scenario import BargeIn, Scenario, ToolCall
from rtobserver.store import tables
from tests.browser.chromium import Tab
from tests.browser.dashboard import PHONE, dashboard, lawful, screenshots
from tests.store.stored import START, call, entry
from tests.support.stage import SESSION, Setting, Stage, staged
from tests.web.operator_stage import stage as operator

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCENARIO = Scenario(
    name="short",
    steps=(
        BargeIn(user="Tell me about your day.", assistant="It began early, with a long queue of questions."),
        ToolCall(user="What is the weather in Oslo?", assistant="It is clear and four degrees in Oslo."),
    ),
)
SETTING = Setting(
    profile={"session": SESSION | {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}}
)
HOSTILE = (
    '<img src="x" onerror="document.title=1"><script>document.title=2</script>&amp; '
    "\u202eturned\u202c \u2066apart\u2069 " + "w" * 10_000 + " 👩‍👩‍👧‍👦 e\u0301"
)
TIMELINE = "document.querySelector('rto-timeline')"
SPAN = f"({TIMELINE}.view.to_ms - {TIMELINE}.view.from_ms)"


async def recorded(stage: Stage) -> str:
    """Record the scenario, five times as fast as people talk."""
    call_id = await stage.call()
    await stage.ended(call_id)
    return call_id


async def moved_to(shown: Tab, from_ms: float, per_pixel: float) -> None:
    """Wait until the window begins at a time, two pixels more or less."""
    await shown.until(f"Math.abs({TIMELINE}.view.from_ms - {from_ms}) <= {2 * per_pixel}")


async def open_entry(page: Page) -> str:
    found: str = await page.evaluate("document.querySelector('rto-entries').position")
    return found


async def test_by_keyboard_one_walks_through_a_call_and_opens_what_is_behind_it(
    browser: Browser, tmp_path: Path
) -> None:
    async with staged(tmp_path, SETTING, pace=0.2, scenario=SCENARIO) as stage:
        call_id = await recorded(stage)
        async with dashboard(browser, stage.daemon.operator_url, stage.key, f"/calls/{call_id}") as shown:
            page, press = shown.page, shown.page.keyboard.press
            await shown.until(f"{TIMELINE}.boxes?.().length > 0")
            plot, said = page.locator(".tl-plot"), page.locator("rto-timeline [aria-live]")
            await expect(plot).to_have_attribute("aria-label", re.compile(r"^Timeline of a call of 0:\d\d\. 3 turns\."))
            await page.get_by_role("button", name="Whole call").focus()
            await press("Tab")
            await expect(plot).to_be_focused()

            await press("ArrowDown")
            await press("Home")
            await expect(said).to_have_text(
                re.compile(r"^User speaks: Tell me about your day\.; 0:0.*; completed; entry \d+:\d+$")
            )
            await press("ArrowRight")
            await press("ArrowRight")
            await expect(said).to_contain_text("What is the weather in Oslo?")
            await press("ArrowDown")
            await expect(said).to_contain_text("Assistant generates")
            await press("End")
            await expect(said).to_contain_text("Assistant generates: It is clear and four degrees in Oslo.")
            # the transcript goes along
            await expect(page.locator('.line[aria-current="true"]')).to_contain_text("It is clear and four degrees")
            card = page.locator(".tl-card")
            await expect(card.locator("pre")).to_contain_text('"type": "response.created"')
            position = await page.evaluate(f"{TIMELINE}.current.position")

            await press("+")
            zoomed = await page.evaluate(f"{TIMELINE}.view")
            await press("Shift+ArrowLeft")
            assert (await page.evaluate(f"{TIMELINE}.view"))["to_ms"] < zoomed["to_ms"]
            await press("0")
            assert (await page.evaluate(f"{TIMELINE}.view"))["follows"] == "fit"

            await press("Enter")
            detail = page.locator(".en-detail")
            await expect(detail).to_be_focused()
            await expect(detail.locator("pre")).to_contain_text('"type": "response.created"')
            await expect(page).to_have_url(re.compile(f"#{position}$"))
            assert await open_entry(page) == position
            await press("Escape")
            await expect(page.get_by_role("listbox", name="Entries")).to_be_focused()
            await press("ArrowDown")
            await expect(detail.locator("h3")).not_to_have_text("response.created")
            assert await open_entry(page) != position

            await plot.focus()
            for _ in range(3):
                await press("Escape")
            await expect(plot).not_to_be_focused()
            await expect(card).to_be_hidden()
            await lawful(page)


async def test_transcript_and_timeline_show_each_other_what_is_chosen(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SETTING, pace=0.2, scenario=SCENARIO) as stage:
        call_id = await recorded(stage)
        async with dashboard(browser, stage.daemon.operator_url, stage.key, f"/calls/{call_id}") as shown:
            page = shown.page
            await shown.until(f"{TIMELINE}.boxes?.().length > 0")
            speech = [each for each in await page.evaluate(f"{TIMELINE}.boxes()") if each["kind"] == "speech"]
            chosen = page.locator('.line[aria-current="true"]')
            for box, words in ((speech[2], "What is the weather in Oslo?"), (speech[0], "Tell me about your day.")):
                await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
                await expect(chosen).to_have_count(1)
                await expect(chosen).to_contain_text(words)
                await expect(page.locator(".tl-card")).to_contain_text(words)

            await page.locator(".line", has_text="It is clear").get_by_role("button").click()
            await expect(chosen).to_contain_text("It is clear and four degrees in Oslo.")
            line = "document.querySelector('.line[aria-current=\"true\"]').dataset"
            await shown.until(f"{TIMELINE}.current.responseId === {line}.responseId")
            # the line on the timeline stands where the chosen words begin
            await shown.until(f"{TIMELINE}.cursor === Number({line}.fromMs)")

            # the page may have moved to show the line
            await page.locator("#timeline-title").evaluate("(title) => title.scrollIntoView()")
            speech = [each for each in await page.evaluate(f"{TIMELINE}.boxes()") if each["kind"] == "speech"]
            await page.mouse.move(speech[0]["x"] + 5, speech[0]["y"] + 5)
            await expect(page.locator(".tl-card pre")).to_contain_text("input_audio_buffer.speech_started")
            before = await page.evaluate(f"{TIMELINE}.view")
            await page.keyboard.down("Control")
            await page.mouse.wheel(0, -300)
            await page.keyboard.up("Control")
            await shown.until(f"{TIMELINE}.view.to_ms < {before['to_ms']}")
            # what is under the pointer stays there
            [same] = [each for each in await page.evaluate(f"{TIMELINE}.boxes()") if each["id"] == speech[0]["id"]]
            assert abs(same["x"] - speech[0]["x"]) < 12
            zoomed = await page.evaluate(f"{TIMELINE}.view")
            await page.mouse.down()
            await page.mouse.move(speech[0]["x"] - 95, speech[0]["y"] + 5, steps=4)
            await page.mouse.up()
            per_pixel = (zoomed["to_ms"] - zoomed["from_ms"]) / (zoomed["right"] - zoomed["left"])
            await moved_to(shown, zoomed["from_ms"] + 100 * per_pixel, per_pixel)


async def test_on_a_phone_a_finger_moves_the_window_and_two_zoom_it(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SETTING, pace=0.2, scenario=SCENARIO) as stage:
        call_id = await recorded(stage)
        phone: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "is_mobile": True, "device_scale_factor": 3}
        async with dashboard(browser, stage.daemon.operator_url, stage.key, f"/calls/{call_id}", **phone) as shown:
            page = shown.page
            await shown.until(f"{TIMELINE}.boxes?.().length > 0")
            await page.locator("#timeline-title").evaluate("(title) => title.scrollIntoView()")
            whole = await page.evaluate(f"{TIMELINE}.view")
            await page.get_by_role("button", name="Zoom in").tap()
            # a tap is a click once the browser has made sure that it was no other gesture
            await shown.until(f"{SPAN} < {(whole['to_ms'] - whole['from_ms']) * 0.9}")
            session = await page.context.new_cdp_session(page)
            view = await page.evaluate(f"{TIMELINE}.view")
            middle = (view["left"] + view["right"]) / 2
            top = await page.locator(".tl-plot").evaluate("(plot) => plot.getBoundingClientRect().top + 60")

            async def touch(kind: str, *places: float) -> None:
                points = [{"x": x, "y": top, "id": number} for number, x in enumerate(places)]
                await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

            await touch("touchStart", middle)
            for shift in range(0, 41, 8):
                await touch("touchMove", middle - shift)
            await touch("touchEnd")
            per_pixel = (view["to_ms"] - view["from_ms"]) / (view["right"] - view["left"])
            await moved_to(shown, view["from_ms"] + 40 * per_pixel, per_pixel)

            await touch("touchStart", middle - 30)
            await touch("touchStart", middle - 30, middle + 30)
            for shift in range(0, 31, 6):
                await touch("touchMove", middle - 30 - shift, middle + 30 + shift)
            await touch("touchEnd")
            half = (view["to_ms"] - view["from_ms"]) / 2
            await shown.until(f"Math.abs({SPAN} / {half} - 1) <= 0.05")
            # as sharp as the screen is
            wide = round((view["right"] - view["left"]) * 3)
            await shown.until(f"document.querySelector('.tl-plot canvas').width === {wide}")


async def test_whatever_was_said_is_shown_as_text_and_breaks_nothing(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SETTING) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        for role, part in (("user", "input_text"), ("assistant", "output_text")):
            item = {"id": f"item_{role}", "type": "message", "role": role, "status": "completed"}
            content = [{"type": part, "text": HOSTILE}]
            for kind in ("added", "done"):
                stage.simulator.produce(
                    call_id, {"type": f"conversation.item.{kind}", "item": item | {"content": content}}
                )
        speech = {"item_id": "item_user", "audio_start_ms": 1}
        stage.simulator.produce(call_id, {"type": "input_audio_buffer.speech_started", **speech})
        stage.simulator.produce(call_id, {"type": HOSTILE})
        stage.simulator.produce(
            call_id, {"type": "error", "error": {"type": HOSTILE, "code": HOSTILE, "message": HOSTILE}}
        )
        stage.simulator.emit(call_id, "\u202e<b>not JSON")
        await stage.until_stored(call_id, lambda found: len(found) >= 8)
        await stage.simulator.end_call(call_id)
        await stage.until(call_id, status="ended")
        count = len(await stage.entries(call_id))
        async with dashboard(browser, stage.daemon.operator_url, stage.key, f"/calls/{call_id}") as shown:
            page = shown.page
            title = await page.title()
            await shown.until(f"{TIMELINE}.boxes?.().length > 1")
            for line in await page.locator(".line .words").all():
                # what turns the words behind it is named instead of obeyed
                await expect(line).to_contain_text("<script>document.title=2</script>&amp; [RLO]turned[PDF]")
                await expect(line).to_contain_text("w" * 10_000)
            rows = page.locator(".en-row")
            await expect(page.locator('.en-row:not([data-position=""])')).to_have_count(count)
            await expect(rows).to_have_count(count)
            for number in range(count):
                await page.locator(f'.en-row[data-index="{number}"]').click()
                await expect(page.locator(".en-detail pre")).to_be_visible()
            await expect(page.locator(".en-detail")).to_contain_text("<b>not JSON")
            await page.get_by_label("Type").fill("error")
            await expect(page.locator(".en-count")).to_have_text("1 entry")
            await rows.click()
            await expect(page.locator(".en-detail pre")).to_contain_text(r"\u202eturned")
            await expect(page.locator(".en-detail pre")).to_contain_text('onerror=\\"document.title=1')
            await page.locator(".tl-plot").focus()
            for key in ("ArrowDown", "ArrowDown", "ArrowDown"):
                await page.keyboard.press(key)
                await expect(page.locator(".tl-card")).to_be_visible()
            assert await page.locator("main img, main script:not([type='application/json']), main b").count() == 0
            assert await page.title() == title
            await screenshots(page, "call-hostile")


async def test_thousands_of_entries_are_scrolled_filtered_and_linked_to(browser: Browser, tmp_path: Path) -> None:
    count = 5_000
    async with operator(tmp_path) as api:
        api.insert(
            tables.call, call("rtc_1", status="ended", outcome="browser_left", ended_at=START, entry_count=count)
        )
        payload = b'{"type":"response.done","big":12345678901234567890,"twice":1,"twice":2,"words":"%d"}'
        api.insert(
            tables.entry,
            *(
                entry("rtc_1", seq, payload % seq, type="response.done" if seq % 1000 else "error")
                for seq in range(1, count)
            ),
            entry("rtc_1", count, b"\xff\x00bytes", flags=0, type=None),
        )  # fmt: skip
        async with dashboard(
            browser, api.url, api.key, "/calls/rtc_1#1:4321", permissions=["clipboard-write"]
        ) as shown:
            page = shown.page
            rows, detail = page.locator(".en-row"), page.locator(".en-detail")
            selected = page.locator('.en-row[aria-selected="true"]')
            await expect(selected).to_have_attribute("data-position", "1:4321")
            # as it was recorded: what JSON.parse would lose is there
            await expect(detail.locator("pre")).to_have_text(
                '{\n  "type": "response.done",\n  "big": 12345678901234567890,'
                '\n  "twice": 1,\n  "twice": 2,\n  "words": "4321"\n}'
            )
            await page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
            await detail.get_by_role("button", name="Copy JSON").click()
            await expect(detail.get_by_role("status")).to_have_text("Copied.")
            assert await page.evaluate("window.copied") == (payload % 4321).decode()

            await page.get_by_role("listbox").focus()
            await page.keyboard.press("End")
            await expect(selected).to_have_attribute("data-position", f"1:{count}")
            await expect(detail).to_contain_text("These 7 bytes are no JSON")
            await expect(detail.locator("pre")).to_contain_text("ff 00 62 79 74 65 73")
            await expect(page.locator(".en-count")).to_have_text("5,000 entries")
            assert await rows.count() < 60
            await page.keyboard.press("Home")
            await expect(selected).to_have_attribute("data-position", "1:1")

            await page.get_by_label("Type").fill("err*")
            await expect(page.locator(".en-count")).to_have_text("4 entries")
            await expect(rows).to_have_count(4)
            await page.get_by_label("Kind").select_option("Gaps")
            empty = page.locator("rto-entries .empty").first
            await expect(empty).to_contain_text("No entry is like that")
            await lawful(page)

            refused = {"status": 503, "content_type": "application/problem+json", "body": '{"detail": "Not now."}'}
            await page.route("**/entries?*", lambda route: route.fulfill(**refused))
            await page.get_by_label("Kind").select_option("All kinds")
            await expect(empty).to_contain_text("Not now.")
            await page.unroute("**/entries?*")
            await empty.get_by_role("button", name="Try again").click()
            await expect(page.locator(".en-count")).to_have_text("4 entries")
            await expect(empty).to_be_hidden()
            # Chromium tells of each refusal
            shown.complaints.clear()


async def imported(shown: Tab, name: str, script: str) -> Any:
    """Run a function on what a module of the pages exports."""
    style = await shown.page.locator('link[href$="/style.css"]').get_attribute("href")
    assert style is not None
    return await shown.page.evaluate(
        f"async (address) => ({script})(await import(address))", style.replace("style.css", name)
    )


async def test_what_a_viewer_opened_chose_and_reads_outlasts_a_fresh_part(browser: Browser, tmp_path: Path) -> None:
    async with operator(tmp_path) as api, dashboard(browser, api.url, api.key, "/calls") as shown:
        found = await imported(
            shown,
            "reconcile.js",
            """({ reconcile }) => {
                const list = (words, open) => {
                    const root = document.createElement("div");
                    for (const [key, text] of words) {
                        const row = document.createElement("details");
                        row.dataset.key = key;
                        row.append(document.createElement("summary"), document.createElement("p"));
                        row.lastChild.textContent = text;
                        row.toggleAttribute("open", open);
                        root.append("\\n", row);
                    }
                    return root;
                };
                const shown = list([["a", "one"], ["b", "two"], ["c", "three"]], false);
                document.querySelector("main").append(shown);
                const [a, b, c] = shown.children;
                b.open = true;
                b.setAttribute("aria-current", "true");
                b.firstChild.focus();
                getSelection().selectAllChildren(b.lastChild);
                reconcile(shown, list([["new", "zero"], ["b", "two"], ["d", "four"]], false));
                const selected = getSelection().toString();
                reconcile(shown, list([["b", "two"], ["e", "five"], ["new", "zero, more"]], false));
                return {
                    selected,
                    texts: [...shown.children].map((row) => row.textContent),
                    same: shown.children[0] === b && !a.isConnected && !c.isConnected,
                    kept: b.open && b.getAttribute("aria-current"),
                    focused: document.activeElement === b.firstChild,
                };
            }""",
        )
    assert found == {
        "selected": "two",
        "texts": ["two", "five", "zero, more"],
        "same": True,
        "kept": "true",
        "focused": True,
    }


async def test_a_scale_gives_pixels_for_times_and_round_ticks(browser: Browser, tmp_path: Path) -> None:
    async with operator(tmp_path) as api, dashboard(browser, api.url, api.key, "/calls") as shown:
        found = await imported(
            shown,
            "timeline-scale.js",
            """({ Scale, clock }) => {
                const [scale, extent] = [new Scale(1000, 11_000, 500), {fromMs: 0, toMs: 60_000}];
                const zoomed = scale.zoomed(2, 250, extent);
                return {
                    x: scale.x(6000), ms: scale.ms(250), around: [zoomed.fromMs, zoomed.toMs],
                    stopped: [scale.panned(-5000, extent).fromMs, scale.panned(5000, extent).toMs],
                    whole: scale.zoomed(0.001, 0, extent).spanMs,
                    ticks: scale.ticks().filter(({words}) => words).map(({ms, words}) => [ms, words]),
                    clocks: [clock(7250, 1), clock(59_999, 0), clock(3_723_000), clock(-40, 2)],
                    kept: scale.revealing(2000, 3000, extent) === scale,
                    revealed: scale.revealing(30_000, 31_000, extent).toMs,
                };
            }""",
        )
    assert (found["x"], found["ms"], found["around"]) == (250, 6000, [3500, 8500])
    assert (found["stopped"], found["whole"]) == ([0, 60_000], 60_000)
    assert found["ticks"] == [[2000, "0:02"], [4000, "0:04"], [6000, "0:06"], [8000, "0:08"], [10_000, "0:10"]]
    assert found["clocks"] == ["0:07.3", "1:00", "1:02:03", "-0:00.04"]
    assert (found["kept"], found["revealed"]) == (True, 31_800)
