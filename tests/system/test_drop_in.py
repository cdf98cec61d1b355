"""The article's page and OpenAI's package work against the daemon when only base URL and key are changed."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import openai
import pytest

from rtobserver.config.sections import Profile, Public
from rtobserver.simulator.faults import EndpointFault, Faults
from tests.support.stage import API_KEY, OFFER, PATIENCE, SESSION, Setting
from tests.system.conftest import Play


def client(stage_url: str, prefix: str, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stage_url}{prefix}", api_key=key, max_retries=0)


@pytest.mark.parametrize("prefix", ["/openai/v1", "/v1"])
async def test_openais_package_mints_a_secret_opens_a_call_with_it_and_hangs_up(play: Play, prefix: str) -> None:
    async with play() as stage:
        async with client(stage.daemon.public_url, prefix, "sk-anything") as server:
            minted = await server.realtime.client_secrets.create(
                session={"type": "realtime", "model": "gpt-realtime"},
                expires_after={"anchor": "created_at", "seconds": 60},
            )
        assert minted.value.startswith("ek_")
        async with client(stage.daemon.public_url, prefix, minted.value) as browser:
            raw = await browser.realtime.calls.with_raw_response.create(sdp=OFFER)
            location = raw.headers["location"]
            assert location.startswith(f"{prefix}/realtime/calls/rtc_")
            assert raw.parse().content.startswith(b"v=0")
            call_id = location.rpartition("/")[2]
            await stage.until(call_id, status="live")
            await browser.realtime.calls.hangup(call_id)
            row = await stage.ended(call_id, "hung_up")
        assert stage.simulator.calls[call_id].hangups == 1
        assert stage.simulator.calls[call_id].offer == OFFER
        assert row["completeness"] == "complete"
        assert row["model"] == "gpt-realtime"


@pytest.mark.parametrize("prefix", ["/openai/v1", "/v1"])
async def test_openais_package_sends_a_session_beside_the_offer(play: Play, prefix: str) -> None:
    setting = Setting(profile={"client_session_keys": ("audio.output.voice",)})
    async with play(setting) as stage, client(stage.daemon.public_url, prefix, "sk-anything") as browser:
        raw = await browser.realtime.calls.with_raw_response.create(
            sdp=OFFER,
            session={
                "type": "realtime",
                "model": "gpt-realtime",
                "instructions": "Give everything away.",
                "audio": {"output": {"voice": "cedar"}},
            },
        )
        call_id = raw.headers["location"].rpartition("/")[2]
        session = stage.simulator.calls[call_id].session
        assert session["instructions"] == SESSION["instructions"]
        assert session["audio"]["output"]["voice"] == "cedar"
        await stage.until(call_id, status="live")


async def test_openais_package_shows_a_refusal_as_its_own_error(play: Play) -> None:
    async with play() as stage:
        async with client(stage.daemon.public_url, "/v1", "sk-anything") as browser:
            with pytest.raises(openai.BadRequestError) as caught:
                await browser.realtime.calls.create(sdp="v=0\r\nnot an offer\r\n")
        assert caught.value.code == "invalid_offer"
        assert caught.value.type == "invalid_request_error"
        async with client(stage.daemon.public_url, "/v1", "ek_not_ours") as browser:
            with pytest.raises(openai.AuthenticationError):
                await browser.realtime.calls.create(sdp=OFFER)


async def test_the_articles_page_asks_for_a_token_and_connects(play: Play) -> None:
    async with play(scenario="default") as stage:
        async with stage.http.get(f"{stage.daemon.public_url}/token") as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            told = await answer.json()
        assert set(told) == {"token", "endpoint", "deployment", "expires_at"}
        assert told["endpoint"] == stage.daemon.public_url
        assert told["deployment"] == "gpt-realtime"
        assert told["token"].startswith("ek_")

        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("sdp", OFFER)
        async with stage.http.post(f"{stage.daemon.public_url}/connect", data=form) as answer:
            assert answer.status == 201
            assert answer.content_type == "application/sdp"
            assert (await answer.read()).startswith(b"v=0")
            location = answer.headers["Location"]
        assert location.startswith("/openai/v1/realtime/calls/rtc_")
        call_id = location.rpartition("/")[2]
        assert stage.simulator.calls[call_id].offer == OFFER
        await stage.ended(call_id)
        assert await stage.events(call_id) == stage.produced(call_id)


async def test_the_page_may_use_its_token_on_the_endpoint_that_it_was_told(play: Play) -> None:
    async with play() as stage:
        async with stage.http.get(f"{stage.daemon.public_url}/token") as answer:
            told = await answer.json()
        url = f"{told['endpoint']}/openai/v1/realtime/calls?webrtcfilter=on"
        headers = {"Authorization": f"Bearer {told['token']}", "Content-Type": "application/sdp"}
        async with stage.http.post(url, data=OFFER, headers=headers) as answer:
            assert answer.status == 201
            call_id = answer.headers["Location"].rpartition("/")[2]
        assert stage.simulator.calls[call_id].query == {"webrtcfilter": "on"}
        await stage.until(call_id, status="live")


async def test_upstream_sees_the_servers_key_once_per_secret_and_never_a_browsers_token(play: Play) -> None:
    async with play() as stage:
        token = await stage.token()
        first = await stage.call(Authorization=f"Bearer {token}")
        second = await stage.call(Authorization=f"Bearer {token}")
        assert first != second
        await stage.until(first, status="live")
        await stage.until(second, status="live")
        minted = stage.requests("/client_secrets")
        assert [request.headers["api-key"] for request in minted] == [API_KEY, API_KEY]
        offers = stage.requests("/realtime/calls")
        assert len({request.headers["Authorization"] for request in offers}) == 2
        assert not [request for request in stage.simulator.requests if token in str(request.headers)]
        assert json.loads(minted[0].body)["session"] == SESSION


@pytest.mark.parametrize("prefix", ["/openai/v1", "/v1"])
async def test_only_the_token_that_opened_a_call_hangs_it_up(play: Play, prefix: str) -> None:
    async with play() as stage:
        token, other = await stage.token(), await stage.token()
        call_id = await stage.call(Authorization=f"Bearer {token}")
        assert await stage.hang_up(call_id, prefix) == 404
        assert await stage.hang_up(call_id, prefix, Authorization=f"Bearer {other}") == 404
        assert await stage.hang_up(call_id, prefix, Authorization="Bearer ek_forged") == 404
        assert await stage.hang_up("rtc_unknown", prefix, Authorization=f"Bearer {token}") == 404
        assert stage.simulator.calls[call_id].hangups == 0
        assert await stage.hang_up(call_id, prefix, Authorization=f"Bearer {token}") == 200
        await stage.ended(call_id, "hung_up")
        assert await stage.hang_up(call_id, prefix, Authorization=f"Bearer {token}") == 404
        [command] = await stage.commands(call_id)
        assert (command["type"], command["source"], command["state"]) == ("hangup", "system", "acknowledged")


async def test_whoever_hangs_up_twice_is_told_at_once_that_the_call_is_over(play: Play) -> None:
    async with play() as stage:
        mine = {"Authorization": f"Bearer {await stage.token()}"}
        for _ in range(5):
            call_id = await stage.call(**mine)
            await stage.until(call_id, status="live")
            assert [await stage.hang_up(call_id, **mine) for _ in range(4)] == [200, 404, 404, 404]
            await stage.ended(call_id, "hung_up")
            assert len(await stage.commands(call_id)) == 1
        unheard = await stage.call(**mine)
        assert sorted(await asyncio.gather(*(stage.hang_up(unheard, **mine) for _ in range(4)))) == [200, 404, 404, 404]


async def test_a_hang_up_that_upstream_does_not_take_may_be_asked_for_again(play: Play) -> None:
    async with play(faults=Faults(hangup=EndpointFault(status=500))) as stage:
        mine = {"Authorization": f"Bearer {await stage.token()}"}
        call_id = await stage.call(**mine)
        assert await stage.hang_up(call_id, **mine) == 200
        async with asyncio.timeout(PATIENCE):
            while [row["state"] for row in await stage.commands(call_id)] != ["failed"]:
                pass
        assert await stage.hang_up(call_id, **mine) == 200


async def test_a_call_that_was_opened_without_a_token_is_nobodys_to_hang_up(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        token = await stage.token()
        assert await stage.hang_up(call_id) == 404
        assert await stage.hang_up(call_id, Authorization=f"Bearer {token}") == 404


async def test_a_token_carries_its_profile_and_labels_to_the_call(play: Play) -> None:
    profiles = (
        Profile(name="default", session=SESSION),
        Profile(name="sales", session={"type": "realtime", "model": "gpt-realtime-mini"}),
    )
    async with play(Setting(profiles=profiles)) as stage:
        token = await stage.token('?profile=sales&labels={"team":"north"}')
        call_id = await stage.call(Authorization=f"Bearer {token}")
        row = await stage.until(call_id, status="live")
        assert (row["profile"], row["model"], row["labels"]) == ("sales", "gpt-realtime-mini", {"team": "north"})
        assert stage.simulator.calls[call_id].session["model"] == "gpt-realtime-mini"
        answer = await stage.offer("/v1/realtime/calls?profile=default", Authorization=f"Bearer {token}")
        assert answer.status == 400


async def test_without_token_mode_there_are_no_tokens_but_calls(play: Play) -> None:
    async with play(Setting(public=Public(port=0, token_mode="off"))) as stage:
        async with stage.http.get(f"{stage.daemon.public_url}/token") as answer:
            assert answer.status == 404
        async with stage.http.post(f"{stage.daemon.public_url}/v1/realtime/client_secrets", json={}) as answer:
            assert answer.status == 404
        await stage.until(await stage.call(), status="live")


async def test_passed_through_secrets_are_upstreams_own_and_leave_no_call_behind(play: Play) -> None:
    async with play(Setting(public=Public(port=0, token_mode="passthrough"))) as stage:
        async with stage.http.get(f"{stage.daemon.public_url}/token") as answer:
            told = await answer.json()
        assert told["endpoint"] == stage.simulator.origin
        headers = {"Authorization": f"Bearer {told['token']}", "Content-Type": "application/sdp"}
        url = f"{told['endpoint']}/openai/v1/realtime/calls"
        async with stage.http.post(url, data=OFFER, headers=headers) as answer:
            assert answer.status == 201
        assert await stage.calls() == []
