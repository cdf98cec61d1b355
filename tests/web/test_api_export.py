from __future__ import annotations

import csv
import io
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from rtobserver.store import tables
from rtobserver.store.places import Place
from rtobserver.web import columns
from tests.store.stored import START, call, entry, insert, ref
from tests.web.operator_stage import Answer, Stage, stage

FORMATS = [
    (what, form)
    for what in columns.COLUMNS
    for form in ("ndjson", "csv", "parquet")
    if (what, form) != ("entries", "csv")
]
TEXT = '=HYPERLINK("//x")\r\n,\'ü'


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.key = opened.make_key("export", "read")
        yield opened


def record(place: Place, number: int, entries: int = 3) -> None:
    call_id = f"rtc_{number}"
    where = ref(call_id)
    insert(
        place,
        tables.call,
        call(
            call_id,
            started_at=START + number,
            status="ended",
            ended_at=START + 60_000_000,
            user=TEXT,
            labels={"team": "@a"},
            usage='{"input": {"audio": 5}}',
            cost_usd="0.10",
        ),
    )
    frames = [b'{"a": 1}', b"\xff\n", b'{"b": "\\ud83d"}']
    insert(
        place,
        tables.entry,
        *[
            entry(call_id, seq, frames[seq % 3], flags=0 if seq % 3 == 1 else tables.FLAG_JSON)
            for seq in range(1, entries + 1)
        ],
    )
    position = {"call_key": where.key, "day": where.day, "epoch": 1}
    for seq in (2, 1):
        insert(
            place,
            tables.item,
            position
            | {
                "seq": seq,
                "item_id": f"item_{seq}",
                "role": "user",
                "kind": "speech",
                "text": TEXT,
                "status": "completed",
                "interrupted": False,
                "started_at": START,
                "out_of_band": False,
                "idle_timeout": False,
                "recovered": False,
            },
        )
    insert(
        place,
        tables.response,
        position
        | {
            "seq": 1,
            "response_id": "resp_1",
            "status": "completed",
            "out_of_band": False,
            "playback_cleared": False,
            "interrupted": True,
            "done_at": START,
            "usage": json.dumps({"input_tokens": 7}),
        },
    )


async def export(api: Stage, what: str, form: str, rest: str = "") -> Answer:
    return await api.get(f"/api/v1/export?what={what}&format={form}{rest}")


def rows_of(answer: Answer, form: str) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    match form:
        case "ndjson":
            return [json.loads(line) for line in answer.body.split(b"\n")[:-1]]
        case "csv":
            return list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        case _:
            return list(parquet.read_table(pa.BufferReader(answer.body)).to_pylist())


@pytest.mark.parametrize(("what", "form"), FORMATS)
async def test_every_table_comes_in_every_form(api: Stage, what: str, form: str) -> None:
    for number in range(3):
        record(api.place, number)
    answer = await export(api, what, form)
    rows = rows_of(answer, form)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="rtobserver-{what}.{form}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    each = {"calls": 1, "entries": 3, "items": 2, "responses": 1}[what]
    assert [row["call_id"] for row in rows] == [f"rtc_{number}" for number in (2, 1, 0) for _ in range(each)]
    if what != "calls":
        assert [row["position"] for row in rows[:each]] == [f"1:{seq}" for seq in range(1, each + 1)]
    if form != "ndjson":
        assert list(rows[0]) == [column.name for column in columns.COLUMNS[what]]  # type: ignore[index]


@pytest.mark.parametrize(("what", "form"), FORMATS)
async def test_an_empty_export_is_a_file_that_can_be_read(api: Stage, what: str, form: str) -> None:
    assert rows_of(await export(api, what, form), form) == []


async def test_lines_are_what_the_lists_give(api: Stage) -> None:
    record(api.place, 1)
    assert rows_of(await export(api, "calls", "ndjson"), "ndjson") == (await api.get("/api/v1/calls")).json["data"]
    listed = (await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")).body.splitlines()
    exported = (await export(api, "entries", "ndjson")).body.splitlines()
    assert exported == [b'{"call_id":"rtc_1",' + line[1:] for line in listed]


async def test_parquet_has_types(api: Stage) -> None:
    record(api.place, 1)
    [row] = rows_of(await export(api, "calls", "parquet"), "parquet")
    assert (row["usage_input_audio"], row["cost_usd"], row["tampered"]) == (5, "0.10", False)
    assert row["started_at"].isoformat() == "2026-01-01T00:00:00.000001+00:00"
    first, second, third = rows_of(await export(api, "entries", "parquet"), "parquet")
    assert (first["payload"], first["payload_bytes"]) == (None, b"\xff\n")
    assert (second["payload"], third["payload"]) == ('{"b": "\\ud83d"}', '{"a": 1}')
    [row] = rows_of(await export(api, "responses", "parquet"), "parquet")
    assert (row["usage_input_tokens"], row["interrupted"], row["done_at"].year) == (7, True, 2026)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
async def test_no_cell_is_a_formula(api: Stage, first: str) -> None:
    api.insert(tables.call, call("rtc_1", user=f"{first}1+1", profile=f"a{first}b"))
    [row] = rows_of(await export(api, "calls", "csv"), "csv")
    assert (row["user"], row["profile"]) == (f"'{first}1+1", f"a{first}b")


async def test_cells_say_what_the_fields_are(api: Stage) -> None:
    record(api.place, 1)
    [row] = rows_of(await export(api, "calls", "csv"), "csv")
    assert (row["started_at"], row["duration_seconds"]) == ("2026-01-01T00:00:00.000001Z", "59.999999")
    assert (row["tampered"], row["outcome"], row["labels"]) == ("false", "", '{"team":"@a"}')
    assert row["user"] == f"'{TEXT}"


async def test_the_filters_of_the_list_hold(api: Stage) -> None:
    for number in range(3):
        record(api.place, number)
    api.insert(tables.call, call("rtc_live"))
    for form in ("ndjson", "csv", "parquet"):
        rows = rows_of(await export(api, "calls", form, "&status=live"), form)
        assert [row["call_id"] for row in rows] == ["rtc_live"]
    assert rows_of(await export(api, "items", "ndjson", "&status=live"), "ndjson") == []


async def test_entries_are_no_csv(api: Stage) -> None:
    answer = await export(api, "entries", "csv")
    assert (answer.status, answer.code) == (400, "invalid_parameter")
    assert "ndjson" in answer.json["detail"]


async def test_an_export_needs_its_own_scope(api: Stage) -> None:
    reader = api.make_key("read", "control")
    assert (await api.get("/api/v1/export", key=reader)).status == 403


async def test_the_audit_tells_what_was_taken_but_no_values(api: Stage) -> None:
    await export(api, "items", "csv", "&user=ann")
    audit = tables.audit.c
    rows = api.select(sa.select(audit.object).where(audit.action == "export"))
    assert rows == [("what=items&format=csv&user",)]


@pytest.mark.parametrize(("form", "coding"), [("ndjson", "identity"), ("ndjson", "gzip"), ("parquet", "identity")])
async def test_memory_stays_flat(api: Stage, form: str, coding: str) -> None:
    payload = b'{"delta":"' + b"x" * 2000 + b'"}'
    for number in range(9):
        call_id = f"rtc_{number}"
        profile = "default" if number > 2 else "first"
        insert(api.place, tables.call, call(call_id, started_at=START + number, profile=profile))
        insert(api.place, tables.entry, *[entry(call_id, seq, payload) for seq in range(1, 5001)])
    headers = {"Authorization": f"Bearer {api.key}", "Accept-Encoding": coding}
    url = f"{api.url}/api/v1/export?what=entries&format={form}"
    # a third of it first: what libraries and allocators take once is not what grows with an export
    async with api.client.get(f"{url}&profile=first", headers=headers) as response:
        await response.read()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 0
    async with api.client.get(url, headers=headers) as response:
        async for piece in response.content.iter_any():
            size += len(piece)
    assert size > (90_000_000 if form == "ndjson" else 10_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 45_000  # KiB; to keep it would be 60 MB more


@pytest.mark.parametrize(
    ("path", "accept"), [("export?what=entries", "*/*"), ("calls/rtc_live/entries", "application/x-ndjson")]
)
async def test_what_is_recorded_meanwhile_does_not_keep_a_stream_going(api: Stage, path: str, accept: str) -> None:
    api.insert(tables.call, call("rtc_live"))
    # more than fits into the buffers on the way: it is still being read when the next entries come
    api.insert(tables.entry, *[entry("rtc_live", seq, b'"' + b"x" * 1_000_000 + b'"') for seq in range(1, 41)])
    headers = {"Authorization": f"Bearer {api.key}", "Accept": accept, "Accept-Encoding": "identity"}
    async with api.client.get(f"{api.url}/api/v1/{path}", headers=headers) as response:
        first = await response.content.readany()
        api.insert(tables.entry, *[entry("rtc_live", seq) for seq in range(41, 44)])
        lines = (first + await response.read()).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 41))


async def test_a_revoked_key_ends_an_export(api: Stage) -> None:
    for number in range(4):
        record(api.place, number, entries=2000)
    headers = {"Authorization": f"Bearer {api.key}"}
    async with api.client.get(f"{api.url}/api/v1/export?what=entries", headers=headers) as response:
        await response.content.readany()
        assert api.revoke_key(api.key)
        api.clock.ahead += 2
        with pytest.raises(Exception, match=r"[Pp]ayload|[Cc]onnection"):
            await response.read()
