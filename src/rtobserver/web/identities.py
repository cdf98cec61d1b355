"""Tell callers apart: nobody by name, by a header of a trusted proxy's, or by access tokens."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.config.sections import OperatorAuth, PublicAuth
from rtobserver.errors import RequestError
from rtobserver.web.access import is_plain

if TYPE_CHECKING:
    # what reads access tokens is loaded where some are believed
    from rtobserver.web.access_tokens import AccessTokens

USER_CAP = 256
LABEL_CAP = 256
"""Longest value of a label in characters."""


@dataclass(frozen=True, slots=True)
class Person:
    """Be who calls."""

    user: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the issuer says besides."""


_SOMEBODY = Person(None)
_PERSON: web.RequestKey[Person] = web.RequestKey("person", Person)


class Identity(Protocol):
    """Know who calls."""

    reserved: frozenset[str]
    """Keys of labels that no caller may set itself."""

    async def person(self, request: web.BaseRequest) -> Person:
        """Give who calls.

        Raises:
            RequestError: 401 without the identity that the mode asks for; 503, it cannot be told now.

        """


class Nobody:
    """Know no callers by name (`mode = "none"`)."""

    reserved: frozenset[str] = frozenset()

    async def person(self, request: web.BaseRequest) -> Person:
        """Give somebody: without identities all callers are one."""
        return _SOMEBODY


class Forwarded:
    """Take the user's name from a header that a trusted proxy set (`mode = "forwarded"`)."""

    reserved: frozenset[str] = frozenset()

    def __init__(self, trusted_proxies: Iterable[str], user_header: str) -> None:
        self._proxies = tuple(ipaddress.ip_network(proxy, strict=False) for proxy in trusted_proxies)
        self._header = user_header

    async def person(self, request: web.BaseRequest) -> Person:
        """Give who the proxy says it is.

        Raises:
            RequestError: 401, if the peer is no trusted proxy or the header is not there exactly once.

        """
        names = request.headers.getall(self._header, [])
        if not self.trusts(request.remote) or len(names) != 1 or not is_plain(names[0].strip(), USER_CAP):
            raise RequestError(401, "no_identity", "The request does not say who you are, or not by way of our proxy.")
        return Person(names[0].strip())

    def trusts(self, peer: str | None) -> bool:
        """Say whether an address is a proxy's."""
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in proxy for proxy in self._proxies)


class ByAccessToken:
    """Take the user's name and labels from an access token (`mode = "jwt"`)."""

    def __init__(self, tokens: AccessTokens, user_claim: str, label_claims: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._user_claim = user_claim
        self._label_claims = label_claims
        self.reserved = frozenset(label_claims)

    async def person(self, request: web.BaseRequest) -> Person:
        """Give who the token in the Authorization header says it is.

        Raises:
            RequestError: 401, there is no good token that names a user; 503, that cannot be told now.

        """
        if _PERSON not in request:
            request[_PERSON] = await self._said(bearer(request))
        return request[_PERSON]

    async def _said(self, text: str) -> Person:
        if not text:
            raise RequestError(401, "no_identity", "This needs an access token: Authorization: Bearer ...")
        claims = (await self._tokens.read(text)).claims
        labels = {name: self._label(name, claims[name]) for name in self._label_claims if claims.get(name) is not None}
        return Person(user_of(self._tokens, claims, self._user_claim), labels)

    def _label(self, name: str, value: Any) -> str:
        match value:
            case bool():
                text = "true" if value else "false"
            case str() | int():
                text = str(value)
            case _:
                text = "\0"
        if text and not is_plain(text, LABEL_CAP):
            self._tokens.log_refusal(f"its claim `{name}` is no text that could be a label")
            raise RequestError(401, "invalid_token", "The access token says something that cannot be a label.")
        return text


def identity(auth: PublicAuth, app: web.Application, clock: Clock) -> Identity:
    """Build what tells callers apart; what it needs while an application runs is installed there."""
    match auth.mode:
        case "none":
            return Nobody()
        case "forwarded":
            return Forwarded(auth.trusted_proxies, auth.user_header)
        case "jwt":
            return ByAccessToken(access_tokens(auth, app, clock), auth.user_claim, auth.label_claims)


def access_tokens(auth: PublicAuth | OperatorAuth, app: web.Application, clock: Clock) -> AccessTokens:
    """Build what checks access tokens; an issuer's keys are fetched while the application runs."""
    from rtobserver.web.access_tokens import AccessTokens, SharedSecret
    from rtobserver.web.issuer_keys import IssuerKeys

    if auth.secret is not None:
        keys: SharedSecret | IssuerKeys = SharedSecret(auth.secret.reveal())
    else:
        keys = IssuerKeys(auth.jwks_url, algorithms=auth.algorithms, clock=clock)
        keys.install(app)
    return AccessTokens(
        issuer=auth.issuer,
        audience=auth.audience,
        algorithms=auth.algorithms,
        keys=keys,
        needs_key_id=auth.secret is None,
        clock=clock,
    )


def user_of(tokens: AccessTokens, claims: Mapping[str, Any], claim: str) -> str:
    """Give the user that a token names.

    Raises:
        RequestError: 401, it names none.

    """
    value = claims.get(claim)
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not is_plain(text, USER_CAP):
        tokens.log_refusal(f"its claim `{claim}` names no user")
        raise RequestError(401, "invalid_token", "The access token does not say who you are.")
    return text


def bearer(request: web.BaseRequest) -> str:
    """Give what stands behind `Bearer` in the one Authorization header; empty where there is none, or two."""
    sent = request.headers.getall("Authorization", [])
    scheme, _, value = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return value.strip() if scheme.lower() == "bearer" else ""
