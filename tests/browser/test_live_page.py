"""The person on duty watches calls on the live page, and acts on them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from rtobserver.config.sections import FilePath, Public
from rtobserver.demo import PAGE
from rtobserver.simulator.scenario import Hold, Scenario, Spoken
from rtobserver.store import keys, sqlite, tables
from rtobserver.web.pages.texts import visible
from tests.browser.chromium import Tab, tab
from tests.browser.dashboard import dashboard, lawful, screenshots
from tests.store.stored import call, entry, ref
from tests.support.stage import SESSION, Setting, staged
from tests.support.watch import Watch
from tests.web.operator_stage import Stage, stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASKED, ANSWERED = "Where is my parcel?", "It is on its way, and it should be with you before noon."
SCENARIO = Scenario(
    name="talk",
    ending="stay",
    steps=(Hold(), Spoken(user=ASKED, assistant=ANSWERED, user_seconds=3.0, assistant_seconds=4.0), Hold(name="end")),
)
SESSION_WITH_WORDS = SESSION | {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
SETTING = Setting(public=Public(static_dir=FilePath(str(PAGE))), profile={"session": SESSION_WITH_WORDS})
HOSTILE = (
    '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202egnorw\u202c '
    + "x" * 10_000
    + " 👩‍👩‍👧‍👦"
)


VISIBLE = """async (text) => {
    const beside = document.querySelector('script[src$="live.js"]').src;
    return (await import(beside.replace("live.js", "hostile.js"))).visible(text);
}"""


# what the cards said, in the order in which they said it, however briefly
WATCH = """() => {
    window.said = [];
    const last = new Map();
    new MutationObserver(() => {
        for (const part of document.querySelectorAll("#calls [data-side], #calls [data-shows='state']")) {
            const words = part.textContent.replace(/\\s+/gu, " ").trim();
            if (last.get(part) !== words) window.said.push(words);
            last.set(part, words);
        }
    }).observe(document.querySelector("#calls"), {subtree: true, childList: true, characterData: true});
}"""


async def said(shown: Tab, *words: str) -> None:
    """Wait until a card has said all of this, one after the other."""
    await shown.until(
        f"{json.dumps(words)}.reduce((from, each) => from && window.said.indexOf(each, from - 1) + 1, 1) > 0"
    )


def card(page: Page) -> Locator:
    return page.locator(".live-call")


def button(within: Page | Locator, name: str) -> Locator:
    return within.get_by_role("button", name=name, exact=True)


def controls(page: Page) -> Locator:
    return page.get_by_role("button", name="Control…")


@pytest.mark.timeout(120)
async def test_a_real_call_appears_while_it_runs_and_is_acted_on_from_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered", scenario=SCENARIO) as running,
        dashboard(browser, running.daemon.operator_url, running.key) as shown,
        tab(browser, running.daemon.public_url) as caller,
    ):
        page = shown.page
        await expect(page.locator("#connection")).to_have_text("Live")
        await expect(page.get_by_text("Nobody is on a call.")).to_be_visible()
        await button(caller.page, "Start a call").click()
        await running.wait(lambda: bool(running.simulator.calls))
        watch = Watch()
        [call_id] = running.simulator.calls
        # looked for at each frame of the page; an expectation would look again after seconds only
        await page.get_by_role("link", name=call_id).wait_for()
        assert watch.seconds() < 1
        await expect(caller.page.get_by_role("status")).to_have_text("Connected")
        await expect(card(page).locator('[data-shows="state"]')).to_have_text("live")
        await expect(card(page).locator("time")).to_have_text(re.compile(r"^0:\d\d$"))
        since = re.compile(r"^Since .+ \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)$")
        await expect(card(page).locator("time")).to_have_attribute("title", since)

        await page.evaluate(WATCH)
        running.simulator.release(call_id, "go")
        await said(shown, "Caller speaks", f"Caller {ASKED}", f"Model speaks {ANSWERED}", f"Model {ANSWERED}")

        await expect(controls(page)).to_have_accessible_name(f"Control… the call of {call_id}")
        await controls(page).click()
        dialog = page.locator("#control")
        outcome = dialog.locator(".orders .outcome").first
        await lawful(page)
        await dialog.get_by_label("Tag").fill("late parcel")
        await button(dialog, "Add tag").click()
        await expect(outcome).to_have_text("The tags were changed.")
        await expect(dialog.get_by_role("status")).to_have_text("Add tag “late parcel”: The tags were changed.")
        await expect(card(page)).to_contain_text("#late parcel")
        await dialog.get_by_label("Say to the caller").fill("One moment please.")
        await button(dialog, "Say").click()
        await expect(outcome).to_have_text("The model says it.")
        await expect(caller.page.locator("#transcript")).to_contain_text("One moment please.")

        await dialog.get_by_text("Send a client event").click()
        await dialog.get_by_label("Event, as JSON").fill('{"type": "session.update"')
        await button(dialog, "Send event…").click()
        await expect(outcome).to_contain_text("This is not JSON")
        await dialog.get_by_label("Event, as JSON").fill('{"type": "output_audio_buffer.clear"}')
        await button(dialog, "Send event…").click()
        await expect(page.locator("dialog[open] code")).to_contain_text(["output_audio_buffer.clear"])
        await button(page.locator("dialog.ask[open]"), "Do not send").click()
        await dialog.get_by_label("Event, as JSON").fill('{"type": "conversation.item.delete", "item_id": "nothing"}')
        await button(dialog, "Send event…").click()
        await button(page.locator("dialog.ask[open]"), "Send event").click()
        await expect(outcome).to_contain_text("Failed: ")

        await expect(button(dialog, "Resume recording")).to_be_hidden()
        await button(dialog, "Pause recording…").click()
        await button(page.locator("dialog.ask[open]"), "Pause recording").click()
        await expect(outcome).to_have_text("The recording is paused.")
        await expect(card(page).locator('[data-shows="state"]')).to_have_text("paused")
        await expect(button(dialog, "Pause recording…")).to_be_hidden()
        await button(dialog, "Resume recording").click()
        await expect(outcome).to_have_text("Recording again.")
        await expect(card(page).locator('[data-shows="state"]')).to_have_text("live")

        await button(dialog, "End call…").click()
        await lawful(page)
        await page.keyboard.press("Escape")
        await button(dialog, "End call…").click()
        await page.get_by_label("Goodbye, if you like").fill("Good night.")
        await button(page.locator("dialog.ask[open]"), "End call").click()
        await expect(caller.page.locator("#transcript")).to_contain_text("Good night.")
        await expect(outcome).to_have_text("The call was ended.")
        await expect(caller.page.get_by_role("status")).to_have_text("Call ended")
        await said(shown, "hung up")
        for name in ("Say", "Add tag", "Remove tag", "Pause recording…", "End call…"):
            await expect(button(dialog, name)).to_be_disabled()
        await button(dialog, "Close").click()
        # its card stays for a moment, and then goes
        await expect(page.locator(":focus")).to_have_text(re.compile(f"^({call_id}|Live calls)$"))
        await expect(card(page)).to_have_count(0)
        await expect(page.get_by_role("heading", name="Live calls")).to_be_focused()
        assert [each["type"] for each in await running.commands(call_id)].count("output_audio_buffer.clear") == 0


async def test_texts_of_callers_stay_texts_and_without_the_scope_there_are_no_buttons(
    browser: Browser, tmp_path: Path
) -> None:
    async with stage(tmp_path) as api:
        hostile_call(api)
        async with dashboard(browser, api.url, api.key) as shown:
            page = shown.page
            await expect(card(page)).to_have_count(3)
            await expect(card(page).first).to_contain_text("[RLO]gnorw[PDF]")
            assert await page.locator("#calls img, #calls script").count() == 0
            assert await page.title() == "Live · rtobserver"
            assert await controls(page).count() == 0
            assert await page.locator("[data-controls]").count() == 0
            await page.get_by_label("Show only calls with").fill("bob refund-check")
            await expect(page.locator("#tally")).to_have_text("1 of 3 calls")
            await expect(card(page).locator("visible=true")).to_have_count(1)
            await page.get_by_label("Show only calls with").fill("")
            await screenshots(page, "live")
            text = "".join(map(chr, [*range(0x300), *range(0x2000, 0x2100), 0xFEFF, 0x1F600]))
            assert await page.evaluate(VISIBLE, text) == visible(text)
        async with dashboard(browser, api.url, api.make_key("read", "control")) as shown:
            page = shown.page
            await expect(controls(page)).to_have_count(3)
            await controls(page).first.click()
            await screenshots(page, "live-control")


async def test_each_order_says_what_came_of_it_in_a_line_of_its_own(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        hostile_call(api)
        async with dashboard(browser, api.url, api.make_key("read", "control")) as shown:
            page = shown.page
            await controls(page).first.click()
            dialog = page.locator("#control")
            lines = dialog.locator(".orders > li:visible")
            await dialog.get_by_label("Tag").fill("first")
            await button(dialog, "Add tag").click()
            await expect(lines).to_have_text(["Add tag “first”: Waiting to be sent."])
            await dialog.get_by_label("Tag").fill("second")
            await button(dialog, "Add tag").click()
            await expect(lines).to_have_text(
                ["Add tag “second”: Waiting to be sent.", "Add tag “first”: Waiting to be sent."]
            )
            settle(api, "second", state="acknowledged")
            await expect(lines.first).to_have_text("Add tag “second”: The tags were changed.")
            settle(api, "first", state="sent", error="no acknowledgement came")
            await expect(lines).to_have_text(
                ["Add tag “second”: The tags were changed.", "Add tag “first”: Sent, but no acknowledgement came."]
            )
            await screenshots(page, "live-orders")
            await button(dialog, "Close").click()
            await expect(controls(page).first).to_be_focused()
            await controls(page).nth(1).click()
            await expect(lines).to_have_count(0)
            await button(dialog, "Close").click()
            await controls(page).first.click()
            await expect(lines).to_have_count(2)


async def test_what_a_call_cannot_take_cannot_be_pressed(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        hostile_call(api)
        async with dashboard(browser, api.url, api.make_key("read", "control")) as shown:
            await controls(shown.page).nth(2).click()  # this one is connecting
            dialog = shown.page.locator("#control")
            for name in ("Say", "Add tag", "Remove tag", "Pause recording…"):
                await expect(button(dialog, name)).to_be_disabled()
            await expect(dialog.get_by_label("Say to the caller")).to_be_disabled()
            await expect(button(dialog, "End call…")).to_be_enabled()
            await expect(button(dialog, "Close")).to_be_enabled()


def settle(api: Stage, tag: str, **values: str) -> None:
    """Write what the observer of a call would, into the order about a tag."""
    order = tables.order
    with sqlite.transaction(api.path) as connection:
        changed = connection.execute(order.update().where(order.c.command.contains(tag)).values(**values))
    assert changed.rowcount == 1


async def test_the_page_says_when_it_is_cut_off_and_goes_on_by_itself(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        hostile_call(api)
        key = api.make_key("read")
        async with dashboard(browser, api.url, key) as shown:
            page = shown.page
            await page.route("**/live/stream", lambda route: route.abort())
            await page.reload()
            await expect(page.locator("#connection")).to_contain_text("Reconnecting")
            await page.unroute("**/live/stream")
            await expect(page.locator("#connection")).to_have_text("Live")
            await expect(card(page)).to_have_count(3)
            [key_id] = [each.key_id for each in keys.every(api.path) if each.name == "test"]
            keys.revoke(api.path, key_id, now_us=api.clock.now_us())
            await expect(page).to_have_url(f"{api.url}/login?next=%2F")
            shown.complaints.clear()  # Chromium tells of what was cut off


def hostile_call(api: Stage) -> None:
    now = api.clock.now_us()
    own = {"day": ref("rtc_1", now).day, "epoch": 1}
    api.insert(
        tables.call,
        call(
            "rtc_1",
            started_at=now,
            user=HOSTILE[:250],
            profile="<b>bold</b>",
            tags=[HOSTILE[:64], "vip"],
            cost_usd="0.03",
        ),
        call("rtc_2", started_at=now - 90_000_000, user="bob", error_count=2, gap_count=1, interruption_count=3),
        call("rtc_3", started_at=now - 3_700_000_000, status="connecting"),
    )
    item = {"seq": 1, "kind": "speech", "status": "completed", "interrupted": False, "out_of_band": False}
    item |= {"idle_timeout": False, "recovered": False}
    for call_id in ("rtc_1", "rtc_2"):
        key = {"call_key": ref(call_id).key} | own
        words = HOSTILE if call_id == "rtc_1" else "I would like to know when the shop opens tomorrow."
        for role in ("user", "assistant"):
            api.insert(tables.item, key | item | {"item_id": f"item_{role}", "role": role, "text": words})
    for seq, type_ in ((1, "output_audio_buffer.started"), (2, "input_audio_buffer.speech_started")):
        api.insert(tables.entry, entry("rtc_2", seq, type=type_) | own)
    decided = {"seq": 1, "policy": "refund-check", "policy_set": "abc", "trigger": "on", "mode": "observe"}
    times = {"received_at": now, "matched_at": now, "acted": False, "actions": "[]"}
    api.insert(tables.decision, {"call_key": ref("rtc_2").key} | own | decided | times)
