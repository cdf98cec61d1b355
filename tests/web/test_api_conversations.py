from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rtobserver.realtime.rows import ItemRow, ResponseRow, Usage
from rtobserver.store import folds, tables
from tests.store.stored import START, call, ref
from tests.web.operator_stage import Stage, stage

SECOND = 1_000_000
REF = ref("rtc_1")
OWN = {"call_key": REF.key, "day": REF.day}


def item(number: int, **values: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "item_id": f"item_{number}", "epoch": 1, "seq": number, "role": "user", "kind": "speech",
        "text": f"line {number}", "status": "completed", "started_at": START + number * SECOND,
        "ended_at": START + (number + 2) * SECOND, "previous_item_id": f"item_{number - 1}" if number > 1 else None,
    } | values  # fmt: skip
    return OWN | folds.item_values(ItemRow(**fields))


def response(number: int, **values: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "response_id": f"resp_{number}",
        "epoch": 1,
        "seq": number,
        "status": "completed",
    } | values
    return OWN | folds.response_values(ResponseRow(**fields))


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.insert(tables.call, call("rtc_1", status="ended", ended_at=START + 60 * SECOND))
        yield opened


async def test_lines_come_in_the_order_of_the_conversation_page_by_page(api: Stage) -> None:
    api.insert(tables.item, *[item(number) for number in (3, 1, 2)], item(4, out_of_band=True))
    lines = await api.all_pages("/api/v1/calls/rtc_1/transcript?limit=2")
    assert [line["item_id"] for line in lines] == ["item_1", "item_2", "item_3"]
    assert lines[0] == {
        "item_id": "item_1",
        "response_id": None,
        "role": "user",
        "text": "line 1",
        "heard_text": None,
        "heard_confidence": None,
        "status": "completed",
        "interrupted": False,
        "started_at": "2026-01-01T00:00:01.000000Z",
        "ended_at": "2026-01-01T00:00:03.000000Z",
        "kind": "speech",
        "tool_name": None,
        "recovered": False,
    }


async def test_items_with_long_ids_can_end_a_page(api: Stage) -> None:
    api.insert(tables.item, *[item(number, item_id=str(number) * 512, previous_item_id=None) for number in (1, 2)])
    assert len(await api.all_pages("/api/v1/calls/rtc_1/transcript?limit=1")) == 2


@pytest.mark.parametrize(
    ("name", "media", "written"),
    [
        ("text", "text/plain", "[00:00:01.000] User: line 1\n"),
        ("md", "text/markdown", "**User** (00:00:01.000): line 1\n"),
        ("vtt", "text/vtt", "WEBVTT\n\n1\n00:00:01.000 --> 00:00:03.000\n<v User>line 1</v>\n"),
        ("srt", "application/x-subrip", "1\n00:00:01,000 --> 00:00:03,000\nUser: line 1\n"),
    ],
)
async def test_a_transcript_comes_in_every_format(api: Stage, name: str, media: str, written: str) -> None:
    api.insert(tables.item, item(1))
    answer = await api.get(f"/api/v1/calls/rtc_1/transcript?format={name}")
    assert (answer.status, answer.body.decode()) == (200, written)
    assert answer.headers["Content-Type"] == f"{media}; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_turns_come_page_by_page(api: Stage) -> None:
    for number in (1, 3, 5):
        answer = {"role": "assistant", "response_id": f"resp_{number}"}
        api.insert(tables.item, item(number), item(number + 1, **answer))
        api.insert(tables.response, response(number, user_item_id=f"item_{number}", heard_latency_ms=number * 100))
    turns = await api.all_pages("/api/v1/calls/rtc_1/turns?limit=2")
    assert [(turn["index"], turn["user_text"], turn["assistant_text"]) for turn in turns] == [
        (0, "line 1", "line 2"),
        (1, "line 3", "line 4"),
        (2, "line 5", "line 6"),
    ]
    assert [turn["heard_latency_ms"] for turn in turns] == [100, 300, 500]
    assert turns[0]["response_ids"] == ["resp_1"]


async def test_a_purged_call_has_no_turns_but_says_that_it_was_purged(api: Stage) -> None:
    api.insert(tables.call, call("rtc_old", purged_at=START))
    api.insert(tables.response, response(1, user_item_id="item_1") | {"call_key": call("rtc_old")["call_key"]})
    assert (await api.get("/api/v1/calls/rtc_old/turns")).json["data"] == []
    assert len((await api.get("/api/v1/calls/rtc_old/usage")).json["responses"]) == 1
    assert (await api.get("/api/v1/calls/rtc_old")).json["purged_at"] == "2026-01-01T00:00:00.000000Z"


async def test_usage_is_the_calls_with_its_responses_and_costs(api: Stage) -> None:
    metrics = {
        "costs": [{"meter": "responses", "model": "talker", "cost_usd": "0.10"}],
        "unpriced_models": ["writer"],
        "transcription_hint": "look",
    }
    usage = {"input_tokens": 7, "transcription": {"tokens": 0, "seconds": 1.5}}
    row = call("rtc_2", usage=json.dumps(usage), metrics=json.dumps(metrics), cost_usd="0.10")
    api.insert(tables.call, row)
    own = {"call_key": row["call_key"]}
    api.insert(
        tables.response,
        response(1, usage=Usage(input_tokens=7, input_text=7)) | own,
        response(2, status="failed", reason="rate_limit", out_of_band=True) | own,
    )
    found = (await api.get("/api/v1/calls/rtc_2/usage")).json
    assert (found["input_tokens"], found["transcription"], found["cost_usd"]) == (7, usage["transcription"], "0.10")
    assert (found["costs"], found["unpriced_models"]) == (metrics["costs"], ["writer"])
    first, second = found["responses"]
    assert (first["response_id"], first["position"], first["usage"]["input"]) == (
        "resp_1", "1:1", {"text": 7, "audio": 0, "image": 0},
    )  # fmt: skip
    assert (second["status"], second["reason"], second["out_of_band"], second["usage"]) == (
        "failed", "rate_limit", True, None,
    )  # fmt: skip
    assert (await api.get("/api/v1/calls/rtc_2")).json["metrics"]["transcription_hint"] == "look"


async def test_decisions_come_page_by_page(api: Stage) -> None:
    decision: dict[str, Any] = {
        "epoch": 1, "seq": 4, "policy_set": "s", "trigger": "phrase", "mode": "observe", "acted": False,
        "actions": '["tag"]', "received_at": START, "matched_at": START,
    }  # fmt: skip
    api.insert(tables.decision, *[OWN | decision | {"policy": policy} for policy in ("a", "ü", "c")])
    found = await api.all_pages("/api/v1/calls/rtc_1/decisions?limit=1")
    assert [each["policy"] for each in found] == ["a", "c", "ü"]
    assert found[0] == {
        "position": "1:4",
        "policy": "a",
        "policy_set": "s",
        "trigger": "phrase",
        "mode": "observe",
        "acted": False,
        "actions": ["tag"],
        "received_at": "2026-01-01T00:00:00.000000Z",
        "matched_at": "2026-01-01T00:00:00.000000Z",
        "sent_at": None,
        "acknowledged_at": None,
        "outcome": None,
        "detail": None,
        "match": None,
        "item_id": None,
        "response_id": None,
        "played_ms": None,
    }
    assert [each["call_id"] for each in (await api.get("/api/v1/calls?policy=a")).json["data"]] == ["rtc_1"]
    assert (await api.get("/api/v1/calls?policy=b")).json["data"] == []


async def test_a_decision_tells_what_it_matched_and_what_came_of_it(api: Stage) -> None:
    told = {
        "outcome": "failed",
        "detail": "upstream refused it",
        "match": "my money back",
        "item_id": "item_1",
        "response_id": "resp_1",
        "played_ms": 740,
    }
    times = {"received_at": START, "matched_at": START + 200, "sent_at": START + 900, "acknowledged_at": START + 40_000}
    row: dict[str, Any] = {
        "epoch": 2, "seq": 9, "policy": "p", "policy_set": "s", "trigger": "phrase", "mode": "enforce", "acted": True,
        "actions": '["cancel_response", "say"]',
    }  # fmt: skip
    api.insert(tables.decision, OWN | row | times | told)
    [found] = (await api.get("/api/v1/calls/rtc_1/decisions")).json["data"]
    assert {name: found[name] for name in told} == told
    assert (found["acted"], found["actions"]) == (True, ["cancel_response", "say"])
    assert [found[name][-8:] for name in times] == [".000000Z", ".000200Z", ".000900Z", ".040000Z"]


@pytest.mark.parametrize("name", ["transcript", "turns", "usage", "decisions"])
async def test_a_call_of_which_nothing_was_folded_has_empty_lists(api: Stage, name: str) -> None:
    answer = await api.get(f"/api/v1/calls/rtc_1/{name}")
    assert answer.status == 200
    assert answer.json["responses" if name == "usage" else "data"] == []
    assert (await api.get(f"/api/v1/calls/rtc_none/{name}")).code == "call_not_found"
    assert (await api.get(f"/api/v1/calls/rtc_1/{name}?nonsense=1")).code == "unknown_parameter"
    assert (await api.get(f"/api/v1/calls/rtc_1/{name}", key="")).status == 401


@pytest.mark.parametrize("cursor", ["x", "bGFiYw", "bjEyMzQ1Njc4OTAxMjM0NTY3ODkw", "cDE6MQ"])
@pytest.mark.parametrize("name", ["transcript", "turns", "decisions"])
async def test_a_cursor_of_something_else_is_refused(api: Stage, name: str, cursor: str) -> None:
    assert (await api.get(f"/api/v1/calls/rtc_1/{name}?cursor={cursor}")).code == "invalid_cursor"


async def test_a_cursor_of_a_line_that_is_gone_is_refused(api: Stage) -> None:
    api.insert(tables.item, item(1), item(2))
    cursor = (await api.get("/api/v1/calls/rtc_1/transcript?limit=1")).json["next_cursor"]
    assert (await api.get(f"/api/v1/calls/rtc_1/transcript?cursor={cursor}")).status == 200
    api.insert(tables.call, call("rtc_2"))
    assert (await api.get(f"/api/v1/calls/rtc_2/transcript?cursor={cursor}")).code == "invalid_cursor"
