"""Put deadlines and bounds on one HTTP connection, which aiohttp leaves open for ever.

Builds on private parts of aiohttp's connection; `tests/web/test_listener.py` pins them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web

from rtobserver.errors import RequestError
from rtobserver.web import problems

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_HEADERS = 64
_RequestCall = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Set how long a listener waits for its peers, in seconds."""

    head: float = 5.0
    """For a whole head, from its first byte or from the connection's start."""
    body: float = 10.0
    """For a whole body, from the first byte of the request."""
    idle: float = 75.0
    """For a further request on a connection that has had one; longer than most proxies keep theirs."""
    write: float = 10.0
    """For a peer that takes not one byte of its answer."""
    linger: float = 2.0
    """For the rest of a body that nobody will read, so that the peer does not miss the answer."""
    close: float = 20.0
    """For requests under way when the listener closes."""


class Crowd:
    """Know a listener's connections: which are busy, and which waits longest for a request."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._count = 0
        self._waiting: dict[Connection, None] = {}
        self._busy = 0
        self.is_closing = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    def admit(self) -> bool:
        """Take one connection more, at the cost of the one that has waited longest; False where all are busy."""
        self._count += 1
        if self._count <= self._cap:
            return True
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        del self._waiting[longest]
        longest.cut()
        return True

    def leave(self, connection: Connection) -> None:
        """Count a connection no more, once it is lost."""
        self._count -= 1
        self._waiting.pop(connection, None)

    def waits(self, connection: Connection) -> None:
        """Note that a connection has no request under way; since when is kept if it was so already."""
        self._waiting[connection] = None

    def waits_no_more(self, connection: Connection) -> None:
        """Note that a connection has a request."""
        self._waiting.pop(connection, None)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request as under way."""
        self._busy += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def finish(self, seconds: float) -> None:
        """Close the connections that wait, let the others end what they do."""
        self.is_closing = True
        for connection in list(self._waiting):
            connection.force_close()
        # A head that has just become whole is neither waiting nor busy.
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            _log.warning("requests_cut_off", count=self._busy)


class Connection(web.RequestHandler):
    """Be one connection, with deadlines."""

    def __init__(
        self,
        manager: web.Server,
        *,
        crowd: Crowd,
        patience: Patience,
        wire_cap: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=patience.idle + 3600,  # our own alarm comes first
            access_log=None,  # type: ignore[arg-type]  # falsy is how it is switched off
            max_headers=_MAX_HEADERS,
            lingering_time=patience.linger,
            auto_decompress=False,
        )
        self._crowd = crowd
        self._patience = patience
        self._wire_cap = wire_cap
        self._wire_bytes = 0
        self._began: float | None = None
        self._handling = False
        self._lingering = False
        self._link: asyncio.Transport
        self._alarm: asyncio.TimerHandle | None = None
        self._body_alarm: asyncio.TimerHandle | None = None
        self._write_alarm: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._answered: web.BaseRequest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a head, if there is room."""
        super().connection_made(transport)
        # Kept apart because aiohttp forgets a transport that still has bytes to send.
        self._link = cast("asyncio.Transport", transport)
        # Any byte that the peer has not taken shall pause us, or a stalled peer would go unnoticed.
        self._link.set_write_buffer_limits(high=0)
        if not self._crowd.admit():
            self.cut()
            return
        self._wait(self._patience.head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget all alarms."""
        self._crowd.leave(self)
        for alarm in (self._alarm, self._body_alarm, self._write_alarm):
            if alarm is not None:
                alarm.cancel()
        if exc is None and self._paused:
            # Whoever waits for its answer to leave shall know that it did not.
            exc = ConnectionResetError("the connection ended with bytes unsent")
        super().connection_lost(exc)

    def cut(self) -> None:
        """End the connection without another word."""
        self.force_close()
        self._link.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes as aiohttp does, but only so many and only for so long."""
        if self._began is None:
            self._began = self._loop.time()
            if not self._handling and not self._lingering:
                self._wait(self._patience.head)
        self._wire_bytes += len(data)
        if self._wire_bytes > self._wire_cap:
            self.cut()
            return
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self._wait_no_more()

    def _wait(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, self._give_up)
        self._crowd.waits(self)

    def _wait_no_more(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._crowd.waits_no_more(self)

    def _give_up(self) -> None:
        if self._began is not None and self.transport is not None:
            # There is no request yet that could be answered in the ordinary way.
            self.transport.write(_raw_answer(_LATE_HEAD))
        self.force_close()

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: _RequestCall,
    ) -> tuple[web.StreamResponse, bool]:
        self._handling = True
        self._answered = request
        self._wait_no_more()
        began = self._loop.time() if self._began is None else self._began
        if not request.content.is_eof():
            self._body_alarm = self._loop.call_at(began + self._patience.body, self._refuse_body, request)
        try:
            with self._crowd.busy():
                return await super()._handle_request(request, start_time, request_handler)
        finally:
            if self._body_alarm is not None:
                self._body_alarm.cancel()
            self._handling = False
            self._began = None
            self._wire_bytes = 0
            if self._crowd.is_closing:
                self.close()
            if not request.content.is_eof():
                # `start` now swallows the rest for a while and then closes.
                self._lingering = True
                if request.content.exception() is not None:
                    self._lingering_time = 0
            elif self.transport is not None and not self._messages:
                self._wait(self._patience.idle)

    def _refuse_body(self, request: web.BaseRequest) -> None:
        if not request.content.is_eof():
            # Whoever reads the body gets the error.
            request.content.set_exception(RequestError(408, "too_slow", "The body did not arrive in time."))

    async def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, as a problem document where aiohttp had words of its own."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            # It was raised before any middleware ran.
            resp = problems.respond(problems.problem_of(resp), problems.request_id(request))
            resp.headers["Server"] = "rtobserver"
        answered, is_reset = await super().finish_response(request, resp, start_time)
        if not request.content.is_eof() and not is_reset and not self._link.is_closing():
            # The peer sees the end of its answer while `start` swallows what it still sends; a plain
            # close would be a reset to it, and could take the answer away.
            self._link.write_eof()
        return answered, is_reset

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not read, or what got past the middlewares."""
        if isinstance(exc, ConnectionError):
            raise exc  # the caller is gone, there is nobody to tell
        request_id = problems.new_request_id()
        if status == 400:
            problem = problems.Problem(status=400, code="bad_request", message="This is not an HTTP request.")
            _log.info("request_refused", route="-", status=400, code=problem.code, request_id=request_id)
        else:
            problem = problems.problem_of(exc if isinstance(exc, Exception) else RuntimeError())
            _log.error("request_failed", route="-", status=problem.status, request_id=request_id, exc_info=exc)
        if request.writer.output_size:
            raise ConnectionError("the answer had begun")
        response = problems.respond(problem, request_id)
        response.headers["Server"] = "rtobserver"
        response.force_close()
        return response

    def pause_writing(self) -> None:
        """Begin to watch a peer that does not take its answer."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """Stop watching: the peer has taken all."""
        if self._write_alarm is not None:
            self._write_alarm.cancel()
            self._write_alarm = None
        super().resume_writing()

    def _watch_writing(self) -> None:
        self._unsent = self._link.get_write_buffer_size()
        self._write_alarm = self._loop.call_later(self._patience.write, self._check_writing)

    def _check_writing(self) -> None:
        if self._link.get_write_buffer_size() < self._unsent:
            self._watch_writing()
        else:
            request_id = None if self._answered is None else problems.known_id(self._answered)
            _log.info("slow_reader_cut_off", seconds=self._patience.write, request_id=request_id)
            self.cut()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log in our form what aiohttp would log in its own."""
        _log.error("connection_failed", exc_info=kw.get("exc_info", True))


_LATE_HEAD = problems.Problem(status=408, code="too_slow", message="The request's head did not arrive in time.")


def _raw_answer(problem: problems.Problem) -> bytes:
    request_id = problems.new_request_id()
    body = problems.document(problem, request_id)
    fields = {
        **problems.headers(problem, request_id),
        "Server": "rtobserver",
        "Connection": "close",
        "Content-Length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {problem.status} Request Timeout\r\n{head}\r\n".encode() + body
