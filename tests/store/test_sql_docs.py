"""The examples in `docs/sql.md` run, find what they say, and follow the indexes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.store import sqlite as store
from rtobserver.store import tables
from rtobserver.store.places import Place
from tests.store import stored

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sql.md"
TEXT = DOCS.read_text()
EXAMPLES = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


ON_SERVER = re.findall(r"```postgresql\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def recorded(path: Path) -> Path:
    fill(path)
    return path


@pytest.fixture
def on_server(tmp_path: Path) -> Iterator[Place]:
    with stored.lent("postgresql", tmp_path) as place:
        fill(place)
        yield place


def fill(place: Place) -> None:
    stored.insert(
        place,
        tables.call,
        stored.call(
            "rtc_example",
            status="ended",
            ended_at=stored.START + 61_500_000,
            labels={"team": "blue"},
            tags=["refund"],
            interruption_count=1,
            error_count=1,
            cost_usd="0.0123",
            usage=json.dumps({"total_tokens": 12}),
            latency=json.dumps({"first_audio_ms": {"p50": 400, "p95": 900}}),
        ),
        stored.call("rtc_other", cost_usd="0.1"),
    )
    frames: list[tuple[str, dict[str, Any]]] = [
        ("conversation.item.input_audio_transcription.completed", {"transcript": "Hello?"}),
        ("response.output_audio_transcript.done", {"transcript": "Good day!"}),
        ("error", {"error": {"code": "bad", "message": "No."}}),
    ]
    stored.insert(
        place,
        tables.entry,
        *[
            stored.entry("rtc_example", seq, json.dumps({"type": kind, **rest}).encode(), type=kind)
            for seq, (kind, rest) in enumerate(frames, start=1)
        ],
        stored.entry("rtc_example", 4, b"\xff", flags=0, type=None, kind=tables.KIND_COMMAND),
    )


def ask(place: Place, question: str) -> list[dict[str, Any]]:
    return stored.visit(
        place, lambda connection: [dict(row) for row in connection.exec_driver_sql(question).mappings()]
    )


def test_the_examples_for_a_server_find_what_they_say(on_server: Place) -> None:
    day, team, said, counted, errors = [ask(on_server, example) for example in ON_SERVER]
    assert (day[0]["day"], day[0]["calls"], float(day[0]["usd"])) == ("2026-01-01", 2, 0.1123)
    assert [row["call_id"] for row in team] == ["rtc_example"]
    assert [(row["who"], row["text"]) for row in said] == [("user", "Hello?"), ("assistant", "Good day!")]
    assert {row["kind"] for row in counted} == {"event", "command"}
    assert [(row["code"], row["message"]) for row in errors] == [("bad", "No.")]


def test_the_views_of_a_server_have_the_same_columns_and_times(on_server: Place, path: Path) -> None:
    for view in ("calls", "entries"):
        columns = [
            stored.visit(place, lambda connection: [each["name"] for each in sa.inspect(connection).get_columns(view)])  # noqa: B023
            for place in (path, on_server)
        ]
        assert columns[0] == columns[1]
    [call] = ask(on_server, "SELECT * FROM calls WHERE call_id = 'rtc_example'")
    assert (call["started_at"], call["ended_at"]) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:01:01.500000Z")
    assert (float(call["duration_seconds"]), call["total_tokens"], call["first_audio_p95_ms"]) == (61.5, 12, 900)
    first, *_, last = ask(on_server, "SELECT * FROM entries WHERE call_id = 'rtc_example' ORDER BY epoch, seq")
    assert (first["position"], first["at"], first["kind"]) == ("1:1", "2026-01-01T00:00:00.001000Z", "event")
    assert (last["kind"], last["payload"], last["payload_bytes"]) == ("command", None, b"\xff")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_finds_something(recorded: Path, example: str) -> None:
    assert ask(recorded, example)


def test_the_examples_find_what_they_say(recorded: Path) -> None:
    newest, day, team, said, _, errors, _ = [ask(recorded, example) for example in EXAMPLES]
    assert (newest[0]["call_id"], newest[0]["seconds"]) == ("rtc_example", 62.0)
    assert (day[0]["day"], day[0]["calls"], day[0]["usd"]) == ("2026-01-01", 2, 0.1123)
    assert [row["call_id"] for row in team] == ["rtc_example"]
    assert [(row["who"], row["text"]) for row in said] == [("user", "Hello?"), ("assistant", "Good day!")]
    assert [(row["code"], row["message"]) for row in errors] == [("bad", "No.")]


def test_a_row_of_each_view_has_plain_values(recorded: Path) -> None:
    [call] = ask(recorded, "SELECT * FROM calls WHERE call_id = 'rtc_example'")
    assert (call["started_at"], call["ended_at"]) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:01:01.500000Z")
    assert (call["duration_seconds"], call["total_tokens"], call["first_audio_p95_ms"]) == (61.5, 12, 900)
    first, *_, last = ask(recorded, "SELECT * FROM entries WHERE call_id = 'rtc_example' ORDER BY epoch, seq")
    assert (first["position"], first["at"], first["kind"]) == ("1:1", "2026-01-01T00:00:00.001000Z", "event")
    assert json.loads(first["payload"])["transcript"] == "Hello?"
    assert (last["kind"], last["payload"], last["payload_bytes"]) == ("command", None, b"\xff")


@pytest.mark.parametrize("view", ["calls", "entries"])
def test_every_column_is_described(path: Path, view: str) -> None:
    part = TEXT.partition(f"## `{view}`")[2].partition("\n## ")[0]
    described = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", part, re.MULTILINE))))
    with store.transaction(path) as connection:
        assert {column["name"] for column in sa.inspect(connection).get_columns(view)} == described


def test_the_entries_of_one_call_are_found_through_the_index(path: Path) -> None:
    plan = ask(path, "EXPLAIN QUERY PLAN SELECT * FROM entries WHERE call_id = 'rtc_1' ORDER BY epoch, seq")
    steps = " / ".join(row["detail"] for row in plan)
    assert "call_id=?" in steps
    assert "call_key=? AND day=?" in steps
    assert "TEMP B-TREE" not in steps
