"""The demo page bears what it did not ask for: odd events, filters, silences, and people who use no mouse."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from rtobserver.config.sections import FilePath, Public
from rtobserver.demo import PAGE, demonstrating
from rtobserver.simulator.scenario import Scenario, Spoken
from tests.browser.chromium import Tab, browsing, tab
from tests.support.stage import Setting, Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="session")

PUBLIC = Public(static_dir=FilePath(str(PAGE)))
SERVED = Setting(public=PUBLIC)
"""In the stage's session nothing that is spoken is transcribed."""
WITH_MEDIA: dict[str, Any] = {"media": True, "pace": 1.0, "begin": "answered"}
ODD: list[Any] = [
    None,
    [],
    7,
    "text",
    {},
    {"type": None},
    {"type": "response.done"},
    {"type": "response.done", "response": {"status": "cancelled"}},
    {"type": "response.done", "response": {"status": "cancelled", "output": [None]}},
    {"type": "response.output_item.added"},
    {"type": "conversation.item.added"},
    {"type": "conversation.item.added", "item": {"type": "message"}},
    {"type": "conversation.item.added", "item": {"type": "message", "id": "odd", "role": "user", "content": [None, 1]}},
    {"type": "conversation.item.added", "item": {"type": "function_call", "id": "odd_call"}},
    {"type": "conversation.item.deleted"},
    {"type": "conversation.item.truncated"},
    {"type": "response.output_audio_transcript.delta"},
    {"type": "response.output_text.delta", "item_id": "odd", "delta": {}},
    {"type": "response.output_text.done", "item_id": "odd", "text": 5},
    {"type": "session.updated"},
    {"type": "error"},
]
_COUNT_ANALYSERS = """
    window.analysers = 0;
    window.AnalyserNode = class extends AnalyserNode {
        constructor(...words) { super(...words); window.analysers += 1; }
    };
"""
_NEVER_OPEN = """
    const listen = RTCDataChannel.prototype.addEventListener;
    RTCDataChannel.prototype.addEventListener = function (name, ...rest) {
        if (name !== "open") listen.call(this, name, ...rest);
    };
    Object.defineProperty(RTCDataChannel.prototype, "readyState", { get: () => "connecting" });
"""


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def lines(page: Page, role: str) -> Locator:
    return page.locator(f'#transcript li[data-role="{role}"]')


async def start(page: Page) -> None:
    await button(page, "Start a call").click()
    await expect(page.get_by_role("status")).to_have_text("Connected")


async def become(page: Page, state: str) -> None:
    """Have the page's connection say that it is in this state."""
    await page.evaluate(
        """(state) => {
            Object.defineProperty(connections[0], "connectionState", { value: state, configurable: true });
            connections[0].dispatchEvent(new Event("connectionstatechange"));
        }""",
        state,
    )


@asynccontextmanager
async def calling(
    browser: Browser, folder: Path, setting: Setting = SERVED, **options: Any
) -> AsyncIterator[tuple[Tab, Stage, str]]:
    """Open the page and start a call; at its end the page may have complained of nothing."""
    async with (
        staged(folder, setting, **(WITH_MEDIA | options)) as stage,
        tab(browser, stage.daemon.public_url) as shown,
    ):
        await start(shown.page)
        [call_id] = stage.simulator.calls
        yield shown, stage, call_id
        assert shown.complaints == []


async def test_events_of_any_shape_are_listed_and_break_nothing(browser: Browser, tmp_path: Path) -> None:
    async with calling(browser, tmp_path) as (shown, stage, call_id):
        for event in ODD:
            stage.simulator.emit(call_id, json.dumps(event))
        stage.simulator.emit(call_id, b"\x00\xff")
        stage.simulator.produce(call_id, {"type": "last"})
        await expect(shown.page.locator("#events code").last).to_have_text("last")
        await expect(shown.page.locator("#events code").get_by_text("(not an event)")).to_have_count(6)


async def test_a_line_goes_when_its_item_is_deleted(browser: Browser, tmp_path: Path) -> None:
    async with calling(browser, tmp_path) as (shown, stage, call_id):
        content = [{"type": "output_text", "text": "Forget this."}]
        item = {"id": "item_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
        stage.simulator.produce(call_id, {"type": "conversation.item.added", "item": item})
        await expect(lines(shown.page, "assistant")).to_have_text(["ModelForget this."])
        stage.simulator.produce(call_id, {"type": "conversation.item.deleted", "item_id": "item_1"})
        await expect(lines(shown.page, "assistant")).to_have_count(0)


async def test_one_can_mute_while_the_connection_is_interrupted_and_a_return_adds_no_second_meter(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        staged(tmp_path, SERVED, **WITH_MEDIA) as stage,
        tab(browser, stage.daemon.public_url) as shown,
    ):
        page = shown.page
        await page.add_init_script(_COUNT_ANALYSERS)
        await page.reload()
        await start(page)
        await shown.until("analysers === 2")
        for _ in range(2):
            await become(page, "disconnected")
            await expect(page.get_by_role("status")).to_have_text("Connection interrupted, waiting")
            await button(page, "Mute").click()
            assert await page.evaluate("connections[0].getSenders()[0].track.enabled") is False
            await button(page, "Unmute").click()
            await become(page, "connected")
            await expect(page.get_by_role("status")).to_have_text("Connected")
        assert await page.evaluate("analysers") == 2
        assert shown.complaints == []


async def test_the_keyboard_keeps_its_place_without_a_microphone_and_when_the_call_ends(tmp_path: Path) -> None:
    async with (
        staged(tmp_path, SERVED, **WITH_MEDIA) as stage,
        browsing(microphone="none") as chromium,
        tab(chromium, stage.daemon.public_url) as shown,
    ):
        page = shown.page
        await button(page, "Start a call").press("Enter")
        await button(page, "Go on without a microphone").press("Enter")
        await expect(button(page, "End the call")).to_be_focused()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        field = page.get_by_label("Or type")
        await field.press_sequentially("Half a se")
        [call_id] = stage.simulator.calls
        await stage.simulator.end_call(call_id)
        await expect(page.get_by_role("status")).to_have_text("Call ended")
        await expect(field).to_be_focused()
        await expect(field).to_have_value("Half a se")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("Call ended")

        await start_listening(page)
        await button(page, "Interrupt").focus()
        await stage.simulator.end_call(list(stage.simulator.calls)[-1])
        await expect(button(page, "Start a call")).to_be_focused()
        assert shown.complaints == []


async def start_listening(page: Page) -> None:
    await button(page, "Start a call").click()
    await button(page, "Go on without a microphone").click()
    await expect(page.get_by_role("status")).to_have_text("Connected")


async def test_that_a_command_was_copied_is_announced_and_forgotten(browser: Browser, tmp_path: Path) -> None:
    async with staged(tmp_path, SERVED) as stage, tab(browser, stage.daemon.public_url) as shown:
        page = shown.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.clock.install()
        await button(page, "Start a call").click()
        copying = button(page, "Copy the command that reads the call")
        await copying.click()
        await expect(page.locator("[aria-live]")).to_have_text("Copied")
        await expect(copying).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == await page.locator("#read-call").text_content()
        await page.clock.fast_forward(4_000)
        await expect(copying).to_have_text("Copy")
        await expect(page.locator("[aria-live]")).to_be_empty()
        assert shown.complaints == []


async def test_with_the_filter_on_what_one_types_is_shown_all_the_same(browser: Browser, tmp_path: Path) -> None:
    setting = Setting(public=PUBLIC, profile={"webrtcfilter": "on"})
    async with calling(browser, tmp_path, setting) as (shown, _, _):
        await shown.page.get_by_label("Or type").fill("Hello.")
        await shown.page.keyboard.press("Enter")
        await expect(lines(shown.page, "user")).to_have_text(["YouHello."])
        await expect(lines(shown.page, "assistant")).to_have_text(["ModelAll right."])


async def test_what_is_spoken_and_not_transcribed_is_said_to_be_so(browser: Browser, tmp_path: Path) -> None:
    spoken = Scenario(name="spoken", ending="stay", steps=(Spoken(user="Hello?", assistant="Yes?"),))
    async with calling(browser, tmp_path, scenario=spoken) as (shown, _, _):
        await expect(lines(shown.page, "assistant")).to_have_text(["ModelYes?"])
        await expect(lines(shown.page, "user")).to_have_text(["You(not transcribed)"])


async def test_it_says_that_only_the_data_channel_did_not_open(browser: Browser, tmp_path: Path) -> None:
    async with (
        staged(tmp_path, SERVED, **WITH_MEDIA) as stage,
        tab(browser, stage.daemon.public_url) as shown,
    ):
        page = shown.page
        await page.add_init_script(_NEVER_OPEN)
        await page.reload()
        await page.clock.install()
        await button(page, "Start a call").click()
        await shown.until("connections[0]?.connectionState === 'connected'")
        await expect(page.get_by_role("status")).to_have_text("Connecting")
        await page.clock.fast_forward(25_000)
        await expect(page.get_by_role("alert")).to_contain_text("The data channel to the model did not open.")
        assert shown.complaints == []


async def test_a_demonstration_without_media_says_what_brings_it(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "aiortc", None)
    async with (
        demonstrating(public_port=0, operator_port=0) as demo,
        tab(browser, demo.daemon.public_url) as shown,
    ):
        await expect(shown.page.get_by_text("This demonstration has no media")).to_be_visible()
        await expect(button(shown.page, "Start a call")).to_be_disabled()
        assert shown.complaints == []
