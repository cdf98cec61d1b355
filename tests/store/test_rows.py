"""Gaps, commands, items, responses: what the writer puts in comes back as values."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals, Usage
from rtobserver.store import calls, commands, folds, gaps, tables
from rtobserver.store.database import Database
from rtobserver.store.positions import Position
from tests.store import stored

CALL = stored.ref("rtc_1")
KEYS = {"call_key": CALL.key, "day": CALL.day}


async def test_gaps_come_by_position(path: Path, database: Database) -> None:
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
    stored.insert(path, tables.gap, gap | {"seq": 10, "lost": None, "lost_by_type": "{}", "counted": False}, gap)
    first, second = await gaps.page(database, CALL, limit=10)
    assert (first.position, first.lost, first.lost_by_type) == ((1, 9), 5, {"response.output_audio.delta": 5})
    assert (second.lost, second.counted, second.to_at) == (None, False, None)
    assert await gaps.page(database, CALL, after=first.position, limit=1) == [second]


async def test_commands_come_by_position(path: Path, database: Database) -> None:
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
    stored.insert(path, tables.command, command | {"event_id": "rto_a", "seq": 2}, command)
    found = await commands.page(database, CALL, limit=10)
    assert [(command.event_id, command.position) for command in found] == [("rto_b", (1, 1)), ("rto_a", (1, 2))]
    assert await commands.page(database, CALL, after=Position(1, 1), limit=10) == found[1:]


async def test_items_come_back_as_the_fold_made_them(path: Path, database: Database) -> None:
    bare = ItemRow(item_id="item_1", epoch=1, seq=2, role="user", kind="speech")
    full = replace(
        bare,
        item_id="item_0",
        seq=3,
        text="ü\x00\U0001f600",
        heard_text="",
        heard_confidence="estimated",
        interrupted=True,
        started_at=1,
        tool_name="find",
    )
    stored.insert(path, tables.item, *[KEYS | folds.item_values(row) for row in (full, bare)])
    assert await folds.items(database, CALL) == [bare, full]
    assert await folds.items(database, CALL, after=Position(1, 2), limit=1) == [full]


async def test_responses_come_back_as_the_fold_made_them(path: Path, database: Database) -> None:
    bare = ResponseRow(response_id="resp_1", epoch=1, seq=2)
    full = replace(bare, response_id="resp_0", seq=3, usage=Usage(input_tokens=7, cached_audio=2), out_of_band=True)
    stored.insert(path, tables.response, *[KEYS | folds.response_values(row) for row in (full, bare)])
    assert await folds.responses(database, CALL) == [bare, full]


async def test_sums_are_kept_as_the_api_shows_them(path: Path, database: Database) -> None:
    totals = Totals(
        turn_count=2,
        usage=Usage(input_tokens=5, cached_image=1),
        transcription_seconds=1.5,
        first_audio_p50_ms=300,
        cost_usd=Decimal("1E-7"),
    )
    stored.insert(path, tables.call, stored.call("rtc_1") | folds.call_values(totals))
    call = await calls.find(database, "rtc_1")
    assert call is not None
    assert (call.turn_count, call.cost_usd) == (2, "0.0000001")
    assert call.usage["cached"] == {"text": 0, "audio": 0, "image": 1}
    assert call.usage["transcription"] == {"tokens": 0, "seconds": 1.5}
    assert call.latency == {"first_audio_ms": {"p50": 300, "p95": None}, "generation_ms": {"p50": None, "p95": None}}
