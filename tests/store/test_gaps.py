from __future__ import annotations

import json

from rtobserver.store import gaps, tables
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from tests.store import stored

CALL = stored.ref("rtc_1")
KEYS = {"call_key": CALL.key, "day": CALL.day}


async def test_gaps_come_by_position(place: Place, reads: Database) -> None:
    gap = {
        **KEYS,
        "epoch": 1,
        "seq": 9,
        "from_at": 1,
        "to_at": None,
        "reason": "shed",
        "after": "1:8",
        "state": "open",
        "lost": 5,
        "lost_by_type": json.dumps({"response.output_audio.delta": 5}),
        "counted": True,
    }
    stored.insert(place, tables.gap, gap | {"seq": 10, "lost": None, "lost_by_type": "{}", "counted": False}, gap)
    first, second = await gaps.page(reads, CALL, limit=10)
    assert (first.position, first.lost, first.lost_by_type) == ((1, 9), 5, {"response.output_audio.delta": 5})
    assert (second.lost, second.counted, second.to_at) == (None, False, None)
    assert await gaps.page(reads, CALL, after=first.position, limit=1) == [second]
