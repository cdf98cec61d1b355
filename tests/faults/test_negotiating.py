"""Upstream fails while a call is negotiated (case A09)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rtobserver.simulator.faults import EndpointFault, Faults
from tests.faults.ground import Site, site
from tests.faults.oracle import Json
from tests.faults.table import Case
from tests.process.stage import PATIENCE, Daemon
from tests.support.stage import OFFER

pytestmark = [pytest.mark.timeout(120)]

FAULTS = {
    "500": EndpointFault(status=500),
    "502": EndpointFault(status=502, body="<html>bad gateway", content_type="text/html"),
    "503": EndpointFault(status=503, retry_after="3"),
    "breaks": EndpointFault(drop=True),
    "breaks_late": EndpointFault(drop_after=True),
    "silent": EndpointFault(hang=True),
}


async def offered(daemon: Daemon) -> tuple[int, Json, float]:
    """Post an offer; gives the answer's status and body, and how long it took."""
    began = time.monotonic()
    headers = {"Content-Type": "application/sdp"}
    async with daemon.http.post(f"{daemon.public}/connect", data=OFFER.encode(), headers=headers) as answer:
        problem: Json = await answer.json()
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        return answer.status, problem, time.monotonic() - began


async def shown(case: Case, here: Site, daemon: Daemon, **more: Any) -> None:
    """Show what upstream was asked for, and let the daemon end."""
    asked = [each.path.rpartition("/")[2] for each in here.simulator.requests if each.method == "POST"]
    # a call that upstream made and that nobody can use was hung up
    alive = [call_id for call_id, call in here.simulator.calls.items() if call.ended is None]
    case.show(await here.figures(daemon, []), offers_sent=asked.count("calls"), left_running=len(alive), **more)
    assert asked.count("calls") <= 1
    assert asked.count("client_secrets") <= 2
    await daemon.command.stopped()


@pytest.mark.parametrize("step", ["client_secrets", "calls"])
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.case("A09")
async def test_an_upstream_that_fails_is_told_in_time_and_no_second_call_is_paid_for(
    case: Case, tmp_path: Path, step: str, name: str
) -> None:
    fault = FAULTS[name]
    faults = Faults(client_secrets=fault) if step == "client_secrets" else Faults(calls=fault)
    async with site(tmp_path, faults=faults) as here, here.serving() as daemon:
        status, problem, took = await offered(daemon)
        await shown(case, here, daemon, status=status, code=problem["error"]["code"], took_s=round(took, 2))
        assert status in (502, 503, 504)
        # ten seconds are a request's; two are this machine's
        assert took < 12


@pytest.mark.quarter
@pytest.mark.case("A09")
async def test_an_upstream_that_refuses_connections_is_a_503(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, proxied=True) as here, here.serving() as daemon:
        assert here.proxy is not None
        here.proxy.refuses = True
        status, problem, took = await offered(daemon)
        await shown(case, here, daemon, status=status, code=problem["error"]["code"], took_s=round(took, 2))
        assert (status, len(here.simulator.requests)) == (503, 0)


@pytest.mark.case("A09")
async def test_an_offer_whose_connection_is_reset_is_not_sent_again(case: Case, tmp_path: Path) -> None:
    faults = Faults(calls=EndpointFault(delay=1.0))
    async with (
        site(tmp_path, proxied=True, faults=faults) as here,
        here.serving() as daemon,
        asyncio.TaskGroup() as tasks,
    ):
        assert here.proxy is not None
        offering = tasks.create_task(offered(daemon), name="offer")
        # the offer has arrived, its answer has not
        await here.simulator.until(lambda: len(here.simulator.requests) == 2, PATIENCE)
        for link in here.proxy.links:
            link.reset()
        status, problem, took = await offering
        await shown(case, here, daemon, status=status, code=problem["error"]["code"], took_s=round(took, 2))
        assert status in (502, 503)
