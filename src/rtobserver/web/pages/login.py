"""Sign in with a key, and out again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qs

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.web import queries
from rtobserver.web.access import Access
from rtobserver.web.bearer import KEY_PREFIX, Bearer
from rtobserver.web.cookies import Cookies
from rtobserver.web.pages.rendering import HEADERS, Rendering
from rtobserver.web.parameters import TEXT_CAP
from rtobserver.web.routes import Answer, Ask, Route

START = "/"
FORM = "application/x-www-form-urlencoded"
FORM_CAP = 8192

# no host (`//`, `/\`) and nothing that browsers drop or turn around
_OURS = re.compile(r"/(?!/)[!-\[\]-~]*")
_NOT_AGAIN = ("/login", "/logout", "/assets/")
_WRONG = "This key is not good: it may be mistyped, revoked or expired."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Say where to go after signing in."""

    next: Annotated[str | None, queries.TEXT, "A path of ours."] = None


def own_path(text: str | None) -> str:
    """Give the path, if it is one of ours where one can go after signing in; else that of the first page."""
    if not text or len(text) > TEXT_CAP or not _OURS.fullmatch(text) or text.startswith(_NOT_AGAIN):
        return START
    return text


class _Door:
    def __init__(
        self,
        *,
        rendering: Rendering,
        cookies: Cookies,
        bearer: Bearer,
        access: Access,
        clock: Clock,
    ) -> None:
        self._rendering = rendering
        self._cookies = cookies
        self._bearer = bearer
        self._access = access
        self._clock = clock

    async def show(self, ask: Ask[Wish, None]) -> web.StreamResponse:
        return self._rendering.page(ask, "login.html", next=own_path(ask.query.next), wrong="")

    async def sign_in(self, ask: Ask[queries.Nothing, None]) -> web.StreamResponse:
        self._check_origin(ask.request)
        form = await _read_form(ask.request)
        now_us = self._clock.now_us()
        text = form.get("key", "").strip()
        # a cookie stands for a key that can be revoked, and an access token cannot
        key = await self._bearer.look(ask.request, text) if text.startswith(KEY_PREFIX) else None
        wanted = own_path(form.get("next"))
        if key is None:
            await self._bearer.refuse(ask.request)
            return self._rendering.page(ask, "login.html", status=401, next=wanted, wrong=_WRONG)
        ask.key = key
        await ask.record("")
        response = web.Response(status=303, headers=HEADERS | {"Location": wanted})
        self._cookies.set(ask.request, response, key.key_id, now_us=now_us)
        return response

    async def sign_out(self, ask: Ask[queries.Nothing, None]) -> web.StreamResponse:
        self._check_origin(ask.request)
        ask.key = await self._bearer.find(ask.request)
        if ask.key is not None:
            await ask.record("")
        response = web.Response(status=303, headers=HEADERS | {"Location": "/login"})
        self._cookies.clear(ask.request, response)
        return response

    def _check_origin(self, request: web.Request) -> None:
        """Let only forms of our own pages sign people in and out; browsers always say where a form comes from."""
        if not self._access.is_own(request):
            raise RequestError(403, "origin_not_allowed", "Only pages of this server may sign you in or out.")


def routes(
    *, rendering: Rendering, cookies: Cookies, bearer: Bearer, access: Access, clock: Clock
) -> list[Route[Any, Any]]:
    """Give the routes."""
    door = _Door(rendering=rendering, cookies=cookies, bearer=bearer, access=access, clock=clock)
    page = (Answer(description="A page.", media="text/html"),)
    return [
        Route(
            name="login.show",
            path="/login",
            scope=None,
            page=True,
            summary="Ask for a key.",
            query=Wish,
            answers=page,
            answer=door.show,
        ),
        Route(
            name="login",
            method="POST",
            path="/login",
            scope=None,
            page=True,
            summary="Sign in.",
            query=queries.Nothing,
            answers=page,
            answer=door.sign_in,
        ),
        Route(
            name="logout",
            method="POST",
            path="/logout",
            scope=None,
            page=True,
            summary="Sign out.",
            query=queries.Nothing,
            answers=page,
            answer=door.sign_out,
        ),
    ]


async def _read_form(request: web.Request) -> dict[str, str]:
    if request.content_type != FORM:
        raise RequestError(415, "wrong_content_type", f"The body must be {FORM}.")
    if (request.content_length or 0) > FORM_CAP:
        raise RequestError(413, "too_large", "The body is larger than this form can be.")
    raw = await request.read()
    try:
        fields = parse_qs(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=10, errors="strict"
        )
    except ValueError as exc:
        raise RequestError(400, "invalid_body", "The body is not what a form sends.") from exc
    return {name: values[0] for name, values in fields.items()}
