"""Sign in to the dashboard with a browser, and judge what it shows: complaints, access for everybody, looks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.chromium import Tab, tab

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
PHOTOS = Path(__file__).resolve().parents[2] / "artifacts" / "pages"

_AXE = Path(__file__).with_name("axe") / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_LOOK = """async (rules) => {
    const {violations} = await axe.run(document, {runOnly: rules, resultTypes: ["violations"]});
    return violations.map(({id, impact, help, nodes}) =>
        [impact, `${id}: ${help}: ${nodes.map((node) => `${node.html} (${node.failureSummary})`).join("; ")}`]);
}"""
_SETTLED = """() => Promise.all(document.getAnimations().map((each) => each.finished.catch(() => null)))"""


@asynccontextmanager
async def dashboard(browser: Browser, url: str, key: str, path: str = "/", **context: Any) -> AsyncIterator[Tab]:
    """Show a page of the operator listener at `url` to somebody who has signed in with a key.

    Leaving the block fails if the page has complained of anything: errors on the console,
    exceptions, violations of its policy. A test that wants an error takes it out of `complaints`.
    """

    async def sign_in(opened: BrowserContext) -> None:
        answer = await opened.request.post(
            f"{url}/login", form={"key": key, "next": "/"}, headers={"Origin": url}, max_redirects=0
        )
        assert answer.status == 303, await answer.text()

    async with tab(browser, f"{url}{path}", sign_in, **({"viewport": DESKTOP} | context)) as shown:
        yield shown
        assert shown.complaints == [], "\n".join(shown.complaints)


async def lawful(page: Page) -> None:
    """Fail on what seriously keeps somebody from using the page (WCAG 2, A and AA)."""
    # evaluated from outside, which the page's own policy does not hinder
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_AXE.read_text())
    found = await page.evaluate(_LOOK, _RULES)
    serious = [words for impact, words in found if impact in ("serious", "critical")]
    # in words of our own: pytest explains no assertion outside of test modules
    assert serious == [], "\n".join(serious)


async def screenshots(page: Page, name: str) -> None:
    """Keep what the page looks like as NAME-light, NAME-dark and NAME-phone, and fail if a phone is too narrow for it.

    Each look is judged by `lawful`, since colours differ. The page is left light and wide.
    """
    PHOTOS.mkdir(parents=True, exist_ok=True)
    for look, scheme, size in (("dark", "dark", DESKTOP), ("phone", "light", PHONE), ("light", "light", DESKTOP)):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.set_viewport_size(size)  # type: ignore[arg-type]
        await page.evaluate(_SETTLED)
        await lawful(page)
        await page.screenshot(path=PHOTOS / f"{name}-{look}.png", full_page=True)
        wide = await page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= size["width"], f"{look}: {wide} pixels wide"
