"""Define the operator's routes: what each takes and gives, who may use it, and who answers.

A `Route` is one definition for three uses: requests are validated by it, answers encoded, and the
OpenAPI document made of it (`openapi.py`). Groups of routes live in `api_*.py`; each gives a list
of routes that are bound to their answerers, and `operator.py` puts them together.

Order of things at each request: the key, the query, the body, then the answerer. It writes the
audit row (`Ask.record`, `Ask.call`) and waits for its commit before it reads anything. Where it then
refuses, a second row says so.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
import structlog
from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import RequestError, StoreUnavailable
from rtobserver.store import calls
from rtobserver.store.audit import Audit
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.keys import Key, Scope
from rtobserver.web import problems, queries, shapes
from rtobserver.web.bearer import PAGE, UNTIL, Bearer

JSON = "application/json"
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer that is about calls."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")

Q = TypeVar("Q")
B = TypeVar("B")
Given = msgspec.Struct | web.StreamResponse | None
"""What an answerer gives: a value to encode, a whole response, or nothing (204)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Describe one answer of a route; the status and type of its first one are what a value is sent with."""

    description: str
    status: int = 200
    media: str = JSON
    body: Any = None
    """The type of the document, or of each line of `application/x-ndjson`; None for other text and for nothing."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of its own and what they say."""


@dataclass(frozen=True, slots=True)
class Part:
    """Describe a part of a path."""

    description: str
    pattern: str


PARTS: Mapping[str, Part] = {"id": Part("The call's id.", f"^{_CALL_ID.pattern}$")}
"""What may stand between the braces of any path, unless the route says otherwise."""


class Ask(Generic[Q, B]):
    """Be one request that was let in: who asks for what."""

    def __init__(
        self, desk: Desk, route: Route[Q, B], request: web.Request, key: Key | None, query: Q, body: B
    ) -> None:
        self._desk = desk
        self._route = route
        self.request = request
        self.key = key
        """None where the route needs none."""
        self.query = query
        self.body = body
        self._recorded: tuple[str, str] | None = None

    @property
    def actor(self) -> str:
        """Name who asks, as the audit does."""
        return "" if self.key is None else self.key.key_id

    @property
    def until(self) -> int | None:
        """Give when who asks has to sign in again, in microseconds since 1970; None for who has shown a key."""
        return self.request.get(UNTIL)

    async def record(self, object_: str, *, action: str | None = None) -> None:
        """Write into the audit what is about to be done, by default under the route's name.

        Raises:
            StoreUnavailable: it cannot be written; the request must not be answered.

        """
        action = action or self._route.name
        await self._write(action, object_[:300], 200)
        self._recorded = action, object_[:300]

    async def record_refusal(self, status: int) -> None:
        """Write into the audit that what was recorded was refused and not done, if anything was recorded."""
        if self._recorded is None:
            return
        try:
            await self._write(*self._recorded, status)
        except StoreUnavailable:
            # nothing is given away by a refusal that is not written down, and it is the true answer
            _log.warning("refusal_not_audited", action=self._recorded[0], status=status)

    async def _write(self, action: str, object_: str, status: int) -> None:
        await self._desk.audit.record(
            action=action,
            object_=object_,
            status=status,
            actor=self.actor,
            address=self.request.remote or "",
            request_id=problems.request_id(self.request),
        )

    async def call(self, *, action: str | None = None) -> Call:
        """Give the call that the path names, after an audit row of it was written.

        Raises:
            RequestError: 404 or 410, there is none or it was erased.
            StoreUnavailable: it cannot be read now, or the audit not be written.

        """
        await self.record(self.call_id, action=action)
        return await self.known_call()

    @property
    def call_id(self) -> str:
        """Give the id of a call that the path names.

        Raises:
            RequestError: 404, no call can have it.

        """
        call_id = self.request.match_info["id"]
        if not _CALL_ID.fullmatch(call_id):
            raise _not_found()
        return call_id

    async def known_call(self) -> Call:
        """Give the call that the path names, to whom the audit already has as its reader.

        Raises:
            RequestError: 404 or 410, there is none or it was erased.
            StoreUnavailable: it cannot be read now.

        """
        call_id = self.call_id
        call = await calls.find(self._desk.database, call_id)
        if await calls.was_erased(self._desk.database, call_id, call):
            raise RequestError(410, "call_erased", "The recording of this call was erased.")
        if call is None:
            raise _not_found()
        return call

    async def is_good(self) -> bool:
        """Tell whether the key is still good, as far as that can be told; streams ask once a second."""
        try:
            return await self._desk.bearer.find(self.request) is not None
        except RequestError:
            return False


_HEADED = ("text/html", "text/javascript")
"""What HEAD is answered for: pages and what they load. A stream would go on for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Q, B]):
    """Define one route."""

    name: str
    """Such as `calls.list`: its id in the OpenAPI document, and its action in the audit."""
    method: Literal["GET", "POST", "DELETE"] = "GET"
    path: str
    scope: Scope | None = "read"
    """What the key must be good for; None lets everybody in."""
    summary: str
    """One sentence."""
    description: str = ""
    """What a caller should know besides."""
    query: type[Q]
    """A frozen dataclass as `queries.py` has them; `queries.Nothing` takes no parameters."""
    body: type[B] | None = None
    """A Struct, for a JSON document; None where the body is not looked at. Without one it is read as `{}`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of its own that a request may have, and what they say."""
    answers: tuple[Answer, ...]
    """All that can be answered when nothing is wrong."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """Refusals of its own, and when they come; `openapi.py` adds those that follow from the rest."""
    parts: Mapping[str, Part] = field(default_factory=lambda: PARTS)
    page: bool = False
    """Whether it is for people in a browser: who is not signed in is led to where one does, and refusals are pages."""
    answer: Callable[[Ask[Q, B]], Awaitable[Given]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Receive requests: let callers in, read what they ask for, send what they are given."""

    database: Database
    audit: Audit
    bearer: Bearer
    clock: Clock

    def install(self, app: web.Application, routes: Iterable[Route[Any, Any]]) -> None:
        """Put routes into an application."""
        for route in routes:
            answerer = self._answerer(route)
            app.router.add_route(route.method, route.path, answerer)
            if route.method == "GET" and any(each.media in _HEADED for each in route.answers):
                app.router.add_head(route.path, answerer)

    def _answerer(self, route: Route[Q, B]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        reader = queries.Reader(route.query)

        async def answer(request: web.Request) -> web.StreamResponse:
            if route.page:
                request[PAGE] = True
            key = None if route.scope is None else await self.bearer.admit(request, route.scope)
            query = reader.read(request.query, self.clock.now_us())
            if route.method == "POST" and "Content-Encoding" in request.headers:
                raise RequestError(415, "encoded_body", "Send the body as it is, without a Content-Encoding.")
            body = cast("B", None) if route.body is None else await _read_body(request, route.body)
            ask = Ask(self, route, request, key, query, body)
            try:
                given = await route.answer(ask)
            except RequestError as refusal:
                await ask.record_refusal(refusal.status)
                raise
            return given if isinstance(given, web.StreamResponse) else respond(route, given)

        return answer


def respond(route: Route[Any, Any], value: msgspec.Struct | None) -> web.Response:
    """Encode what an answerer gave."""
    if value is None:
        return web.Response(status=204, headers=PRIVATE)
    return web.Response(status=route.answers[0].status, body=shapes.encode(value), content_type=JSON, headers=PRIVATE)


async def _read_body(request: web.Request, type_: type[B]) -> B:
    raw = await request.read()
    if raw and request.content_type != JSON:
        raise RequestError(415, "wrong_content_type", f"The body must be {JSON}.")
    try:
        return msgspec.json.decode(raw or b"{}", type=type_)
    except msgspec.ValidationError as exc:
        # its words name the field and what it must be, and never the value
        raise RequestError(400, "invalid_body", f"The body is not as it must be: {exc}.") from exc
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise RequestError(400, "invalid_body", "The body is not JSON.") from exc


def _not_found() -> RequestError:
    return RequestError(404, "call_not_found", "There is no call of this id.")
