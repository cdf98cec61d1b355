"""Client secrets, offers, Location headers and their faults."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from rtobserver.simulator.faults import EndpointFault, Faults
from tests.simulator.caller import OFFER, SESSION, calling


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"session": {"model": "gpt-realtime"}}, "missing_required_parameter"),
        ({"session": {**SESSION, "voice": "marin"}}, "unknown_parameter"),
        ({"session": {**SESSION, "output_modalities": ["text", "audio"]}}, "invalid_value"),
        ({"session": {**SESSION, "audio": {"output": {"voice": "bob"}}}}, "invalid_value"),
        ({"session": SESSION, "expires_after": {"anchor": "created_at", "seconds": 5}}, "invalid_value"),
        ({"session": SESSION, "expires_after": {"anchor": "now", "seconds": 60}}, "invalid_value"),
        ({"session": SESSION, "ttl": 3}, "unknown_parameter"),
        ({}, "missing_required_parameter"),
    ],
)
async def test_a_wrong_mint_is_refused_by_name(body: dict[str, Any], code: str) -> None:
    async with calling() as caller:
        answer = await caller.post("/realtime/client_secrets", headers=caller.key, json=body)
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, code)


@pytest.mark.parametrize(("provider", "seconds"), [("azure", 7200), ("openai", 600)])
async def test_a_secret_lives_as_long_as_asked_or_as_the_vendor_says(provider: str, seconds: int) -> None:
    async with calling(provider=provider) as caller:
        answer = await caller.post("/realtime/client_secrets", headers=caller.key, json={"session": SESSION})
        assert abs((await answer.json())["expires_at"] - time.time() - seconds) < 3
        asked = {"session": SESSION, "expires_after": {"anchor": "created_at", "seconds": 60}}
        answer = await caller.post("/realtime/client_secrets", headers=caller.key, json=asked)
        assert abs((await answer.json())["expires_at"] - time.time() - 60) < 3


async def test_an_unknown_deployment_is_not_found() -> None:
    async with calling(models=("my-deployment",)) as caller:
        answer = await caller.post("/realtime/client_secrets", headers=caller.key, json={"session": SESSION})
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "DeploymentNotFound")


async def test_openai_gives_out_a_secret_without_a_session() -> None:
    async with calling(provider="openai") as caller:
        answer = await caller.post("/realtime/client_secrets", headers=caller.key, json={})
        assert answer.status == 200
        assert (await caller.offer((await answer.json())["value"])).status == 201


async def test_a_call_runs_with_the_session_of_its_secret() -> None:
    async with calling() as caller:
        session = {**SESSION, "instructions": "Be kind.", "audio": {"output": {"voice": "marin"}}}
        call = caller.simulator.calls[await caller.call(session)]
        assert call.session["instructions"] == "Be kind."
        assert call.session["audio"]["output"] == {
            "format": {"type": "audio/pcm", "rate": 24000},
            "voice": "marin",
            "speed": 1.0,
        }
        assert abs(call.session["expires_at"] - time.time() - 3600) < 3


async def test_the_answer_fits_the_offer() -> None:
    async with calling() as caller:
        offer = OFFER + "m=video 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:cam\r\n"
        answer = await caller.offer(await caller.mint(), offer)
        lines = (await answer.text()).split("\r\n")
        assert "a=group:BUNDLE 0 1 cam" in lines
        assert "m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8" in lines
        assert "a=max-message-size:1073741823" in lines
        assert "m=video 0 UDP/TLS/RTP/SAVPF 0" in lines
        assert lines[-1] == ""


@pytest.mark.parametrize(
    "offer",
    [
        "",
        '"v=0\\r\\n"',
        OFFER.replace("\r\n", "\\r\\n"),
        OFFER.removesuffix("\r\n"),
        OFFER.replace("a=fingerprint", "a=x"),
        OFFER.partition("m=")[0],
    ],
)
async def test_a_damaged_offer_is_invalid(offer: str) -> None:
    async with calling() as caller:
        answer = await caller.offer(await caller.mint(), offer)
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_offer")
        assert not caller.simulator.calls


async def test_openai_answers_a_model_in_the_query_with_an_empty_400() -> None:
    async with calling(provider="openai") as caller:
        answer = await caller.offer(await caller.mint(), query="?model=gpt-realtime")
        assert (answer.status, await answer.read()) == (400, b"")
    async with calling() as caller:
        assert (await caller.offer(await caller.mint(), query="?model=d&webrtcfilter=on")).status == 201
        (call,) = caller.simulator.calls.values()
        assert call.query == {"model": "d", "webrtcfilter": "on"}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("vendor", "/v1/realtime/calls/{id}"),
        ("absolute", "{origin}/v1/realtime/calls/{id}"),
        ("trailing_slash", "/v1/realtime/calls/{id}/"),
        ("doubled", "/v1/realtime/calls/calls/{id}"),
        ("call_id_query", "/v1/realtime?call_id={id}"),
    ],
)
async def test_a_location_comes_in_many_forms(form: Any, expected: str) -> None:
    async with calling(faults=Faults(location=form)) as caller:
        answer = await caller.offer(await caller.mint())
        (call_id,) = caller.simulator.calls
        assert answer.headers.getall("location") == [expected.format(id=call_id, origin=caller.simulator.origin)]


async def test_a_location_can_be_missing_doubled_or_hostile() -> None:
    for faults, count in [(Faults(location="missing"), 0), (Faults(location="two"), 2)]:
        async with calling(faults=faults) as caller:
            assert len((await caller.offer(await caller.mint())).headers.getall("location", [])) == count
    hostile = "//evil.example/rtc_../../x?call_id=rtc_%00"
    async with calling(faults=Faults(location="raw", location_value=hostile)) as caller:
        assert (await caller.offer(await caller.mint())).headers["location"] == hostile


@pytest.mark.parametrize(
    ("answer", "content"),
    [("html", b"<!DOCTYPE"), ("json", b'{"sdp"'), ("empty", b""), ("cut", b"v=0"), ("huge", b"v=0")],
)
async def test_an_answer_can_be_anything(answer: Any, content: bytes) -> None:
    faults = Faults(answer=answer, answer_status=200, answer_bytes=1_000_000)
    async with calling(faults=faults) as caller:
        got = await caller.offer(await caller.mint())
        body = await got.read()
        assert got.status == 200
        assert body.startswith(content)
        assert answer != "huge" or len(body) > 1_000_000


async def test_calls_can_be_given_one_id() -> None:
    async with calling(faults=Faults(repeat_call_ids=True)) as caller:
        locations = [(await caller.offer(await caller.mint())).headers["location"] for _ in range(2)]
        assert locations[0] == locations[1]


@pytest.mark.parametrize(("provider", "shape"), [("azure", r"rtc_[0-9a-f]{32}"), ("openai", r"rtc_u\d_\w{21}")])
async def test_call_ids_look_like_the_vendors(provider: str, shape: str) -> None:
    import re

    async with calling(provider=provider) as caller:
        call_id = await caller.call()
        assert re.fullmatch(shape, call_id)
        session_id = caller.simulator.calls[call_id].session["id"]
        assert provider == "azure" or session_id.removeprefix("sess_") == call_id.removeprefix("rtc_")


async def test_the_first_requests_can_fail_and_the_next_succeed() -> None:
    fault = EndpointFault(status=429, retry_after="2", times=2)
    async with calling(faults=Faults(client_secrets=fault)) as caller:
        statuses = []
        for _ in range(3):
            answer = await caller.post("/realtime/client_secrets", headers=caller.key, json={"session": SESSION})
            statuses.append((answer.status, answer.headers.get("retry-after")))
        assert statuses == [(429, "2"), (429, "2"), (200, None)]


async def test_a_fault_can_begin_later_with_a_body_of_its_own() -> None:
    fault = EndpointFault(status=503, body="<html>", content_type="text/html", after=1)
    async with calling(faults=Faults(calls=fault)) as caller:
        secret = await caller.mint()
        assert (await caller.offer(secret)).status == 201
        answer = await caller.offer(secret)
        assert (answer.status, await answer.text(), answer.content_type) == (503, "<html>", "text/html")


async def test_a_connection_can_be_dropped_before_the_answer_and_after_the_work() -> None:
    for fault, calls in [(EndpointFault(drop=True), 0), (EndpointFault(drop_after=True), 1)]:
        async with calling(faults=Faults(calls=fault)) as caller:
            secret = await caller.mint()
            with pytest.raises(aiohttp.ClientError):
                await caller.offer(secret)
            assert len(caller.simulator.calls) == calls


async def test_a_request_can_hang_and_the_simulator_still_stops() -> None:
    async with calling(faults=Faults(calls=EndpointFault(hang=True))) as caller:
        secret = await caller.mint()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await caller.offer(secret)


async def test_a_request_can_be_redirected() -> None:
    fault = EndpointFault(redirect="http://127.0.0.1:9/elsewhere")
    async with calling(faults=Faults(calls=fault)) as caller:
        answer = await caller.offer(await caller.mint())
        assert (answer.status, answer.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


async def test_v1_can_be_missing_on_some_hosts() -> None:
    async with calling(faults=Faults(refused_hosts=("services.ai.azure.com",))) as caller:
        headers = {**caller.key, "host": "res.services.ai.azure.com"}
        answer = await caller.post("/realtime/client_secrets", headers=headers, json={"session": SESSION})
        assert answer.status == 404
        await caller.mint()


async def test_a_browser_may_preflight() -> None:
    async with calling() as caller:
        headers = {"access-control-request-headers": "authorization,x-openai-agents-sdk", "origin": "http://x"}
        url = f"{caller.simulator.base_url}/realtime/calls"
        answer = await caller.http.options(url, headers=headers)
        assert answer.status == 204
        assert answer.headers["access-control-allow-headers"] == "authorization,x-openai-agents-sdk"


async def test_requests_can_be_read_afterwards() -> None:
    async with calling() as caller:
        await caller.call()
        mint, offer = caller.simulator.requests
        assert (mint.method, mint.path, mint.headers["API-Key"]) == (
            "POST",
            "/openai/v1/realtime/client_secrets",
            "sim-key",
        )
        assert offer.body.decode() == OFFER
