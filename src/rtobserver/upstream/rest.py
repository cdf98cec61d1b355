"""Ask upstream for client secrets, for calls, and to end calls.

One pooled session serves all requests. A request lasts 10 s at most, is never redirected, and its
answer is read only up to a bound. What may be sent twice differs: minting and hanging up may,
since the worst that a second one does is nothing; creating a call may not, once a byte of it could
have been sent, because a second call would be paid for by somebody. `pool` keeps the connections
apart accordingly.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from rtobserver.clock import Clock
from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import (
    CredentialError,
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from rtobserver.upstream.backoff import delay, retry_after
from rtobserver.upstream.credentials import Credentials
from rtobserver.upstream.endpoints import Endpoints
from rtobserver.upstream.pool import Pool
from rtobserver.upstream.refusal import Refusal, read_refusal

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 10.0
SDP_BYTES = 64 * 1024
JSON_BYTES = 1024 * 1024
HANGUP_TRIES = 3

_SECRET_TTL = (10, 7200)
_UNAUTHENTICATED = (401, 403)


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """Hold a minted client secret and the session that it carries."""

    value: Secret
    expires_at: int
    """Unix seconds."""
    session: dict[str, Any] = field(repr=False)
    """As upstream filled it in; it holds the instructions."""
    request_id: str
    """Upstream's name of the request, for its support; may be empty."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what upstream made of an offer."""

    sdp: bytes
    locations: tuple[str, ...]
    """Every Location header, unread."""
    request_id: str

    def __repr__(self) -> str:
        return f"Answer({len(self.sdp)} bytes, request_id={self.request_id!r})"


class AnswerBroken(UpstreamBroken):
    """Report that a call may exist although its answer cannot be used."""

    def __init__(self, detail: str, locations: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.locations = locations
        """Where the call is, if upstream said so: it should be hung up."""


class AnswerLate(UpstreamTimeout):
    """Report that a call exists although its answer did not come whole in time."""

    def __init__(self, detail: str, locations: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.locations = locations
        """Where the call is, if upstream said so: it should be hung up."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    locations: tuple[str, ...]
    body: bytes
    fault: UpstreamError | None
    """Why the body is not whole."""

    @property
    def request_id(self) -> str:
        found = self.headers.get("apim-request-id") or self.headers.get("x-request-id") or ""
        return found if len(found) <= 128 and found.isascii() and found.isprintable() else ""


class Rest:
    """Talk HTTP to one upstream; enter it before use. It does not close the credentials."""

    def __init__(
        self,
        endpoints: Endpoints,
        credentials: Credentials,
        section: Upstream,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        connect_timeout: float = CONNECT_SECONDS,
        request_timeout: float = REQUEST_SECONDS,
    ) -> None:
        self._endpoints = endpoints
        self._credentials = credentials
        self._proxy = section.proxy or None
        self._clock = clock
        self._jitter = jitter
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=Pool(self._clock, once_only=self._endpoints.calls(webrtcfilter=False)),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            # An answer is bounded as it is read, so it must not be inflated before.
            auto_decompress=False,
            headers={"User-Agent": "rtobserver", "Accept-Encoding": "identity"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def create_client_secret(self, session: Mapping[str, Any], ttl_seconds: float) -> ClientSecret:
        """Mint a client secret for a session; its life is brought within upstream's 10 s to 2 h.

        Raises:
            UpstreamError: As the class that fits; nothing was created then.
        """
        seconds = min(max(math.ceil(ttl_seconds), _SECRET_TTL[0]), _SECRET_TTL[1])
        body = msgspec.json.encode(
            {"expires_after": {"anchor": "created_at", "seconds": seconds}, "session": dict(session)}
        )
        reply = await self._authenticated(
            self._endpoints.client_secrets(),
            {"Content-Type": "application/json", "Accept": "application/json"},
            body,
            bound=JSON_BYTES,
        )
        if reply.status not in (200, 201):
            raise self._refused(reply)
        if reply.fault is not None:
            raise reply.fault
        return _client_secret(reply, self._clock.now_us() // 1_000_000 + seconds)

    async def create_call(self, client_secret: Secret, offer: bytes, webrtcfilter: bool) -> Answer:
        """Send an offer, byte for byte and once.

        Where this is cancelled, a call may exist that nobody knows of.

        Raises:
            AnswerBroken, AnswerLate: A call may exist; hang it up if `locations` names it.
            UpstreamError: As the class that fits; as far as can be known, there is no call.
        """
        reply = await self._exchange(
            self._endpoints.calls(webrtcfilter),
            {
                "Authorization": f"Bearer {client_secret.reveal()}",
                "Content-Type": "application/sdp",
                "Accept": "application/sdp",
            },
            offer,
            bound=SDP_BYTES,
            resend=False,
        )
        if not 200 <= reply.status < 300:
            raise self._refused(reply, client_secret.reveal())
        if isinstance(reply.fault, UpstreamTimeout):
            raise AnswerLate(str(reply.fault), reply.locations)
        if reply.fault is not None:
            raise AnswerBroken(str(reply.fault), reply.locations)
        if reply.status != 201 or not reply.body.startswith(b"v=0"):
            raise AnswerBroken(f"upstream answered {reply.status} without a session description", reply.locations)
        return Answer(reply.body, reply.locations, reply.request_id)

    async def hang_up(self, call_id: str, may: Callable[[], bool] = lambda: True) -> bool:
        """End a call: True if this ended it, False if it was over already.

        Tries three times where trying again can help, and as long as it `may`; with upstream's own
        waits that may take minutes, so the caller bounds it.

        Raises:
            UpstreamError: As the class that fits; the call may still be running.
        """
        url = self._endpoints.hangup(call_id)
        for attempt in range(HANGUP_TRIES):
            if not may():
                raise UpstreamUnavailable("this replica was no longer sure that the call was its own")
            try:
                reply = await self._authenticated(url, {}, None, bound=JSON_BYTES)
                if 200 <= reply.status < 300:
                    return True
                if reply.status == 404:
                    return False
                raise self._refused(reply)
            except UpstreamError as exc:
                if attempt == HANGUP_TRIES - 1 or not _may_pass(exc):
                    raise
                wish = exc.retry_after if isinstance(exc, UpstreamRefused | UpstreamUnavailable) else None
            await self._clock.sleep(delay(attempt, self._jitter(), retry_after=wish))
        raise AssertionError("the last try returns or raises")

    async def _authenticated(self, url: str, headers: dict[str, str], body: bytes | None, *, bound: int) -> _Reply:
        """Send with our own credential, and once more with a new one where that was refused."""
        reply = await self._exchange(url, headers | await self._credentials.headers(), body, bound=bound)
        if reply.status in _UNAUTHENTICATED:
            await self._credentials.refresh()
            reply = await self._exchange(url, headers | await self._credentials.headers(), body, bound=bound)
        return reply

    async def _exchange(
        self, url: str, headers: dict[str, str], body: bytes | None, *, bound: int, resend: bool = True
    ) -> _Reply:
        """Post and read the answer, all within one deadline.

        A connection that could not be opened is tried twice; one that broke without an answer only
        if the request may be sent again.
        """
        deadline = asyncio.get_running_loop().time() + self._request_timeout
        try:
            try:
                return await self._once(url, headers, body, bound, deadline)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                pass
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if not resend:
                    raise
            return await self._once(url, headers, body, bound, deadline)
        except TimeoutError:
            raise UpstreamTimeout(f"no answer from upstream within {self._request_timeout:g} s") from None
        except aiohttp.ClientError as exc:
            raise _unavailable(exc) from None

    async def _once(self, url: str, headers: dict[str, str], body: bytes | None, bound: int, deadline: float) -> _Reply:
        if self._session is None:
            raise RuntimeError("enter Rest before using it")
        async with asyncio.timeout_at(deadline):
            response = await self._session.post(
                url,
                data=body,
                headers=headers,
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                proxy=self._proxy,
            )
        async with response:
            whole, fault = await _read(response, bound, deadline)
        return _Reply(response.status, response.headers, tuple(response.headers.getall("Location", ())), whole, fault)

    def _refused(self, reply: _Reply, *sent: str) -> UpstreamError:
        wish = retry_after(reply.headers.get("Retry-After"), self._clock.now_us() / 1e6)
        if 400 <= reply.status < 500:
            told = Refusal() if reply.fault is not None else read_refusal(reply.body)
            if reply.status in _UNAUTHENTICATED or told.repeats(sent):
                told = Refusal(told.code)
            if told.repeats(sent):
                told = Refusal()
            return UpstreamRefused(reply.status, told.code, told.message, retry_after=wish)
        if 200 <= reply.status < 300:
            return UpstreamBroken(f"upstream answered {reply.status}, which the protocol does not know")
        return UpstreamUnavailable(f"upstream answered {reply.status}", status=reply.status, retry_after=wish)


async def _read(response: aiohttp.ClientResponse, bound: int, deadline: float) -> tuple[bytes, UpstreamError | None]:
    """Read a body up to its bound; what is left unread costs the connection, not us."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        return b"", UpstreamBroken("upstream compressed its answer without being asked")
    parts: list[bytes] = []
    left = bound
    try:
        async with asyncio.timeout_at(deadline):
            async for part in response.content.iter_any():
                left -= len(part)
                if left < 0:
                    return b"", UpstreamBroken(f"upstream's answer is longer than {bound} bytes")
                parts.append(part)
    except TimeoutError:
        return b"", UpstreamTimeout("upstream began to answer and did not end in time")
    except aiohttp.ClientError:
        return b"", UpstreamUnavailable("upstream's answer broke off")
    return b"".join(parts), None


def _client_secret(reply: _Reply, otherwise: int) -> ClientSecret:
    try:
        document = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError):
        document = None
    value = document.get("value") if isinstance(document, dict) else None
    # It goes into a header, so that anything that could end one must not get through.
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        raise UpstreamBroken("upstream answered without a client secret")
    expires_at = document.get("expires_at")
    if not isinstance(expires_at, int | float) or isinstance(expires_at, bool) or not 0 < expires_at < 1e11:
        expires_at = otherwise
    session = document.get("session")
    return ClientSecret(Secret(value), int(expires_at), session if isinstance(session, dict) else {}, reply.request_id)


def _may_pass(exc: UpstreamError) -> bool:
    """Say whether the same request may succeed a little later."""
    if isinstance(exc, UpstreamRefused):
        return exc.status == 429
    if isinstance(exc, UpstreamUnavailable):
        return exc.status is None or exc.status >= 500
    return isinstance(exc, UpstreamTimeout | CredentialError)


def _unavailable(exc: aiohttp.ClientError) -> UpstreamUnavailable:
    """Name a failure without repeating what was sent or received."""
    if isinstance(exc, aiohttp.ClientConnectorError):
        told = exc.os_error.strerror
        return UpstreamUnavailable(f"no connection to upstream ({type(exc).__name__}{f': {told}' if told else ''})")
    status = f" {exc.status}" if isinstance(exc, aiohttp.ClientHttpProxyError) else ""
    return UpstreamUnavailable(f"upstream's connection failed ({type(exc).__name__}{status})")
