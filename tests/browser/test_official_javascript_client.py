"""OpenAI's package for JavaScript works against the daemon when only base URL and key are changed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.browser.tools import CLIENTS, node
from tests.support.stage import OFFER, staged


@pytest.mark.parametrize("prefix", ["/openai/v1", "/v1"])
async def test_openais_javascript_package_mints_a_secret_opens_calls_and_hangs_up(prefix: str, tmp_path: Path) -> None:
    offer = tmp_path / "offer.sdp"
    offer.write_bytes(OFFER.encode())
    async with staged(tmp_path) as stage:
        process = await asyncio.create_subprocess_exec(
            node(),
            CLIENTS / "server.js",
            f"{stage.daemon.public_url}{prefix}",
            offer,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        told = json.loads(out)

        assert (told["secret"], told["status"], told["answer"]) == ("ek_", 201, "v=0")
        assert told["location"].startswith(f"{prefix}/realtime/calls/rtc_")
        first, second = (told[name].rpartition("/")[2] for name in ("location", "withSession"))
        assert stage.simulator.calls[first].offer == OFFER
        assert stage.simulator.calls[second].offer == OFFER
        await stage.ended(first, "hung_up")
        await stage.until(second, status="live")
        assert told["refusal"]["name"] == "BadRequestError"
        assert (told["refusal"]["status"], told["refusal"]["code"]) == (400, "invalid_offer")
        assert "offer" in told["refusal"]["message"].lower()
