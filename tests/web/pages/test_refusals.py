"""People are refused by pages in plain words, programs by problem documents as before."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rtobserver.clock import SystemClock
from rtobserver.errors import RequestError, StoreUnavailable
from rtobserver.metrics import Metrics
from rtobserver.store import keys, tables
from rtobserver.store.audit import Audit
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.web import problems, queries
from rtobserver.web.bearer import Bearer
from rtobserver.web.listener import listening
from rtobserver.web.pages import refusals
from rtobserver.web.pages.assets import Assets
from rtobserver.web.pages.rendering import HEADERS, Rendering
from rtobserver.web.routes import Answer, Ask, Desk, Route
from tests.store import stored
from tests.store.stored import call
from tests.web.operator_stage import Stage, stage

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


def is_page(answer: Any) -> bool:
    return answer.headers["Content-Type"] == "text/html; charset=utf-8" and b"<!doctype html>" in answer.body


async def test_an_unknown_address_is_told_to_people_as_a_page_and_to_programs_as_a_document(api: Stage) -> None:
    shown = await api.send("GET", "/nothing/%3Cscript%3E", Accept=HTML)
    assert shown.status == 404
    assert is_page(shown)
    assert b"There is nothing here" in shown.body
    assert b"script%3E" not in shown.body
    assert dict(HEADERS).items() <= dict(shown.headers).items()
    assert (await api.send("GET", "/nothing")).code == "not_found"
    assert (await api.send("GET", "/nothing", Accept="*/*")).code == "not_found"


@pytest.mark.parametrize("path", ["/api/v1/calls", "/api/v1/nothing", "/metrics", "/assets/nothing"])
async def test_what_is_for_programs_answers_browsers_the_same(api: Stage, path: str) -> None:
    assert (await api.send("GET", path, Accept=HTML)).code in {"no_key", "not_found"}


async def test_who_has_not_signed_in_is_led_to_where_one_does_and_back(api: Stage) -> None:
    answer = await api.send("GET", "/calls/rtc_1?a=b%20c", Accept=HTML)
    assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2Fcalls%2Frtc_1%3Fa%3Db%2520c")
    answer = await api.send("GET", "/?" + "a=b&" * 200, Accept=HTML)
    assert answer.headers["Location"] == "/login?next=%2F"


async def test_a_link_on_another_site_is_followed_once_more_from_here(api: Stage) -> None:
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    answer = await api.send("GET", "/calls/rtc_1?a=%22%3E%3Cb%3E&b='", Accept=HTML, **linked)
    assert answer.status == 200
    assert is_page(answer)
    [address] = re.findall(r'<meta http-equiv="refresh" content="0; url=([^"]*)">', answer.body.decode())
    assert html.unescape(address) == "/calls/rtc_1?a=%22%3E%3Cb%3E&b='"
    answer = await api.send("GET", "/calls/rtc_1", Accept=HTML, **(linked | {"Sec_Fetch_Site": "same-origin"}))
    assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2Fcalls%2Frtc_1")


async def test_nothing_is_open_to_who_has_not_signed_in_but_the_door(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    opened = set()
    for route in api.app.router.routes():
        assert route.resource is not None
        path = re.sub(r"{\w+(:[^}]*})?}?", "rtc_1", route.resource.canonical)
        answer = await api.send(route.method, path, Accept=HTML, Origin=api.url)
        if answer.status not in (401, 303):
            opened.add(f"{route.method} {route.resource.canonical}")
        assert b"rtc_1" not in answer.body
    assert opened == {
        "GET /api/docs",
        "GET /api/docs.css",
        "GET /api/v1/openapi.json",
        "GET /assets/{version}/{name}",
        "GET /livez",
        "GET /login",
        "GET /readyz",
        "HEAD /api/docs",
        "HEAD /assets/{version}/{name}",
        "HEAD /login",
        "POST /login",
    }


async def test_a_script_that_asks_for_a_page_is_told_that_nobody_is_signed_in(api: Stage) -> None:
    answer = await api.send("GET", "/", Accept=HTML, HX_Request="true")
    assert (answer.status, answer.body) == (401, b"")


async def test_a_key_that_may_not_look_is_told_so_with_its_name_and_a_way_out(api: Stage) -> None:
    answer = await api.get("/", key=api.make_key("metrics"), Accept=HTML)
    assert answer.status == 403
    assert is_page(answer)
    assert b"Your key does not allow this" in answer.body
    assert b'action="/logout"' in answer.body


async def test_a_call_that_is_not_there_or_was_erased_is_told_as_a_page(api: Stage) -> None:
    api.entomb("rtc_gone")
    for path, status, words in (
        ("/calls/rtc_unknown", 404, b"There is nothing here"),
        ("/calls/rtc_gone", 410, b"This recording was erased"),
    ):
        answer = await api.get(path, Accept=HTML)
        assert answer.status == status
        assert is_page(answer)
        assert words in answer.body
        assert answer.headers["X-Request-Id"].encode() in answer.body
    assert b"No list, search or export has it any more." in answer.body
    assert b"list of calls" not in answer.body


async def test_without_the_audit_a_page_says_that_it_is_not_the_time(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    await api.writer.close()
    answer = await api.get("/calls/rtc_1", Accept=HTML)
    assert answer.status == 503
    assert is_page(answer)
    assert b"Not now" in answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_and_what_it_loads_can_be_asked_for_without_their_bodies(api: Stage, method: str) -> None:
    for path in ("/", "/system", "/login", Assets().address("style.css")):
        answer = await api.send(method, path, Authorization=f"Bearer {api.key}", Accept="text/html")
        assert answer.status == 200
        assert bool(answer.body) == (method == "GET")
    stream = await api.send("HEAD", "/live/stream", Authorization=f"Bearer {api.key}")
    assert stream.status == 405


async def test_a_page_takes_only_what_it_takes(api: Stage) -> None:
    answer = await api.send("POST", "/", Accept=HTML)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert is_page(answer)
    answer = await api.get("/login?nxt=%2F", Accept=HTML)
    assert answer.status == 400
    assert is_page(answer)
    assert b"did you mean `next`?" in answer.body


async def test_a_strange_host_is_told_nothing_of_ours(api: Stage) -> None:
    answer = await api.send("GET", "/", Host="evil.example", Accept=HTML, Cookie=await api.sign_in())
    assert answer.status == 421
    assert b"/logout" not in answer.body


# --- a listener with pages that fail --------------------------------------------------------------


@dataclass
class Failing:
    url: str
    client: aiohttp.ClientSession
    key: str
    error: Exception

    async def get(self, **headers: str) -> tuple[int, Any, str]:
        sent = {"Authorization": f"Bearer {self.key}"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        async with self.client.get(f"{self.url}/failing", headers=sent) as answer:
            return answer.status, answer.headers, await answer.text()


@pytest.fixture
async def failing(tmp_path: Path) -> AsyncIterator[Failing]:
    path, clock = stored.fresh(tmp_path), SystemClock()
    writer = stored.writer_of(path)
    await writer.open()
    async with SqliteDatabase(path, clock=clock) as database:
        app = web.Application()
        problems.install(app, page=refusals.telling(Rendering(Assets(), clock)))
        audit = Audit(writer, clock=clock)
        bearer = Bearer(database=database, audit=audit, clock=clock, metrics=Metrics())

        async def fail(_ask: Ask[queries.Nothing, None]) -> web.Response:
            raise stand.error

        route: Route[Any, Any] = Route(
            name="pages.failing",
            path="/failing",
            page=True,
            summary="Fail.",
            query=queries.Nothing,
            answers=(Answer(description="Nothing.", media="text/html"),),
            answer=fail,
        )
        Desk(database=database, audit=audit, bearer=bearer, clock=clock).install(app, [route])
        async with listening(app, host="127.0.0.1", port=0) as listener, aiohttp.ClientSession() as client:
            key = keys.create(path, name="<b>ann</b>", now_us=clock.now_us())
            stand = Failing(listener.url, client, key, ValueError("a secret"))
            yield stand
    await writer.close()


async def test_a_failure_of_ours_tells_an_id_and_no_details(failing: Failing) -> None:
    status, headers, text = await failing.get()
    assert status == 500
    assert "a secret" not in text
    assert headers["X-Request-Id"] in text


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (StoreUnavailable("a path"), 503, "The database cannot be reached"),
        (RequestError(429, "too_many", "Wait a little.", retry_after=7), 429, "Wait a little."),
        (RequestError(403, "x", "<script>alert(1)</script>"), 403, "&lt;script&gt;alert(1)&lt;/script&gt;"),
        (web.HTTPNotFound(), 404, "There is nothing at this address."),
    ],
    ids=["store", "wait", "hostile", "missing"],
)
async def test_what_went_wrong_is_told_as_text(failing: Failing, error: Exception, status: int, words: str) -> None:
    failing.error = error
    found, headers, text = await failing.get(Accept="application/json")
    assert found == status
    assert words in text
    assert "<script>alert" not in text
    assert headers.get("Retry-After") == ("7" if status == 429 else None)
    assert "&lt;b&gt;ann&lt;/b&gt;" in text
