"""The article's own pages work against rtobserver in a real browser, with real media."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from rtobserver.config.sections import FilePath, Public
from rtobserver.simulator.options import SimulatorOptions
from rtobserver.simulator.server import Simulator
from tests.browser.certificates import certify
from tests.browser.chromium import browsing, flows_both_ways, tab
from tests.process.stage import ground
from tests.support import outside
from tests.support.stage import Setting, Stage, staged
from tests.support.watch import Watch

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESOURCE = "demo-res"
SPARE_ADDRESS = "127.0.0.77"


def heard_by_sidebands(stage: Stage, call_id: str) -> list[bytes]:
    """Give the frames that upstream sent to sidebands; only the greeting of the data channel goes to nobody else."""
    produced = stage.simulator.calls[call_id].produced
    [greeting] = [frame for frame in produced if not frame.sidebands]
    assert b'"type":"session.created"' in greeting.frame
    return [frame.frame for frame in produced if frame.sidebands]


async def test_the_connect_page_works_unchanged_and_all_that_it_caused_is_recorded(
    browser: Browser, tmp_path: Path
) -> None:
    page = outside.page("connect_page.html")
    setting = Setting(public=Public(static_dir=FilePath(str(page.parent))))
    async with (
        staged(tmp_path, setting, media=True, pace=1.0, begin="answered") as stage,
        tab(browser, f"{stage.daemon.public_url}/{page.name}") as shown,
    ):
        async with stage.http.get(shown.page.url) as served:
            assert await served.read() == page.read_bytes()
        await shown.page.get_by_role("button", name="Start Session").click()
        await shown.logged("Response completed")
        await shown.logged("Connection state: connected")
        told = await shown.statistics_with(flows_both_ways)
        assert told["data-channel"]["state"] == "open"
        assert told["data-channel"]["messagesReceived"] > 10
        [call_id] = stage.simulator.calls
        await stage.until(call_id, status="live")
        watch = Watch()
        await shown.page.get_by_role("button", name="Close Session").click()
        row = await stage.ended(call_id)
        assert watch.seconds() < 2
        assert (row["turn_count"], row["gap_count"], row["completeness"]) == (1, 0, "complete")
        assert await stage.events(call_id) == heard_by_sidebands(stage, call_id)
        assert shown.complaints == []


async def test_the_direct_page_works_with_passed_through_secrets_when_its_placeholder_is_replaced(
    tmp_path: Path,
) -> None:
    page = outside.page("direct_page.html").read_bytes()
    assert page.count(b"<your azure resource>") == 1
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_bytes(page.replace(b"<your azure resource>", RESOURCE.encode()))
    host = f"{RESOURCE}.openai.azure.com"
    certificate = certify(tmp_path, host, SPARE_ADDRESS)
    upstream = Simulator(
        SimulatorOptions(
            host=SPARE_ADDRESS, media=True, tls_cert=certificate.path, tls_key=certificate.key, scenario="quiet"
        )
    )
    async with ground(tmp_path, upstream) as site:
        environ = {
            "SSL_CERT_FILE": str(certificate.authority),
            "RTOBSERVER_PUBLIC__STATIC_DIR": str(web),
            "RTOBSERVER_PUBLIC__TOKEN_MODE": "passthrough",
        }
        address = upstream.origin.removeprefix("https://")
        async with (
            site.serving(**environ) as daemon,
            browsing(hosts={host: address}) as chromium,
            tab(chromium, daemon.public, ignore_https_errors=True) as shown,
        ):
            await shown.page.get_by_role("button", name="Start Session").click()
            await shown.logged("Connection state: connected")
            # of an answer in words the filter lets nothing else through
            await shown.logged('"type": "response.output_audio_transcript.done"')
            told = await shown.statistics_with(flows_both_ways)
            assert told["data-channel"]["state"] == "open"
            [call] = upstream.calls.values()
            assert call.query == {"webrtcfilter": "on"}
            assert await shown.page.locator("#logContainer p", has_text="response.done").count() == 0
            assert (await daemon.get("/calls"))["data"] == []
            await shown.page.get_by_role("button", name="Close Session").click()
            await upstream.until(lambda: call.ended is not None)
            assert shown.complaints == []
