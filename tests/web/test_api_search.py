from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.store import folds, tables
from tests.store.stored import START, call, ref
from tests.web.operator_stage import Stage, stage

SECOND = 1_000_000
SAID = {"rtc_0": ["I want a refund", "no"], "rtc_1": ["A refund, please", "which refund?"], "rtc_2": ["hello"]}


def item(call_id: str, number: int, text: str, started_at: int) -> dict[str, Any]:
    row = ItemRow(
        item_id=f"item_{number}", epoch=1, seq=number, role="user", kind="speech", text=text, status="completed"
    )
    own = ref(call_id, started_at)
    return {"call_key": own.key, "day": own.day, **folds.item_values(row)}


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        for number, (call_id, lines) in enumerate(SAID.items()):
            at = START + number * SECOND
            opened.insert(
                tables.call,
                call(
                    call_id,
                    started_at=at,
                    ended_at=at + 90 * SECOND,
                    user=f"user {number}",
                    cost_usd="0.25",
                    turn_count=2,
                ),
            )
            opened.insert(tables.item, *[item(call_id, n, text, at) for n, text in enumerate(lines)])
        yield opened


async def test_lines_are_found_newest_call_first_with_what_was_found(api: Stage) -> None:
    hits = await api.all_pages("/api/v1/search?q=refund&limit=1")
    assert [(hit["call_id"], hit["text"]) for hit in hits] == [
        ("rtc_1", "which refund?"),
        ("rtc_1", "A refund, please"),
        ("rtc_0", "I want a refund"),
    ]
    assert hits[1] == {
        "call_id": "rtc_1",
        "call_started_at": "2026-01-01T00:00:01.000000Z",
        "profile": "default",
        "user": "user 1",
        "item_id": "item_0",
        "role": "user",
        "kind": "speech",
        "started_at": None,
        "text": "A refund, please",
        "snippet": "A \u27e6refund\u27e7, please",
    }


async def test_filters_of_calls_narrow_a_search_and_a_search_narrows_calls(api: Stage) -> None:
    hits = await api.all_pages(f"/api/v1/search?q=refund&user={quote('user 0')}")
    assert [hit["call_id"] for hit in hits] == ["rtc_0"]
    found = await api.all_pages("/api/v1/calls?q=refund&limit=1")
    assert [each["call_id"] for each in found] == ["rtc_1", "rtc_0"]
    assert await api.all_pages(f"/api/v1/calls?q=refund&user={quote('user 2')}") == []


@pytest.mark.parametrize(
    "q", ['he"llo', "NEAR(", "-x", "col:x", '"a AND', "^a", "a NOT b", "{a}:b", "'; DROP TABLE call; --", "x" * 256]
)
async def test_no_text_is_a_syntax_error(api: Stage, q: str) -> None:
    for path in ("search", "calls"):
        assert (await api.get(f"/api/v1/{path}?q={quote(q)}")).status == 200


@pytest.mark.parametrize("q", ["", "*", "!!", "%20"])
async def test_a_search_for_nothing_is_refused(api: Stage, q: str) -> None:
    for path in ("search", "calls"):
        assert (await api.get(f"/api/v1/{path}?q={q}")).code == "invalid_parameter"


async def test_a_search_needs_words_and_a_key(api: Stage) -> None:
    assert (await api.get("/api/v1/search")).code == "missing_parameter"
    assert (await api.get("/api/v1/search?q=x", key="")).status == 401
    assert (await api.get("/api/v1/search?q=x&cursor=bGFiYw")).code == "invalid_cursor"


async def test_what_is_searched_for_is_not_in_the_audit(api: Stage) -> None:
    await api.get("/api/v1/search?q=refund")
    rows = api.select(tables.audit.select())
    assert "search" in {row[3] for row in rows}
    assert "refund" not in str(rows)


async def test_calls_are_summed_up_by_group(api: Stage) -> None:
    own = ref("rtc_0")
    row = ResponseRow(response_id="r", epoch=1, seq=1, heard_latency_ms=700, generation_latency_ms=300)
    api.insert(tables.response, {"call_key": own.key, "day": own.day, **folds.response_values(row)})
    found = (await api.get("/api/v1/stats?group_by=day&since=2026-01-01&until=2026-01-02")).json
    assert found == {
        "group_by": "day",
        "since": "2026-01-01T00:00:00.000000Z",
        "until": "2026-01-02T00:00:00.000000Z",
        "data": [
            {
                "group": "2026-01-01",
                "call_count": 3,
                "minutes": 4.5,
                "turn_count": 6,
                "interruption_count": 0,
                "error_count": 0,
                "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cached_tokens": 0},
                "cost_usd": "0.75",
                "unpriced_call_count": 0,
                "latency": {
                    "first_audio_ms": {"p50": 700, "p95": 700},
                    "generation_ms": {"p50": 300, "p95": 300},
                },
            }
        ],
        "next_cursor": None,
    }


async def test_sums_reach_back_thirty_days_by_default(api: Stage) -> None:
    found = (await api.get("/api/v1/stats?until=2026-01-31T00:00:00Z")).json
    assert (found["group_by"], found["since"]) == ("day", "2026-01-01T00:00:00.000000Z")
    assert len(found["data"]) == 1
    assert (await api.get("/api/v1/stats?since=2026-01-02&until=2026-01-01")).code == "invalid_parameter"
    assert (await api.get("/api/v1/stats?group_by=user")).code == "invalid_parameter"


FAR_CURSOR = urlsafe_b64encode(b"c9000000000000000:1").decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("search?q=hello&until=2110-01-01", 1),
        ("search?q=hello&until=9999-12-31", 1),
        ("search?q=hello&since=2110-01-01", 0),
        ("search?q=hello&since=9999-12-31", 0),
        ("search?q=hello&min_duration=106751992d", 0),
        ("calls?q=hello&until=9999-12-31", 1),
        ("calls?q=hello&since=2110-01-01", 0),
        (f"calls?q=hello&cursor={FAR_CURSOR}", 1),
        (f"calls?cursor={FAR_CURSOR}", 3),
        ("calls?min_duration=106751992d", 0),
        ("calls?until=9999-12-31", 3),
    ],
)
async def test_the_far_future_is_ordinary(api: Stage, query: str, found: int) -> None:
    answer = await api.get(f"/api/v1/{query}")
    assert (answer.status, len(answer.json["data"])) == (200, found)
