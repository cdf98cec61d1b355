"""`rtobserver serve` with a webhook that does not answer, at its end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.process.stage import Watch, configure, ground
from tests.process.test_killed import simulator
from tests.upstream.raw_peer import Peer, answer, peer, silence
from tests.web.wire import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def notifying(endpoint: Peer) -> str:
    return f"""
[[webhook]]
id = "alerts"
url = "{endpoint.url}"

[[policy]]
id = "tells"
mode = "enforce"
after = "50ms"
do = [{{ webhook = "alerts" }}]
"""


async def test_what_a_webhook_does_not_take_is_lost_after_seconds_and_counted(tmp_path: Path) -> None:
    async with peer() as endpoint, ground(tmp_path, simulator()) as here:
        endpoint.will(silence)
        configure(tmp_path, here.simulator.base_url, more=notifying(endpoint))
        async with here.serving() as daemon:
            await daemon.place()
            await until(lambda: len(endpoint.asked) == 1)
            watch = Watch()
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.command.logged("webhooks_draining", notifications=1)
            await daemon.command.logged("notifications_lost", count=1)
            code, _, log = await daemon.command.ended()
            assert (code, "Traceback" in log) == (0, False), log
            assert watch.seconds() < 10


async def test_a_second_signal_waits_for_no_webhook(tmp_path: Path) -> None:
    async with peer() as endpoint, ground(tmp_path, simulator()) as here:
        endpoint.will(silence)
        configure(tmp_path, here.simulator.base_url, more=notifying(endpoint))
        async with here.serving() as daemon:
            await daemon.place()
            await until(lambda: len(endpoint.asked) == 1)
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.command.logged("webhooks_draining")
            watch = Watch()
            daemon.process.send_signal(signal.SIGTERM)
            code, _, log = await daemon.command.ended()
            assert (code, "Traceback" in log) == (0, False), log
            assert watch.seconds() < 3


async def test_what_was_decided_before_the_end_is_delivered_before_it(tmp_path: Path) -> None:
    async with peer() as endpoint, ground(tmp_path, simulator()) as here:
        endpoint.will(answer(500), answer(204))
        configure(tmp_path, here.simulator.base_url, more=notifying(endpoint).replace("50ms", "100ms"))
        async with here.serving() as daemon:
            call_id = await daemon.place()
            await until(lambda: len(endpoint.asked) == 1)
            await daemon.command.logged("webhook_failing")
            await daemon.command.stopped()
    assert [asked.json["data"]["call_id"] for asked in endpoint.asked] == [call_id, call_id]
