"""Drive Debian's Chromium, and see all that a page complains of."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.browser import tools

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that anything may take whose speed is not what a test is about."""

_ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # a machine without a network has no other address
    "--allow-loopback-in-peer-connection",
)
_WATCH = """
    window.connections = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...words) { super(...words); window.connections.push(this); }
    };
    addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""
_PEAK = """(selector) => {
    const meter = document.querySelector(selector), peaks = window.peaks ??= {};
    const note = () => { peaks[selector] = Math.max(peaks[selector] ?? 0, meter.value); };
    note();
    new MutationObserver(note).observe(meter, { attributeFilter: ["value"] });
}"""
_STATISTICS = """async () => {
    const told = {};
    for (const connection of window.connections)
        for (const report of (await connection.getStats()).values())
            if (report.kind === "audio" || report.type === "data-channel") told[report.type] = report;
    return told;
}"""


@dataclass
class Tab:
    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors on the console, uncaught exceptions and violations of the page's policy."""

    async def until(self, condition: str, patience: float = PATIENCE) -> None:
        """Wait for a JavaScript expression to become true."""

        async def look() -> bool:
            # not Playwright's own waiting, which uses eval: the page's policy forbids that
            return bool(await self.page.evaluate(condition))

        await until(look, patience)

    async def note_the_peak_of(self, meter: str) -> Callable[[float], Awaitable[None]]:
        """Watch a meter (a CSS selector) from now on; what is given waits until it has been above a level."""
        await self.page.evaluate(_PEAK, meter)

        async def has_been_above(level: float) -> None:
            await self.until(f"window.peaks[{json.dumps(meter)}] > {level}")

        return has_been_above

    async def statistics(self) -> Json:
        """Give the last report of each type about audio and the data channel (`inbound-rtp`, `outbound-rtp`)."""
        told: Json = await self.page.evaluate(_STATISTICS)
        return told

    async def statistics_with(self, condition: Callable[[Json], bool]) -> Json:
        """Wait until the statistics are as wanted, and give them."""

        async def look() -> Json | None:
            told = await self.statistics()
            return told if condition(told) else None

        return await until(look)

    async def logged(self, text: str, patience: float = PATIENCE) -> None:
        """Wait until one of the article's pages has written a line with this text."""
        lines = self.page.locator("#logContainer p", has_text=text)
        await lines.first.wait_for(timeout=patience * 1000)

    def _hear(self, message: ConsoleMessage) -> None:
        # the article's pages name no icon, and Chromium asks for one all the same
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            self.complaints.append(message.text)


async def until(look: Callable[[], Awaitable[T | None]], patience: float = PATIENCE) -> T:
    """Look again and again until there is something."""
    async with asyncio.timeout(patience):
        while True:
            # no pause: each look is a message to another process and back
            if found := await look():
                return found


def flows_both_ways(told: Json) -> bool:
    """Say whether sound goes out and comes in, and is not silence."""
    inbound, outbound = told.get("inbound-rtp", {}), told.get("outbound-rtp", {})
    return bool(
        inbound.get("packetsReceived", 0) > 25
        and inbound.get("totalAudioEnergy", 0) > 0
        and outbound.get("packetsSent", 0) > 25
        and told.get("media-source", {}).get("totalAudioEnergy", 0) > 0
    )


@asynccontextmanager
async def browsing(
    *,
    microphone: Path | Literal["beep", "none", "refused"] = "beep",
    hosts: dict[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> AsyncIterator[Browser]:
    """Run a headless Chromium with a profile of its own, which can reach nothing but loopback and `hosts`."""
    mapped = [f"MAP {name} {address}" for name, address in (hosts or {}).items()]
    rules = ", ".join([*mapped, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1", "EXCLUDE localhost"])
    given = [*_ARGUMENTS, *_capture(microphone), f"--host-resolver-rules={rules}", *arguments]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=tools.chromium(), args=given)
        try:
            yield browser
        finally:
            await browser.close()


def _capture(microphone: Path | Literal["beep", "none", "refused"]) -> list[str]:
    match microphone:
        case "none":
            return ["--use-fake-ui-for-media-stream"]
        case "refused":
            return ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny"]
        case "beep":
            return ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        case Path():
            return [
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
            ]


@asynccontextmanager
async def tab(
    browser: Browser, url: str, before: Callable[[BrowserContext], Awaitable[object]] | None = None, /, **context: Any
) -> AsyncIterator[Tab]:
    """Open an address; `context` are Playwright's settings, such as `viewport` or `color_scheme`.

    `before` is done to the browser's context, before there is a page.
    """
    made = await browser.new_context(**context)
    try:
        if before is not None:
            await before(made)
        page = await made.new_page()
        shown = Tab(page)
        page.on("console", shown._hear)
        page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        await page.add_init_script(_WATCH)
        await page.goto(url)
        yield shown
    finally:
        await made.close()


async def kill_tabs(browser: Browser) -> None:
    """Kill every process of the browser that shows a page, as a crash or the system would."""
    session = await browser.new_browser_cdp_session()
    told = await session.send("SystemInfo.getProcessInfo")
    for process in told["processInfo"]:
        if process["type"] == "renderer":
            os.kill(process["id"], signal.SIGKILL)
