"""No credential leaves the process but towards upstream: not in logs, not in the database, not in answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from rtobserver.config.sections import Observer, Public, Seconds
from rtobserver.simulator.faults import EndpointFault, Faults
from tests.support.stage import API_KEY, OFFER, Setting, Stage
from tests.system.conftest import Play

ICE_PASSWORD = "canaryicepassword0123456"
OFTEN_SEEN = (
    "/api/v1/calls",
    "/api/v1/calls/{id}",
    "/api/v1/calls/{id}/entries",
    "/api/v1/calls/{id}/gaps",
    "/api/v1/calls/{id}/commands",
    "/api/v1/calls/nobody",
    "/api/v1/openapi.json",
    "/metrics",
    "/livez",
    "/readyz",
)
IMPATIENT = Observer(attach_timeout=Seconds(0.3))


class Said:
    """Everything that was logged, by us and by libraries, at every level."""

    def __init__(self, events: list[Any], records: list[logging.LogRecord]) -> None:
        self._events = events
        self._records = records

    def text(self) -> str:
        parts = [f"{event!r} {_traced(event.get('exc_info'))}" for event in self._events]
        parts += [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in self._records]
        return "\n".join(parts)


def _traced(error: object) -> str:
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as events:
        yield Said(events, caplog.records)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


async def answers_of(stage: Stage) -> list[bytes]:
    """Read everything that an operator can read about the newest call."""
    rows = await stage.calls()
    call_id = rows[0]["call_id"] if rows else "rtc_none"
    found = [await stage.get(path.format(id=call_id)) for path in OFTEN_SEEN]
    return [body for _, body in found]


def secrets_of(stage: Stage) -> list[str]:
    """Give the client secrets that upstream has seen."""
    sent = [request.headers.get("Authorization", "") for request in stage.requests("/realtime/calls")]
    return [bearer.removeprefix("Bearer ") for bearer in sent]


async def check(stage: Stage, said: Said, *given_out: str, shown: list[bytes]) -> None:
    canaries = [API_KEY, ICE_PASSWORD, stage.key, *secrets_of(stage), *given_out]
    assert all(len(canary) > 10 for canary in canaries)
    answers = shown + await answers_of(stage)
    log = said.text()
    assert "listening" in log
    files = await asyncio.to_thread(files_of, stage.path.parent)
    assert any(name.endswith(".db-wal") for name in files)
    for canary in canaries:
        assert canary not in log
        assert [name for name, content in files.items() if canary.encode() in content] == []
        assert [answer for answer in answers if canary.encode() in answer] == []


async def test_a_good_call_leaves_no_credential_behind(play: Play, said: Said) -> None:
    async with play(scenario="three_turns") as stage:
        token = await stage.token()
        answer = await stage.offer(Authorization=f"Bearer {token}")
        call_id = answer.headers["Location"].rpartition("/")[2]
        await stage.ended(call_id)
        await stage.hang_up(call_id, Authorization=f"Bearer {token}")
        assert len(secrets_of(stage)) == 1
        await check(stage, said, token, shown=[await answer.read(), str(answer.headers).encode()])


FAULTS = {
    "mint_401": Faults(client_secrets=EndpointFault(status=401)),
    "mint_500": Faults(client_secrets=EndpointFault(status=500, body=f"your key was {API_KEY}")),
    "mint_not_json": Faults(client_secrets=EndpointFault(status=200, body=f"<html>{API_KEY}")),
    "mint_dropped": Faults(client_secrets=EndpointFault(drop=True)),
    "calls_403": Faults(calls=EndpointFault(status=403, body=f'{{"error":{{"message":"{API_KEY}"}}}}')),
    "calls_502": Faults(calls=EndpointFault(status=502, body=f"<html>{ICE_PASSWORD}")),
    "calls_dropped": Faults(calls=EndpointFault(drop=True)),
    "answer_html": Faults(answer="html"),
    "location_missing": Faults(location="missing"),
    "attach_401": Faults(attach=EndpointFault(status=401)),
    "attach_404": Faults(attach=EndpointFault(status=404)),
    "attach_dropped": Faults(attach=EndpointFault(drop=True)),
    "hangup_401": Faults(hangup=EndpointFault(status=401)),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_no_failure_spills_a_credential(play: Play, said: Said, name: str) -> None:
    setting = Setting(observer=IMPATIENT, profile={"max_duration": Seconds(0.6), "on_unobserved": "hang_up"})
    async with play(setting, faults=FAULTS[name]) as stage:
        token = await stage.token()
        answer = await stage.offer(Authorization=f"Bearer {token}")
        expected = 1 if answer.status == 201 else 0
        with contextlib.suppress(TimeoutError):
            await stage.simulator.until(lambda: len(stage.requests("/hangup")) > expected, patience=1.5 * expected)
        await check(stage, said, token, shown=[await answer.read(), str(answer.headers).encode()])


async def test_wrong_keys_and_tokens_are_not_repeated(play: Play, said: Said) -> None:
    wrong_token, wrong_key, in_query = "ek_wrong_canary_token", "rto_wrong_canary_key", "canary-in-a-query"
    async with play() as stage:
        refused = [
            await stage.offer(Authorization=f"Bearer {wrong_token}"),
            await stage.offer(Authorization=f"Bearer {wrong_key}"),
            await stage.offer(f"/v1/realtime/calls?token={in_query}&profile={in_query}"),
            await stage.offer(offer=OFFER.replace("v=0", f"x={in_query}")),
        ]
        assert {answer.status for answer in refused} <= {400, 401}
        shown = [await answer.read() for answer in refused]
        for path in ("/api/v1/calls", f"/api/v1/calls?key={in_query}", "/metrics"):
            status, body = await stage.get(path, Authorization=f"Bearer {wrong_key}")
            assert status == 401
            shown.append(body)
        await check(stage, said, wrong_token, wrong_key, in_query, shown=shown)


async def test_passed_through_secrets_are_in_their_answer_alone(play: Play, said: Said) -> None:
    async with play(Setting(public=Public(port=0, token_mode="passthrough"))) as stage:
        secret = await stage.token()
        assert secret.startswith("ek_")
        await check(stage, said, secret, shown=[])


async def test_instructions_and_tools_never_reach_the_browser(play: Play) -> None:
    session = {
        "type": "realtime",
        "model": "gpt-realtime",
        "instructions": "canary-instructions",
        "tools": [{"type": "function", "name": "canary_tool", "parameters": {"type": "object"}}],
    }
    async with play(Setting(profile={"session": session})) as stage:
        url = f"{stage.daemon.public_url}/v1/realtime/client_secrets"
        async with stage.http.post(url, json={"session": {"type": "realtime", "model": "gpt-realtime"}}) as answer:
            assert answer.status == 200
            assert b"canary" not in await answer.read()
        answer = await stage.offer()
        assert b"canary" not in await answer.read()
        [call] = stage.simulator.calls.values()
        assert call.session["instructions"] == "canary-instructions"
