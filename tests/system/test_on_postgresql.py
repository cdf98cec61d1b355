"""One daemon on PostgreSQL, from the offer to the API."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rtobserver.clock import SystemClock
from rtobserver.store import registration
from rtobserver.store.places import Server
from tests.store.recording import NEW, journal
from tests.support.replicas import database, replica
from tests.support.stage import simulating

AWAY = Server("postgresql://127.0.0.1:1/away")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "postgresql.md"


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


async def test_each_connection_says_what_it_is_for_as_the_document_has_it(tmp_path: Path) -> None:
    server, key = await database()
    listed = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    async with simulating() as simulator, replica(simulator, server, key, tmp_path / "journal") as stage:
        await stage.until(await stage.call(), status="live")
        found = {name for (name,) in stage.select(f"{listed} pg_backend_pid()")}
    documented = set(re.findall(r"`(rtobserver \w+)`", DOCUMENT.read_text())) - {"rtobserver migrate"}
    # some are made only when somebody asks for what they are for
    assert {"rtobserver ship", "rtobserver beat", "rtobserver read"} <= found <= documented


async def test_the_entries_of_the_first_day_are_in_its_partition_however_early_they_come(tmp_path: Path) -> None:
    server, key = await database()
    now = SystemClock().now_us()
    # what an earlier run has left is shipped from the first moment on
    made, nowhere = journal(AWAY, tmp_path / "journal")
    await made.open()
    call = replace(NEW, started_at=now)
    ref = call.ref()
    made.note(registration.register(ref, call))
    made.entry((ref, 1, 1, 1, now, 0, "a", None, b"{}", 0))
    await made.kept()
    made.hurry()
    await made.close()
    await nowhere.close()
    async with simulating() as simulator, replica(simulator, server, key, tmp_path / "journal") as stage:
        await stage.until(await stage.call(), status="live")
        assert stage.select("SELECT 1 FROM entry WHERE payload = '{}'")
        assert stage.select("SELECT day FROM entry_rest") == []
