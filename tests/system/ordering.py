"""Give orders over HTTP and see what upstream got."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.stage import PATIENCE, Json, Stage


async def post(stage: Stage, path: str, body: Any = None) -> tuple[int, Json]:
    """Post to the operator's API."""
    headers = {"Authorization": f"Bearer {stage.key}"}
    async with stage.http.post(f"{stage.daemon.operator_url}/api/v1{path}", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def order(stage: Stage, call_id: str, what: str, body: Any = None) -> Json:
    """Give an order for a call."""
    status, given = await post(stage, f"/calls/{call_id}/{what}", body)
    assert status == 202, given
    assert given["state"] == "waiting"
    assert given["call_id"] == call_id
    return given


async def settled(stage: Stage, given: Json, *states: str, patience: float = PATIENCE) -> Json:
    """Wait until an order has one of these states."""
    now = given
    try:
        async with asyncio.timeout(patience):
            while now["state"] not in states:
                now = await stage.document(f"/api/v1/orders/{given['order_id']}")
    except TimeoutError:
        raise AssertionError(f"not {states}: {now}") from None
    return now


async def done(stage: Stage, call_id: str, what: str, body: Any = None, state: str = "acknowledged") -> Json:
    """Give an order and wait until it was carried out."""
    found = await settled(stage, await order(stage, call_id, what, body), "acknowledged", "failed", "expired")
    assert found["state"] == state, found
    return found


def sent(stage: Stage, call_id: str, type_: str = "") -> list[Json]:
    """Give the client events that upstream got from us."""
    events = [json.loads(event.message) for event in stage.simulator.calls[call_id].client_events]
    return [event for event in events if event["type"].startswith(type_)]


async def upstream_got(stage: Stage, call_id: str, type_: str, count: int = 1) -> list[Json]:
    """Wait until upstream got so many client events of a type."""
    await stage.simulator.until(lambda: len(sent(stage, call_id, type_)) >= count, PATIENCE)
    return sent(stage, call_id, type_)


async def live(stage: Stage) -> str:
    """Place a call and wait until it is observed."""
    call_id = await stage.call()
    await stage.until(call_id, status="live")
    return call_id
