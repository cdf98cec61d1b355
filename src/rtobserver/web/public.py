"""Be the side that browsers talk to: the article's contract, the vendor's, and files.

What is refused here causes no request to upstream. The answer is written by the route itself, so
that a call whose browser is gone by then can be hung up; a browser that leaves earlier does not
stop its negotiation, which may already have opened a call that somebody must end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec
import structlog
from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.config.sections import Profile, Public
from rtobserver.errors import RequestError
from rtobserver.negotiation import Answered, Caller, Negotiation, Offer
from rtobserver.realtime import session as session_part
from rtobserver.web import intake, problems
from rtobserver.web.access import Access
from rtobserver.web.callers import Callers
from rtobserver.web.identities import identity
from rtobserver.web.listener import is_gone
from rtobserver.web.sealed import Sealer
from rtobserver.web.static import Folder

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PREFIXES = ("/openai/v1", "/v1")
_CALL_ID = re.compile(r"rtc_[A-Za-z0-9_-]{1,252}")
_KEPT_FROM_BROWSERS = frozenset({"instructions", "tools"})


def public_app(
    *,
    section: Public,
    profiles: tuple[Profile, ...],
    default: Profile,
    negotiation: Negotiation,
    sealer: Sealer,
    clock: Clock,
    upstream_origin: str,
    refused: Callable[[str], object] = lambda code: None,
) -> web.Application:
    """Build the application for the public listener.

    `upstream_origin` is what `/token` names as endpoint when secrets are passed through; `refused`
    is told the code of each refusal, a word from a closed list.
    """
    app = web.Application(client_max_size=section.max_body)
    access = Access(
        base_url=section.base_url,
        allowed_hosts=section.allowed_hosts,
        allowed_origins=section.allowed_origins,
    )
    problems.install(app, refused=refused)
    access.install(app)
    callers = Callers(
        profiles=profiles,
        default=default,
        identity=identity(section.auth, app, clock),
        sealer=sealer,
        clock=clock,
        token_ttl=section.token_ttl,
    )
    calls = _Calls(callers, negotiation, section.max_body)
    app.router.add_post("/connect", calls.connect)
    for prefix in _PREFIXES:
        app.router.add_post(f"{prefix}/realtime/calls", calls.create)
        app.router.add_post(f"{prefix}/realtime/calls/{{id}}/hangup", calls.hang_up)
    match section.token_mode:
        case "sealed":
            _add_tokens(app, _SealedTokens(callers, access, section.max_body))
        case "passthrough":
            _log.warning("passed_through_calls_are_not_observed")
            _add_tokens(app, _PassedSecrets(callers, negotiation, upstream_origin, section.max_body))
        case "off":
            app.router.add_route("*", "/token", _nothing_here)
    if section.static_dir:
        _add_folder(app, Folder(section.static_dir))
    return app


class _Calls:
    """Answer offers and end calls."""

    def __init__(self, callers: Callers, negotiation: Negotiation, max_body: int) -> None:
        self._callers = callers
        self._negotiation = negotiation
        self._max_body = max_body

    async def connect(self, request: web.Request) -> web.StreamResponse:
        await self._callers.check_identity(request)
        form = await self._form(request)
        caller = await self._callers.admitted(
            request,
            profile=_one("profile", form.profile, request.query.get("profile")),
            labels=_one("labels", form.labels, request.query.get("labels")),
        )
        return await self._negotiate(request, form, caller, _PREFIXES[0])

    async def create(self, request: web.Request) -> web.StreamResponse:
        await self._callers.check_admission(request)
        form = await self._form(request)
        caller = await self._callers.admitted(
            request,
            profile=request.query.get("profile"),
            labels=request.query.get("labels"),
        )
        prefix = request.path.removesuffix("/realtime/calls")
        return await self._negotiate(request, form, caller, prefix)

    async def hang_up(self, request: web.Request) -> web.StreamResponse:
        call_id = request.match_info["id"]
        token_id, user = await self._callers.owner(request)
        is_somebody = token_id is not None or user is not None
        # Whoever may not end a call does not learn whether there is one.
        if not (
            is_somebody
            and _CALL_ID.fullmatch(call_id)
            and await self._negotiation.hang_up(call_id, token_id=token_id, user=user)
        ):
            raise RequestError(404, "call_not_found", "There is no live call of yours with that id.")
        return web.Response(status=200)

    async def _form(self, request: web.Request) -> intake.Form:
        body = await intake.read_body(request, self._max_body)
        return intake.read_form(request.headers.get("Content-Type", ""), body)

    async def _negotiate(
        self,
        request: web.Request,
        form: intake.Form,
        caller: Caller,
        prefix: str,
    ) -> web.StreamResponse:
        offer = Offer(sdp=form.sdp, session=form.session, webrtcfilter=request.query.get("webrtcfilter"))
        answered = await self._negotiation.negotiate(offer, caller)
        response = web.Response(status=201, body=answered.sdp, content_type="application/sdp")
        response.headers["Cache-Control"] = "no-store"
        if answered.call_id is not None:
            response.headers["Location"] = f"{prefix}/realtime/calls/{answered.call_id}"
        await self._deliver(request, response, answered)
        return response

    async def _deliver(self, request: web.Request, response: web.Response, answered: Answered) -> None:
        try:
            if is_gone(request):
                raise ConnectionResetError("the browser left before its answer came")
            await response.prepare(request)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            self._negotiation.undelivered(answered)
            raise


class _SealedTokens:
    """Give out tokens of our own (`token_mode = "sealed"`)."""

    def __init__(self, callers: Callers, access: Access, max_body: int) -> None:
        self._callers = callers
        self._access = access
        self._max_body = max_body

    async def token(self, request: web.Request) -> web.Response:
        caller = await _asked(self._callers, request)
        token = self._callers.seal(caller)
        return _token_answer(token.value, self._access.own_origin(request), caller.profile.model, token.expires_at)

    async def client_secrets(self, request: web.Request) -> web.Response:
        caller = await _asked(self._callers, request)
        asked = await _secret_request(request, self._max_body)
        token = self._callers.seal(caller, session=asked.session, seconds=asked.seconds)
        session = session_part.merge(token.session or {}, caller.profile.session)
        return _secret_answer(token.value, token.expires_at, session)


class _PassedSecrets:
    """Give out upstream's own client secrets (`token_mode = "passthrough"`)."""

    def __init__(self, callers: Callers, negotiation: Negotiation, endpoint: str, max_body: int) -> None:
        self._callers = callers
        self._negotiation = negotiation
        self._endpoint = endpoint
        self._max_body = max_body

    async def token(self, request: web.Request) -> web.Response:
        caller = await _asked(self._callers, request)
        minted = await self._negotiation.mint(caller)
        return _token_answer(minted.value, self._endpoint, caller.profile.model, minted.expires_at)

    async def client_secrets(self, request: web.Request) -> web.Response:
        caller = await _asked(self._callers, request)
        asked = await _secret_request(request, self._max_body)
        caller = Caller(profile=caller.profile, user=caller.user, labels=caller.labels, session=asked.session)
        minted = await self._negotiation.mint(caller)
        return _secret_answer(minted.value, minted.expires_at, minted.session)


async def _asked(callers: Callers, request: web.Request) -> Caller:
    return await callers.identified(request, profile=request.query.get("profile"), labels=request.query.get("labels"))


async def _secret_request(request: web.Request, max_body: int) -> intake.SecretRequest:
    body = await intake.read_body(request, max_body)
    return intake.read_secret_request(request.headers.get("Content-Type", ""), body)


def _one(name: str, in_form: str | None, in_query: str | None) -> str | None:
    if in_form is not None and in_query is not None and in_form != in_query:
        raise RequestError(400, f"two_{name}", f"`{name}` stands in the form and in the query, and differs.")
    return in_query if in_form is None else in_form


def _token_answer(value: str, endpoint: str, model: str, expires_at: int) -> web.Response:
    return _json({"token": value, "endpoint": endpoint, "deployment": model, "expires_at": expires_at})


def _secret_answer(value: str, expires_at: int, session: Mapping[str, Any]) -> web.Response:
    shown = {name: part for name, part in session.items() if name not in _KEPT_FROM_BROWSERS}
    return _json({"value": value, "expires_at": expires_at, "session": {"object": "realtime.session", **shown}})


def _json(content: dict[str, Any]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content, enc_hook=_plain),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError


def _add_tokens(app: web.Application, tokens: _SealedTokens | _PassedSecrets) -> None:
    # A HEAD would make a token for nothing.
    app.router.add_get("/token", tokens.token, allow_head=False)
    for prefix in _PREFIXES:
        app.router.add_post(f"{prefix}/realtime/client_secrets", tokens.client_secrets)


def _add_folder(app: web.Application, folder: Folder) -> None:
    # Without these a file would be looked for where an API route refuses the method, or is not.
    for resource in list(app.router.resources()):
        methods = sorted(route.method for route in resource if route.method != "*")
        if methods:
            app.router.add_route("*", resource.canonical, _only(methods))
    for prefix in ("/openai", "/v1"):
        app.router.add_route("*", f"{prefix}/{{rest:.*}}", _nothing_here)
    app.router.add_get("/{path:.*}", folder.serve)


def _only(methods: list[str]) -> Callable[[web.Request], Any]:
    async def refuse(request: web.Request) -> NoReturn:
        raise web.HTTPMethodNotAllowed(request.method, methods)

    return refuse


async def _nothing_here(request: web.Request) -> NoReturn:
    raise web.HTTPNotFound
