from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.store import tables
from tests.store.stored import START, call, entry, ref
from tests.web.operator_stage import Stage, stage

USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "cached_tokens": 0,
    "input": {"text": 0, "audio": 0, "image": 0},
    "output": {"text": 0, "audio": 0},
    "cached": {"text": 0, "audio": 0, "image": 0},
    "transcription": {"tokens": 0, "seconds": 0.0},
    "responses_without_usage": 0,
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        yield opened


async def test_a_call_has_every_field_before_anything_is_known(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    answer = await api.get("/api/v1/calls/rtc_1")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {
        "call_id": "rtc_1",
        "protocol": "ga",
        "status": "live",
        "outcome": None,
        "started_at": "2026-01-01T00:00:00.000000Z",
        "ended_at": None,
        "duration_seconds": None,
        "profile": "default",
        "model": "gpt-realtime",
        "user": None,
        "labels": {},
        "tags": [],
        "entry_count": 0,
        "turn_count": 0,
        "interruption_count": 0,
        "error_count": 0,
        "tampered": False,
        "usage": USAGE,
        "cost_usd": None,
        "latency": {"first_audio_ms": {"p50": None, "p95": None}, "generation_ms": {"p50": None, "p95": None}},
        "attach_latency_ms": None,
        "completeness": None,
        "gap_count": 0,
        "purged_at": None,
        "metrics": {
            "user_talk_ms": 0,
            "assistant_talk_ms": 0,
            "dead_air_ms": None,
            "tool_latency_ms": {"p50": None, "p95": None},
            "transcription_failure_count": 0,
            "transcription_hint": None,
        },
    }


async def test_a_call_that_ended_says_what_it_was(api: Stage) -> None:
    api.insert(
        tables.call,
        call(
            "rtc_1",
            status="ended",
            outcome="hung_up",
            ended_at=START + 61_500_001,
            user="ann",
            labels={"team": "ü"},
            tags=["refund"],
            tampered=True,
            usage=json.dumps({"input_tokens": 7, "input": {"audio": 5}}),
            cost_usd="0.0123",
            latency=json.dumps({"first_audio_ms": {"p50": 420, "p95": 900}}),
        ),
    )
    found = (await api.get("/api/v1/calls/rtc_1")).json
    assert found["ended_at"] == "2026-01-01T00:01:01.500001Z"
    assert (found["duration_seconds"], found["cost_usd"], found["tampered"]) == (61.500001, "0.0123", True)
    assert (found["labels"], found["tags"]) == ({"team": "ü"}, ["refund"])
    assert found["usage"] == USAGE | {"input_tokens": 7, "input": {"text": 0, "audio": 5, "image": 0}}
    assert found["latency"]["generation_ms"] == {"p50": None, "p95": None}


async def test_calls_come_newest_first_in_pages(api: Stage) -> None:
    api.insert(tables.call, *[call(f"rtc_{n}", started_at=START + n // 2) for n in range(25)])
    found = [row["call_id"] for row in await api.all_pages("/api/v1/calls?limit=4")]
    assert len(found) == len(set(found)) == 25
    assert [int(call_id[4:]) // 2 for call_id in found] == sorted((n // 2 for n in range(25)), reverse=True)
    assert (await api.get("/api/v1/calls?limit=25")).json["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abc"),
        ("status=ended", "ab"),
        ("outcome=hung_up", "a"),
        ("user=ann", "a"),
        ("profile=support", "b"),
        ("model=gpt-realtime", "abc"),
        ("label.team=blue%20%C3%BC", "b"),
        ("label.team=", ""),
        ("tag=x&tag=y", "b"),
        ("tag=x", "ab"),
        ("since=2026-01-01T00:00:01Z", "bc"),
        ("since=2026-01-01T01:00:01%2B01:00", "bc"),
        ("since=2026-01-01T01:00:01+01:00", "bc"),
        ("until=2026-01-01T00:00:01Z", "a"),
        ("since=2026-01-01&until=2026-01-02", "abc"),
        ("since=1s", ""),
        ("min_duration=10", "ab"),
        ("min_duration=10.5s", "b"),
        ("min_duration=1m", ""),
        ("has=gap", "a"),
        ("has=error&has=interruption", "b"),
        ("has=tampered", "b"),
    ],
)
async def test_calls_are_filtered(api: Stage, query: str, found: str) -> None:
    second = 1_000_000
    api.insert(
        tables.call,
        call(
            "rtc_a",
            status="ended",
            outcome="hung_up",
            user="ann",
            ended_at=START + 10 * second,
            tags=["x"],
            gap_count=1,
        ),
        call(
            "rtc_b",
            status="ended",
            outcome="expired",
            started_at=START + second,
            ended_at=START + 12 * second,
            profile="support",
            labels={"team": "blue ü"},
            tags=["x", "y"],
            error_count=1,
            interruption_count=2,
            tampered=True,
        ),
        call("rtc_c", started_at=START + 2 * second),
    )
    answer = await api.get(f"/api/v1/calls?{query}")
    assert answer.status == 200, answer.body
    assert sorted(row["call_id"][4:] for row in answer.json["data"]) == sorted(found)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("calls?limit=0", "limit"),
        ("calls?limit=1001", "limit"),
        ("calls?limit=ten", "limit"),
        ("calls?limit=1&limit=2", "once"),
        ("calls?satus=live", "`status`"),
        ("calls?zzz=1", "status"),
        ("calls?api_key=rto_x", "There is no parameter"),
        ("calls?labels.team=x", "label."),
        ("calls?status=gone", "connecting"),
        ("calls?outcome=gone", "hung_up"),
        ("calls?has=gaps", "gap"),
        ("calls?since=yesterday", "since"),
        ("calls?since=2026-13-01", "since"),
        ("calls?until=99999999999", "until"),
        ("calls?since=9999-12-31T23:59:59-23:00", "since"),
        ("calls?min_duration=-1", "min_duration"),
        ("calls?min_duration=5w", "min_duration"),
        ("calls?label.a%22b=x", "label"),
        ("calls?label.=x", "label"),
        ("calls?cursor=nonsense", "cursor"),
        ("calls?cursor=", "cursor"),
        ("calls?cursor=%C3%BC", "cursor"),
        ("calls?cursor=Yzk5OTk5OTk5OTk5OTk5OTk5OTk6MQ", "cursor"),
        ("calls?user=a%00b", "user"),
        ("calls?user=" + "a" * 300, "user"),
        ("calls/rtc_1?fields=all", "takes none"),
        ("calls/rtc_1/entries?after=5", "1:250"),
        ("calls/rtc_1/entries?kind=events", "command"),
        ("calls/rtc_1/entries?overlap=yes", "include"),
        ("calls/rtc_1/entries?type=*a*b*c*d*e*f", "stars"),
        ("calls/rtc_1/entries?cursor=YzE6MQ", "cursor"),
        ("calls/rtc_1/gaps?after=1:1", "limit"),
        ("calls/rtc_1/commands?typ=x", "no parameter"),
    ],
)
async def test_a_query_that_cannot_be_read_is_refused_with_words(api: Stage, path: str, word: str) -> None:
    api.insert(tables.call, call("rtc_1"))
    answer = await api.get(f"/api/v1/{path}")
    assert answer.status == 400, answer.body
    assert answer.code in {"invalid_parameter", "unknown_parameter", "invalid_cursor"}
    assert word in answer.json["detail"]


@pytest.mark.parametrize("rest", ["", "/entries", "/gaps", "/commands"])
async def test_an_unknown_call_is_404_and_an_erased_one_410(api: Stage, rest: str) -> None:
    api.insert(tables.call, call("rtc_left"))
    for call_id in ("rtc_gone", "rtc_left"):
        api.entomb(call_id)
    answer = await api.get(f"/api/v1/calls/rtc_unknown{rest}")
    assert (answer.status, answer.code) == (404, "call_not_found")
    for call_id in ("rtc_gone", "rtc_left"):
        answer = await api.get(f"/api/v1/calls/{call_id}{rest}")
        assert (answer.status, answer.code) == (410, "call_erased")


@pytest.mark.parametrize(
    "path", ["/api/v1/calls/rtc_%ED%A0%80", "/api/v1/calls/a%2Fb", "/api/v1/nothing", "/nothing", "/api/v2/calls"]
)
async def test_an_odd_address_is_404(api: Stage, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")


async def test_gaps_have_every_field(api: Stage) -> None:
    gap: dict[str, Any] = {
        "call_key": ref("rtc_1").key,
        "day": ref("rtc_1").day,
        "epoch": 1,
        "seq": 1,
        "from_at": START,
        "to_at": None,
        "reason": "shed",
        "after": None,
        "state": "open",
        "lost": None,
        "lost_by_type": "{}",
        "counted": True,
    }
    known = {"seq": 4, "to_at": START + 1, "after": "1:3", "state": "final", "lost": 2, "lost_by_type": '{"a": 2}'}
    api.insert(tables.call, call("rtc_1"))
    api.insert(tables.gap, gap, gap | known)
    assert await api.all_pages("/api/v1/calls/rtc_1/gaps?limit=1") == [
        {
            "from": "2026-01-01T00:00:00.000000Z",
            "to": None,
            "reason": "shed",
            "epoch": 1,
            "after": None,
            "state": "open",
            "lost": None,
            "lost_by_type": {},
        },
        {
            "from": "2026-01-01T00:00:00.000000Z",
            "to": "2026-01-01T00:00:00.000001Z",
            "reason": "shed",
            "epoch": 1,
            "after": "1:3",
            "state": "final",
            "lost": 2,
            "lost_by_type": {"a": 2},
        },
    ]


async def test_commands_have_every_field(api: Stage) -> None:
    command: dict[str, Any] = {
        "call_key": ref("rtc_1").key,
        "day": ref("rtc_1").day,
        "event_id": "rto_1",
        "epoch": 1,
        "seq": 1,
        "type": "response.cancel",
        "source": "system",
        "policy": None,
        "state": "sent",
        "sent_at": START,
        "acknowledged_at": None,
        "error": None,
    }
    api.insert(tables.call, call("rtc_1"))
    api.insert(tables.command, *[command | {"event_id": f"rto_{n}", "seq": n} for n in (2, 1)])
    found = await api.all_pages("/api/v1/calls/rtc_1/commands?limit=1")
    assert [row["event_id"] for row in found] == ["rto_1", "rto_2"]
    assert found[0] == {
        "event_id": "rto_1",
        "type": "response.cancel",
        "source": "system",
        "policy": None,
        "state": "sent",
        "sent_at": "2026-01-01T00:00:00.000000Z",
        "acknowledged_at": None,
        "error": None,
    }


@pytest.fixture
async def on_file(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


async def test_a_read_sees_what_was_recorded_before_it(on_file: Stage) -> None:
    api = on_file
    api.insert(tables.call, call("rtc_1"))
    for seq in range(1, 30):
        row = entry("rtc_1", seq)
        api.writer.entry((ref("rtc_1"), *[row[name] for name in list(row)[2:]]))
        answer = await api.get("/api/v1/calls/rtc_1/entries")
        assert len(answer.json["data"]) == seq


async def test_every_read_is_in_the_audit_without_the_filters_values(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    for path in ("calls?user=ann&limit=5", "calls/rtc_1", "calls/rtc_1/entries", "calls/rtc_no/gaps"):
        await api.get(f"/api/v1/{path}", X_Request_Id="mine")
    await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")
    audit = tables.audit.c
    rows = api.select(
        sa.select(audit.action, audit.object, audit.status, audit.request_id, audit.address, audit.actor)
        .where(audit.action != "keys.create")
        .order_by(audit.audit_id)
    )
    assert [row[:3] for row in rows] == [
        ("calls.list", "limit&user", 200),
        ("calls.get", "rtc_1", 200),
        ("entries.list", "rtc_1", 200),
        ("gaps.list", "rtc_no", 200),
        ("gaps.list", "rtc_no", 404),
        ("entries.stream", "rtc_1", 200),
    ]
    assert rows[0][3:] == ("mine", "127.0.0.1", api.key[4:14])


async def test_without_an_audit_there_is_no_answer(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    await api.writer.close()
    for rest in ("", "/rtc_1", "/rtc_1/entries"):
        answer = await api.get(f"/api/v1/calls{rest}")
        assert (answer.status, answer.code) == (503, "store_unavailable")
    assert (await api.get("/api/v1/calls", key="")).status == 401
    assert (await api.get("/livez", key="")).status == 200
