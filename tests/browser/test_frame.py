"""What all pages have in common, as a person at a browser meets it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiohttp import web
from playwright.async_api import Browser, expect

from rtobserver.store import keys, tables
from rtobserver.web.listener import listening
from tests.browser.chromium import browsing, tab
from tests.browser.dashboard import DESKTOP, PHONE, dashboard, lawful, screenshots
from tests.store.stored import call
from tests.web.operator_stage import Stage, stage

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
        await screenshots(page, "frame")
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


async def test_times_are_the_viewers_and_utc_is_one_look_away(browser: Browser, tmp_path: Path) -> None:
    async with (
        stage(tmp_path) as api,
        dashboard(browser, api.url, api.key, timezone_id="Asia/Tokyo", locale="de-DE") as shown,
    ):
        time = await shown.page.evaluate("""() => {
            const time = document.createElement("time");
            time.dateTime = "2026-01-01T20:30:00.5Z";
            time.title = "2026-01-01 20:30:00 UTC";
            time.textContent = time.title;
            document.querySelector("main").append(time);
            return new Promise((done) => requestAnimationFrame(() => done([time.textContent, time.title])));
        }""")
        assert time == ["02.01.2026, 05:30:00", "2026-01-01 20:30:00 UTC"]


async def test_ages_count_by_the_servers_clock(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        api.clock.ahead = 3600.0
        async with dashboard(browser, api.url, api.key, "/stats") as shown:
            await shown.page.evaluate(
                """(at) => {
                    const age = document.createElement("time");
                    age.className = "age";
                    age.dateTime = new Date(at).toISOString();
                    document.querySelector("main").append(age);
                }""",
                api.clock.now_us() / 1000 - 65_000,
            )
            await expect(shown.page.locator("main > time.age")).to_have_text(re.compile(r"^1:[0-5]\d$"))


async def test_who_is_no_longer_let_in_is_led_to_the_door_and_back(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        key = api.make_key("read", "admin")
        async with dashboard(browser, api.url, key, "/system?") as shown:
            page = shown.page
            keys.revoke(api.path, key.split("_")[1], now_us=api.clock.now_us())
            await page.evaluate("() => { htmx.ajax('GET', '/system', '#figures') }")
            await expect(page).to_have_url(f"{api.url}/login?next=%2Fsystem")
            shown.complaints.clear()  # Chromium tells of the 401
            await page.get_by_label("Key").fill(api.make_key("read", "admin"))
            await page.keyboard.press("Enter")
            await expect(page).to_have_url(f"{api.url}/system")


async def test_what_cannot_be_loaded_leaves_the_page_as_it_is_and_says_so(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api, dashboard(browser, api.url, api.key, "/stats") as shown:
        page = shown.page
        before = await page.locator("main").inner_text()
        await page.evaluate("() => { htmx.ajax('GET', '/nothing', 'main') }")
        await expect(page.get_by_role("status").last).to_have_text("This could not be loaded (404).")
        assert await page.locator("main").inner_text() == before
        shown.complaints.clear()


async def test_what_htmx_swaps_in_runs_no_script(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api, dashboard(browser, api.url, api.key, "/stats") as shown:
        for markup in ("<script>document.title = 'run'</script>", '<img src="x:" onerror="document.title = \'run\'">'):
            await shown.page.evaluate(
                """(text) => htmx.swap({text, target: document.querySelector("main"), swap: "innerHTML"})
                    .catch((error) => console.error(`refused: ${error.message}`))""",
                markup,
            )
            assert await shown.page.title() != "run"
        assert shown.complaints != []
        shown.complaints.clear()
        # nor is there another way from text to elements
        words = await shown.page.evaluate(
            """() => { try { document.body.innerHTML = "<b></b>" } catch (error) { return error.message } }"""
        )
        assert "TrustedHTML" in words
        shown.complaints.clear()


async def test_a_link_in_somebodys_chat_leads_in_who_is_signed_in(tmp_path: Path) -> None:
    async with (
        stage(tmp_path) as api,
        foreign() as chat,
        browsing(hosts={"chat.example": "127.0.0.1"}) as chromium,
        dashboard(chromium, api.url, api.key, "/stats") as shown,
    ):
        page = shown.page
        await page.goto(chat.replace("127.0.0.1", "chat.example"))
        await page.evaluate("(own) => { location.href = own + '/stats?since=1d' }", api.url)
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        await expect(page).to_have_url(f"{api.url}/stats?since=1d")
        # who is not signed in is asked for a key all the same
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(f"{api.url}/login")
        await page.goto(chat.replace("127.0.0.1", "chat.example"))
        await page.evaluate("(own) => { location.href = own + '/stats' }", api.url)
        await expect(page).to_have_url(f"{api.url}/login?next=%2Fstats")
        shown.complaints.clear()


# --- a page of another origin ---------------------------------------------------------------------

_ATTACKS = {
    "read": "fetch(own + '/api/v1/calls', {credentials: 'include'}).then((answer) => answer.text())",
    "look": "fetch(own + '/api/v1/calls/rtc_1', {credentials: 'include', mode: 'no-cors'})"
    ".then((answer) => answer.text())",
    "change": "fetch(own + '/api/v1/calls/rtc_1', {method: 'DELETE', credentials: 'include'})",
    "ask first": "fetch(own + '/api/v1/calls/rtc_1', {method: 'DELETE', credentials: 'include', "
    "headers: {'X-RTObserver-CSRF': '1'}})",
    "run": "new Promise((done) => { const made = document.createElement('script'); made.onload = made.onerror = done; "
    "made.src = own + '/api/v1/calls'; document.head.append(made) })",
    "frame": "new Promise((done) => { const made = document.createElement('iframe'); made.onload = done; "
    "made.src = own + '/'; document.body.append(made) })",
    "sign out": "fetch(own + '/logout', {method: 'POST', credentials: 'include', mode: 'no-cors'})",
}


@asynccontextmanager
async def foreign() -> AsyncIterator[str]:
    """Serve a page of another port, which is no other site to a browser."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Kittens</title><body>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with listening(app, host="127.0.0.1", port=0) as listener:
        yield listener.url


def acted(api: Stage) -> list[tuple[str, int]]:
    """Tell what was done in the name of a key."""
    column = tables.audit.c
    return api.select(sa.select(column.action, column.status).where(column.actor != "").order_by(column.audit_id))


async def test_a_page_of_another_port_has_no_use_of_who_is_signed_in(browser: Browser, tmp_path: Path) -> None:
    async with stage(tmp_path) as api, foreign() as evil:
        api.insert(tables.call, call("rtc_1"))
        key = api.make_key("read", "control", "erase")
        async with dashboard(browser, api.url, key, "/stats") as shown:
            page = shown.page
            await page.goto(evil)
            before = acted(api)
            for name, attack in _ATTACKS.items():
                told = await page.evaluate(
                    f"(own) => Promise.resolve({attack}).then((told) => String(told), (error) => 'refused')", api.url
                )
                assert "rtc_1" not in told, name
            assert acted(api) == before
            await page.evaluate(
                """(own) => { const form = document.createElement("form"); form.method = "post";
                    form.action = own + "/logout"; document.body.append(form); form.submit() }""",
                api.url,
            )
            await expect(page.get_by_role("heading", level=1)).to_have_text("This is not allowed")
            shown.complaints.clear()
            # still signed in, and a link leads in
            await page.goto(evil)
            await page.evaluate("(own) => { location.href = own + '/stats' }", api.url)
            await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
            shown.complaints.clear()
