"""Serve the scripts and style sheets of the pages, our own and the vendored ones.

They are read once, when the daemon starts. An address has the hash of all of them in it, so that
a browser may keep what it has for ever, and modules that import each other by relative
addresses are always of one release.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from aiohttp import web

from rtobserver.web import queries
from rtobserver.web.routes import Answer, Ask, Part, Route

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_OPEN = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_ASK_AGAIN = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    media: str


class Assets:
    """Hold what the pages load."""

    def __init__(self) -> None:
        self._held = dict(sorted(_read(files("rtobserver.web.pages") / "assets", "")))
        digest = hashlib.blake2b(digest_size=8)
        for name, asset in self._held.items():
            digest.update(f"{name} {len(asset.body)} ".encode() + asset.body)
        self._version = digest.hexdigest()

    def address(self, name: str) -> str:
        """Give the address of an asset.

        Raises:
            LookupError: there is none of this name.

        """
        if name not in self._held:
            raise LookupError(f"there is no asset {name}")
        return f"/assets/{self._version}/{name}"

    def routes(self) -> list[Route[Any, Any]]:
        """Give the route under which they are served."""
        return [
            Route(
                name="pages.asset",
                path="/assets/{version:[0-9a-f]{16}}/{name:.+}",
                scope=None,
                summary="Give a script or a style sheet of the pages.",
                query=queries.Nothing,
                answers=(Answer(description="The file.", media="text/javascript"),),
                parts={
                    "version": Part("The hash of all assets.", "^[0-9a-f]{16}$"),
                    "name": Part("The name.", "^.+$"),
                },
                answer=self._answer,
            )
        ]

    async def _answer(self, ask: Ask[queries.Nothing, None]) -> web.Response:
        asset = self._held.get(ask.request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        # after an upgrade, an open page still asks for what it was made with: it gets what there is now
        fresh = ask.request.match_info["version"] == self._version
        headers = _OPEN | (_FOR_EVER if fresh else _ASK_AGAIN)
        return web.Response(body=asset.body, content_type=asset.media, charset="utf-8", headers=headers)


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _Asset]]:
    found: list[tuple[str, _Asset]] = []
    for each in folder.iterdir():
        suffix = f".{each.name.rpartition('.')[2]}"
        if each.is_dir():
            found += _read(each, f"{prefix}{each.name}/")
        elif suffix in _TYPES:
            found.append((f"{prefix}{each.name}", _Asset(each.read_bytes(), _TYPES[suffix])))
    return found
