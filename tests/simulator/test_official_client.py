"""The official client takes the simulator for upstream."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AsyncOpenAI, AuthenticationError, NotFoundError

from tests.simulator.caller import OFFER, Caller, calling


def client_of(caller: Caller, key: str | None = None) -> AsyncOpenAI:
    simulator = caller.simulator
    headers: Any = caller.key if simulator.options.provider == "azure" else None
    return AsyncOpenAI(
        base_url=simulator.base_url,
        api_key=key or simulator.options.api_key,
        default_headers=headers,
        max_retries=0,
        timeout=60.0,
    )


async def test_a_whole_call_on_openai() -> None:
    async with calling(provider="openai", scenario="typed") as caller, client_of(caller) as client:
        secret = await client.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-realtime"})
        assert secret.value.startswith("ek_")
        assert secret.session.type == "realtime"
        async with client_of(caller, secret.value) as browser:
            answer = await browser.realtime.calls.with_raw_response.create(sdp=OFFER)
        call_id = answer.headers["location"].rpartition("/")[2]
        kinds = []
        async with client.realtime.connect(call_id=call_id) as connection:
            async for event in connection:
                kinds.append(event.type)
        assert kinds.count("response.done") == 2
        with pytest.raises(NotFoundError) as caught:
            await client.realtime.calls.hangup(call_id)
        assert caught.value.code == "call_id_not_found"


async def test_a_multipart_offer_on_openai() -> None:
    async with calling(provider="openai") as caller, client_of(caller) as client:
        session: Any = {"type": "realtime", "model": "gpt-realtime-2.1"}
        await client.realtime.calls.create(sdp=OFFER, session=session)
        (call,) = caller.simulator.calls.values()
        assert call.session["audio"]["output"]["voice"] == "marin"
        await client.realtime.calls.hangup(call.id)
        assert call.ended is not None


async def test_a_wrong_key_is_an_authentication_error() -> None:
    async with calling(provider="openai") as caller, client_of(caller, "sk-wrong-key-1234") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.realtime.client_secrets.create(session={"type": "realtime"})
        assert caught.value.code == "invalid_api_key"
