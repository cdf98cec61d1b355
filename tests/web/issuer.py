"""An identity provider on this machine: generated keys, signed tokens, and a server that publishes the keys."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from jwt.api_jws import PyJWS

from rtobserver.config.sections import PublicAuth

ISSUER = "https://login.example.com/tenant-1/v2.0"
AUDIENCE = "api://rtobserver"
NOW = 1_795_400_000


@functools.cache
def private_key(kid: str, kind: str = "RSA") -> Any:
    """Make a private key, the same for the same name as long as the process lasts."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "small":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[kind])


_KINDS = {"RSA": "RS256", "small": "RS256", "Ed25519": "EdDSA", "P-256": "ES256", "P-384": "ES384"}


def public_jwk(kid: str, kind: str = "RSA", **more: Any) -> dict[str, Any]:
    """Write the public half of a key as issuers publish it; None leaves a member out."""
    algorithm: Any = get_default_algorithms()[_KINDS[kind]]
    written = json.loads(algorithm.to_jwk(private_key(kid, kind).public_key()))
    written = {"kty": written["kty"], "kid": kid, "use": "sig"} | written | more
    written.pop("key_ops", None) if "key_ops" not in more else None
    return {name: value for name, value in written.items() if value is not None}


def claims(**changes: Any) -> dict[str, Any]:
    """Write what a good token says; None leaves a claim out."""
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 3600,
    } | changes
    return {name: value for name, value in said.items() if value is not None}


def signed(
    payload: bytes, *, kid: str | None = "k1", kind: str = "RSA", alg: str | None = None, key: Any = None, **header: Any
) -> str:
    """Sign a payload as it is."""
    headers = ({"kid": kid} if kid is not None else {}) | header
    used = private_key(kid or "k1", kind) if key is None else key
    return PyJWS().encode(payload, used, algorithm=alg or _KINDS[kind], headers=headers)


def token(
    *,
    kid: str | None = "k1",
    kind: str = "RSA",
    alg: str | None = None,
    header: dict[str, Any] | None = None,
    **said: Any,
) -> str:
    """Sign what a good token says, with changes."""
    return signed(json.dumps(claims(**said)).encode(), kid=kid, kind=kind, alg=alg, **(header or {}))


def assembled(header: Any, payload: Any, signature: bytes = b"x") -> str:
    """Put a token together that nobody has signed."""
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@dataclass
class Issuer:
    """Publish keys; the answer can be changed at will."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public_jwk("k1")])
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers wait for it."""
    fetches: list[str] = field(default_factory=list)
    """Paths that were asked for."""

    def auth(self, **changes: Any) -> PublicAuth:
        settings: dict[str, Any] = {
            "mode": "jwt",
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_url": f"{self.url}/keys",
        }
        return PublicAuth(**(settings | changes))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.fetches.append(request.path)
        await self.open.wait()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        return web.Response(status=self.status, body=body, headers=self.headers)


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """Run an issuer for the length of the block."""
    issuer = Issuer()
    issuer.open.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", issuer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield issuer
    finally:
        await runner.cleanup()
