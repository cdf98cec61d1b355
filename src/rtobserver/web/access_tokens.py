"""Believe what an identity provider signed about somebody (a JWT), after every check.

What a token says of where its key is to be found (`jku`, `x5u`, `jwk`, `x5c`) is never looked at: keys are
those of the configuration. Nor does a token choose how it is checked: algorithms, issuer and audience are
the operator's. A refusal gives no reason away; the log has it, at most once a minute for each.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from jwt import PyJWK
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from rtobserver.clock import Clock
from rtobserver.errors import RequestError

TOKEN_CAP = 16 * 1024
"""Longest token in characters."""
LEEWAY_SECONDS = 60
"""How far the issuer's clock may be from ours."""
KEY_ID_CAP = 256

_SAID_AGAIN_SECONDS = 60.0
_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
# who shows these proves to a page who signed in, and grants nobody anything
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Keys(Protocol):
    """Know the keys that an issuer signs with."""

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | bytes | None:
        """Give the key of an id for an algorithm; None where the issuer has no such key.

        Raises:
            RequestError: 503, what keys the issuer has cannot be learnt now.

        """


class SharedSecret:
    """Know one secret, which we and the issuer share."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def find(self, key_id: str | None, algorithm: str) -> bytes:
        """Give the secret, whatever the token calls it."""
        return self._secret


@dataclass(frozen=True, slots=True)
class Believed:
    """Be what a good token says."""

    claims: Mapping[str, Any]
    until: int
    """When it is good no more, in microseconds since 1970."""


class _Refused(Exception):
    """Say in a few words, for the log, what is wrong with a token."""


class AccessTokens:
    """Check tokens of one issuer for one audience."""

    def __init__(
        self, *, issuer: str, audience: str, algorithms: tuple[str, ...], keys: Keys, needs_key_id: bool, clock: Clock
    ) -> None:
        self._issuer, self._audience = issuer, audience
        self._algorithms = frozenset(algorithms)
        self._keys = keys
        self._needs_key_id = needs_key_id
        self._clock = clock
        self._signatures = PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})
        self._said: dict[str, float] = {}

    async def read(self, text: str) -> Believed:
        """Give what a token says.

        Raises:
            RequestError: 401, it is not to be believed; 503, that cannot be told now.

        """
        try:
            return await self._checked(text)
        except _Refused as refused:
            self.log_refusal(str(refused))
            raise RequestError(401, "invalid_token", "The access token is not good, or no longer.") from None

    def log_refusal(self, reason: str) -> None:
        """Tell the operator why a token was refused, at most once a minute for each reason."""
        now = self._clock.mono()
        if now - self._said.get(reason, -math.inf) >= _SAID_AGAIN_SECONDS:
            self._said[reason] = now
            _log.warning("access_token_refused", reason=reason)

    async def _checked(self, text: str) -> Believed:
        form = _FORM.fullmatch(text) if len(text) <= TOKEN_CAP else None
        if form is None:
            raise _Refused("it is no signed JWT")
        header = _object(_decoded(form[1]), "header")
        algorithm, key_id = self._checked_header(header)
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise _Refused("the issuer has no such key")
        try:
            signed = self._signatures.decode_complete(text, key, algorithms=[algorithm])
        except (PyJWTError, ValueError, TypeError) as error:
            raise _Refused("its signature is wrong") from error
        return self._checked_claims(_object(signed["payload"], "payload"))

    def _checked_header(self, header: Mapping[str, Any]) -> tuple[str, str | None]:
        algorithm, key_id, type_ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise _Refused("its algorithm is not among `algorithms`")
        if "crit" in header or "b64" in header:
            raise _Refused("its header demands an extension")
        if not isinstance(type_, str) or type_.lower() not in _TYPES:
            raise _Refused("its type is not that of an access token")
        if key_id is not None and (not isinstance(key_id, str) or not 0 < len(key_id) <= KEY_ID_CAP):
            raise _Refused("its key id is not usable")
        if key_id is None and self._needs_key_id:
            raise _Refused("it names no key")
        return algorithm, key_id

    def _checked_claims(self, claims: Mapping[str, Any]) -> Believed:
        if claims.get("iss") != self._issuer:
            raise _Refused("it is of another issuer")
        audience = claims.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            raise _Refused("it is for another audience")
        # one issuer says by a claim what a token is, the others show it by what they put in
        if claims["typ"] != "Bearer" if "typ" in claims else any(claim in claims for claim in _OF_ID_TOKENS):
            raise _Refused("it is an ID or refresh token, not an access token")
        now = self._clock.now_us() / 1_000_000
        if "exp" not in claims:
            raise _Refused("it never expires")
        expires_at = _seconds(claims, "exp") + LEEWAY_SECONDS
        if now >= expires_at:
            raise _Refused("it has expired")
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims, name) > now + LEEWAY_SECONDS:
                raise _Refused("it is not good yet")
        return Believed(claims, round(expires_at * 1_000_000))


def _decoded(segment: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError as error:
        raise _Refused("it is no signed JWT") from error


def _object(raw: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object in which no name stands twice: parsers differ in which of two they take."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    def no_number(name: str) -> float:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(raw.decode(), object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise _Refused(f"its {what} is no JSON object with each name once") from error
    if not isinstance(value, dict):
        raise _Refused(f"its {what} is no JSON object with each name once")
    return value


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    # up to the year 9999: what lies behind it fits no column of times
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 253_402_300_800:
        raise _Refused(f"its `{name}` is no time")
    return value
