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

ALL_SECONDS = 10.0
"""Within them the browser knows, but where upstream keeps silent: then design 4 stands, which gives each request ten
seconds and a negotiation twenty."""
OWN_SECONDS = 0.5
"""What our own part of that may be on a busy machine, from the end of a deadline to the browser's answer."""

FAULTS = {
    "500": EndpointFault(status=500),
    "502": EndpointFault(status=502, body="<html>bad gateway", content_type="text/html"),
    "503": EndpointFault(status=503, retry_after="3"),
    "breaks": EndpointFault(drop=True),
    "breaks_late": EndpointFault(drop_after=True),
    "silent": EndpointFault(hang=True),
}
OFTEN = (
    *(("500", "calls"), ("502", "calls"), ("503", "client_secrets")),
    *(("breaks", "client_secrets"), ("breaks_late", "calls"), ("breaks_late", "client_secrets")),
)
"""Those that every run has."""


async def offered(daemon: Daemon) -> tuple[int, Json, float]:
    """Post an offer; gives the answer's status and body, and how long it took."""
    began = time.monotonic()
    headers = {"Content-Type": "application/sdp"}
    async with daemon.http.post(f"{daemon.public}/connect", data=OFFER.encode(), headers=headers) as answer:
        problem: Json = await answer.json()
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        return answer.status, problem, time.monotonic() - began


async def shown(case: Case, here: Site, daemon: Daemon, *, excuse: str = "", **more: Any) -> None:
    """Show what upstream was asked for, and let the daemon end.

    Where upstream's answer to the offer broke off, nobody learns the id of the call that it made: it is forgotten.
    """
    asked = [each.path.rpartition("/")[2] for each in here.simulator.requests if each.method == "POST"]
    # a call that upstream made and that nobody can use was hung up
    alive = [call_id for call_id, call in here.simulator.calls.items() if call.ended is None]
    figures = await here.figures(daemon, [], excuse=excuse)
    forgotten = len(alive) if excuse else 0
    case.show(figures, forgotten=forgotten, offers_sent=asked.count("calls"), left_running=len(alive), **more)
    assert asked.count("calls") <= 1
    assert asked.count("client_secrets") <= 2
    await daemon.command.stopped()


@pytest.mark.parametrize(
    ("name", "step"),
    [
        pytest.param(name, step, marks=[pytest.mark.quarter] if (name, step) in OFTEN else [])
        for name in FAULTS
        for step in ("client_secrets", "calls")
    ],
)
@pytest.mark.case("A09")
async def test_an_upstream_that_fails_is_told_in_time_and_no_second_call_is_paid_for(
    case: Case, tmp_path: Path, step: str, name: str
) -> None:
    fault = FAULTS[name]
    faults = Faults(client_secrets=fault) if step == "client_secrets" else Faults(calls=fault)
    async with site(tmp_path, faults=faults) as here, here.serving() as daemon:
        status, problem, took = await offered(daemon)
        # from when upstream had the request that failed
        waited = time.time() - here.simulator.requests[-1].at
        told = {"status": status, "code": problem["error"]["code"], "took_s": round(took, 2)}
        excuse = "the answer broke off" if (name, step) == ("breaks_late", "calls") else ""
        await shown(case, here, daemon, excuse=excuse, **told, waited_s=round(waited, 2))
        assert status in (502, 503, 504)
        if name == "silent":
            assert status == 504
            assert waited <= ALL_SECONDS + OWN_SECONDS
        else:
            assert took <= ALL_SECONDS


@pytest.mark.case("A09")
async def test_a_negotiation_in_which_upstream_is_late_twice_is_over_within_twenty_seconds(
    case: Case, tmp_path: Path
) -> None:
    faults = Faults(client_secrets=EndpointFault(delay=8.0), calls=EndpointFault(hang=True))
    async with site(tmp_path, faults=faults) as here, here.serving() as daemon:
        status, problem, took = await offered(daemon)
        await shown(case, here, daemon, status=status, code=problem["error"]["code"], took_s=round(took, 2))
        assert status == 504
        assert took <= 2 * ALL_SECONDS


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
        await shown(
            case,
            here,
            daemon,
            excuse="the answer broke off",
            status=status,
            code=problem["error"]["code"],
            took_s=round(took, 2),
        )
        assert status in (502, 503)
