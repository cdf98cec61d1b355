"""Who may do what, by vendor."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rtobserver.simulator.faults import Faults
from tests.simulator.caller import OFFER, SESSION, calling

JWT = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.c2ln"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api-key": "sim-key"}, 200),
        ({"authorization": f"Bearer {JWT}"}, 200),
        ({"authorization": "Bearer known-token"}, 200),
        ({"api-key": "wrong-key-abcd"}, 401),
        ({"authorization": "Bearer sim-key"}, 401),
        ({}, 401),
    ],
)
async def test_azure_mints_for_a_key_header_or_an_entra_token(headers: dict[str, str], status: int) -> None:
    async with calling(entra_tokens=("known-token",)) as caller:
        answer = await caller.post("/realtime/client_secrets", headers=headers, json={"session": SESSION})
        assert answer.status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer sk-sim"}, 200),
        ({"api-key": "sk-sim"}, 401),
        ({"authorization": f"Bearer {JWT}"}, 401),
        ({"authorization": "Bearer sk-other-7890"}, 401),
    ],
)
async def test_openai_mints_for_its_bearer_only(headers: dict[str, str], status: int) -> None:
    async with calling(provider="openai", api_key="sk-sim") as caller:
        answer = await caller.post("/realtime/client_secrets", headers=headers, json={"session": SESSION})
        assert answer.status == status


@pytest.mark.parametrize("provider", ["azure", "openai"])
async def test_a_401_echoes_parts_of_the_key_as_upstream_does(provider: str) -> None:
    async with calling(provider=provider) as caller:
        headers = {"authorization": "Bearer sk-secret-1234wxyz"}
        answer = await caller.post("/realtime/client_secrets", headers=headers, json={"session": SESSION})
        assert (answer.status, "wxyz" in await answer.text()) == (401, True)


@pytest.mark.parametrize("headers", [{"api-key": "sim-key"}, {"authorization": f"Bearer {JWT}"}])
async def test_azure_takes_offers_with_a_client_secret_only(headers: dict[str, str]) -> None:
    async with calling() as caller:
        headers = {**headers, "content-type": "application/sdp"}
        answer = await caller.post("/realtime/calls", headers=headers, data=OFFER)
        assert answer.status == 401
        assert "ephemeral" in (await answer.json())["error"]["message"]
        assert (await caller.offer(await caller.mint())).status == 201


def multipart(session: str) -> dict[str, Any]:
    body = (
        f'--b\r\nContent-Disposition: form-data; name="sdp"\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n'
        f'--b\r\nContent-Disposition: form-data; name="session"\r\n\r\n{session}\r\n--b--\r\n'
    )
    return {"data": body.encode(), "headers": {"content-type": "multipart/form-data; boundary=b"}}


async def test_openai_takes_a_multipart_offer_with_its_standard_key() -> None:
    async with calling(provider="openai") as caller:
        request = multipart(json.dumps({**SESSION, "instructions": "Be brief."}))
        request["headers"] |= caller.key
        answer = await caller.post("/realtime/calls", **request)
        assert answer.status == 201
        (call,) = caller.simulator.calls.values()
        assert (call.session["instructions"], call.offer) == ("Be brief.", OFFER)


async def test_azure_takes_no_multipart_offer() -> None:
    async with calling() as caller:
        request = multipart("{}")
        request["headers"]["authorization"] = f"Bearer {await caller.mint()}"
        answer = await caller.post("/realtime/calls", **request)
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "unsupported_content_type")


async def test_an_unknown_client_secret_is_401() -> None:
    async with calling() as caller:
        assert (await caller.offer("ek_never_given_out")).status == 401


async def test_a_client_secret_opens_several_calls() -> None:
    async with calling() as caller:
        secret = await caller.mint()
        for _ in range(2):
            assert (await caller.offer(secret)).status == 201
        assert len(caller.simulator.calls) == 2


async def test_openai_answers_404_to_a_client_secret_on_the_sideband() -> None:
    async with calling(provider="openai") as caller:
        secret = await caller.mint()
        await caller.offer(secret)
        (call_id,) = caller.simulator.calls
        status, body = await caller.refused(call_id, additional_headers={"authorization": f"Bearer {secret}"})
        assert (status, body["error"]["code"]) == (404, "call_id_not_found")


async def test_azure_refuses_a_client_secret_on_the_sideband_unless_switched() -> None:
    async with calling() as caller:
        secret = await caller.mint()
        await caller.offer(secret)
        (call_id,) = caller.simulator.calls
        status, _ = await caller.refused(call_id, additional_headers={"authorization": f"Bearer {secret}"})
        assert status == 401
    async with calling(faults=Faults(ephemeral_on_sideband=True)) as caller:
        secret = await caller.mint()
        await caller.offer(secret)
        (call_id,) = caller.simulator.calls
        async with caller.attach(call_id, additional_headers={"authorization": f"Bearer {secret}"}):
            assert caller.simulator.calls[call_id].open_sidebands


async def test_hangup_wants_the_standard_credential() -> None:
    async with calling() as caller:
        secret = await caller.mint()
        await caller.offer(secret)
        (call_id,) = caller.simulator.calls
        path = f"/realtime/calls/{call_id}/hangup"
        assert (await caller.post(path, headers={"authorization": f"Bearer {secret}"})).status == 401
        assert (await caller.post(path, headers={"authorization": f"Bearer {JWT}"})).status == 200


@pytest.mark.parametrize("path", ["/realtime/client_secrets", "/realtime/calls", "/realtime/calls/rtc_x/hangup"])
async def test_an_api_version_is_refused_on_v1(path: str) -> None:
    async with calling() as caller:
        assert (await caller.post(f"{path}?api-version=2025-08-28", headers=caller.key)).status == 404


async def test_the_beta_header_is_refused() -> None:
    async with calling() as caller:
        headers = {**caller.key, "OpenAI-Beta": "realtime=v1"}
        answer = await caller.post("/realtime/client_secrets", headers=headers, json={"session": SESSION})
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "beta_api_shape_disabled")
