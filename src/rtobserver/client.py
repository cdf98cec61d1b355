"""Read and erase recorded calls from a program: a typed client of rtobserver's own API.

Answers are the API's own values (`web/shapes.py` and its like), so that the client and the API cannot differ. Lists are
followed to their ends, streams are read as they come; nothing is tried again except a tail, which
goes on behind the last event that it gave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from rtobserver.errors import ApiRefused, ApiUnreachable
from rtobserver.web.conversation import Hit, Line
from rtobserver.web.problems import ProblemDocument
from rtobserver.web.shapes import Call, Entry, Listed
from rtobserver.web.timeline_shapes import Timeline
from rtobserver.web.verdicts import Verdict

PAGE = 200
RECONNECT_SECONDS = 1.0
_LINES = {"Accept": "application/x-ndjson"}
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
# a quiet tail is told each 15 s that it is still there
_TAIL_SECONDS = 45.0

_ENTRY = msgspec.json.Decoder(Entry)

T = TypeVar("T")
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Say which calls are wanted, as the query of `/api/v1/calls` does; all of it must hold."""

    status: str | None = None
    outcome: str | None = None
    profile: str | None = None
    model: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    policy: str | None = None
    since: str | None = None
    """RFC 3339, a date, or a duration before now such as `7d`."""
    until: str | None = None
    min_duration: str | None = None
    has: Sequence[str] = ()
    q: str | None = None

    def query(self) -> list[tuple[str, str]]:
        """Write it as the parameters of a query."""
        names = ("status", "outcome", "profile", "model", "user", "policy", "since", "until", "min_duration", "q")
        pairs = [(name, value) for name in names if (value := getattr(self, name)) is not None]
        pairs += [(f"label.{key}", value) for key, value in self.labels.items()]
        return pairs + [("tag", tag) for tag in self.tags] + [("has", word) for word in self.has]


@dataclass(frozen=True, slots=True)
class Tailed:
    """Be one event of a tail."""

    event: str
    """`entry`, `call` or `missed`."""
    id: str
    """Where to go on behind it; empty where it marks no place."""
    data: bytes
    """A JSON document: an entry with its `call_id`, a call, or `{"count": N}`."""


class Client:
    """Ask one daemon; an async context manager that holds its connections.

    Every method raises:
        ApiRefused: the daemon answered with a problem document.
        ApiUnreachable: it cannot be reached, or broke off its answer.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v1"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def calls(self, filters: Filters | None = None, *, limit: int | None = None) -> AsyncGenerator[Call]:
        """Give calls, newest first."""
        async for call in self._listed("/calls", (filters or Filters()).query(), Call, limit):
            yield call

    async def call(self, call_id: str) -> Call:
        """Give one call."""
        return msgspec.json.decode(await self._read(_path(call_id)), type=Call)

    async def verdict(self, call_id: str) -> Verdict:
        """Give how whole the record of a call is, and why."""
        return msgspec.json.decode(await self._read(f"{_path(call_id)}/verdict"), type=Verdict)

    async def entries(
        self,
        call_id: str,
        *,
        type_: str | None = None,
        kind: Literal["event", "command", "gap"] | None = None,
        after: str | None = None,
        overlap: bool = False,
    ) -> AsyncGenerator[Entry]:
        """Give what was recorded of a call, in order, as it is read."""
        asked = {"type": type_, "kind": kind, "after": after, "overlap": "include" if overlap else None}
        query = [(name, value) for name, value in asked.items() if value is not None]
        async with (
            self._asking("GET", f"{_path(call_id)}/entries", query, _LINES) as response,
            aclosing(_lines(response)) as lines,
        ):
            async for line in lines:
                yield read_entry(line)

    async def transcript(self, call_id: str) -> AsyncGenerator[Line]:
        """Give the lines of a call's transcript."""
        async for line in self._listed(f"{_path(call_id)}/transcript", [], Line, None):
            yield line

    async def timeline(self, call_id: str) -> Timeline:
        """Give a call over time."""
        return msgspec.json.decode(await self._read(f"{_path(call_id)}/timeline"), type=Timeline)

    async def search(self, q: str, filters: Filters | None = None, *, limit: int | None = None) -> AsyncGenerator[Hit]:
        """Give the lines in which something was said, newest call first."""
        query = [pair for pair in (filters or Filters()).query() if pair[0] != "q"]
        async for hit in self._listed("/search", [("q", q), *query], Hit, limit):
            yield hit

    async def tail(self, call_id: str | None = None, *, after: str | None = None) -> AsyncGenerator[Tailed]:
        """Give what is recorded while it is recorded, of one call or of all.

        `after` is a position of the call, or the `id` of an event of all calls; history comes first
        then. It has no end: where the daemon goes away, it is asked again for what follows.
        """
        path = "/tail" if call_id is None else f"{_path(call_id)}/tail"
        while True:
            query = [] if after is None else [("after", after)]
            try:
                async with (
                    self._asking("GET", path, query, {}, read_seconds=_TAIL_SECONDS) as response,
                    aclosing(_events(response)) as events,
                ):
                    async for event in events:
                        after = event.id or after
                        yield event
            except ApiUnreachable:
                if after is None:
                    raise
            await asyncio.sleep(RECONNECT_SECONDS)

    async def export(
        self,
        what: Literal["calls", "entries", "items", "responses"] = "calls",
        format_: Literal["ndjson", "csv", "parquet"] = "ndjson",
        filters: Filters | None = None,
    ) -> AsyncGenerator[bytes]:
        """Give the bytes of an export as they come."""
        query = [("what", what), ("format", format_), *(filters or Filters()).query()]
        async with self._asking("GET", "/export", query, {}) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def delete(self, call_id: str) -> None:
        """Erase a call for good."""
        async with self._asking("DELETE", _path(call_id), [], {}):
            pass

    async def _listed(self, path: str, query: Pairs, type_: type[T], limit: int | None) -> AsyncGenerator[T]:
        cursor: str | None = None
        left = limit
        decoder: msgspec.json.Decoder[Listed[T]] = msgspec.json.Decoder(Listed[type_])  # type: ignore[valid-type]
        while left is None or left > 0:
            asked = PAGE if left is None else min(PAGE, left)
            pairs = [*query, ("limit", str(asked)), *([("cursor", cursor)] if cursor else [])]
            page = decoder.decode(await self._read(path, pairs))
            for row in page.data:
                yield row
            left = None if left is None else left - len(page.data)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _read(self, path: str, query: Pairs = ()) -> bytes:
        async with self._asking("GET", path, query, {}) as response:
            return await response.read()

    @asynccontextmanager
    async def _asking(
        self, method: str, path: str, query: Pairs, headers: Mapping[str, str], *, read_seconds: float = _READ_SECONDS
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._http is None:
            raise RuntimeError("the client is used outside of its `async with`")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=read_seconds)
        try:
            async with self._http.request(
                method,
                f"{self._url}{path}",
                params=list(query),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status >= 300:
                    raise _refusal(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise ApiUnreachable(f"{self._url} does not answer: {exc or type(exc).__name__}") from exc


def _path(call_id: str) -> str:
    return f"/calls/{quote(call_id, safe='')}"


def _refusal(status: int, body: bytes) -> ApiRefused:
    try:
        problem = msgspec.json.decode(body, type=ProblemDocument)
    except (msgspec.MsgspecError, UnicodeError):
        # something else than rtobserver answers at this address
        return ApiRefused(status, "", "")
    return ApiRefused(status, problem.error.code, problem.detail, problem.request_id)


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    # a line may be as long as the largest frame, which no limit of a reader's should cut
    rest = bytearray()
    async for piece in response.content.iter_any():
        *whole, last = piece.split(b"\n")
        for part in whole:
            rest += part
            yield bytes(rest)
            rest.clear()
        rest += last
    if rest:
        yield bytes(rest)


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[Tailed]:
    name, id_ = "", ""
    data: list[bytes] = []
    async with aclosing(_lines(response)) as lines:
        async for line in lines:
            if not line:
                if data:
                    yield Tailed(name or "message", id_, b"\n".join(data))
                name, id_, data = "", "", []
                continue
            key, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match key:
                case b"event":
                    name = value.decode()
                case b"id":
                    id_ = value.decode()
                case b"data":
                    data.append(value)


def read_entry(line: bytes) -> Entry:
    """Read an entry as the API writes it.

    Its payload is cut out and not parsed: upstream may send what no strict decoder takes, such as
    half a surrogate pair. Inside of a string the mark could not stand, its quotes would be escaped.
    """
    head, mark, payload = line.partition(b',"payload":')
    if not mark:
        return _ENTRY.decode(line)
    return msgspec.structs.replace(_ENTRY.decode(head + b"}"), payload=msgspec.Raw(payload.removesuffix(b"}")))


def payload_of(entry: Entry) -> bytes:
    """Give the exact bytes of an entry's frame."""
    if isinstance(entry.payload_base64, str):
        return msgspec.convert(entry.payload_base64, bytes)
    return bytes(entry.payload) if isinstance(entry.payload, msgspec.Raw) else b""
