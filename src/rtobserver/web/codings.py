"""Send answers in fewer bytes: compressed, or not at all where the caller has them already.

Compression runs in one thread of its own, so that however much is asked for, it takes one core at
most and never the event loop's time. Server-sent events are not compressed: each must leave at once.

An `ETag` is the hash of what is sent, so it is right for calls that go on, too. It spares bytes and
not work, and answers stay `no-store`: what is in them is nothing for a browser to keep on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEAST_BYTES = 1024
"""Smaller answers are sent as they are."""
INLINE_BYTES = 16 * 1024
"""Larger pieces are left to the thread; these take a fraction of a millisecond."""
ZSTD_LEVEL, GZIP_LEVEL = 3, 4

_THREAD: web.AppKey[ThreadPoolExecutor] = web.AppKey("codings_thread", ThreadPoolExecutor)
_ACCEPTED = re.compile(r"\s*(zstd|gzip|\*)\s*(?:;\s*q\s*=\s*([0-9.]{1,5})\s*)?", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Coding:
    """Compress one answer, piece by piece."""

    def __init__(self, name: str, thread: ThreadPoolExecutor) -> None:
        self.headers = {"Content-Encoding": name, "Vary": "Accept-Encoding"}
        self._thread = thread
        self._compressor: _Compressor = (
            zstd.ZstdCompressor(level=ZSTD_LEVEL) if name == "zstd" else zlib.compressobj(GZIP_LEVEL, wbits=31)
        )

    async def take(self, piece: bytes, *, last: bool = False) -> bytes:
        """Give the bytes to send for a piece; there may be none yet."""
        if len(piece) <= INLINE_BYTES:
            return self._take(piece, last)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, piece, last)

    def _take(self, piece: bytes, last: bool) -> bytes:
        return self._compressor.compress(piece) + (self._compressor.flush() if last else b"")


def install(app: web.Application) -> None:
    """Make an application tag its answers, and compress them as callers accept."""
    thread = app[_THREAD] = ThreadPoolExecutor(1, thread_name_prefix="codings")

    async def close(_app: web.Application) -> None:
        thread.shutdown(wait=False)

    app.middlewares.append(_send_less)
    app.on_cleanup.append(close)


def choose(request: web.Request) -> Coding | None:
    """Choose how to compress an answer that is sent piece by piece; None for not at all."""
    name = accepted(",".join(request.headers.getall("Accept-Encoding", [])))
    return None if name is None else Coding(name, request.app[_THREAD])


def headers(coding: Coding | None) -> dict[str, str]:
    """Give the headers of an answer that `choose` was asked for."""
    return {"Vary": "Accept-Encoding"} if coding is None else coding.headers


async def write(response: web.StreamResponse, coding: Coding | None, piece: bytes) -> None:
    """Send a piece of a stream."""
    sent = piece if coding is None else await coding.take(piece)
    if sent:
        await response.write(sent)


async def end(response: web.StreamResponse, coding: Coding | None, piece: bytes = b"") -> web.StreamResponse:
    """Send the last piece of a stream, and end it."""
    await response.write_eof(piece if coding is None else await coding.take(piece, last=True))
    return response


def accepted(header: str) -> str | None:
    """Give the better of `zstd` and `gzip` that an `Accept-Encoding` allows."""
    weights: dict[str, float] = {}
    for item in header.split(","):
        match = _ACCEPTED.fullmatch(item)
        if match is not None:
            weights[match[1].lower()] = _weight(match[2])
    return next((name for name in ("zstd", "gzip") if weights.get(name, weights.get("*", 0.0)) > 0), None)


def _weight(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0


@web.middleware
async def _send_less(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    # what was streamed is on its way already
    if not isinstance(response, web.Response) or response.prepared or not isinstance(response.body, bytes):
        return response
    body = response.body
    if request.method == "GET" and response.status == 200 and request.path.startswith("/api/"):
        # weak, since it is the same whatever the coding
        response.headers["ETag"] = tag = f'W/"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
        if _has(request, tag):
            kept = {name: response.headers[name] for name in ("ETag", "Cache-Control") if name in response.headers}
            return web.Response(status=304, headers=kept | {"Vary": "Accept-Encoding"})
    if len(body) >= LEAST_BYTES and "Content-Encoding" not in response.headers:
        response.headers["Vary"] = "Accept-Encoding"
        coding = choose(request)
        if coding is not None:
            response.headers.update(coding.headers)
            response.body = await coding.take(body, last=True)
    return response


def _has(request: web.Request, tag: str) -> bool:
    given = ",".join(request.headers.getall("If-None-Match", []))
    return given.strip() == "*" or tag.removeprefix("W/") in _TAG.findall(given)
