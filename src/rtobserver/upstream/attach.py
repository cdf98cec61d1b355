"""Join a call by its id: frames in, client events out.

`attach` makes one attempt and never tries again by itself; whether a refusal means waiting, a new
credential or the end of the call is for the observer to decide. Reading stops when 256 frames
wait to be received, and then pings go unanswered: whoever holds a `Sideband` must keep receiving, or
have the frames delivered, which waits for nothing but its turn.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Upstream
from rtobserver.errors import UpstreamError
from rtobserver.upstream.backoff import Hold, retry_after
from rtobserver.upstream.credentials import Credentials
from rtobserver.upstream.endpoints import Endpoints
from rtobserver.upstream.framing import EMPTY_PONG, LONGEST, MESSAGES, Place

PING_INTERVAL = 20.0
PING_TIMEOUT = 20.0
CLOSE_TIMEOUT = 1.0
"""Seconds; the three together bound how long a half-open connection goes unnoticed (45 s, design 5)."""
QUEUE = 256
"""Frames read ahead; the library's 16 make it stop and start the socket all the time in a burst."""
UNSENT_BYTES = 1024 * 1024
"""What may wait to be sent. A sender that waits here holds up the pings too, and with them the discovery
that the peer is gone, so it is more than commands ever add up to in that time."""
SLICE = 0.003
"""Seconds for which a call hands frames over before the other calls have their turn."""

_TOO_BIG = 1009
_TOO_MANY = 429
_END_OF_ANSWER = b"\r\n\r\n"
_BEGINNINGS = (Opcode.TEXT, Opcode.BINARY)
_PING = Frame(Opcode.PING, b"").serialize(mask=True)
"""Made once: its mask hides nothing, and a quiet call sends one every second."""
_clock = SystemClock()

# The library writes request headers to its debug log; this logger stays above that whatever the
# root logger is set to.
_wire = logging.getLogger("rtobserver.upstream.wire")
_wire.setLevel(logging.WARNING)


class AttachRefused(UpstreamError):
    """Report that the handshake was answered with anything but 101."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after
        """Seconds that upstream asked to wait, at most 60; None if it did not say."""

    def __str__(self) -> str:
        return f"upstream answered the attach with {self.status}"


class AttachFailed(UpstreamError):
    """Report that the handshake got no usable answer: network, time-out, bad upgrade."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Detached(UpstreamError):
    """Report the end of a sideband; of the call, it says nothing."""

    def __init__(
        self,
        code: int | None,
        reason: str = "",
        *,
        by_us: bool = False,
        oversize: bool = False,
        size: int | None = None,
        silent: float = 0.0,
    ) -> None:
        super().__init__(code)
        self.code = code
        """Close code of whoever closed first; None if the connection broke without one."""
        self.reason = reason
        """The closer's own words, up to 123 bytes; untrusted."""
        self.by_us = by_us
        self.oversize = oversize
        """A frame was larger than we take, and we closed because of it."""
        self.size = size
        """Bytes of that frame, if its header told."""
        self.silent = silent
        """Seconds for which nothing came although a ping had gone out: what upstream sent then may be lost."""

    def __str__(self) -> str:
        who = "we" if self.by_us else "upstream"
        return "the connection broke" if self.code is None else f"{who} closed with {self.code}"


class Sideband:
    """Carry one attached call; made by `attach`.

    One task may receive while others send. `receive` can be cancelled without losing a frame.
    """

    __slots__ = ("_connection", "_send")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._send = connection.send

    async def receive(self) -> bytes:
        """Wait for the next frame and give its bytes as they came, valid text or not.

        Raises:
            Detached: The connection is over; every frame before that was given.
        """
        try:
            return await self._connection.next_frame()
        except ConnectionClosed as exc:
            self._fail(exc)

    async def deliver(self, take: Callable[[bytes], object]) -> NoReturn:
        """Give each frame to `take` as it is read from the socket, and wait for nothing but the end.

        No task is woken for a frame (docs/performance.md), unless one read brings more than a slice of time
        is enough for: the rest is queued, and delivered slice by slice. What `take` raises is raised here, and
        nothing is delivered after it. When this is cancelled, what was not delivered can be received.

        Raises:
            Detached: The connection is over; every frame before that was given.
        """
        connection = self._connection
        connection.take = take
        try:
            while True:
                frame = await connection.next_frame()
                if connection.fault is not None:
                    raise connection.fault
                take(frame)
                if _clock.mono() >= connection.slice_end:
                    await asyncio.sleep(0)
                    connection.slice_end = _clock.mono() + SLICE
        except ConnectionClosed as exc:
            if connection.fault is not None:
                raise connection.fault from None
            self._fail(exc)
        finally:
            connection.take = None

    def send_now(self, text: str) -> bool:
        """Write one text frame to the socket, and wait for nothing.

        False where only `send` can tell what becomes of it: the connection is not open, or a lot waits to be sent.
        """
        connection = self._connection
        if connection.protocol.state is not State.OPEN or connection.paused or connection.transport.is_closing():
            return False
        connection.protocol.send_text(text.encode())
        connection.send_data()
        return True

    @property
    def silent(self) -> float:
        """Seconds since anything was heard of the other end, if only its answer to a ping."""
        return self._connection.loop.time() - self._connection.heard_at

    def prove(self) -> None:
        """Have the other end show that it is there: `silent` begins again with its answer; waits for nothing."""
        connection = self._connection
        if connection.protocol.state is State.OPEN and not connection.transport.is_closing():
            connection.transport.write(_PING)

    async def send(self, text: str) -> None:
        """Send one text frame.

        Raises:
            Detached: The connection is over; the text may or may not have arrived.
        """
        try:
            await self._send(text)
        except ConnectionClosed as exc:
            self._fail(exc)

    async def close(self) -> None:
        """Close, waiting a second for upstream's part in it; safe to repeat."""
        await self._connection.close()

    def _fail(self, exc: ConnectionClosed) -> NoReturn:
        raise _detached(exc, self._connection) from None


class Attach:
    """Join calls of one upstream."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials, section: Upstream, max_frame: int) -> None:
        self._endpoints = endpoints
        self._credentials = credentials
        self._proxy = section.proxy or None
        self._max_frame = max_frame
        self._hold = Hold()
        self.opened = 0
        """Sidebands so far."""

    @property
    def held(self) -> float:
        """Seconds for which upstream, by its 429 to any call, asked not to be asked again; 0 is that it did not."""
        return self._hold.left(_clock.mono())

    async def open(self, call_id: str) -> Sideband:
        """Attach to a call, once.

        Raises:
            AttachRefused: Upstream answered something else than 101.
            AttachFailed: It gave no usable answer.
            CredentialError: No credential could be had.
        """
        headers = await self._credentials.headers()
        self.opened += 1
        url = self._endpoints.attach(call_id)
        try:
            return await attach(url, headers, max_frame=self._max_frame, proxy=self._proxy)
        except AttachRefused as exc:
            if exc.status == _TOO_MANY and exc.retry_after:
                self._hold.asked(exc.retry_after, _clock.mono())
            raise

    async def refresh_credential(self) -> None:
        """Forget the cached credential, because upstream refused it."""
        await self._credentials.refresh()


async def attach(
    url: str,
    headers: Mapping[str, str],
    *,
    max_frame: int,
    open_timeout: float = 10.0,
    proxy: str | None = None,
    ping_interval: float = PING_INTERVAL,
    ping_timeout: float = PING_TIMEOUT,
    close_timeout: float = CLOSE_TIMEOUT,
) -> Sideband:
    """Open a sideband; it is ready when the handshake is done, since no first event is sure to come.

    Frames up to `max_frame` bytes are taken. A redirect is a refusal like any other.

    Raises:
        AttachRefused: The answer was not 101.
        AttachFailed: There was no usable answer within `open_timeout` seconds.
    """
    try:
        connection = await _Connect(
            url,
            additional_headers=dict(headers),
            user_agent_header="rtobserver",
            compression=None,
            proxy=proxy,
            open_timeout=open_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_size=max_frame,
            max_queue=QUEUE,
            write_limit=UNSENT_BYTES,
            logger=_wire,
            create_connection=_Connection,
            ssl=_tls() if urlsplit(url).scheme == "wss" else None,
        )
    except InvalidStatus as exc:
        answer = exc.response
        raise AttachRefused(
            answer.status_code, retry_after(answer.headers.get("Retry-After"), _clock.now_us() / 1e6)
        ) from None
    except TimeoutError:
        raise AttachFailed(f"no answer within {open_timeout:g} s") from None
    except (OSError, InvalidHandshake, EOFError, ConnectionClosed) as exc:
        # the last is of a connection that was gone before there was a handshake to be made
        raise AttachFailed(_gist(exc)) from None
    made = cast("_Connection", connection)
    made.longest = min(LONGEST, max_frame)
    return Sideband(made)


class _Connect(connect):
    """Open a connection, and refuse to be sent elsewhere.

    The library follows redirects and takes only some headers off on the way: `api-key` would
    arrive at the other host (reliability.md 0.2).
    """

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class _Connection(ClientConnection):
    """Hand frames over as they are read, and give up a connection that is closing and does not close.

    By itself the library sees to the latter only where we close; after a close frame, a breach of the
    protocol or a frame too large it leaves the end to the peer, until the next ping.
    """

    take: Callable[[bytes], object] | None = None
    """Who gets the frames. While nobody does, or not in this turn, the library queues them, and what follows them."""
    fault: Exception | None = None
    """What `take` raised."""
    slice_end: float = 0.0
    """When frames that were read have to wait for their next turn."""
    silent: float = 0.0
    """Once it is over: how long a ping went unanswered and nothing else came, since the last sign of life."""

    longest: int = LONGEST
    """Bytes of a message that may be handed over without the library."""
    heard_at = 0.0
    """When anything last came, on the loop's clock."""
    _queued = 0
    _is_doomed = False
    _rest = b""
    """What was read of a frame's head that is not whole; the library has not got it yet."""
    _answer = b""
    """The last bytes of upstream's answer to the handshake, as far as it has come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._place = Place()

    async def next_frame(self) -> bytes:
        """Wait for the next frame that was queued."""
        frame = await self.recv(False)
        self._queued -= 1
        return frame

    def process_event(self, event: Event) -> None:
        if not isinstance(event, Frame) or event.opcode not in _BEGINNINGS:
            super().process_event(event)
        elif self.take is None or self._queued or not event.fin or (_clock.mono() >= self.slice_end and not self.fault):
            # a message in pieces goes through the library, and what follows it waits for its turn
            self._queued += 1
            super().process_event(event)
        elif self.fault is None:
            try:
                self.take(bytes(event.data))
            except Exception as exc:  # noqa: BLE001 - it is raised where the frames are asked for
                self.fault = exc
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        if not self._queued:
            self.slice_end = _clock.mono() + SLICE
        if self._rest:
            data, self._rest = self._rest + data, b""
        state = self.protocol.state
        if state is State.OPEN:
            self._pass_on(data)
        elif state is State.CONNECTING:
            self._shake_hands(data)
        else:
            self._leave(data)

    def _shake_hands(self, data: bytes) -> None:
        """Let the library have upstream's answer to the handshake by itself, then what came with it."""
        seen = self._answer + data
        end = seen.find(_END_OF_ANSWER)
        end = len(data) if end < 0 else end + len(_END_OF_ANSWER) - len(self._answer)
        self._answer = seen[1 - len(_END_OF_ANSWER) :]
        self._leave(data[:end])
        if end == len(data):
            return
        if self.protocol.state is State.OPEN:
            self._pass_on(data[end:])
        else:
            self._leave(data[end:])

    def _pass_on(self, data: bytes) -> None:
        """Hand over frames as long as each is a message and nothing speaks against it; the library gets the rest.

        Its parser takes three times as long for a frame (docs/performance.md).
        """
        take, begin = self.take, 0
        if take is not None and not self._queued and self._place.is_between:
            begin = self._hand_over(data, take)
        if begin < len(data):
            end = self._place.pass_over(data, begin)
            self._rest = data[end:]
            if begin < end:
                self._leave(data[begin:end])

    def _hand_over(self, data: bytes, take: Callable[[bytes], object]) -> int:
        """Give whole messages to `take`; gives where the first byte stands that is none of theirs."""
        longest, size, at = self.longest, len(data), 0
        try:
            while at + 2 <= size:
                first, length, begin = data[at], data[at + 1], at + 2
                if length == 126:
                    length, begin = int.from_bytes(data[begin : begin + 2]), begin + 2
                elif length > 126:
                    break
                end = begin + length
                if end > size or length > longest:
                    break
                if first in MESSAGES:
                    take(data[begin:end])
                    at = end
                    if at < size and _clock.mono() >= self.slice_end:
                        break
                elif first == EMPTY_PONG and not length:
                    # the answer to `prove`: that it came is all that it says
                    at = end
                else:
                    break
        except Exception as exc:  # noqa: BLE001 - it is raised where the frames are asked for
            self.fault = exc
            self.transport.abort()
        return at

    def _leave(self, data: bytes) -> None:
        super().data_received(data)
        if self.close_deadline is not None and not self._is_doomed:
            self._is_doomed = True
            self.loop.call_at(self.close_deadline, self.transport.abort)

    async def keepalive(self) -> None:
        """Ping now and then, and give the connection up when nothing at all has come back for long enough.

        To the library only the answer counts, and that may stand behind a queue of frames which takes longer.
        """
        if self.ping_interval is None or self.ping_timeout is None:
            return
        while True:
            await asyncio.sleep(self.ping_interval)
            pong = cast("asyncio.Future[float]", await self.ping())
            pinged = self.loop.time()
            while not pong.done():
                left = max(pinged, self.heard_at) + self.ping_timeout - self.loop.time()
                if left <= 0:
                    # this waits for the end of the connection, which ends this task
                    async with self.send_context():
                        self.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                await asyncio.wait([pong], timeout=left)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.pending_pings:
            self.silent = self.loop.time() - self.heard_at
        super().connection_lost(exc)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Share one context: each holds the whole list of authorities, too much for every call to have its own."""
    return ssl.create_default_context()


def _detached(exc: ConnectionClosed, connection: _Connection) -> Detached:
    ours = exc.sent is not None and not exc.rcvd_then_sent
    close = exc.sent if ours else exc.rcvd
    if close is None:
        return Detached(None, silent=connection.silent)
    oversize = ours and close.code == _TOO_BIG
    size = None
    if oversize and isinstance(cause := connection.protocol.parser_exc, PayloadTooBig) and cause.size is not None:
        size = cause.size + (cause.current_size or 0)
    silent = 0.0 if exc.rcvd is not None else connection.silent
    return Detached(close.code, close.reason, by_us=ours, oversize=oversize, size=size, silent=silent)


def _gist(exc: BaseException) -> str:
    """Name a failure without repeating what was sent or received."""
    told = exc.strerror if isinstance(exc, OSError) and exc.strerror else ""
    return f"{type(exc).__name__}: {told}" if told else type(exc).__name__
