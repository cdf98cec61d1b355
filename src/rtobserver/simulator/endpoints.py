"""The HTTP surface of upstream: client secrets, calls, hang-up, sideband (protocol.md 1 and 2)."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web

from rtobserver.simulator.answers import Answers
from rtobserver.simulator.beats import Json
from rtobserver.simulator.bodies import json_object, offer_of, secret_lifetime
from rtobserver.simulator.call import Call
from rtobserver.simulator.credentials import ClientSecret, Credential, credential_of
from rtobserver.simulator.exchange import Exchange
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.gate import Gate
from rtobserver.simulator.ids import Ids
from rtobserver.simulator.options import SimulatorOptions
from rtobserver.simulator.sdp import BadOffer, answer_offer, parse_offer
from rtobserver.simulator.session import Refusal, default_session, merge, mint
from rtobserver.simulator.sideband import Sideband, read

if TYPE_CHECKING:
    from rtobserver.simulator.peer import Peer

_CLOSE_AFTER_ANSWER = 0.02
"""Seconds from hangup's answer to the close of the sidebands."""
_LARGEST_CLIENT_EVENT = 20 * 1024 * 1024
_HTML = b"<!DOCTYPE html><html><head><title>502</title></head><body>Bad gateway</body></html>"


class OpenCall(Protocol):
    """Start a call for an offer that was accepted."""

    def __call__(
        self, call_id: str, offer: str, query: dict[str, str], session: Json, peer: Peer | None = None
    ) -> None:
        """Register the call and begin its conversation; `peer` is the far end of its media."""


class Endpoints:
    """Serve the four endpoints."""

    def __init__(
        self, options: SimulatorOptions, faults: Faults, ids: Ids, exchange: Exchange, open_call: OpenCall
    ) -> None:
        self._options = options
        self._faults = faults
        self._is_azure = options.provider == "azure"
        self._ids = ids
        self._exchange = exchange
        self._open_call = open_call
        self._answers = Answers(options.provider)

    def routes(self) -> list[web.RouteDef]:
        """Give the route table, under both vendors' prefixes."""
        gate = Gate(self._options, self._faults, self._exchange, self._answers)
        return [
            route
            for prefix in ("/openai/v1", "/v1")
            for route in (
                web.post(f"{prefix}/realtime/client_secrets", gate.before("client_secrets", self._mint)),
                web.post(f"{prefix}/realtime/calls", gate.before("calls", self._negotiate)),
                web.post(f"{prefix}/realtime/calls/{{call_id}}/hangup", gate.before("hangup", self._hang_up)),
                web.get(f"{prefix}/realtime", gate.before("attach", self._attach), allow_head=False),
                web.options(f"{prefix}/{{rest:.*}}", self._preflight),
            )
        ]

    async def _preflight(self, request: web.Request) -> web.StreamResponse:
        return self._answers.preflight(request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, ""))

    async def _mint(self, request: web.Request, body: bytes) -> web.StreamResponse:
        credential = self._credential(request)
        if credential.kind not in ("key", "entra"):
            return self._answers.unauthorized(credential.text)
        try:
            wanted = json_object(body)
            seconds = secret_lifetime(wanted, 7200 if self._is_azure else 600)
            session = self._requested_session(wanted)
        except Refusal as exc:
            return self._answers.refused(400, exc.code, exc.message, param=exc.param)
        if session is not None and self._options.models and session.get("model") not in self._options.models:
            return self._answers.no_such_model()
        value = self._faults.secret_prefix + self._ids.secret().removeprefix("ek_")
        secret = ClientSecret(value, int(time.time()) + seconds, session)
        self._exchange.secrets[value] = secret
        shown = session or default_session(self._ids.stamped("sess_"), "gpt-realtime")
        return self._answers.minted({"value": value, "expires_at": secret.expires_at, "session": shown})

    def _requested_session(self, wanted: Json) -> Json | None:
        session = wanted.get("session")
        if session is None and not self._is_azure:
            return None
        if not isinstance(session, dict):
            raise Refusal("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        return mint(self._ids.stamped("sess_"), session)

    async def _negotiate(self, request: web.Request, body: bytes) -> web.StreamResponse:
        credential = self._credential(request)
        refusal = self._refuse_negotiator(credential)
        if refusal is not None:
            return refusal
        if "model" in request.query and not self._is_azure:
            return self._answers.respond(400, b"", [])
        try:
            offer, given = offer_of(request.headers.get("content-type", ""), body, multipart=not self._is_azure)
            media = parse_offer(offer)
            call_id, session = self._session_of_call(credential, given)
            peer = await self._peer(offer) if self._options.media else None
        except Refusal as exc:
            return self._answers.refused(400, exc.code, exc.message, param=exc.param)
        except BadOffer as exc:
            return self._answers.refused(400, "invalid_offer", f"Failed to parse the SDP offer: {exc}", param="sdp")
        if peer is None:
            answer = answer_offer(media, self._options.provider, self._ids, self._options.ice_hosts[0])
        else:
            answer = peer.answer
        self._open_call(call_id, offer, dict(request.query), session, peer)
        content, content_type = self._content(answer.encode())
        return self._answers.negotiated(
            self._faults.answer_status, content, content_type, self._locations(call_id, request)
        )

    async def _peer(self, offer: str) -> Peer:
        # Imported here: a simulator without media does without aiortc.
        from rtobserver.simulator.peer import Peer

        return await Peer.answering(
            offer,
            hosts=self._options.ice_hosts,
            consent_seconds=self._options.consent_seconds,
            send_buffer=self._faults.send_buffer,
        )

    def _refuse_negotiator(self, credential: Credential) -> web.Response | None:
        if credential.kind == "secret" or (credential.kind == "key" and not self._is_azure):
            return None
        if credential.kind in ("key", "entra"):
            message = "This operation requires an ephemeral token; it takes neither keys nor Entra tokens."
            return self._answers.turned_away(401, "401", message)
        return self._answers.unauthorized(credential.text)

    def _session_of_call(self, credential: Credential, given: Json | None) -> tuple[str, Json]:
        call_id, session_id = self._ids.call()
        if self._faults.repeat_call_ids and self._exchange.calls:
            call_id = next(iter(self._exchange.calls))
        minted = credential.secret.session if credential.secret is not None else None
        if minted is not None:
            session = copy.deepcopy(minted)
            if given is not None:
                session = merge(session, given)
        else:
            session = mint(self._ids.stamped("sess_"), given or {"type": "realtime"})
        if session_id is not None:
            session["id"] = session_id
        return call_id, session

    def _content(self, answer: bytes) -> tuple[bytes, str]:
        sdp = "text/plain; charset=utf-8"
        match self._faults.answer:
            case "html":
                return _HTML, "text/html"
            case "json":
                return b'{"sdp":null}', "application/json"
            case "empty":
                return b"", sdp
            case "huge":
                return answer + b"a=x-padding:" + b"0" * self._faults.answer_bytes + b"\r\n", sdp
            case "cut":
                return answer[: len(answer) // 2], sdp
            case _:
                return answer, sdp

    def _locations(self, call_id: str, request: web.Request) -> list[str]:
        path = f"/v1/realtime/calls/{call_id}"
        return {
            "vendor": [path],
            "absolute": [f"{request.url.origin()}{path}"],
            "query": [f"{path}?region=eastus2&trace=rtc_not_this_one"],
            "trailing_slash": [f"{path}/"],
            "doubled": [f"/v1/realtime/calls/calls/{call_id}"],
            "call_id_query": [f"/v1/realtime?call_id={call_id}"],
            "two": [path, f"/v1/realtime/calls/{self._ids.call()[0]}"],
            "missing": [],
            "raw": [self._faults.location_value],
        }[self._faults.location]

    async def _hang_up(self, request: web.Request, body: bytes) -> web.StreamResponse:
        credential = self._credential(request)
        if credential.kind not in ("key", "entra"):
            return self._answers.unauthorized(credential.text)
        call = self._exchange.calls.get(request.match_info["call_id"])
        if call is not None:
            call.hangups += 1
        if call is None or call.ended is not None:
            return self._answers.refused(404, "call_id_not_found", "No call found for the provided call_id.")
        if self._faults.hangup_order == "close_first":
            await call.end("hung_up", 1000)
        else:
            call.end_soon("hung_up", 1000, delay=_CLOSE_AFTER_ANSWER)
        return self._answers.done()

    async def _attach(self, request: web.Request, body: bytes) -> web.StreamResponse:
        refusal = await self._refuse_attach(request)
        if refusal is not None:
            return refusal
        call = self._exchange.calls[request.query["call_id"]]
        socket = web.WebSocketResponse(timeout=1.0, compress=False, max_msg_size=_LARGEST_CLIENT_EVENT)
        await socket.prepare(request)
        transport = request.transport
        if transport is None or call.ended is not None:
            return socket
        loop = asyncio.get_running_loop()
        sideband = Sideband(
            name=f"sb{len(call.sidebands) + 1}",
            socket=socket,
            transport=transport,
            attached_at=time.time(),
            buffer_limit=self._faults.send_buffer,
            last_frame_mono=loop.time(),
        )
        call.attach(sideband)
        try:
            await self._converse(call, sideband)
        finally:
            sideband.end = sideband.end or "aborted"
            call.detach(sideband)
        return socket

    async def _refuse_attach(self, request: web.Request) -> web.Response | None:
        credential = self._credential(request)
        call = self._exchange.calls.get(request.query.get("call_id", ""))
        if "model" in request.query or "call_id" not in request.query:
            return self._answers.refused(
                400, "invalid_request", "Only sidebands are simulated: ?call_id= and no model."
            )
        takes_secret = self._faults.ephemeral_on_sideband
        if credential.kind not in ("key", "entra", "secret") or (
            credential.kind == "secret" and self._is_azure and not takes_secret
        ):
            return self._answers.unauthorized(credential.text)
        blind = credential.kind == "secret" and not takes_secret
        if call is None or call.ended is not None or blind:
            if self._faults.not_found_delay:
                await asyncio.sleep(self._faults.not_found_delay)
            return self._answers.refused(404, "call_id_not_found", "No session found for the provided call_id.")
        if self._faults.max_sidebands and len(call.open_sidebands) >= self._faults.max_sidebands:
            return self._answers.refused(409, "sideband_already_attached", "Another sideband is attached to this call.")
        return None

    async def _converse(self, call: Call, sideband: Sideband) -> None:
        loop, patience = asyncio.get_running_loop(), self._faults.idle_close
        if self._faults.session_created_on_attach:
            call.produce(call.conversation.frames.plain("session.created", session=call.session), only=sideband.name)
        if self._faults.deaf:
            await self._exchange.closing.wait()
        while True:
            try:
                async with asyncio.timeout_at(sideband.last_frame_mono + patience if patience else None):
                    message = await read(sideband)
            except TimeoutError:
                if loop.time() - sideband.last_frame_mono >= patience:
                    await sideband.close(self._faults.idle_close_code)
                    return
                continue
            if message is None:
                return
            call.receive(sideband, message)

    def _credential(self, request: web.Request) -> Credential:
        return credential_of(request.headers, request.query, self._exchange.secrets, self._options)
