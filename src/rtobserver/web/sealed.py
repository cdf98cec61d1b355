"""Seal what a token grants into the token itself, so that no table of tokens is needed.

A sealed token looks like an upstream client secret (`ek_…`: the vendor's browser client takes no
other) and is opaque to its holder. Whoever has the key can open it, on every replica. Pure but for
the random nonce.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX = "ek_"
MAX_TOKEN = 7000
"""Longest token in characters: it must fit into a header field, for which 8 KiB is a common limit."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"
# Names the purpose: nothing else that is ever sealed under the same secret opens as a token.
_PURPOSE = b"rtobserver sealed token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Say what the holder of a token may do, and as whom."""

    token_id: str
    profile: str
    expires_at: int
    """Unix seconds."""
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, Any] | None = None
    """The browser's wishes for the session, as far as the profile lets it have any."""

    def has_expired(self, now: float) -> bool:
        """Say whether the token opens no further calls; it may still hang up those that it opened."""
        return now >= self.expires_at


class GrantTooLarge(ValueError):
    """Report that a grant does not fit into a token."""


class _Content(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    token_id: str
    profile: str
    expires_at: int
    user: str | None
    labels: dict[str, str]
    session: dict[str, Any] | None


class Sealer:
    """Seal and open tokens with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"the token key must have {_KEY_BYTES} bytes, this one has {len(key)}")
        derive = HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=_PURPOSE)
        self._cipher = ChaCha20Poly1305(derive.derive(key))

    def seal(self, grant: Grant) -> str:
        """Make a token.

        Raises:
            GrantTooLarge: labels and session together are too long for a header.

        """
        content = _Content(
            grant.token_id,
            grant.profile,
            grant.expires_at,
            grant.user,
            dict(grant.labels),
            None if grant.session is None else dict(grant.session),
        )
        nonce = os.urandom(_NONCE_BYTES)
        box = self._cipher.encrypt(nonce, msgspec.msgpack.encode(content), _VERSION + _PURPOSE)
        token = PREFIX + base64.urlsafe_b64encode(_VERSION + nonce + box).rstrip(b"=").decode()
        if len(token) > MAX_TOKEN:
            raise GrantTooLarge(f"a token of {len(token)} characters is longer than {MAX_TOKEN}")
        return token

    def open(self, token: str) -> Grant | None:
        """Open a token, expired or not; None if it is not one of ours."""
        if not token.startswith(PREFIX) or len(token) > MAX_TOKEN or not token.isascii():
            return None
        text = token[len(PREFIX) :]
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION or len(nonce) != _NONCE_BYTES:
            return None
        try:
            plain = self._cipher.decrypt(nonce, box, _VERSION + _PURPOSE)
            content = msgspec.msgpack.decode(plain, type=_Content)
        except (InvalidTag, msgspec.MsgspecError):
            return None
        return Grant(
            token_id=content.token_id,
            profile=content.profile,
            expires_at=content.expires_at,
            user=content.user,
            labels=content.labels,
            session=content.session,
        )
