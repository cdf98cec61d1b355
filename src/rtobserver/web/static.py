"""Serve the files of one folder, and nothing that is not in it.

No listings, no dotfiles, no links that lead out. The files keep their own policies: a page that
brings its Content-Security-Policy along would be broken by a second one from us.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

_INDEX = "index.html"


class Folder:
    """Be a folder of files to serve."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).resolve()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with the file at the request's path."""
        path = request.match_info["path"]
        file = await asyncio.to_thread(self.find, path)
        if file is None:
            index = await asyncio.to_thread(self.find, f"{path}/") if path else None
            if index is None:
                raise web.HTTPNotFound
            # Relative addresses in an index page count from its folder.
            raise web.HTTPPermanentRedirect(f"{request.rel_url.raw_path}/")
        response = _File(file)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def find(self, path: str) -> Path | None:
        """Find the file for a path below the folder; None if there is none that may be served."""
        steps = path.split("/")
        if steps[-1] == "":
            steps[-1] = _INDEX
        if not all(map(_is_visible, steps)):
            return None
        try:
            file = self._root.joinpath(*steps).resolve(strict=True)
            # Links may stay inside the folder, but must not lead to what is hidden there.
            is_ours = all(map(_is_visible, file.relative_to(self._root).parts))
        except (OSError, ValueError, RuntimeError):
            return None
        return file if is_ours and file.is_file() and os.access(file, os.R_OK) else None


def _is_visible(step: str) -> bool:
    return bool(step) and not step.startswith(".") and not any(letter in step for letter in "/\\\0")


class _File(web.FileResponse):
    """Send a file through the transport's buffer, where the listener sees whether it is read."""

    async def _sendfile(
        self,
        request: web.BaseRequest,
        fobj: IO[Any],
        offset: int,
        count: int,
    ) -> AbstractStreamWriter:
        # The kernel's sendfile would wait for ever for a peer that stopped reading.
        writer = await web.StreamResponse.prepare(self, request)
        if writer is None:
            raise ConnectionError("the answer had begun")
        return await self._sendfile_fallback(writer, fobj, offset, count)
