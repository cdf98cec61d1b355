"""`rtobserver simulate` with media, called from another process."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from rtobserver.simulator.caller import Caller
from tests.process.stage import command

pytestmark = pytest.mark.process

SESSION = {"type": "realtime", "model": "gpt-realtime"}


async def test_media_is_the_default_and_a_signal_ends_the_calls_that_go_on(tmp_path: Path) -> None:
    words = ("simulate", "--port", "0", "--scenario", "quiet")
    async with command(*words, folder=tmp_path) as simulator, aiohttp.ClientSession() as http:
        base_url = (await simulator.logged("listening"))["base_url"]
        async with http.post(
            f"{base_url}/realtime/client_secrets", headers={"api-key": "sim-key"}, json={"session": SESSION}
        ) as minted:
            secret = (await minted.json())["value"]
        url, headers = f"{base_url}/realtime/calls", {"authorization": f"Bearer {secret}"}
        async with Caller(url, headers=headers, http=http) as caller:
            caller.send({"type": "response.create"})
            await caller.until_event("output_audio_buffer.started")
            await caller.until(lambda: caller.heard_count > 0)
            assert await simulator.stopped() < 3
            await caller.until(lambda: caller.is_over)
