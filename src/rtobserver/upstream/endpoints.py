"""Spell the addresses of the Realtime API. Pure.

No address carries `api-version` (the GA paths refuse it) or `model` (OpenAI answers `calls` with an
empty 400; a call's model is fixed when its client secret is minted): protocol.md 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

_SOCKET_SCHEMES = {"https": "wss", "http": "ws"}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Give each address below one base URL, which reaches up to `/v1` and may end in a slash."""

    base_url: str
    provider: Literal["azure", "openai", "compatible"]

    def client_secrets(self) -> str:
        """Give the address that mints client secrets."""
        return self._under("/realtime/client_secrets")

    def calls(self, webrtcfilter: bool) -> str:
        """Give the address that takes offers.

        OpenAI has no `webrtcfilter`, and refuses queries that it does not know; it is not sent there.
        """
        query = "webrtcfilter=on" if webrtcfilter and self.provider != "openai" else ""
        return self._under("/realtime/calls", query)

    def hangup(self, call_id: str) -> str:
        """Give the address that ends a call."""
        return self._under(f"/realtime/calls/{quote(call_id, safe='')}/hangup")

    def attach(self, call_id: str) -> str:
        """Give the websocket address that joins a call."""
        return self._under("/realtime", f"call_id={quote(call_id, safe='')}", socket=True)

    def _under(self, path: str, query: str = "", *, socket: bool = False) -> str:
        base = urlsplit(self.base_url)
        scheme = _SOCKET_SCHEMES[base.scheme] if socket else base.scheme
        return urlunsplit((scheme, base.netloc, base.path.rstrip("/") + path, query, ""))
