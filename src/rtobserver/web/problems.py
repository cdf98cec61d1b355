"""Turn errors into RFC 9457 problem documents: one table, for both listeners.

Nothing of an unforeseen error reaches the caller but a request id, under which the log has the
rest. The member `error` is what the OpenAI SDKs read their message from.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from rtobserver import errors

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_PLAIN_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RETRY_AFTER_CAP = 3600
_MESSAGE_CAP = 1000


class ErrorDocument(msgspec.Struct, frozen=True):
    """Be the part of a problem document that the OpenAI SDKs show."""

    message: str
    type: str
    code: Annotated[str, msgspec.Meta(description="Machine-readable word, such as `call_not_found`.")]


class ProblemDocument(msgspec.Struct, frozen=True):
    """Be an RFC 9457 problem document."""

    type: str
    title: Annotated[str, msgspec.Meta(description="The status in words.")]
    status: int
    detail: Annotated[str, msgspec.Meta(description="What is wrong with the request, for people.")]
    request_id: Annotated[str, msgspec.Meta(description="The log has the details under this id.")]
    error: ErrorDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Say what a refused caller is told."""

    status: int
    code: str
    """Machine-readable word."""
    message: str
    retry_after: int | None = None
    """Whole seconds, for the header of that name."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers that belong to this status, such as Allow."""


def problem_of(error: Exception) -> Problem:
    """Choose status, code and words for an error."""
    match error:
        case errors.RequestError():
            headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
            return Problem(
                status=error.status,
                code=error.code,
                message=error.message,
                retry_after=error.retry_after,
                headers=headers,
            )
        case errors.UpstreamRefused():
            return _of_refusal(error)
        case errors.UpstreamTimeout():
            return Problem(status=504, code="upstream_timeout", message="The Realtime API did not answer in time.")
        case errors.CallUnobservable():
            return Problem(
                status=502,
                code="no_location",
                message="The Realtime API did not name the call, and only calls that can be observed are allowed here.",
            )
        case errors.UpstreamBroken():
            return Problem(
                status=502,
                code="upstream_broken",
                message="The Realtime API answered something that is not an answer to an offer.",
            )
        case errors.CredentialError():
            return Problem(
                status=503,
                code="no_credential",
                message="The server has no working credential for the Realtime API.",
            )
        case errors.UpstreamUnavailable():
            return Problem(
                status=503,
                code="upstream_unavailable",
                message="The Realtime API cannot be reached or failed. Try again later.",
                retry_after=_whole_seconds(error.retry_after),
            )
        case errors.StoreUnavailable():
            return Problem(
                status=503,
                code="store_unavailable",
                message="The database cannot be reached. Try again later.",
            )
        case web.RequestPayloadError():
            return Problem(status=400, code="bad_request", message="The body is not framed as HTTP says.")
        case web.HTTPException():
            return _of_http(error)
        case _:
            return Problem(
                status=500,
                code="internal_error",
                message="The server failed. Its log has the details under this request's id.",
            )


def _of_refusal(error: errors.UpstreamRefused) -> Problem:
    code = error.code if _PLAIN_CODE.fullmatch(error.code) else ""
    told = error.message[:_MESSAGE_CAP]
    match error.status:
        case 400 if error.code == "invalid_offer":
            return Problem(
                status=400,
                code="invalid_offer",
                message=told or "The Realtime API could not read the offer.",
            )
        case 429:
            return Problem(
                status=429,
                code=code or "rate_limit_exceeded",
                message=told or "The Realtime API has reached a limit. Try again later.",
                retry_after=_whole_seconds(error.retry_after),
            )
        case 401 | 403:
            # Their bodies echo parts of the key, so not even the code is passed on.
            return Problem(
                status=502,
                code="upstream_refused",
                message="The Realtime API did not accept the server's credential.",
            )
        case _:
            detail = f": {told}" if told else "."
            return Problem(
                status=502,
                code=code or "upstream_refused",
                message=f"The Realtime API refused the request with status {error.status}{detail}",
            )


_HTTP_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "wrong_content_type",
    417: "expectation_failed",
}


def _of_http(error: web.HTTPException) -> Problem:
    code = _HTTP_CODES.get(error.status, "refused" if error.status < 500 else "internal_error")
    headers: dict[str, str] = {}
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            headers["Allow"] = allowed
            message = f"This address does not take {error.method}, it takes {allowed}."
        case web.HTTPNotFound():
            message = "There is nothing at this address."
        case web.HTTPRequestEntityTooLarge():
            message = "The body is larger than this server takes."
        case _:
            message = f"{HTTPStatus(error.status).phrase}."
    return Problem(status=error.status, code=code, message=message, headers=headers)


def _whole_seconds(seconds: float | None) -> int | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    return max(1, min(_RETRY_AFTER_CAP, math.ceil(seconds)))


def new_request_id() -> str:
    """Make an id under which one request can be found in the log."""
    return f"req_{secrets.token_hex(12)}"


def request_id(request: web.BaseRequest) -> str:
    """Give the request's id: the caller's own where it sent one plain `X-Request-Id`, else ours."""
    known = request.get(_REQUEST_ID)
    if known is None:
        sent = request.headers.getall("X-Request-Id", [])
        known = sent[0] if len(sent) == 1 and _PLAIN_ID.fullmatch(sent[0]) else new_request_id()
        request[_REQUEST_ID] = known
    return known


def known_id(request: web.BaseRequest) -> str | None:
    """Give the request's id where `request_id` was asked for it; works for what is no HTTP, too."""
    known: str | None = request.get(_REQUEST_ID)
    return known


MEDIA = "application/problem+json"


def document(problem: Problem, request_id: str) -> bytes:
    """Write the problem document."""
    # Words from upstream's JSON may hold half a surrogate pair, which no UTF-8 can carry.
    message = problem.message.encode("utf-8", "replace").decode()
    return msgspec.json.encode(
        ProblemDocument(
            type="about:blank",
            title=HTTPStatus(problem.status).phrase,
            status=problem.status,
            detail=message,
            request_id=request_id,
            error=ErrorDocument(message=message, type=_family(problem.status), code=problem.code),
        ),
    )


def _family(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "invalid_request_error" if status < 500 else "server_error"


def headers(problem: Problem, request_id: str) -> dict[str, str]:
    """Give the headers that go with the document, its length excepted."""
    fields = {
        "Content-Type": MEDIA,
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        **problem.headers,
    }
    if problem.retry_after is not None:
        fields["Retry-After"] = str(problem.retry_after)
    return fields


def respond(problem: Problem, request_id: str) -> web.Response:
    """Make the response that tells a problem."""
    return web.Response(
        status=problem.status,
        body=document(problem, request_id),
        headers=headers(problem, request_id),
    )


def route_of(request: web.BaseRequest) -> str:
    """Give the route's pattern, or a dash: paths may hold identifiers and are never logged."""
    resource = request.match_info.route.resource if isinstance(request, web.Request) else None
    return resource.canonical if resource is not None else "-"


async def _name_request(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["X-Request-Id"] = request_id(request)


def install(
    app: web.Application,
    *,
    refused: Callable[[str], object] = lambda code: None,
    page: Callable[[web.Request, Problem], web.Response | None] = lambda request, problem: None,
) -> None:
    """Make an application answer every error as a problem document; to be called before other middlewares are added.

    `refused` is told the code of each request that was refused before anything was asked of
    upstream: a word from a closed list, fit to be a metric's label. `page` may give an answer for
    people instead of the document.
    """

    @web.middleware
    async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as answer:
            if answer.status < 400:
                raise
            error: Exception = answer
        except Exception as caught:  # noqa: BLE001 - the boundary of a request: everything becomes a status
            error = caught
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            raise error  # the caller is gone, there is nobody to tell
        problem = problem_of(error)
        told = {"route": route_of(request), "status": problem.status, "code": problem.code}
        if problem.status == 500:
            _log.error("request_failed", request_id=request_id(request), exc_info=error, **told)
        else:
            _log.info("request_refused", request_id=request_id(request), **told)
            if isinstance(error, (errors.RequestError, web.HTTPException)):
                refused(problem.code)
        if request.writer.output_size:
            # An answer has begun: a second one could not be told apart from its body.
            raise ConnectionError("the answer had begun") from error
        return page(request, problem) or respond(problem, request_id(request))

    app.middlewares.append(answer_problems)
    app.on_response_prepare.append(_name_request)
