from __future__ import annotations

import gzip
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.store import tables
from rtobserver.web.codings import accepted
from tests.store.stored import START, call, entry
from tests.web.operator_stage import Stage, stage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DECODERS: dict[str, Any] = {"gzip": gzip.decompress, "zstd": zstd.decompress}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.insert(tables.call, *[call(f"rtc_{number}", started_at=START + number) for number in range(30)])
        yield opened


async def raw(api: Stage, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
    """Get the bytes as they are on the wire."""
    sent = {"Authorization": f"Bearer {api.key}"} | {name.replace("_", "-"): text for name, text in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as client,
        client.get(f"{api.url}{path}", headers=sent) as response,
    ):
        return response, await response.read()


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_an_answer_is_compressed_as_the_caller_accepts(api: Stage, coding: str) -> None:
    plain, whole = await raw(api, "/api/v1/calls")
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"
    response, body = await raw(api, "/api/v1/calls", Accept_Encoding=coding)
    assert (response.headers["Content-Encoding"], response.headers["Vary"]) == (coding, "Accept-Encoding")
    assert len(body) < len(whole) / 4
    assert DECODERS[coding](body) == whole


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/json"])
async def test_a_stream_is_compressed_too(api: Stage, coding: str, accept: str) -> None:
    payload = json.dumps({"text": "word " * 200}).encode()
    api.insert(tables.entry, *[entry("rtc_1", seq, payload) for seq in range(1, 600)])
    path = "/api/v1/calls/rtc_1/entries?limit=1000"
    _, whole = await raw(api, path, Accept=accept)
    response, body = await raw(api, path, Accept=accept, Accept_Encoding=coding)
    assert response.headers["Content-Encoding"] == coding
    assert len(body) < len(whole) / 10
    assert DECODERS[coding](body) == whole


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("query", ["what=entries&format=ndjson", "what=calls&format=csv"])
async def test_an_export_is_compressed_too(api: Stage, coding: str, query: str) -> None:
    api.insert(tables.entry, *[entry("rtc_1", seq, b'{"text": "word"}') for seq in range(1, 600)])
    api.key = api.make_key("export")
    plain, whole = await raw(api, f"/api/v1/export?{query}")
    assert ("Content-Encoding" in plain.headers, plain.headers["Vary"]) == (False, "Accept-Encoding")
    response, body = await raw(api, f"/api/v1/export?{query}", Accept_Encoding=coding)
    assert (response.headers["Content-Encoding"], response.headers["Vary"]) == (coding, "Accept-Encoding")
    assert len(body) < len(whole) / 3
    assert DECODERS[coding](body) == whole


async def test_parquet_is_compressed_inside_only(api: Stage) -> None:
    api.key = api.make_key("export")
    response, body = await raw(api, "/api/v1/export?format=parquet", Accept_Encoding="gzip, zstd")
    assert not {"Content-Encoding", "Vary"} & set(response.headers)
    assert body.startswith(b"PAR1")


async def test_a_small_answer_is_sent_as_it_is(api: Stage) -> None:
    response, body = await raw(api, "/api/v1/calls/rtc_1/gaps", Accept_Encoding="gzip, zstd")
    assert "Content-Encoding" not in response.headers
    assert json.loads(body) == {"data": [], "next_cursor": None}


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
@pytest.mark.parametrize(
    "path", ["calls", "calls/rtc_1", "calls/rtc_1/transcript?format=text", "stats?since=2026-01-01"]
)
async def test_what_the_caller_has_already_is_not_sent_again(api: Stage, path: str, coding: str) -> None:
    path = f"/api/v1/{path}{'&until=2026-01-02' if 'stats' in path else ''}"
    first, _ = await raw(api, path, Accept_Encoding=coding)
    tag = first.headers["ETag"]
    for given_tag in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        response, body = await raw(api, path, If_None_Match=given_tag, Accept_Encoding=coding)
        assert (response.status, body) == (304, b"")
        assert (response.headers["ETag"], response.headers["Cache-Control"]) == (tag, "no-store")
    response, body = await raw(api, path, If_None_Match='W/"other"', Accept_Encoding=coding)
    assert response.status == 200


async def test_a_call_that_changed_is_sent_again(api: Stage) -> None:
    first, _ = await raw(api, "/api/v1/calls/rtc_1")
    api.insert(tables.call, call("rtc_new"))
    await api.writer.run(lambda transaction: transaction.execute(tables.call.update().values(error_count=1)))
    response, _ = await raw(api, "/api/v1/calls/rtc_1", If_None_Match=first.headers["ETag"])
    assert response.status == 200
    assert response.headers["ETag"] != first.headers["ETag"]


async def test_a_caller_without_a_key_is_told_nothing_of_tags(api: Stage) -> None:
    response, _ = await raw(api, "/api/v1/calls/rtc_1", If_None_Match="*", Authorization="Bearer rto_none")
    assert response.status == 401
    response, _ = await raw(api, "/api/v1/calls/rtc_none", If_None_Match="*")
    assert response.status == 404


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0, gzip;q=0.5", "gzip"),
        ("GZIP ; q=1", "gzip"),
        ("*", "zstd"),
        ("*;q=0.1, zstd;q=0", "gzip"),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzip;q=..", None),
        ("deflate", None),
        ("xgzip", None),
    ],
)
def test_the_better_of_what_is_accepted_is_chosen(header: str, name: str | None) -> None:
    assert accepted(header) == name


@given(st.text(max_size=40))
def test_any_header_is_read(header: str) -> None:
    assert accepted(header) in (None, "gzip", "zstd")
