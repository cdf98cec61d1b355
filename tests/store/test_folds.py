from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from msgspec.structs import replace

from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals, Usage
from rtobserver.store import calls, folds, tables
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from rtobserver.store.positions import Position
from tests.store import stored

CALL = stored.ref("rtc_1")
KEYS = {"call_key": CALL.key, "day": CALL.day}


async def test_items_come_back_as_the_fold_made_them(place: Place, reads: Database) -> None:
    bare = ItemRow(item_id="item_1", epoch=1, seq=2, role="user", kind="speech")
    full = replace(
        bare,
        item_id="item_0",
        seq=3,
        # PostgreSQL has no NUL in texts; what writes there says so with another sign
        text="ü\x00\U0001f600" if isinstance(place, Path) else "ü\ufffd\U0001f600",
        heard_text="",
        heard_confidence="estimated",
        interrupted=True,
        started_at=1,
        tool_name="find",
    )
    stored.insert(place, tables.item, *[KEYS | folds.item_values(row) for row in (full, bare)])
    assert await folds.items(reads, CALL) == [bare, full]
    assert await folds.items(reads, CALL, after=Position(1, 2), limit=1) == [full]


async def test_responses_come_back_as_the_fold_made_them(place: Place, reads: Database) -> None:
    bare = ResponseRow(response_id="resp_1", epoch=1, seq=2)
    full = replace(bare, response_id="resp_0", seq=3, usage=Usage(input_tokens=7, cached_audio=2), out_of_band=True)
    stored.insert(place, tables.response, *[KEYS | folds.response_values(row) for row in (full, bare)])
    assert await folds.responses(reads, CALL) == [bare, full]


async def test_sums_are_kept_as_the_api_shows_them(place: Place, reads: Database) -> None:
    totals = Totals(
        turn_count=2,
        usage=Usage(input_tokens=5, cached_image=1),
        transcription_seconds=1.5,
        first_audio_p50_ms=300,
        cost_usd=Decimal("1E-7"),
    )
    stored.insert(place, tables.call, stored.call("rtc_1") | folds.call_values(totals))
    call = await calls.find(reads, "rtc_1")
    assert call is not None
    assert (call.turn_count, call.cost_usd) == (2, "0.0000001")
    assert call.usage["cached"] == {"text": 0, "audio": 0, "image": 1}
    assert call.usage["transcription"] == {"tokens": 0, "seconds": 1.5}
    assert call.latency == {"first_audio_ms": {"p50": 300, "p95": None}, "generation_ms": {"p50": None, "p95": None}}
