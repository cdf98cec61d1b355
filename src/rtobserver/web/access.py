"""Decide which requests a listener hears at all: by Host and by Origin.

A Host outside the list is answered 421 (a page that rebinds its name to our address), a foreign
Origin 403 on every route: a multipart form needs no preflight, so that any web page could
otherwise start paid calls in a visitor's name. Nothing here reads a body.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from rtobserver.errors import RequestError

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_ANY_HOST = frozenset({"/livez", "/readyz", "/metrics"})
_HEADERS = frozenset(
    {"authorization", "content-type", "x-openai-agents-sdk", "openai-safety-identifier", "idempotency-key"},
)
_HEADER_PREFIX = "x-stainless-"
_METHODS = "GET, HEAD, POST"
_PREFLIGHT_SECONDS = "600"


class Access:
    """Judge requests to one listener by their Host and Origin.

    With `tunnels`, whoever reaches it by a loopback name, past the proxy of `base_url`, is at an
    origin of its own, too.
    """

    def __init__(
        self,
        *,
        base_url: str = "",
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        tunnels: bool = False,
    ) -> None:
        self._tunnels = tunnels
        self._base_url = base_url.rstrip("/")
        own = [urlsplit(base_url).netloc] if base_url else []
        self._hosts = _LOOPBACK | {host.lower() for host in (*own, *allowed_hosts)}
        if base_url:
            # Proxies differ in whether they pass the port on; the name is what rebinding is about.
            self._hosts |= {_name_of(own[0].lower())}
        self._origins = frozenset(origin.rstrip("/") for origin in allowed_origins)

    def install(self, app: web.Application) -> None:
        """Put the checks before an application's routes; `problems.install` comes first."""

        @web.middleware
        async def judge(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._check_host(request)
            origin = self._check_origin(request)
            if origin is not None and request.method == "OPTIONS":
                return _preflight(request)
            return await handler(request)

        app.middlewares.append(judge)
        app.on_response_prepare.append(self._share)

    def own_origin(self, request: web.BaseRequest) -> str:
        """Give the origin under which this listener was asked, without a path."""
        return self._base_url or f"http://{request.headers.get('Host', '').lower()}"

    def is_own(self, request: web.BaseRequest) -> bool:
        """Say whether a page of this listener's asks, as browsers tell it with every change and every form."""
        origins = request.headers.getall("Origin", [])
        own = [self.own_origin(request), *([_on_this_machine(request)] if self._tunnels else [])]
        return len(origins) == 1 and origins[0] in own

    def _check_host(self, request: web.Request) -> None:
        # `request.host` would hide that a header is missing or there twice.
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1:
            raise RequestError(400, "bad_host", "A request needs exactly one Host header.")
        target = request.raw_path
        if not target.startswith("/") and not (target == "*" and request.method == "OPTIONS"):
            raise RequestError(400, "bad_target", "The request's target must be a path.")
        if request.path in _ANY_HOST:
            return
        host = hosts[0].lower()
        if host not in self._hosts and _name_of(host) not in self._hosts:
            raise RequestError(
                421,
                "host_not_allowed",
                "This server does not answer under that Host. Add it to `allowed_hosts` or set `base_url`.",
            )

    def _check_origin(self, request: web.Request) -> str | None:
        origins = request.headers.getall("Origin", [])
        if not origins:
            return None
        if len(origins) > 1 or not (origins[0] in self._origins or self.is_own(request)):
            raise RequestError(
                403,
                "origin_not_allowed",
                "Pages of this origin may not use this server. Add the origin to `allowed_origins`.",
            )
        return origins[0]

    async def _share(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        if not self._origins:
            return
        vary = response.headers.get("Vary")
        response.headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
        origins = request.headers.getall("Origin", [])
        if len(origins) == 1 and origins[0] in self._origins:
            response.headers["Access-Control-Allow-Origin"] = origins[0]
            response.headers["Access-Control-Expose-Headers"] = "Location, X-Request-Id, Retry-After"


def _on_this_machine(request: web.BaseRequest) -> str | None:
    """Give the origin of who reaches us by a loopback name."""
    host = request.headers.get("Host", "").lower()
    return f"http://{host}" if _name_of(host) in _LOOPBACK else None


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and (not port or (port.isascii() and port.isdigit())) else host


def _preflight(request: web.Request) -> web.Response:
    asked = ",".join(request.headers.getall("Access-Control-Request-Headers", [])).lower().split(",")
    names = [name.strip() for name in asked]
    granted = [name for name in names if name in _HEADERS or _is_stainless(name)]
    headers = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": _PREFLIGHT_SECONDS}
    if granted:
        headers["Access-Control-Allow-Headers"] = ", ".join(dict.fromkeys(granted))
    return web.Response(status=204, headers=headers)


def _is_stainless(name: str) -> bool:
    rest = name.removeprefix(_HEADER_PREFIX)
    return rest != name and rest.isascii() and rest.replace("-", "").isalnum()


def is_plain(text: str, longest: int) -> bool:
    """Say whether a text is not empty, not too long and free of control characters and half surrogate pairs."""
    return 0 < len(text) <= longest and not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in text)
