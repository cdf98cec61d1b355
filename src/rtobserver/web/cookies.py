"""Seal into a cookie which key an operator has signed in with.

The cookie holds no rights: it names the key and until when it is to be believed, and whatever the
key is good for is looked up at each request. Browsers keep one jar for all ports of a host, so the
port stands in the cookie's name, and is sealed in with it: the cookie of one daemon is nothing to
another. Pure but for the random nonce.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LASTS_SECONDS = 12 * 3600
"""After this one has to sign in again."""

_NONCE_BYTES = 12
_VERSION = b"\x01"
_LONGEST = 500
# Names the purpose: nothing else that is ever sealed under the same secret opens as a cookie.
_PURPOSE = b"rtobserver login cookie"


class _Content(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    key_id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Login:
    """Say who has signed in."""

    key_id: str
    expires_at: int
    """Microseconds since 1970."""


class Cookies:
    """Seal and open the cookies of one listener; `base_url` is what it is called by people, if it was told."""

    def __init__(self, key: bytes, *, base_url: str = "") -> None:
        derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_PURPOSE)
        self._cipher = ChaCha20Poly1305(derive.derive(key))
        self._secure = urlsplit(base_url).scheme == "https"

    def name(self, request: web.BaseRequest) -> str:
        """Give the cookie's name, which has the port in it that the request was made to."""
        _, colon, port = request.headers.get("Host", "").rpartition(":")
        if not (colon and port.isascii() and port.isdigit() and len(port) <= 5):
            port = "443" if self._secure else "80"
        return f"rtobserver_{port}"

    def set(self, request: web.BaseRequest, response: web.StreamResponse, key_id: str, *, now_us: int) -> None:
        """Have the browser remember who has signed in."""
        name = self.name(request)
        content = _Content(key_id, now_us + LASTS_SECONDS * 1_000_000)
        nonce = os.urandom(_NONCE_BYTES)
        box = self._cipher.encrypt(nonce, msgspec.msgpack.encode(content), _VERSION + _PURPOSE + name.encode())
        value = _written(_VERSION + nonce + box)
        response.set_cookie(
            name, value, max_age=LASTS_SECONDS, path="/", httponly=True, samesite="Strict", secure=self._secure
        )

    def clear(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Have the browser forget it."""
        response.del_cookie(self.name(request), path="/", httponly=True, samesite="Strict", secure=self._secure)

    def read(self, request: web.BaseRequest, *, now_us: int) -> Login | None:
        """Tell who has signed in; None without a cookie of ours that is still to be believed."""
        name = self.name(request)
        value = request.cookies.get(name, "")
        if not value or len(value) > _LONGEST or not value.isascii():
            return None
        try:
            sealed = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
            nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
            if sealed[:1] != _VERSION or len(nonce) != _NONCE_BYTES or _written(sealed) != value:
                return None
            plain = self._cipher.decrypt(nonce, box, _VERSION + _PURPOSE + name.encode())
            content = msgspec.msgpack.decode(plain, type=_Content)
        except (binascii.Error, InvalidTag, msgspec.MsgspecError):
            return None
        return Login(content.key_id, content.expires_at) if now_us < content.expires_at else None


def _written(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
