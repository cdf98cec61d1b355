from __future__ import annotations

from rtobserver.store import commands, tables
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from rtobserver.store.positions import Position
from tests.store import stored

CALL = stored.ref("rtc_1")
KEYS = {"call_key": CALL.key, "day": CALL.day}


async def test_commands_come_by_position(place: Place, reads: Database) -> None:
    command = {
        **KEYS,
        "event_id": "rto_b",
        "epoch": 1,
        "seq": 1,
        "type": "response.cancel",
        "source": "policy",
        "policy": "p",
        "state": "sent",
        "sent_at": 5,
        "acknowledged_at": None,
        "error": None,
    }
    stored.insert(place, tables.command, command | {"event_id": "rto_a", "seq": 2}, command)
    found = await commands.page(reads, CALL, limit=10)
    assert [(command.event_id, command.position) for command in found] == [("rto_b", (1, 1)), ("rto_a", (1, 2))]
    assert await commands.page(reads, CALL, after=Position(1, 1), limit=10) == found[1:]
