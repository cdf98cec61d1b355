"""Fetch the keys that an issuer publishes (JWKS), seldom, within bounds, and beside what waits for nothing.

A key that is known is given at once, however its issuer is doing. An unknown one causes a fetch, at most one
in `COOLDOWN_SECONDS` whatever is presented, and `WAITING` requests at most wait for it. Keys are fetched again
after `FRESH_SECONDS`, so that one that was withdrawn is believed no longer than that while the issuer answers,
and `KEPT_SECONDS` while it does not.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from rtobserver import __version__
from rtobserver.clock import Clock
from rtobserver.errors import RequestError

COOLDOWN_SECONDS = 30.0
"""Least time between two fetches."""
EMPTY_COOLDOWN_SECONDS = 5.0
"""The same while there is no key at all, so that nobody can be let in."""
FRESH_SECONDS = 3600.0
KEPT_SECONDS = 24 * 3600.0
FETCH_SECONDS = 5.0
DOCUMENT_CAP = 256 * 1024
KEYS_CAP = 100
"""Keys of one document that are looked at."""
WAITING = 100
"""Requests that wait for one fetch; further ones are answered at once."""

_KINDS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _Unusable(Exception):
    """Say what is wrong with what the issuer answered."""


class IssuerKeys:
    """Know the keys of one issuer, while the application runs that it was installed in."""

    def __init__(self, url: str, *, algorithms: tuple[str, ...], clock: Clock) -> None:
        self._url = url
        self._algorithms = algorithms
        self._clock = clock
        self._keys: dict[tuple[str, str], PyJWK] = {}
        self._fetched = self._tried = -math.inf
        self._failed = False
        self._waiting = 0
        self._fetching: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: asyncio.TaskGroup | None = None

    def install(self, app: web.Application) -> None:
        """Have keys fetched when an application begins, and all ended with it."""
        app.cleanup_ctx.append(self._attend)

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """Give the key of an id for an algorithm; None where the issuer has no such key.

        Raises:
            RequestError: 503, what keys the issuer has cannot be learnt now.

        """
        age = self._clock.mono() - self._fetched
        if age > KEPT_SECONDS:
            self._keys = {}
        wanted = (key_id or "", algorithm)
        if (key := self._keys.get(wanted)) is not None:
            if age > FRESH_SECONDS:
                self._fetch()
            return key
        self._fetch()
        if self._fetching is not None and self._waiting < WAITING:
            self._waiting += 1
            try:
                await asyncio.wait([self._fetching])
            finally:
                self._waiting -= 1
        key = self._keys.get(wanted)
        if key is None and (self._failed or not self._keys):
            raise RequestError(
                503,
                "issuer_unavailable",
                "Access tokens cannot be checked now: their issuer does not give its keys.",
                retry_after=math.ceil(COOLDOWN_SECONDS if self._keys else EMPTY_COOLDOWN_SECONDS),
            )
        return key

    async def _attend(self, _app: web.Application) -> AsyncIterator[None]:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS),
            headers={"User-Agent": f"rtobserver/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        async with self._session, asyncio.TaskGroup() as self._tasks:
            self._fetch()
            yield
            if self._fetching is not None:
                self._fetching.cancel()
        self._tasks = None

    def _fetch(self) -> None:
        """Begin a fetch, if none is under way and the last one is long enough ago."""
        now = self._clock.mono()
        pause = COOLDOWN_SECONDS if self._keys else EMPTY_COOLDOWN_SECONDS
        if self._tasks is None or self._fetching is not None or now - self._tried < pause:
            return
        self._tried = now
        self._fetching = self._tasks.create_task(self._refresh(), name="issuer keys")

    async def _refresh(self) -> None:
        try:
            document = await self._document()
            # a document of the largest size takes longer than the loop should stand still
            self._keys = await asyncio.to_thread(usable, document, self._algorithms)
            self._fetched, self._failed = self._clock.mono(), False
        except (aiohttp.ClientError, TimeoutError, OSError, _Unusable) as error:
            self._failed = True
            _log.warning("issuer_keys_not_fetched", problem=str(error) or type(error).__name__, kept=len(self._keys))
        finally:
            self._fetching = None

    async def _document(self) -> bytes:
        if self._session is None:
            raise _Unusable("it is not open")
        async with self._session.get(self._url, allow_redirects=False) as response:
            if response.status != 200:
                raise _Unusable(f"it answered {response.status}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise _Unusable("it answered with a coding that was not asked for")
            document = bytearray()
            async for piece in response.content.iter_any():
                document += piece
                if len(document) > DOCUMENT_CAP:
                    raise _Unusable(f"its document is larger than {DOCUMENT_CAP} bytes")
            return bytes(document)


def usable(document: bytes, algorithms: tuple[str, ...]) -> dict[tuple[str, str], PyJWK]:
    """Give the keys of a JWKS document, by id and algorithm, that sign with one of the algorithms.

    Raises:
        _Unusable: it is no such document, or there is none among its keys.

    """
    try:
        read = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise _Unusable("its document is no JSON") from error
    listed = read.get("keys") if isinstance(read, dict) else None
    found: dict[tuple[str, str], PyJWK] = {}
    for written in listed[:KEYS_CAP] if isinstance(listed, list) else ():
        if not isinstance(written, dict) or not isinstance(written.get("kid"), str) or not _signs(written):
            continue
        for algorithm in algorithms:
            if (key := _key(written, algorithm)) is not None:
                found.setdefault((written["kid"], algorithm), key)
    if not found:
        raise _Unusable("its document has no key that signs with one of `algorithms`")
    return found


def _signs(written: Mapping[str, Any]) -> bool:
    uses = written.get("key_ops", ["verify"])
    return written.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses


def _key(written: dict[str, Any], algorithm: str) -> PyJWK | None:
    kind, curve = _KINDS.get(algorithm, ("", None))
    if written.get("kty") != kind or written.get("alg", algorithm) != algorithm or "d" in written:
        return None
    if curve is not None and written.get("crv") != curve:
        return None
    try:
        return PyJWK(written, algorithm)
    except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
