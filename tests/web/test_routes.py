from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import Struct

from rtobserver.clock import SystemClock
from rtobserver.metrics import Metrics
from rtobserver.store.audit import Audit
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.web import openapi, problems, queries
from rtobserver.web.bearer import Bearer
from rtobserver.web.listener import listening
from rtobserver.web.routes import Answer, Ask, Desk, Route
from tests.store import stored


class Order(Struct, forbid_unknown_fields=True):
    """Order something."""

    text: str
    count: int = 1


class Said(Struct):
    """Say what was ordered."""

    said: str


async def repeat(ask: Ask[queries.Nothing, Order]) -> Said:
    return Said(ask.body.text * ask.body.count)


ROUTE: Route[Any, Any] = Route(
    name="orders.repeat",
    method="POST",
    path="/repeat",
    scope=None,
    summary="Repeat a text.",
    query=queries.Nothing,
    body=Order,
    answers=(Answer(status=202, description="It is ordered.", body=Said),),
    answer=repeat,
)


@dataclass
class Asking:
    url: str
    client: aiohttp.ClientSession

    async def post(self, data: bytes, media: str = "application/json") -> tuple[int, Any]:
        headers = {"Content-Type": media}
        async with self.client.post(f"{self.url}/repeat", data=io.BytesIO(data), headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    path, clock = stored.fresh(tmp_path), SystemClock()
    writer = stored.writer_of(path)
    await writer.open()
    async with SqliteDatabase(path, clock=clock) as database:
        app = web.Application()
        problems.install(app)
        audit = Audit(writer, clock=clock)
        bearer = Bearer(database=database, audit=audit, clock=clock, metrics=Metrics())
        Desk(database=database, audit=audit, bearer=bearer, clock=clock).install(app, [ROUTE])
        async with listening(app, host="127.0.0.1", port=0) as listener, aiohttp.ClientSession() as client:
            yield Asking(listener.url, client)
    await writer.close()


async def test_a_body_is_read_as_its_type_says_and_the_answer_has_its_status(asking: Asking) -> None:
    assert await asking.post(b'{"text":"a","count":3}') == (202, {"said": "aaa"})


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "text"),
        (b"{}", "text"),
        (b'{"text":1}', "Expected `str`"),
        (b'{"text":"a","cuont":1}', "cuont"),
        (b"[]", "Expected `object`"),
        (b'{"text":', "not JSON"),
        (b'{"text":"\xff"}', "not JSON"),
        (b"[" * 100_000, ""),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_with_words(asking: Asking, body: bytes, word: str) -> None:
    status, problem = await asking.post(body)
    assert (status, problem["error"]["code"]) == (400, "invalid_body")
    assert word in problem["detail"]


async def test_a_body_of_another_type_is_415(asking: Asking) -> None:
    assert (await asking.post(b"text=a", "application/x-www-form-urlencoded"))[0] == 415


async def test_an_encoded_body_is_415(asking: Asking) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    async with asking.client.post(f"{asking.url}/repeat", data=b'{"text":"a"}', headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["error"]["code"]) == (415, "encoded_body")


async def test_a_body_that_is_too_large_is_413(asking: Asking) -> None:
    assert (await asking.post(b" " * 2_000_000))[0] == 413


def test_a_route_is_described_by_what_reads_and_writes_it() -> None:
    document = openapi.document([ROUTE])
    operation = document["paths"]["/repeat"]["post"]
    assert operation["requestBody"]["required"]
    assert operation["requestBody"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Order"}}
    }
    assert operation["responses"]["202"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Said"}}
    }
    assert {"400", "413", "415"} <= operation["responses"].keys()
    schema = document["components"]["schemas"]["Order"]
    assert (schema["required"], schema["additionalProperties"]) == (["text"], False)
