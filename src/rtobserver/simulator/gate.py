"""What every request passes before its endpoint: it is noted, may meet a fault, and must be GA v1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from rtobserver.simulator.answers import Answers
from rtobserver.simulator.exchange import Exchange, Received
from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.options import SimulatorOptions

Serve = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CODES = {401: "invalid_api_key", 404: "call_id_not_found", 429: "rate_limit_exceeded"}


class Gate:
    """Stand before the endpoints of one simulator."""

    def __init__(self, options: SimulatorOptions, faults: Faults, exchange: Exchange, answers: Answers) -> None:
        self._options = options
        self._faults = faults
        self._exchange = exchange
        self._answers = answers

    def before(self, name: str, serve: Serve) -> Endpoint:
        """Wrap an endpoint; `name` is that of its fault switch."""
        fault: EndpointFault = getattr(self._faults, name)

        async def endpoint(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            self._note(request, body)
            affected = fault.affects(self._number(name, request))
            self._exchange.changes.notify()
            answer = await self._misbehave(request, fault) if affected else None
            if answer is None:
                answer = self._refuse(request) or await serve(request, body)
                if affected and fault.drop_after and request.transport is not None:
                    request.transport.abort()
            return answer

        return endpoint

    def _note(self, request: web.Request, body: bytes) -> None:
        if self._options.remember:
            query = dict(request.query)
            self._exchange.requests.append(
                Received(request.method, request.path, query, request.headers, body, time.time())
            )

    def _number(self, name: str, request: web.Request) -> int:
        """Count a request at its endpoint; the attaches of a call are counted for it alone."""
        self._exchange.counts[name] += 1
        call = self._exchange.calls.get(request.query.get("call_id", "")) if name == "attach" else None
        if call is None:
            return self._exchange.counts[name]
        call.attach_count += 1
        return call.attach_count

    async def _misbehave(self, request: web.Request, fault: EndpointFault) -> web.StreamResponse | None:
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.hang:
            await self._exchange.closing.wait()
        if fault.drop or fault.hang:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        headers = [("retry-after", fault.retry_after)] if fault.retry_after else []
        if fault.redirect:
            return self._answers.respond(fault.status or 307, b"", [*headers, ("location", fault.redirect)])
        if fault.body:
            headers.append(("content-type", fault.content_type))
            return self._answers.respond(fault.status or 500, fault.body.encode(), headers)
        if not fault.status:
            return None
        code = fault.code or _CODES.get(fault.status, "server_error")
        return self._answers.refused(fault.status, code, "Simulated fault.", retry_after=fault.retry_after)

    def _refuse(self, request: web.Request) -> web.Response | None:
        host = request.host.rsplit(":", 1)[0]
        refused = any(host.endswith(suffix) for suffix in self._faults.refused_hosts)
        if refused or "api-version" in request.query:
            return self._answers.turned_away(404, "404", "Resource not found")
        if "realtime=v1" in request.headers.get("openai-beta", ""):
            message = "The Realtime Beta API is no longer supported. Please use the GA API instead."
            return self._answers.refused(400, "beta_api_shape_disabled", message)
        return None
