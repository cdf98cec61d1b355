"""Who may do what: strict about credentials as each vendor is (protocol.md 1.3 and 2.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rtobserver.simulator.beats import Json
from rtobserver.simulator.options import SimulatorOptions

Kind = Literal["key", "entra", "secret", "expired", "wrong", "none"]


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """Hold a client secret that was given out."""

    value: str
    expires_at: int
    """Unix seconds."""
    session: Json | None
    """None where the client is to bring the session."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Say what a request proved itself with."""

    kind: Kind
    text: str = ""
    """What was presented."""
    secret: ClientSecret | None = None


def credential_of(
    headers: Mapping[str, str], query: Mapping[str, str], secrets: Mapping[str, ClientSecret], options: SimulatorOptions
) -> Credential:
    """Find out what a request proves itself with."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        return _bearer(bearer.strip(), secrets, options)
    key = headers.get("api-key") or query.get("api-key", "")
    if options.provider == "azure" and key:
        return Credential("key" if key == options.api_key else "wrong", key)
    return Credential("none")


def _bearer(text: str, secrets: Mapping[str, ClientSecret], options: SimulatorOptions) -> Credential:
    secret = secrets.get(text)
    if secret is not None:
        return Credential("secret" if secret.expires_at > time.time() else "expired", text, secret)
    if options.provider == "openai":
        return Credential("key" if text == options.api_key else "wrong", text)
    looks_like_jwt = text.startswith("eyJ") and text.count(".") == 2
    return Credential("entra" if looks_like_jwt or text in options.entra_tokens else "wrong", text)
