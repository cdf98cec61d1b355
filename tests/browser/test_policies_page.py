"""The pages of policies in a browser, beside a daemon whose policies hit; a replay's result opened as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from rtobserver.policy.rules import Limit, On, Phrase, Policy, PolicySet, Say, Tag, Turns
from rtobserver.web.pages.texts import visible
from tests.browser.chromium import until
from tests.browser.dashboard import dashboard, screenshots
from tests.browser.test_statistics_page import charts
from tests.process.stage import run
from tests.support.stage import Setting, Stage, staged
from tests.test_policies_document import lay_out
from tests.web.operator_stage import stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = '<img src=x onerror="document.title=1">\u202eABC' + "w" * 300
POLICIES = PolicySet(
    policies=(
        Policy(
            id="no-goats",
            mode="enforce",
            trigger=Phrase(speaker="assistant", phrases=("goats", "<b>sheep</b>")),
            actions=(Say(text="Let us talk of something else."), Tag(tag="goats")),
            limit=Limit(per_minute=5),
        ),
        Policy(id="many-turns", trigger=Turns(at_least=2), actions=(Tag(tag="long"),)),
        Policy(id="faulty", mode="enforce", trigger=On(types=("response.done",)), actions=(Tag(tag="{{ event.no }}"),)),
    ),
    hash="0123456789abcdef",
)


async def decided(played: Stage) -> list[dict[str, Any]]:
    """Place a call in which each policy decides, and give what they decided as the API lists it."""
    call_id = await played.call()

    async def look() -> list[dict[str, Any]] | None:
        rows = await played.decisions(call_id)
        is_done = any(each["policy"] == "no-goats" and each["outcome"] == "done" for each in rows)
        return rows if is_done and {each["policy"] for each in rows} == {"no-goats", "many-turns", "faulty"} else None

    await until(look)
    await played.hang_up(call_id)
    await played.until(call_id, status="ended")
    found: list[dict[str, Any]] = (await played.document("/api/v1/decisions"))["data"]
    return found


async def test_policies_that_hit_are_shown_with_their_decisions_at_their_places(
    browser: Browser, tmp_path: Path
) -> None:
    async with staged(tmp_path, Setting(policies=POLICIES), scenario="barge_in", pace=0.2) as played:
        rows = await decided(played)
        url, [goats] = played.daemon.operator_url, [each for each in rows if each["policy"] == "no-goats"]
        async with dashboard(browser, url, played.key, "/policies") as shown:
            page = shown.page
            table = page.get_by_role("region", name="Policies in force")
            row = table.get_by_role("row").filter(has_text="no-goats")
            await expect(row.get_by_text("enforce")).to_be_visible()
            await expect(row.get_by_text("1 of 5")).to_be_visible()
            place = f"/calls/{goats['call_id']}#{goats['position']}"
            await expect(row.locator(f'a[href="{place}"]')).to_be_visible()
            listed = page.get_by_role("region", name="Decisions").locator("tbody tr")
            assert await listed.count() == len(rows)
            goat = listed.filter(has_text="no-goats")
            await expect(goat.locator(f'a[href="{place}"]')).to_be_visible()
            assert await goat.locator("td").nth(4).inner_text() == "goats"
            assert [await goat.locator("td[title]").count(), "done" in await goat.inner_text()] == [3, True]
            assert await page.get_by_text("event.no").count() > 0
            await screenshots(page, "policies")

            await table.get_by_role("link", name="no-goats").click()
            await expect(page.get_by_role("heading", level=1)).to_contain_text("no-goats")
            [series] = (await charts(shown))["Decisions by outcome and mode"]["series"]
            assert (series["label"], sum(series["values"])) == ("done (enforce)", 1)
            await page.get_by_text("The whole rule, without its secrets").click()
            await expect(page.get_by_label("The rule")).to_contain_text("<b>sheep</b>")
            await screenshots(page, "policy")


async def open_file(page: Page, name: str, text: str | bytes) -> None:
    body = text if isinstance(text, bytes) else text.encode()
    await page.set_input_files("#file", {"name": name, "mimeType": "application/x-ndjson", "buffer": body})


async def test_what_a_replay_wrote_is_shown_as_the_command_counts_it(browser: Browser, tmp_path: Path) -> None:
    await lay_out(tmp_path)
    code, written, said = await run(
        "policies", "replay", "--config", "config.toml", "--since", "7d", "--json", folder=tmp_path
    )
    assert code == 0, said
    lines = [json.loads(line) for line in written.splitlines()]
    changes = [(line["call_id"], each) for line in lines if line["kind"] == "call" for each in line["changes"]]
    assert len(changes) == 2
    async with stage(tmp_path / "served") as api, dashboard(browser, api.url, api.key, "/policies/replay") as shown:
        page, sent = shown.page, []
        page.on("request", lambda request: sent.append(request.url))
        await open_file(page, "replay.ndjson", written)
        await expect(page.locator("#extent")).to_have_text("3 calls with 66 entries replayed")
        await expect(page.locator("#policies tbody tr")).to_have_text(["refund-needs-manager022002"])
        rows = page.locator("#changes tbody tr")
        await expect(rows).to_have_count(2)
        for place, (call_id, each) in enumerate(changes):
            await expect(rows.nth(place).locator("a")).to_have_attribute("href", f"/calls/{call_id}#{each['position']}")
            await expect(rows.nth(place)).to_contain_text("cancel response, say, tag")
        await expect(page.locator("#partial")).to_be_hidden()
        await screenshots(page, "replay")

        await page.get_by_label("new", exact=True).uncheck()
        await expect(page.locator("#count")).to_have_text("No difference is of this kind.")
        same = "\n".join(json.dumps(line | {"changes": []} if line["kind"] == "call" else line) for line in lines)
        await open_file(page, "same.ndjson", same)
        await expect(page.locator("#same")).to_contain_text("Nothing is decided differently.")
        await expect(page.locator("#different")).to_be_hidden()
        # the browser may ask for the icon late
        assert [each for each in sent if "/assets/" not in each] == []


def line(number: int, **change: Any) -> str:
    decision = {"trigger": "phrase", "mode": "observe", "actions": ["tag"], "match": HOSTILE, "fault": None}
    shown = {"change": "new", "position": f"1:{number}", "policy": HOSTILE, "before": None, "after": decision} | change
    head = {"call_id": f"rtc_{number}", "started_at": "2026-11-23T08:00:00.000000Z", "profile": HOSTILE}
    return json.dumps({"kind": "call", **head, "entries": 1, "before": 0, "after": 1, "changes": [shown]})


async def test_a_file_is_shown_as_text_by_pieces_and_what_is_none_gets_plain_words(
    browser: Browser, tmp_path: Path
) -> None:
    async with stage(tmp_path) as api, dashboard(browser, api.url, api.key, "/policies/replay") as shown:
        page = shown.page
        for text, words in (
            ("", "the file is empty"),
            ("<!doctype html>", "in line 1, it is no JSON"),
            (line(1) + "\n[]", "in line 2, it is about no call and is no summary"),
            (line(1, change="odd"), "`change` is none of new, vanished, changed"),
            (line(1, position="javascript:alert(1)"), "`position` is no position"),
            (line(1).replace("rtc_1", "../../login"), "`call_id` is no id of a call"),
            (line(1, after=None), "a decision is missing"),
            (b"\xff\xfe\x00", "cannot be read as text"),
        ):
            await open_file(page, "file", text)
            await expect(page.get_by_role("alert")).to_contain_text(words)
            await expect(page.locator("#result")).to_be_hidden()

        changed = {"trigger": "phrase", "mode": "observe", "actions": ["say"], "match": "was", "fault": "odd"}
        first = line(1, change="changed", before=changed)
        await open_file(page, HOSTILE, "\n".join([first, *(line(number) for number in range(2, 451))]))
        await expect(page.get_by_role("alert").first).to_be_hidden()
        await expect(page.locator("#partial")).to_contain_text("The file ends before its summary")
        rows = page.locator("#changes tbody tr")
        await expect(rows).to_have_count(200)
        await expect(rows.first.locator("del")).to_have_text(["was", "fault: odd"])
        await expect(rows.first.locator("ins")).to_have_text([visible(HOSTILE), "tag"])
        # what turns the direction of a text is shown, wherever the file has it
        assert "\u202e" not in (await page.locator("#result").inner_text())
        assert "[RLO]" in (await page.locator("#name").inner_text())
        await expect(page.get_by_role("option", name="[RLO]ABC")).to_have_count(1)
        await page.get_by_role("button", name="Show more").click()
        await page.get_by_role("button", name="Show more").click()
        await expect(rows).to_have_count(450)
        await expect(page.get_by_role("button", name="Show more")).to_be_hidden()
        assert await page.locator("#result img").count() == 0
        assert await page.title() == "Result of a replay \u00b7 rtobserver"
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        await page.locator("#policies button").click()
        await page.get_by_label("new", exact=True).uncheck()
        await expect(rows).to_have_count(1)


async def drop(page: Page, content: str | int) -> None:
    """Drop a file that holds a text, or so many bytes."""
    carried = await page.evaluate_handle(
        """(content) => {
            const carried = new DataTransfer();
            const parts = typeof content === "number" ? [new ArrayBuffer(content)] : [content];
            carried.items.add(new File(parts, "dropped.ndjson"));
            return carried;
        }""",
        content,
    )
    await page.dispatch_event("h1", "drop", {"dataTransfer": carried})


async def test_a_file_can_be_dropped_anywhere_and_one_that_is_too_large_is_not_read(
    browser: Browser, tmp_path: Path
) -> None:
    async with stage(tmp_path) as api, dashboard(browser, api.url, api.key, "/policies/replay") as shown:
        page = shown.page
        await drop(page, line(7))
        await expect(page.locator("#changes a")).to_have_attribute("href", "/calls/rtc_7#1:7")
        await drop(page, 64 * 2**20 + 1)
        await expect(page.get_by_role("alert")).to_contain_text("too large: at most 64 MiB")
        await expect(page.locator("#result")).to_be_hidden()
