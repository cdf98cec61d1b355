"""A person talks with the model on the demo page: clicks, talks, hears, interrupts, types, ends."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from rtobserver.config.sections import FilePath, Public
from rtobserver.demo import PAGE, demonstrating
from rtobserver.simulator.scenario import BargeIn, Scenario
from tests.browser.chromium import browsing, flows_both_ways, tab
from tests.browser.dashboard import lawful
from tests.browser.sounds import write_voice
from tests.support.stage import SESSION, Setting, staged
from tests.support.watch import Watch

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASKED = "Tell me about your day."
# longer than anybody needs to cut in: nothing here is listened to up to its end
STORY = "It began early, with a long queue of questions about parcels that had not arrived. " * 8
STOPPED = "Wait, I have a question."
SCENARIO = Scenario(
    name="talk",
    voice="caller",
    ending="stay",
    steps=(BargeIn(user=ASKED, assistant=STORY.strip(), interruption=STOPPED, answer="Of course, what is it?"),),
    replies=("The shop opens at nine, and it closes at six, except on Sundays, when it is closed all day. " * 6,),
)
SESSION_WITH_WORDS = SESSION | {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
SETTING = Setting(public=Public(static_dir=FilePath(str(PAGE))), profile={"session": SESSION_WITH_WORDS})
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def lines(page: Page, role: str) -> Locator:
    return page.locator(f'#transcript li[data-role="{role}"]')


def events(page: Page, kind: str) -> Locator:
    return page.locator("#events code").get_by_text(kind, exact=True)


def read_private(path: Path) -> str:
    assert path.stat().st_mode & 0o077 == 0
    return path.read_text()


async def photograph(page: Page, folder: Path, name: str) -> None:
    await page.screenshot(path=folder / f"demo-page-{name}.png", full_page=True)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "context"),
    [("desktop", DESKTOP), ("phone", PHONE), ("dark", DESKTOP | {"color_scheme": "dark"})],
    ids=["desktop", "phone", "dark"],
)
async def test_a_person_talks_hears_interrupts_types_and_ends(
    name: str, context: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    photos = request.config.rootpath / "artifacts"
    voice = write_voice(tmp_path / "voice.wav")
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered", scenario=SCENARIO) as stage,
        browsing(microphone=voice) as chromium,
        tab(chromium, stage.daemon.public_url, **context) as shown,
    ):
        page = shown.page
        await expect(page.get_by_role("status")).to_have_text("Not connected")
        await photograph(page, photos, f"{name}-before")
        await button(page, "Start a call").click()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        [call_id] = stage.simulator.calls
        await stage.until(call_id, status="live")

        # the voice in the file never pauses: to fall silent, one mutes
        await shown.until("document.querySelector('#microphone').value > 0.2")
        await button(page, "Mute").click()
        await expect(lines(page, "user")).to_have_text([f"You{ASKED}"])
        await shown.until("document.querySelector('#playback').value > 0.2")
        assert flows_both_ways(await shown.statistics_with(flows_both_ways))
        await photograph(page, photos, f"{name}-answer")

        await button(page, "Unmute").click()
        await expect(lines(page, "assistant").first).to_contain_text("interrupted")
        await button(page, "Mute").click()
        await expect(lines(page, "user")).to_have_text([f"You{ASKED}", f"You{STOPPED}"])
        await expect(lines(page, "assistant").last).to_have_text("ModelOf course, what is it?")
        await expect(events(page, "output_audio_buffer.stopped")).to_have_count(1)

        await page.get_by_label("Or type").fill("When does the shop open?")
        await page.keyboard.press("Enter")
        await expect(lines(page, "user").last).to_have_text("YouWhen does the shop open?")
        await expect(lines(page, "assistant").last).to_contain_text("The shop opens")
        await expect(events(page, "output_audio_buffer.started")).to_have_count(3)
        await button(page, "Interrupt").click()
        await expect(lines(page, "assistant").last).to_contain_text("interrupted")
        await photograph(page, photos, f"{name}-talked")

        await expect(page.locator("#call-id")).to_have_text(call_id)
        watch = Watch()
        await button(page, "End the call").click()
        await expect(page.get_by_role("status")).to_have_text("Call ended")
        row = await stage.ended(call_id)
        assert watch.seconds() < 2
        assert row["turn_count"] == 3
        # by voice; by the button it is one only if the answer was whole and still to be heard
        assert row["interruption_count"] in (1, 2)
        assert (row["error_count"], row["gap_count"]) == (0, 0)
        await photograph(page, photos, f"{name}-ended")
        assert shown.complaints == []


async def test_everything_can_be_done_by_keyboard_and_nothing_is_wider_than_a_phone(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered") as stage,
        tab(browser, stage.daemon.public_url, **PHONE) as shown,
    ):
        page = shown.page
        await page.keyboard.press("Tab")
        await expect(button(page, "Start a call")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("Connected")
        await page.get_by_label("Or type").focus()
        await page.keyboard.type("Hello.")
        await page.keyboard.press("Enter")
        await expect(lines(page, "assistant")).to_have_text(["ModelAll right."])
        # a reader hears each line once, when it is whole
        await expect(page.get_by_role("log")).to_have_text("You: Hello. Model: All right.")
        entry = page.locator("#events summary").first
        await entry.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#events pre").first).to_contain_text('"type": "session.created"')
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        await button(page, "End the call").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("Call ended")
        await expect(button(page, "Start a call")).to_be_focused()
        assert shown.complaints == []


async def test_what_a_model_says_is_shown_as_text_and_never_becomes_part_of_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    hostile = '<img src="x" onerror="document.title=1"><script>document.title=2</script>'
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered") as stage,
        tab(browser, stage.daemon.public_url) as shown,
    ):
        await button(shown.page, "Start a call").click()
        await expect(shown.page.get_by_role("status")).to_have_text("Connected")
        [call_id] = stage.simulator.calls
        content = [{"type": "output_text", "text": hostile}]
        item = {"id": "item_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
        stage.simulator.produce(call_id, {"type": "conversation.item.added", "item": item})
        stage.simulator.produce(call_id, {"type": hostile})
        stage.simulator.emit(call_id, "not JSON")
        await expect(lines(shown.page, "assistant")).to_have_text([f"Model{hostile}"])
        await expect(shown.page.locator("#events code").last).to_have_text("(not JSON)")
        assert await shown.page.locator("main img, main script").count() == 0
        assert shown.complaints == []


async def test_a_call_without_a_microphone_listens_and_types(tmp_path: Path) -> None:
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered") as stage,
        browsing(microphone="none") as chromium,
        tab(chromium, stage.daemon.public_url) as shown,
    ):
        page = shown.page
        await button(page, "Start a call").click()
        await button(page, "Go on without a microphone").click()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        await expect(page.get_by_role("alert")).to_be_empty()
        await expect(button(page, "Mute")).to_be_disabled()
        loudness_was = await shown.note_the_peak_of("#playback")
        await page.get_by_label("Or type").fill("Hello.")
        await button(page, "Send").click()
        await expect(lines(page, "assistant")).to_have_text(["ModelAll right."])
        await loudness_was(0.1)
        assert shown.complaints == []


async def test_it_says_when_the_other_side_ends_the_call(browser: Browser, tmp_path: Path) -> None:
    async with (
        staged(tmp_path, SETTING, media=True, pace=1.0, begin="answered") as stage,
        tab(browser, stage.daemon.public_url) as shown,
    ):
        await button(shown.page, "Start a call").click()
        await expect(shown.page.get_by_role("status")).to_have_text("Connected")
        [call_id] = stage.simulator.calls
        await stage.simulator.end_call(call_id)
        await expect(shown.page.get_by_role("status")).to_have_text("Call ended")
        await expect(shown.page.get_by_role("alert")).to_contain_text("The other side ended the call.")
        assert shown.complaints == []


async def test_rtobserver_demo_serves_it_with_somebody_to_talk_to_and_commands_that_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with (
        demonstrating(public_port=0, operator_port=0) as demo,
        browsing(microphone="none") as chromium,
        tab(chromium, demo.daemon.public_url) as shown,
    ):
        here = json.loads(await shown.page.evaluate("fetch('here.json').then((answer) => answer.text())"))
        key_file = here["key_file"]
        assert read_private(Path(key_file)) == demo.key
        page = shown.page
        await button(page, "Start a call").click()
        # a microphone would have its say in this conversation
        await button(page, "Go on without a microphone").click()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        loudness_was = await shown.note_the_peak_of("#playback")
        await page.get_by_label("Or type").fill("Hello.")
        await page.keyboard.press("Enter")
        await expect(lines(page, "assistant")).to_contain_text(["I heard you"])
        await loudness_was(0.1)
        call_id = await page.locator("#call-id").text_content()
        await expect(page.locator("#read-call")).to_have_text(
            f'curl -s -H "Authorization: Bearer $(cat {key_file})" {demo.daemon.operator_url}/api/v1/calls/{call_id}'
        )
        await expect(page.locator("#key-hint")).to_be_hidden()
        await lawful(page)
        # the link of the terminal signs this browser in; then the call is looked at while it goes on
        signed_in = await page.context.new_page()
        await signed_in.goto(demo.door)
        await expect(signed_in).to_have_url(f"{demo.daemon.operator_url}/")
        async with page.expect_popup() as opened:
            await page.get_by_role("link", name="dashboard").click()
        look = await opened.value
        await expect(look).to_have_url(f"{demo.daemon.operator_url}/calls/{call_id}")
        await expect(look.get_by_role("button", name="Sign out")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        assert shown.complaints == []
