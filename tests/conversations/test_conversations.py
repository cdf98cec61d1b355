"""Scripted conversations, recorded by the real parts and read over HTTP, are what a person says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.rebuild import rebuild
from rtobserver.store import sqlite as store
from rtobserver.store import tables
from rtobserver.web.shapes import time
from tests.conversations.library import LIBRARY
from tests.conversations.played import Conversation, Talk, new_state, record
from tests.realtime.script import START_US
from tests.web.operator_stage import stage

NO_TURN: dict[str, Any] = {
    "user_item_id": None,
    "response_ids": [],
    "user_text": "",
    "assistant_text": "",
    "heard_latency_ms": None,
    "generation_latency_ms": None,
    "tool_latency_ms": None,
    "interrupted": False,
    "tools": [],
}
NO_METRICS: dict[str, Any] = {
    "user_talk_ms": 0,
    "assistant_talk_ms": 0,
    "dead_air_ms": None,
    "tool_latency_ms": {"p50": None, "p95": None},
    "transcription_failure_count": 0,
    "transcription_hint": None,
}


def told(line: dict[str, Any]) -> str:
    """Write a line as the library has it."""
    heard = "" if line["heard_text"] is None else f" | {line['heard_text']}"
    status = "" if line["status"] == "completed" else f" ({line['status']})"
    return f"{line['role']} {line['kind']}: {line['text']}{heard}{status}"


def expected_turn(index: int, turn: dict[str, Any]) -> dict[str, Any]:
    members = NO_TURN | turn
    start, end = members.pop("span")
    names = ("name", "function_call_id", "arguments", "output", "latency_ms", "status")
    return members | {
        "index": index,
        "started_at": time(START_US + start * 1000),
        "ended_at": time(START_US + end * 1000),
        "tools": [dict(zip(names, tool, strict=True)) for tool in members["tools"]],
    }


def percentiles(pair: tuple[int, int] | None) -> dict[str, int | None]:
    p50, p95 = pair or (None, None)
    return {"p50": p50, "p95": p95}


def rows(path: Path) -> dict[str, list[Any]]:
    """Give all that was folded."""
    with store.transaction(path) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in (tables.call, tables.item, tables.response, tables.gap)
        }


@pytest.mark.parametrize("conversation", LIBRARY, ids=lambda each: each.name)
async def test_a_conversation_is_read_as_a_person_would_tell_it(tmp_path: Path, conversation: Conversation) -> None:
    talk = Talk()
    conversation.play(talk)
    async with stage(tmp_path) as api:
        await record(api.writer, "rtc_1", talk.happened)
        call = (await api.get("/api/v1/calls/rtc_1")).json
        lines = await api.all_pages("/api/v1/calls/rtc_1/transcript?limit=2")
        turns = await api.all_pages("/api/v1/calls/rtc_1/turns?limit=1")
        used = (await api.get("/api/v1/calls/rtc_1/usage")).json
        assert [told(line) for line in lines] == conversation.lines
        assert turns == [expected_turn(index, turn) for index, turn in enumerate(conversation.turns)]

        wanted = {"turn_count": 0, "interruption_count": 0, "error_count": 0, "gap_count": 0} | conversation.call
        wanted |= {"completeness": "complete"} | conversation.call
        latency = {
            "first_audio_ms": percentiles(wanted.pop("first_audio", None)),
            "generation_ms": percentiles(wanted.pop("generation", None)),
        }
        assert call["status"] == "ended"
        assert {name: call[name] for name in wanted} == wanted
        assert call["latency"] == latency
        assert call["metrics"] == NO_METRICS | conversation.metrics
        assert {name: used[name] for name in conversation.usage} == conversation.usage
        assert {name: used[name] for name in call["usage"]} == call["usage"]
        assert used["cost_usd"] == call["cost_usd"]
        assert used["unpriced_models"] == []

        for format_ in ("text", "md", "vtt", "srt"):
            assert (await api.get(f"/api/v1/calls/rtc_1/transcript?format={format_}")).status == 200
    before = rows(api.path)
    assert [done.left_alone async for done in rebuild(api.path, new_state)] == [False]
    assert rows(api.path) == before
