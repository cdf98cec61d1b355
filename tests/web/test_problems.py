import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from rtobserver.errors import (
    CredentialError,
    RequestError,
    StoreUnavailable,
    UpstreamBroken,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from rtobserver.web import problems
from rtobserver.web.listener import listening
from rtobserver.web.problems import Problem, problem_of
from tests.web.wire import Reply, connected, exchange, parse, request

KEY_ECHO = "Incorrect API key provided: sk-abc***xyz"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestError(421, "host_not_allowed", "no"), 421, "host_not_allowed"),
        (UpstreamRefused(400, "invalid_offer", "bad line"), 400, "invalid_offer"),
        (UpstreamRefused(400, "invalid_value", "bad voice"), 502, "invalid_value"),
        (UpstreamRefused(422), 502, "upstream_refused"),
        (UpstreamRefused(401, "invalid_api_key", KEY_ECHO), 502, "upstream_refused"),
        (UpstreamRefused(403, "denied", KEY_ECHO), 502, "upstream_refused"),
        (UpstreamRefused(404, "DeploymentNotFound", "no deployment"), 502, "DeploymentNotFound"),
        (UpstreamRefused(429), 429, "rate_limit_exceeded"),
        (UpstreamUnavailable("refused", status=500), 503, "upstream_unavailable"),
        (UpstreamTimeout("late"), 504, "upstream_timeout"),
        (UpstreamBroken("no SDP"), 502, "upstream_broken"),
        (CredentialError("none"), 503, "no_credential"),
        (StoreUnavailable("away"), 503, "store_unavailable"),
        (web.HTTPNotFound(), 404, "not_found"),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), 413, "too_large"),
        (KeyError("canary"), 500, "internal_error"),
    ],
)
def test_each_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)


@pytest.mark.parametrize("status", [401, 403])
def test_nothing_of_upstreams_401_and_403_is_passed_on(status: int) -> None:
    document = problems.document(problem_of(UpstreamRefused(status, "sk-abc", KEY_ECHO)), "req_1")
    assert b"sk-" not in document


def test_upstreams_words_are_passed_on_where_they_help() -> None:
    assert problem_of(UpstreamRefused(400, "invalid_offer", "bad line 3")).message == "bad line 3"
    assert "bad voice" in problem_of(UpstreamRefused(400, "", "bad voice")).message


def test_words_and_codes_of_upstream_are_bounded() -> None:
    problem = problem_of(UpstreamRefused(400, "a code\r\nwith: lines", "x" * 100_000))
    assert problem.code == "upstream_refused"
    assert len(problem.message) < 2000


@pytest.mark.parametrize(
    ("asked", "told"), [(1.2, 2), (0.0, 1), (60.0, 60), (None, None), (float("inf"), None), (1e9, 3600)]
)
def test_retry_after_is_passed_on_in_whole_seconds(asked: float | None, told: int | None) -> None:
    assert problem_of(UpstreamRefused(429, retry_after=asked)).retry_after == told
    assert problem_of(UpstreamUnavailable("busy", retry_after=asked)).retry_after == told


def test_half_a_surrogate_pair_in_upstreams_words_does_not_break_the_document() -> None:
    document = problems.document(problem_of(UpstreamRefused(422, "", "\ud800")), "req_1")
    assert json.loads(document)["status"] == 502


def test_a_document_has_the_members_of_rfc_9457_and_what_sdks_read() -> None:
    document = json.loads(problems.document(Problem(status=429, code="slow_down", message="Later."), "req_1"))
    assert document == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Later.",
        "request_id": "req_1",
        "error": {"message": "Later.", "type": "rate_limit_error", "code": "slow_down"},
    }


@asynccontextmanager
async def raising(error: BaseException, refused: list[str] | None = None) -> AsyncIterator[int]:
    async def fail(request: web.Request) -> web.Response:
        raise error

    async def begin_and_fail(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise error

    app = web.Application()
    problems.install(app, refused=(refused if refused is not None else []).append)
    app.router.add_get("/fail/{id}", fail)
    app.router.add_get("/begin", begin_and_fail)
    async with listening(app, host="127.0.0.1", port=0) as listener:
        yield listener.port


async def ask(error: BaseException, path: str = "/fail/1", **headers: str) -> Reply:
    async with raising(error) as port:
        return await exchange(port, request("GET", path, **headers))


async def test_an_unforeseen_error_tells_its_caller_nothing_and_the_log_all() -> None:
    with capture_logs() as logs:
        reply = await ask(KeyError("canary"))
    assert reply.status == 500
    assert b"canary" not in reply.raw
    assert [line["event"] for line in logs] == ["request_failed"]
    assert isinstance(logs[0]["exc_info"], KeyError)
    assert logs[0]["request_id"] == reply.problem["request_id"] == reply.headers["x-request-id"]


async def test_a_lost_connection_to_somebody_else_is_an_error_like_any_other() -> None:
    with capture_logs() as logs:
        reply = await ask(ConnectionResetError("the database's"))
    assert (reply.status, logs[0]["event"]) == (500, "request_failed")


async def test_a_refusal_is_one_log_line_without_what_the_path_held() -> None:
    with capture_logs() as logs:
        await ask(RequestError(404, "call_not_found", "no"), "/fail/canary?token=canary")
    assert len(logs) == 1
    assert logs[0]["event"] == "request_refused"
    assert (logs[0]["route"], logs[0]["status"], logs[0]["code"]) == ("/fail/{id}", 404, "call_not_found")
    assert "canary" not in str(logs)


async def test_refusals_are_counted_by_code_and_upstreams_errors_are_not() -> None:
    refused: list[str] = []
    for error in (RequestError(413, "too_large", ""), web.HTTPNotFound(), UpstreamTimeout(), KeyError()):
        async with raising(error, refused) as port:
            await exchange(port, request("GET", "/fail/1"))
    assert refused == ["too_large", "not_found"]


@pytest.mark.parametrize("sent", ["abc-DEF_1.2", "x" * 64])
async def test_a_plain_request_id_is_kept(sent: str) -> None:
    assert (await ask(web.HTTPNotFound(), X_Request_Id=sent)).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, 'a"b', "é"])
async def test_any_other_request_id_is_replaced(sent: str) -> None:
    assert (await ask(web.HTTPNotFound(), X_Request_Id=sent)).headers["x-request-id"].startswith("req_")


async def test_headers_of_an_error_reach_the_caller() -> None:
    assert (await ask(RequestError(429, "slow", "", retry_after=7))).headers["retry-after"] == "7"
    assert (await ask(RequestError(401, "who", ""))).headers["www-authenticate"] == "Bearer"
    async with raising(KeyError()) as port:
        reply = await exchange(port, request("POST", "/begin"))
    assert (reply.code, reply.headers["allow"]) == ("method_not_allowed", "GET, HEAD")


async def test_a_redirect_is_no_problem() -> None:
    reply = await ask(web.HTTPFound("/elsewhere"))
    assert (reply.status, reply.headers["location"]) == (302, "/elsewhere")


async def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole() -> None:
    with capture_logs() as logs:
        async with raising(KeyError("canary")) as port, connected(port) as (reader, writer):
            writer.write(request("GET", "/begin"))
            raw = await asyncio.wait_for(reader.read(), 5)
    assert parse(raw).body == b"5\r\nbegun\r\n"
    assert logs[0]["event"] == "request_failed"
