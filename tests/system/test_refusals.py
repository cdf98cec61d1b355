"""However upstream answers a negotiation, the browser is told what it can use and the call's row says what happened."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from rtobserver.simulator.faults import EndpointFault, Faults
from tests.support.stage import OFFER, Setting, Stage
from tests.support.watch import Watch
from tests.system.conftest import Play

FORBIDDEN_WORDS = b"canary-in-body"


@dataclass(frozen=True)
class Case:
    fault: EndpointFault
    status: int
    outcome: str
    retry_after: str | None = None
    code: str | None = None


REFUSED = {
    "400_invalid_offer": Case(EndpointFault(status=400, code="invalid_offer"), 400, "refused", code="invalid_offer"),
    "400_other": Case(EndpointFault(status=400, code="unknown_parameter"), 502, "refused", code="unknown_parameter"),
    "401": Case(EndpointFault(status=401), 502, "refused", code="upstream_refused"),
    "403": Case(EndpointFault(status=403), 502, "refused", code="upstream_refused"),
    "404": Case(EndpointFault(status=404, code="DeploymentNotFound"), 502, "refused", code="DeploymentNotFound"),
    "429": Case(EndpointFault(status=429), 429, "refused", code="rate_limit_exceeded"),
    "429_retry_after_30": Case(EndpointFault(status=429, retry_after="30"), 429, "refused", retry_after="30"),
    "429_retry_after_forever": Case(EndpointFault(status=429, retry_after="1" + "0" * 9), 429, "refused", "60"),
    "429_retry_after_nonsense": Case(EndpointFault(status=429, retry_after="soon"), 429, "refused", None),
    "500": Case(EndpointFault(status=500), 503, "upstream_error", code="upstream_unavailable"),
    "502": Case(EndpointFault(status=502, body="<html>", content_type="text/html"), 503, "upstream_error"),
    "503": Case(EndpointFault(status=503, retry_after="7"), 503, "upstream_error", retry_after="7"),
    "no_answer": Case(EndpointFault(drop=True), 503, "upstream_error"),
    "418_with_html": Case(EndpointFault(status=418, body="<p>teapot", content_type="text/html"), 502, "refused"),
}


async def check(stage: Stage, case: Case, answer: aiohttp.ClientResponse) -> None:
    body = await answer.read()
    problem = json.loads(body)
    assert answer.status == case.status, problem
    assert answer.content_type == "application/problem+json"
    assert answer.headers.get("Retry-After") == case.retry_after
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert set(problem["error"]) == {"message", "type", "code"}
    if case.code:
        assert problem["error"]["code"] == case.code
    row = await stage.until_only(status="failed")
    assert row["outcome"] == case.outcome
    assert row["call_id"].startswith("neg_")
    assert row["completeness"] == "incomplete"
    assert row["ended_at"] is not None
    assert row["entry_count"] == 0


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_of_the_offer_ends_in_its_status_and_outcome(play: Play, name: str) -> None:
    case = REFUSED[name]
    async with play(faults=Faults(calls=case.fault)) as stage:
        await check(stage, case, await stage.offer())
        assert len(stage.requests("/realtime/calls")) == 1


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith("400_invalid")])
async def test_a_refusal_of_the_client_secret_ends_in_its_status_and_outcome(play: Play, name: str) -> None:
    case = REFUSED[name]
    async with play(faults=Faults(client_secrets=case.fault)) as stage:
        await check(stage, case, await stage.offer())
        assert stage.requests("/realtime/calls") == []


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("where", ["calls", "client_secrets"])
async def test_the_body_of_a_refused_credential_is_never_relayed(play: Play, where: str, status: int) -> None:
    body = json.dumps({"error": {"message": FORBIDDEN_WORDS.decode(), "code": FORBIDDEN_WORDS.decode()}})
    fault = EndpointFault(status=status, body=body)
    faults: dict[str, Any] = {where: fault}
    async with play(faults=Faults(**faults)) as stage:
        answer = await stage.offer()
        assert answer.status == 502
        assert FORBIDDEN_WORDS not in await answer.read()


async def test_a_refused_key_is_tried_again_once(play: Play) -> None:
    async with play(faults=Faults(client_secrets=EndpointFault(status=401, times=1))) as stage:
        await stage.call()
        assert len(stage.requests("/client_secrets")) == 2


async def test_a_short_wait_that_upstream_asks_for_is_waited_out(play: Play) -> None:
    fault = EndpointFault(status=429, retry_after="1", times=1)
    async with play(faults=Faults(client_secrets=fault)) as stage:
        call_id = await stage.call()
        assert len(stage.requests("/client_secrets")) == 2
        [row] = await stage.calls()
        assert row["call_id"] == call_id


@pytest.mark.parametrize("where", ["calls", "client_secrets"])
async def test_a_redirect_is_an_error_and_is_not_followed(play: Play, where: str) -> None:
    async with elsewhere() as (url, visitors):
        faults: dict[str, Any] = {where: EndpointFault(status=307, redirect=url)}
        async with play(faults=Faults(**faults)) as stage:
            await check(stage, Case(EndpointFault(), 503, "upstream_error"), await stage.offer())
        assert visitors == []


async def test_an_upstream_that_does_not_listen_is_a_503(play: Play) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    setting = Setting(upstream={"base_url": f"http://127.0.0.1:{port}/openai/v1"})
    async with play(setting) as stage:
        await check(stage, Case(EndpointFault(), 503, "upstream_error"), await stage.offer())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (EndpointFault(drop=True), "no answer (2 times)"),
        (EndpointFault(status=503), "it answers 503 (2 times)"),
        (EndpointFault(status=401), "it does not take our credential (401) (2 times)"),
    ],
    ids=["no_answer", "503", "401"],
)
async def test_offers_that_upstream_lets_nobody_through_with_are_told_until_one_gets_through(
    play: Play, fault: EndpointFault, words: str
) -> None:
    fault = replace(fault, times=2)
    async with play(faults=Faults(calls=fault)) as stage:
        assert b"Recording works. No offer came yet." in (await stage.get("/system"))[1]
        await stage.offer()
        await stage.offer()
        status, ready = await stage.get("/readyz")
        reason = f"no offer gets through to upstream: {words}"
        # a load balancer has nothing better to turn to
        assert (status, json.loads(ready)) == (200, {"status": "degraded", "reasons": [reason]})
        [told] = (await stage.document("/api/v1/system"))["reasons"]
        assert (told["reason"], told["since"] is not None) == (reason, True)
        assert f"{reason}, since <time" in (await stage.get("/system"))[1].decode()
        await stage.call()
        assert json.loads((await stage.get("/readyz"))[1]) == {"status": "ok", "reasons": []}
        assert b"Recording and negotiation work." in (await stage.get("/system"))[1]


async def test_offers_that_are_refused_for_what_is_in_them_do_not_degrade_the_daemon(play: Play) -> None:
    async with play(faults=Faults(calls=EndpointFault(status=400, code="invalid_offer"))) as stage:
        await stage.offer()
        assert json.loads((await stage.get("/readyz"))[1]) == {"status": "ok", "reasons": []}
        assert b"No offer has got through yet." in (await stage.get("/system"))[1]


async def test_an_upstream_that_never_answers_is_a_504_after_ten_seconds(play: Play) -> None:
    fault = EndpointFault(hang=True, after=1, times=1)
    async with play(faults=Faults(client_secrets=fault, calls=EndpointFault(hang=True))) as stage:
        watch = Watch()
        hanging_call, hanging_secret = await asyncio.gather(stage.offer(), stage.offer())
        most = 18 + watch.starved()
        assert (hanging_call.status, hanging_secret.status) == (504, 504)
        for row in await stage.calls("&status=failed"):
            assert row["outcome"] == "timeout"
            assert 9 < row["duration_seconds"] < most
        assert len(await stage.calls("&outcome=timeout")) == 2
        assert len(stage.requests("/realtime/calls")) == 1
        assert len(stage.requests("/client_secrets")) == 2


BROKEN = {
    "200_for_201": Faults(answer_status=200),
    "202_for_201": Faults(answer_status=202),
    "html": Faults(answer="html"),
    "json": Faults(answer="json"),
    "empty": Faults(answer="empty"),
    "huge": Faults(answer="huge", answer_bytes=1024 * 1024),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_call_whose_answer_cannot_be_used_is_hung_up(play: Play, name: str) -> None:
    async with play(faults=BROKEN[name]) as stage:
        answer = await stage.offer()
        assert answer.status == 502
        assert json.loads(await answer.read())["error"]["code"] == "upstream_broken"
        [call] = stage.simulator.calls.values()
        await stage.wait(lambda: call.hangups == 1)
        row = await stage.until_only(status="failed")
        assert row["outcome"] == "upstream_error"


async def test_an_offer_is_never_sent_twice(play: Play) -> None:
    async with play(faults=Faults(calls=EndpointFault(drop_after=True))) as stage:
        answer = await stage.offer()
        assert answer.status == 503
        assert len(stage.requests("/realtime/calls")) == 1
        row = await stage.until_only(status="failed")
        assert row["outcome"] == "upstream_error"


async def test_what_is_refused_before_upstream_leaves_no_row(play: Play) -> None:
    async with play() as stage:
        answers = [
            (await stage.offer(offer="{}"), 400),
            (await stage.offer(offer=""), 400),
            (await stage.offer(offer=OFFER + "a=x:" + "y" * 70_000), 413),
            (await stage.offer(Content_Type="text/plain"), 415),
            (await stage.offer(Content_Encoding="gzip"), 415),
            (await stage.offer(Origin="https://elsewhere.example"), 403),
            (await stage.offer(Origin="null"), 403),
            (await stage.offer(Host="elsewhere.example"), 421),
            (await stage.offer(Authorization="Bearer ek_forged"), 401),
            (await stage.offer(Authorization=f"Bearer {stage.key}"), 401),
            (await stage.offer("/v1/realtime/calls?profile=nobody"), 400),
            (await stage.offer('/v1/realtime/calls?labels={"a":1}'), 400),
            (await stage.offer("/v1/realtime/call"), 404),
        ]
        assert [answer.status for answer, _ in answers] == [status for _, status in answers]
        assert await stage.calls() == []
        assert list(stage.simulator.requests) == []


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[str, list[str]]]:
    """Be another host, that must never be visited."""
    visitors: list[str] = []

    def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/openai/v1/realtime/calls", visitors
