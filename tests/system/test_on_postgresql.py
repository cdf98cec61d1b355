"""One daemon on PostgreSQL, from the offer to the API."""

from __future__ import annotations

from pathlib import Path

from tests.support.replicas import database, replica
from tests.support.stage import simulating


async def test_a_call_is_recorded_and_read_back(tmp_path: Path) -> None:
    server, key = await database()
    async with (
        simulating(scenario="three_turns") as simulator,
        replica(simulator, server, key, tmp_path / "journal") as stage,
    ):
        call_id = await stage.call()
        call = await stage.until_only(status="ended")
        assert call["call_id"] == call_id
        events = [entry.payload for entry in await stage.entries(call_id) if entry.kind == "event"]
        assert events == stage.produced(call_id)
        assert (await stage.document("/readyz"))["status"] == "ok"
