import asyncio
import base64
import hashlib
import logging
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import CredentialError, UpstreamError
from rtobserver.upstream import attach as module
from rtobserver.upstream.attach import Attach, AttachFailed, AttachRefused, Detached, Sideband, attach
from rtobserver.upstream.credentials import ApiKey
from rtobserver.upstream.endpoints import Endpoints
from tests.support.watch import Watch
from tests.upstream.raw_peer import Peer, answer, cut, peer, raw, silence

KEY = "canary-key-7f3a"
HEADERS = {"api-key": KEY}
REDIRECTS = (300, 301, 302, 303, 307, 308)

Behaviour = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture
async def upstream() -> AsyncIterator[Peer]:
    async with peer() as made:
        yield made


def ws(peer_: Peer) -> str:
    return peer_.url.replace("http", "ws", 1) + "/realtime?call_id=rtc_1"


def address(server: Server) -> str:
    return f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/realtime?call_id=rtc_1"


async def attached(url: str, *, max_frame: int = 1 << 20) -> Sideband:
    return await attach(url, HEADERS, max_frame=max_frame, open_timeout=5, close_timeout=0.05)


async def detached(sideband: Sideband) -> Detached:
    try:
        while True:
            await sideband.receive()
    except Detached as over:
        return over


def upgrade(request: bytes) -> bytes:
    """Answer a handshake by hand, so that what follows can break the protocol."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert found
    accept = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, rsv: int = 0) -> bytes:
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + bytes([126]) + struct.pack("!H", len(payload)) + payload
    return head + bytes([127]) + struct.pack("!Q", len(payload)) + payload


def upgraded(upstream: Peer, then: bytes = b"") -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(upgrade(upstream.asked[-1].raw) + then)
        await writer.drain()

    return step


# --- the handshake


async def test_a_handshake_carries_the_credential_and_nothing_that_asks_for_more(upstream: Peer) -> None:
    upstream.will(upgraded(upstream))

    sideband = await attached(ws(upstream))

    [asked] = upstream.asked
    assert asked.line == "GET /openai/v1/realtime?call_id=rtc_1 HTTP/1.1"
    assert asked.headers["api-key"] == KEY
    assert "sec-websocket-extensions" not in asked.headers
    assert "sec-websocket-protocol" not in asked.headers
    assert "origin" not in asked.headers
    await sideband.close()


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 410, 429, 500, 502, 503, 504])
async def test_any_answer_but_101_is_a_refusal_with_its_status(upstream: Peer, status: int) -> None:
    upstream.will(answer(status, b'{"error":{"code":"call_id_not_found"}}'))

    with pytest.raises(AttachRefused) as caught:
        await attached(ws(upstream))

    assert (caught.value.status, caught.value.retry_after) == (status, None)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("999999", 60.0), ("soon", None)])
async def test_a_refusal_carries_upstreams_own_wait(upstream: Peer, header: str, seconds: float | None) -> None:
    upstream.will(answer(429, b"", [("Retry-After", header)]))

    with pytest.raises(AttachRefused) as caught:
        await attached(ws(upstream))

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("same_origin", [False, True])
async def test_no_redirect_is_followed_so_that_no_key_goes_elsewhere(
    upstream: Peer, status: int, same_origin: bool
) -> None:
    async with peer() as elsewhere:
        target = "/other" if same_origin else ws(elsewhere)
        upstream.will(answer(status, b"", [("Location", target)]))

        with pytest.raises(AttachRefused) as caught:
            await attached(ws(upstream))

        assert elsewhere.opened == 0
    assert caught.value.status == status
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    "step",
    [
        cut(),
        cut(b"SSH-2.0-OpenSSH\r\n"),
        cut(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        cut(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm9wZQ==\r\n\r\n"),
        cut(b"HTTP/1.1 " + b"x" * 100_000),
        cut(b"HTTP/1.1 101 X\r\n" + b"A: b\r\n" * 1000),
    ],
    ids=["closed", "not http", "no upgrade", "wrong accept", "long line", "many headers"],
)
async def test_an_unusable_answer_is_a_failure(upstream: Peer, step: Callable[..., Awaitable[None]]) -> None:
    upstream.will(step)

    with pytest.raises(AttachFailed):
        await attached(ws(upstream))


async def test_compression_that_was_not_asked_for_is_a_failure(upstream: Peer) -> None:
    async def step(writer: asyncio.StreamWriter) -> None:
        head = upgrade(upstream.asked[-1].raw)[:-2]
        writer.write(head + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")

    upstream.will(step)

    with pytest.raises(AttachFailed):
        await attached(ws(upstream))


async def test_a_port_where_nobody_listens_is_a_failure() -> None:
    async with peer() as gone:
        url = ws(gone)

    with pytest.raises(AttachFailed, match="ConnectionRefused"):
        await attached(url)


async def test_a_handshake_that_is_never_answered_is_a_failure(upstream: Peer) -> None:
    upstream.will(silence)

    with pytest.raises(AttachFailed, match="no answer within"):
        await attach(ws(upstream), HEADERS, max_frame=100, open_timeout=0.05)


async def test_proxies_of_the_environment_are_not_used(upstream: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        upstream.will(answer(404))

        with pytest.raises(AttachRefused):
            await attached(ws(upstream))

        assert proxy.opened == 0


async def test_a_configured_proxy_is_used_and_never_shown_the_key(upstream: Peer) -> None:
    async with peer() as proxy:
        proxy.will(answer(502))

        with pytest.raises(AttachFailed):
            await attach(ws(upstream), HEADERS, max_frame=100, proxy=f"http://127.0.0.1:{proxy.port}")

        assert proxy.asked[0].line.startswith("CONNECT ")
        assert KEY.encode() not in proxy.asked[0].raw
    assert upstream.opened == 0


async def test_no_header_is_logged_even_at_debug(upstream: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.will(upgraded(upstream, frame(b"canary-frame")))

    sideband = await attached(ws(upstream))
    await sideband.receive()
    await sideband.close()

    assert "canary" not in caplog.text


# --- frames


async def test_frames_come_as_they_were_sent_whatever_they_hold(upstream: Peer) -> None:
    payloads = [b'{"type":"a"}', b"", b"\xff\xfe\x00", b"no json", "Grüße".encode(), b"x" * 70_000]
    upstream.will(
        upgraded(upstream, b"".join(frame(p) for p in payloads) + b"".join(frame(p, opcode=2) for p in payloads))
    )

    sideband = await attached(ws(upstream))

    assert [await sideband.receive() for _ in range(12)] == payloads * 2
    await sideband.close()


async def test_fragments_are_one_frame(upstream: Peer) -> None:
    parts = (
        frame(b"ab", fin=False) + frame(b"c", opcode=0, fin=False) + frame(b"ping", opcode=9) + frame(b"d", opcode=0)
    )
    upstream.will(upgraded(upstream, parts))

    sideband = await attached(ws(upstream))

    assert await sideband.receive() == b"abcd"
    await sideband.close()


async def test_a_burst_loses_nothing_though_it_is_received_late() -> None:
    async def burst(socket: ServerConnection) -> None:
        for number in range(5000):
            await socket.send(str(number))
        await socket.close()

    async with serve(burst, "127.0.0.1", 0, compression=None) as server:
        sideband = await attached(address(server))
        got = [await sideband.receive() for _ in range(5000)]
        assert got == [str(number).encode() for number in range(5000)]
        assert (await detached(sideband)).code == 1000


async def test_receiving_can_be_cancelled_without_losing_a_frame() -> None:
    go = asyncio.Event()

    async def later(socket: ServerConnection) -> None:
        await go.wait()
        await socket.send("one")
        await socket.wait_closed()

    async with serve(later, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sideband.receive()
        go.set()
        assert await sideband.receive() == b"one"
        await sideband.close()


async def test_a_wait_that_ends_just_when_a_frame_comes_takes_none_away() -> None:
    count = 3_000
    frames = [str(number).encode() * (1 + number % 50) for number in range(count)]

    async def talk(socket: ServerConnection) -> None:
        for number, frame in enumerate(frames):
            # one in ten comes in pieces
            text = frame.decode()
            await socket.send([text[:1], text[1:]] if number % 10 == 0 else text)
            for _ in range(number % 7):
                await asyncio.sleep(0)
        await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        got: list[bytes] = []
        outcomes: Counter[str] = Counter()
        watch = Watch()
        while len(got) < count and watch.seconds() < 20.0:
            before = len(got)
            try:
                async with asyncio.timeout(random.random() * 0.0005):
                    if outcomes.total() % 2:
                        got.append(await sideband.receive())
                    else:
                        await sideband.deliver(got.append)
            except TimeoutError:
                outcomes["late" if len(got) > before else "cancelled"] += 1
            else:
                outcomes["received"] += 1
        assert got == frames
        assert outcomes["cancelled"]
        assert outcomes["received"]
        await sideband.close()


async def test_what_is_sent_goes_out_as_text() -> None:
    got: list[str | bytes] = []

    async def listen(socket: ServerConnection) -> None:
        got.append(await socket.recv())

    async with serve(listen, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        await sideband.send('{"type":"response.cancel"}')
        await detached(sideband)

    assert got == ['{"type":"response.cancel"}']


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3_500_000, 15 << 20])
async def test_frames_up_to_the_bound_are_taken(size: int) -> None:
    async def big(socket: ServerConnection) -> None:
        await socket.send("x" * size)
        await socket.wait_closed()

    async with serve(big, "127.0.0.1", 0, compression=None) as server:
        sideband = await attached(address(server), max_frame=15 << 20)
        assert len(await sideband.receive()) == size
        await sideband.close()


# --- the end


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 1012, 1013, 4000])
async def test_upstreams_close_is_told_with_its_code_and_words(code: int) -> None:
    async def end(socket: ServerConnection) -> None:
        await socket.send("last")
        await socket.close(code, "Your session hit the maximum duration of 60 minutes.")

    async with serve(end, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        assert await sideband.receive() == b"last"
        over = await detached(sideband)

    assert (over.code, over.reason) == (code, "Your session hit the maximum duration of 60 minutes.")
    assert (over.by_us, over.oversize) == (False, False)


async def test_a_broken_connection_has_no_code(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"last")))
    sideband = await attached(ws(upstream))
    assert await sideband.receive() == b"last"

    upstream.writers[0].transport.abort()
    over = await detached(sideband)

    assert (over.code, over.by_us, over.silent) == (None, False, 0.0)


async def test_a_close_frame_without_a_code_is_1005(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"", opcode=8)))

    over = await detached(await attached(ws(upstream)))

    assert (over.code, over.by_us) == (1005, False)


async def test_a_frame_over_the_bound_ends_the_connection_and_its_size_is_told(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"first") + frame(b"x" * 5000)))

    sideband = await attached(ws(upstream), max_frame=4096)
    assert await sideband.receive() == b"first"
    over = await detached(sideband)

    assert (over.code, over.by_us, over.oversize, over.size) == (1009, True, True, 5000)


async def test_fragments_that_grow_over_the_bound_tell_what_is_known(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"x" * 3000, fin=False) + frame(b"x" * 3000, opcode=0)))

    over = await detached(await attached(ws(upstream), max_frame=4096))

    assert (over.code, over.by_us, over.oversize, over.size) == (1009, True, True, 6000)


async def test_endless_fragments_are_oversize_too(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"", fin=False) + frame(b"", opcode=0, fin=False) * 5000))

    over = await detached(await attached(ws(upstream), max_frame=4096))

    assert (over.code, over.by_us, over.oversize, over.size) == (1009, True, True, None)


@pytest.mark.parametrize(
    "wrong",
    [frame(b"x", rsv=0x40), frame(b"x", opcode=3), frame(b"x", opcode=0), frame(b"x", opcode=9, fin=False)],
    ids=["compressed", "unknown opcode", "stray continuation", "fragmented ping"],
)
async def test_a_breach_of_the_protocol_ends_the_connection_after_what_came_before(
    upstream: Peer, wrong: bytes
) -> None:
    upstream.will(upgraded(upstream, frame(b"good") + wrong))

    sideband = await attached(ws(upstream))
    assert await sideband.receive() == b"good"
    over = await detached(sideband)

    assert (over.code, over.by_us, over.oversize) == (1002, True, False)


async def test_a_close_is_told_within_about_a_second_though_the_peer_leaves_the_connection_open(
    upstream: Peer,
) -> None:
    upstream.will(upgraded(upstream, frame(struct.pack("!H", 1001) + b"bye", opcode=8)))

    watch = Watch()
    over = await detached(await attach(ws(upstream), HEADERS, max_frame=100))

    assert (over.code, over.reason, over.by_us) == (1001, "bye", False)
    assert watch.seconds() < 3


async def test_our_own_close_is_told_as_ours_and_may_be_repeated() -> None:
    async def stay(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with serve(stay, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        await sideband.close()
        await sideband.close()
        over = await detached(sideband)
        with pytest.raises(Detached):
            await sideband.send("late")

    assert (over.code, over.by_us) == (1000, True)


async def test_closing_waits_about_a_second_for_a_peer_that_says_nothing(upstream: Peer) -> None:
    upstream.will(upgraded(upstream))
    sideband = await attach(ws(upstream), HEADERS, max_frame=100)

    watch = Watch()
    await sideband.close()

    assert watch.seconds() < 3


async def test_a_peer_that_answers_no_ping_is_left(upstream: Peer) -> None:
    upstream.will(upgraded(upstream), *[silence] * 9)
    sideband = await attach(
        ws(upstream), HEADERS, max_frame=100, ping_interval=0.05, ping_timeout=0.05, close_timeout=0.05
    )

    over = await detached(sideband)

    assert (over.code, over.by_us, over.oversize) == (1011, True, False)
    # two of its own intervals ago it was heard of for the last time
    assert 0.09 < over.silent < 5


async def test_a_peer_whose_frames_keep_coming_is_kept_though_its_pong_waits_behind_them(upstream: Peer) -> None:
    async def talk(writer: asyncio.StreamWriter) -> None:
        await upgraded(upstream)(writer)
        for _ in range(50):
            writer.write(frame(b"tick"))
            await writer.drain()
            await asyncio.sleep(0.05)

    upstream.will(talk, *[silence] * 9)
    sideband = await attach(ws(upstream), HEADERS, max_frame=100, ping_interval=0.1, ping_timeout=1, close_timeout=0.05)

    # two and a half times as long as an answer may take
    for _ in range(50):
        assert await sideband.receive() == b"tick"
    over = await detached(sideband)

    assert (over.code, over.by_us) == (1011, True)


async def test_a_peer_that_stopped_reading_is_left_though_commands_wait_for_it() -> None:
    listener = socket.socket()
    # Small buffers, so that what is sent waits on our side and not in the kernel.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    loop = asyncio.get_running_loop()

    async def accept() -> socket.socket:
        accepted, _ = await loop.sock_accept(listener)
        request = b""
        while b"\r\n\r\n" not in request:
            request += await loop.sock_recv(accepted, 4096)
        await loop.sock_sendall(accepted, upgrade(request))
        return accepted

    async with asyncio.TaskGroup() as group:
        task = group.create_task(accept())
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        sideband = await attach(url, HEADERS, max_frame=100, ping_interval=0.2, ping_timeout=0.2, close_timeout=0.05)
    held = sideband._connection.transport.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(10):
        await sideband.send("x" * 60_000)
    over = await detached(sideband)

    assert (over.code, over.by_us) == (1011, True)
    task.result().close()
    listener.close()


async def test_a_peer_that_answers_pings_is_kept() -> None:
    async def quiet(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with serve(quiet, "127.0.0.1", 0, ping_interval=None) as server:
        sideband = await attach(address(server), HEADERS, max_frame=100, ping_interval=0.01, ping_timeout=5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sideband.receive()
        await sideband.close()


def test_a_half_open_connection_is_found_within_45_seconds() -> None:
    assert module.PING_INTERVAL + module.PING_TIMEOUT + module.CLOSE_TIMEOUT <= 45


# --- the connector


class Short:
    def __init__(self) -> None:
        self.refreshes = 0

    async def headers(self) -> dict[str, str]:
        if not self.refreshes:
            raise CredentialError("no token")
        return {"Authorization": f"Bearer token-{self.refreshes}"}

    async def refresh(self) -> None:
        self.refreshes += 1

    async def close(self) -> None:
        pass


async def test_the_connector_joins_by_id_with_the_credential(upstream: Peer) -> None:
    section = Upstream(provider="azure", base_url=upstream.url, auth="api-key")
    connector = Attach(Endpoints(upstream.url, "azure"), ApiKey("azure", Secret(KEY)), section, 1 << 20)
    upstream.will(upgraded(upstream, frame(b"hello")), answer(404))

    sideband = await connector.open("rtc_7")
    assert await sideband.receive() == b"hello"
    await sideband.close()
    with pytest.raises(AttachRefused):
        await connector.open("rtc_8")

    assert [asked.line.split()[1] for asked in upstream.asked] == [
        "/openai/v1/realtime?call_id=rtc_7",
        "/openai/v1/realtime?call_id=rtc_8",
    ]
    assert upstream.asked[0].headers["api-key"] == KEY


async def test_the_connector_does_not_try_again_and_takes_a_new_credential_when_told(upstream: Peer) -> None:
    section = Upstream(provider="openai", base_url=upstream.url, auth="api-key")
    connector = Attach(Endpoints(upstream.url, "openai"), Short(), section, 1 << 20)
    upstream.will(answer(401), answer(503))

    with pytest.raises(CredentialError):
        await connector.open("rtc_1")
    await connector.refresh_credential()
    with pytest.raises(AttachRefused):
        await connector.open("rtc_1")
    await connector.refresh_credential()
    with pytest.raises(AttachRefused):
        await connector.open("rtc_1")

    assert [asked.headers["authorization"] for asked in upstream.asked] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize(
    "step",
    [answer(401, KEY.encode()), answer(302, b"", [("Location", f"ws://x/{KEY}")]), cut(KEY.encode()), raw(b"")],
    ids=["401", "302", "cut", "silent"],
)
async def test_no_error_repeats_the_key(upstream: Peer, step: Callable[..., Awaitable[None]]) -> None:
    upstream.will(step)

    with pytest.raises(UpstreamError) as caught:
        await attach(ws(upstream), HEADERS, max_frame=100, open_timeout=0.2)

    assert "canary" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_the_errors_make_sentences() -> None:
    assert str(AttachRefused(404)) == "upstream answered the attach with 404"
    assert str(AttachFailed("no answer within 10 s")) == "no answer within 10 s"
    assert str(Detached(None)) == "the connection broke"
    assert str(Detached(1001, "bye")) == "upstream closed with 1001"
    assert str(Detached(1009, by_us=True)) == "we closed with 1009"
