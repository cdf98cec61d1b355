"""What the demonstration has beside daemon and simulator: a tool's endpoint, a webhook's, and a way to be let in.

A browser is signed in by a link that works once. The desk signs in for it, with the key, and hands the
cookie on: cookies are a host's and not a port's. So the key is in no address, and nothing in
the daemon takes anything else than a key.
"""

from __future__ import annotations

import json
import secrets
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

_ORDERS = {"1207": {"state": "on its way", "arrives": "Thursday before noon"}}
_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


class Desk:
    """Serve all of it on a free port of this machine while entered."""

    def __init__(self) -> None:
        self.notified_count = 0
        """Notifications that came."""
        self._nonce = secrets.token_urlsafe(32)
        self._operator = self._key = ""
        app = web.Application()
        app.router.add_get("/open/{nonce}", self._open, allow_head=False)
        app.router.add_post("/tools/find-order", self._find_order)
        app.router.add_post("/notifications", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._origin = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._origin = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def tool_url(self) -> str:
        """Give the address that knows orders."""
        return f"{self._origin}/tools/find-order"

    @property
    def webhook_url(self) -> str:
        """Give the address that takes notifications."""
        return f"{self._origin}/notifications"

    def door(self, operator: str, key: str) -> str:
        """Give the address that signs one browser in at the operator listener, once."""
        self._operator, self._key = operator, key
        return f"{self._origin}/open/{self._nonce}"

    async def _open(self, request: web.Request) -> web.Response:
        if not self._nonce or not secrets.compare_digest(request.match_info["nonce"].encode(), self._nonce.encode()):
            text = f"This link has been used, or never was one. Sign in with the key at {self._operator}/login"
            return web.Response(status=410, text=text, headers=_PRIVATE)
        # before anything is waited for: it is good for one
        self._nonce = ""
        form = {"key": self._key, "next": "/"}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
            http.post(
                f"{self._operator}/login", data=form, headers={"Origin": self._operator}, allow_redirects=False
            ) as answer,
        ):
            cookies = answer.headers.getall("Set-Cookie", [])
        # the path of a page: a browser that could not be signed in is asked for the key there
        response = web.Response(status=303, headers=_PRIVATE | {"Location": f"{self._operator}/"})
        for cookie in cookies:
            response.headers.add("Set-Cookie", cookie)
        return response

    async def _find_order(self, request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        number = asked.get("arguments", {}).get("number", "")
        return web.json_response(_ORDERS.get(number, {"state": "not known"}))

    async def _take(self, request: web.Request) -> web.Response:
        await request.read()
        self.notified_count += 1
        return web.Response(status=204)
