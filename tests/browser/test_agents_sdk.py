"""OpenAI's Agents SDK connects through the daemon when only URL and key are changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser

from rtobserver.config.sections import FilePath, Public
from rtobserver.simulator.scenario import ToolCall
from tests.browser import tools
from tests.browser.chromium import Tab, flows_both_ways, tab
from tests.support.stage import Setting, Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="session")

STALL_SECONDS = 5.0
"""How long the SDK waits for a `session.updated` that the filter keeps from it (docs/clients.md)."""


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """Serve the page from an origin of its own."""
    app = web.Application()
    app.router.add_static("/", tools.clients_page())
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def connect(shown: Tab, stage: Stage, query: str = "") -> float:
    """Connect as the SDK's users do; gives the seconds that it took."""
    words = {"url": f"{stage.daemon.public_url}/v1/realtime/calls{query}", "apiKey": await stage.token()}
    milliseconds: float = await shown.page.evaluate("(words) => client.connect(words)", words)
    return milliseconds / 1000


@pytest.mark.parametrize("is_foreign", [False, True], ids=["same origin", "another origin"])
async def test_it_connects_holds_a_turn_with_a_tool_and_knows_its_calls_id(
    *, is_foreign: bool, browser: Browser, tmp_path: Path
) -> None:
    async with site() as elsewhere:
        public = Public(static_dir=FilePath(str(tools.clients_page())), allowed_origins=(elsewhere,))
        simulation: dict[str, Any] = {"media": True, "pace": 1.0, "begin": "answered"}
        async with staged(tmp_path, Setting(public=public), **simulation) as stage:
            origin = elsewhere if is_foreign else stage.daemon.public_url
            async with tab(browser, f"{origin}/index.html") as shown:
                await connect(shown, stage)
                # what it would have waited for in vain was there
                assert "session.updated" in await shown.page.evaluate("client.transport")
                [call_id] = stage.simulator.calls
                assert await shown.page.evaluate("client.callId") == call_id

                # nobody but the page answers the function call
                stage.simulator.perform(call_id, ToolCall(output="", assistant="It is clear in Oslo.", patience=10.0))
                await shown.until("client.said.includes('It is clear in Oslo.')")
                assert await shown.page.evaluate("client.toolCalls") == ["Oslo"]
                assert flows_both_ways(await shown.statistics_with(flows_both_ways))
                assert await shown.page.evaluate("client.errors") == []
                assert shown.complaints == []

                await shown.page.evaluate("client.session.close()")
                row = await stage.ended(call_id)
                assert (row["error_count"], row["gap_count"]) == (0, 0)
                outputs = [
                    entry.body["item"]["output"]
                    for entry in await stage.entries(call_id, "?type=conversation.item.added")
                    if entry.body["item"]["type"] == "function_call_output"
                ]
                assert outputs == ["In Oslo the sky is clear."]


async def test_with_the_filter_on_it_stalls_for_five_seconds_and_then_misses_function_calls_and_the_ends_of_answers(
    browser: Browser, tmp_path: Path
) -> None:
    public = Public(static_dir=FilePath(str(tools.clients_page())))
    setting = Setting(public=public, profile={"webrtcfilter": "on"})
    async with (
        staged(tmp_path, setting, media=True, pace=1.0, begin="answered") as stage,
        tab(browser, f"{stage.daemon.public_url}/index.html") as shown,
    ):
        seconds = await connect(shown, stage)
        assert seconds >= STALL_SECONDS
        [call_id] = stage.simulator.calls
        assert await shown.page.evaluate("client.callId") == call_id
        stage.simulator.perform(call_id, ToolCall(output=""))
        await stage.until_stored(call_id, lambda entries: "response.done" in [entry.type for entry in entries])
        await shown.page.evaluate("client.session.sendMessage('Say something.')")
        await shown.until("client.transport.includes('response.output_audio_transcript.done')")
        assert await shown.page.evaluate("client.toolCalls") == []
        heard = await shown.page.evaluate("client.transport")
        assert not {"session.created", "session.updated", "response.done"} & set(heard)
