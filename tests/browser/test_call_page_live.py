"""A real call is watched on its page while it goes on: it grows, stands where its times say, and then stands still."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from rtobserver.clock import SystemClock
from rtobserver.config.sections import FilePath, Operator, Public
from rtobserver.daemon import running
from rtobserver.demo import PAGE
from rtobserver.policy.rules import CancelResponse, Phrase, Policy, PolicySet, Say
from rtobserver.simulator.scenario import BargeIn, Hold, Scenario, Spoken
from rtobserver.store import keys
from tests.browser.chromium import Tab, tab
from tests.browser.dashboard import dashboard, screenshots
from tests.support.stage import SESSION, Entry, Setting, Stage, serving, simulating, staged

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]

ASKED, INTERRUPTED = "Tell me about your day.", "Wait, I have a question."
# half of it is heard: so long that a page which is fetched seldom on a busy machine shows it while it goes on
STORY = "It began early, with a long queue of questions about parcels that had not arrived. " * 2
SCENARIO = Scenario(
    name="story",
    ending="stay",
    steps=(
        Hold(),
        BargeIn(user=ASKED, assistant=STORY.strip(), when="playback", interruption=INTERRUPTED, answer="Yes?"),
        Spoken(user="May I send it back?", assistant="We give a full refund for everything.", user_seconds=1.0),
        Hold(name="silence"),
    ),
)
POLICY = Policy(
    id="no-refunds",
    trigger=Phrase(speaker="assistant", phrases=("refund",)),
    actions=(CancelResponse(), Say(text="Let me ask a colleague.")),
    mode="enforce",
)
SETTING = Setting(
    public=Public(static_dir=FilePath(str(PAGE))),
    profile={"session": SESSION | {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}},
    policies=PolicySet(policies=(POLICY,), hash="00112233aabbccdd"),
)
TIMELINE = "document.querySelector('rto-timeline')"
NEAR = 2.0
"""Pixels by which something may stand beside its place."""

# the colours just inside of a box's left edge, and left of it, as they are on the screen
_INK = """([x, y]) => {
    const canvas = document.querySelector("rto-timeline .tl-plot canvas");
    const {left, top} = canvas.getBoundingClientRect();
    const context = canvas.getContext("2d");
    const [scale, down] = [devicePixelRatio, (y - top) * devicePixelRatio];
    const colour = (x) => [...context.getImageData((x - left) * scale, down, 1, 1).data];
    return [colour(x - 3), colour(x + 1.5)];
}"""


# of what is heard: where it was drawn at first, and that it grew while it went on; both looked at by the page itself
_GROWING = """() => new Promise((done) => {
    const timeline = document.querySelector("rto-timeline");
    let first = null;
    const began = performance.now();
    const look = () => {
        if (performance.now() > began + 60000) return done(null);
        const box = timeline.boxes().find(({kind, to_ms}) => kind === "heard" && to_ms === null);
        if (box) {
            const view = timeline.view;
            const lasted = box.width / (view.right - view.left) * (view.to_ms - view.from_ms);
            if (first?.box.id !== box.id) first = {box, view, lasted};
            if (lasted > first.lasted + 300) return done(first);
        }
        return setTimeout(look, 20);
    };
    look();
})"""


async def painted(page: Page) -> None:
    """Wait until the page has drawn what it knows."""
    await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def boxes(page: Page) -> list[Json]:
    found: list[Json] = await page.evaluate(f"{TIMELINE}.boxes()")
    return found


async def box(page: Page, kind: str, at: int = 0) -> Json:
    return [each for each in await boxes(page) if each["kind"] == kind][at]


def place_in(view: Json, ms: float) -> float:
    """Reckon where a time of the call belongs on the screen."""
    width = view["right"] - view["left"]
    return float(view["left"] + (ms - view["from_ms"]) / (view["to_ms"] - view["from_ms"]) * width)


async def place_of(page: Page, ms: float) -> float:
    return place_in(await page.evaluate(f"{TIMELINE}.view"), ms)


def first(entries: list[Entry], type_: str, at: int = 0) -> Entry:
    return [each for each in entries if each.type == type_][at]


def since(call: Json, entry: Entry) -> float:
    began, at = (datetime.fromisoformat(text) for text in (call["started_at"], entry.fields["at"]))
    return (at - began).total_seconds() * 1000


async def started(stage: Stage, caller: Tab) -> str:
    await caller.page.get_by_role("button", name="Start a call", exact=True).click()
    await expect(caller.page.get_by_role("status")).to_have_text("Connected")
    [call_id] = stage.simulator.calls
    await stage.until(call_id, status="live")
    return call_id


@pytest.mark.timeout(120)
async def test_a_real_call_grows_on_its_page_and_each_of_its_moments_stands_where_its_time_is(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered", scenario=SCENARIO) as stage,
        tab(browser, stage.daemon.public_url) as caller,
    ):
        call_id = await started(stage, caller)
        async with dashboard(browser, stage.daemon.operator_url, stage.key, f"/calls/{call_id}") as shown:
            page = shown.page
            await expect(page.locator(".tl-state")).to_have_text("Live")
            async with growing(shown):
                stage.simulator.release(call_id)

            await expect(page.locator("#transcript")).to_contain_text("Let me ask a colleague.")
            [command, *_] = await stage.commands(call_id)
            await shown.until(f"{TIMELINE}.document.marks.some(({{kind}}) => kind === 'command')")
            await caller.page.get_by_role("button", name="End the call", exact=True).click()
            await expect(page.locator(".tl-state")).to_have_text("The call has ended.")
            assert await page.locator("rto-timeline[live], rto-entries[live]").count() == 0
            before = await boxes(page)
            assert all(each["to_ms"] is not None for each in before)
            await expect(page.locator("#transcript")).to_contain_text(INTERRUPTED)

            call, entries = await stage.row(call_id), await stage.entries(call_id)
            await stands_where_it_was_drawn(page, await stage.document(f"/api/v1/calls/{call_id}/timeline"))
            await tells_the_story(page, call, entries)
            assert command["type"] == "response.cancel"
            await expect(page.locator(".en-count")).to_have_text(f"{len(entries)} entries")
            # a reload shows the same
            await page.reload()
            await shown.until(f"{TIMELINE}?.boxes?.().length > 0")
            assert [each["id"] for each in await boxes(page)] == [each["id"] for each in before]
            await screenshots(page, "call")


@asynccontextmanager
async def growing(shown: Tab) -> AsyncIterator[None]:
    """Watch from the beginning on how what is heard reaches as far as the call does by now, and goes on."""
    page = shown.page
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(page.evaluate(_GROWING))
        # the page answers in the order in which it is asked, so it watches by now
        await page.evaluate("0")
        yield
    going_on = watching.result()
    assert going_on is not None, "nothing was seen to be heard and to go on"
    assert abs(going_on["box"]["x"] - place_in(going_on["view"], going_on["box"]["from_ms"])) <= NEAR
    await expect(page.locator("#transcript")).to_contain_text(ASKED)


async def stands_where_it_was_drawn(page: Page, document: Json) -> None:
    await painted(page)
    drawn = {each["id"]: each for each in await boxes(page)}
    assert not document["live"]
    for span in document["spans"]:
        found = drawn[span["id"]]
        assert found["lane"] == span["lane"]
        left, right = await place_of(page, span["from_ms"]), await place_of(page, span["to_ms"])
        assert abs(found["x"] - left) <= NEAR, span
        assert abs(found["x"] + found["width"] - max(right, left + 2)) <= NEAR, span
        if found["width"] > 8:
            beside, inside = await page.evaluate(_INK, [found["x"], found["y"] + found["height"] / 2])
            assert beside != inside, f"nothing is seen of {span}"
    for mark in document["marks"]:
        if mark["lane"] != "call":
            found = drawn[mark["id"]]
            middle = found["x"] + found["width"] / 2
            assert abs(middle - await place_of(page, mark["at_ms"])) <= NEAR, mark


async def tells_the_story(page: Page, call: Json, entries: list[Entry]) -> None:
    """Compare with when the entries themselves say that they came."""
    cut_in = since(call, first(entries, "input_audio_buffer.speech_started", 1))
    speech, generation, heard = await box(page, "speech"), await box(page, "generation"), await box(page, "heard")
    interruption, barge_in, cleared = (
        await box(page, "speech", 1),
        await box(page, "barge_in"),
        await box(page, "cleared"),
    )
    assert speech["y"] < generation["y"] < heard["y"]
    assert speech["x"] < generation["x"] < heard["x"] < interruption["x"]
    assert abs(interruption["x"] - await place_of(page, cut_in)) <= NEAR
    assert abs(barge_in["x"] + barge_in["width"] / 2 - await place_of(page, cut_in)) <= NEAR
    ended = since(call, first(entries, "output_audio_buffer.cleared"))
    assert abs(heard["x"] + heard["width"] - await place_of(page, ended)) <= NEAR
    assert abs(cleared["x"] + cleared["width"] / 2 - await place_of(page, ended)) <= NEAR

    decision, command = await box(page, "decision"), await box(page, "command")
    sent = next(each for each in entries if each.kind == "command")
    assert sent.type == "response.cancel"
    assert abs(command["x"] + command["width"] / 2 - await place_of(page, since(call, sent))) <= NEAR
    assert decision["x"] <= command["x"] + NEAR
    # one above the other, with a line between them in the colour of policies
    assert decision["y"] + decision["height"] < command["y"]
    between = (decision["x"] + command["x"]) / 2 + 7, (decision["y"] + decision["height"] + command["y"]) / 2
    beside, on_line = await page.evaluate(_INK, [between[0] - 1.5, between[1]])
    assert beside != on_line


async def test_who_moves_the_window_of_a_live_call_is_left_alone_until_they_follow_it_again(
    browser: Browser, tmp_path: Path
) -> None:
    async with staged(tmp_path, SETTING, pace=1.0, begin="attached", scenario=SCENARIO) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        async with dashboard(browser, stage.daemon.operator_url, stage.key, f"/calls/{call_id}") as shown:
            page = shown.page
            stage.simulator.release(call_id)
            await shown.until(f"{TIMELINE}.boxes().some(({{kind}}) => kind === 'heard')")
            follow = page.get_by_role("button", name="Follow", exact=True)
            await follow.click()
            await expect(follow).to_have_attribute("aria-pressed", "true")
            await page.get_by_role("button", name="Zoom in").click()
            assert (await page.evaluate(f"{TIMELINE}.view"))["follows"] == "follow"
            await page.locator(".tl-plot").focus()
            await page.keyboard.press("Shift+ArrowLeft")
            moved = await page.evaluate(f"{TIMELINE}.view")
            assert moved["follows"] == "free"
            grown = await page.evaluate(f"{TIMELINE}.nowMs")
            await shown.until(f"{TIMELINE}.nowMs > {grown} + 1500")
            assert await page.evaluate(f"{TIMELINE}.view") == moved
            await follow.click()
            assert (await page.evaluate(f"{TIMELINE}.view"))["from_ms"] > moved["from_ms"]


async def test_who_may_not_look_any_more_is_asked_to_sign_in(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SETTING, pace=1.0, begin="attached", scenario=SCENARIO) as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        now = SystemClock().now_us()
        key = keys.create(stage.path, name="brief", now_us=now)
        [brief] = [each for each in keys.every(stage.path) if each.name == "brief"]
        async with dashboard(browser, stage.daemon.operator_url, key, f"/calls/{call_id}") as shown:
            await expect(shown.page.locator(".tl-state")).to_have_text("Live")
            assert keys.revoke(stage.path, brief.key_id, now_us=now)
            await expect(shown.page).to_have_url(re.compile(f"/login\\?next=%2Fcalls%2F{call_id}"))
            # Chromium tells of each refusal
            shown.complaints.clear()


async def test_a_lost_connection_is_told_of_and_found_again(browser: Browser, tmp_path: Path) -> None:
    async with (
        simulating(pace=1.0, scenario=SCENARIO) as simulator,
        AsyncExitStack() as first_run,
        AsyncExitStack() as page_open,
    ):
        stage = await first_run.enter_async_context(serving(simulator, tmp_path / "calls.db", SETTING))
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        url = stage.daemon.operator_url
        shown = await page_open.enter_async_context(dashboard(browser, url, stage.key, f"/calls/{call_id}"))
        state = shown.page.locator(".tl-state")
        await expect(state).to_have_text("Live")
        await first_run.aclose()
        await expect(state).to_have_text("The connection was lost. Trying again")
        again = replace(stage.config, operator=Operator(port=int(url.rpartition(":")[2])))
        async with running(again, SETTING.policies):
            await expect(state).to_have_text("Live")
            simulator.release(call_id)
            await expect(shown.page.locator("#transcript")).to_contain_text(ASKED)
            # of what could not be reached, Chromium tells on its console
            assert [each for each in shown.complaints if "net::ERR_" not in each] == []
            shown.complaints.clear()
            await page_open.aclose()
