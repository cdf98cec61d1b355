"""Frames that are delivered as they are read: all of them, once, in order, whatever way they came."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection, serve

from rtobserver.upstream.attach import Detached
from tests.upstream.raw_peer import Peer, peer
from tests.upstream.test_attach import address, attached, frame, upgraded, ws


@pytest.fixture
async def upstream() -> AsyncIterator[Peer]:
    async with peer() as made:
        yield made


def pieces(*parts: bytes) -> bytes:
    first, *middle, last = parts
    return b"".join(
        [frame(first, fin=False), *(frame(each, opcode=0, fin=False) for each in middle), frame(last, opcode=0)]
    )


async def test_frames_come_in_order_up_to_the_close() -> None:
    async def end(socket: ServerConnection) -> None:
        for number in range(1000):
            await socket.send(str(number))
        await socket.close(4000, "done")

    got: list[bytes] = []
    async with serve(end, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        with pytest.raises(Detached) as over:
            await sideband.deliver(got.append)

    assert got == [str(number).encode() for number in range(1000)]
    assert (over.value.code, over.value.reason) == (4000, "done")


async def test_what_came_before_and_what_comes_in_pieces_keeps_its_place(upstream: Peer) -> None:
    early = frame(b"0") + pieces(b"1", b"1", b"1") + frame(b"2", opcode=2)
    upstream.will(upgraded(upstream, early + frame(b"3", fin=False)))
    sideband = await attached(ws(upstream))
    assert await sideband.receive() == b"0"
    got: list[bytes] = []
    arrived = asyncio.Event()

    def take(received: bytes) -> None:
        got.append(received)
        if received in (b"6", b"8"):
            arrived.set()

    delivering = asyncio.create_task(sideband.deliver(take))  # noqa: TID251 - it is awaited below
    late = frame(b"", opcode=9) + frame(b"3", opcode=0) + frame(b"4") + pieces(b"5", b"5") + frame(b"") + frame(b"6")
    upstream.writers[0].write(late)
    async with asyncio.timeout(5):
        await arrived.wait()
        arrived.clear()
        upstream.writers[0].write(frame(b"7") + frame(b"8"))
        await arrived.wait()

    assert got == [b"111", b"2", b"33", b"4", b"55", b"", b"6", b"7", b"8"]
    await sideband.close()
    with pytest.raises(Detached):
        await delivering


async def test_what_goes_wrong_with_a_frame_ends_the_connection_and_is_told(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"good")))
    sideband = await attached(ws(upstream))
    got: list[bytes] = []

    def take(received: bytes) -> None:
        got.append(received)
        if received == b"bad":
            raise LookupError("bad")
        if received == b"good":
            upstream.writers[0].write(frame(b"bad") + frame(b"after"))

    with pytest.raises(LookupError, match="bad"):
        await sideband.deliver(take)
    assert got == [b"good", b"bad"]
    with pytest.raises(Detached):
        await sideband.send("too late")


async def test_a_delivery_that_is_given_up_leaves_the_frames_to_be_received(upstream: Peer) -> None:
    upstream.will(upgraded(upstream, frame(b"first")))
    sideband = await attached(ws(upstream))
    got: list[bytes] = []

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sideband.deliver(got.append)
    upstream.writers[0].write(frame(b"second"))

    assert (got, await sideband.receive()) == ([b"first"], b"second")
    await sideband.close()


async def test_what_is_sent_at_once_arrives_in_order_with_what_waits_for_nothing_either() -> None:
    got: list[object] = []
    whole = asyncio.Event()

    async def gather(socket: ServerConnection) -> None:
        async for message in socket:
            got.append(message)
            if len(got) == 4:
                whole.set()

    async with serve(gather, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        assert sideband.send_now("1")
        await sideband.send("2")
        assert sideband.send_now("3")
        assert sideband.send_now("\N{SNOWMAN}")
        async with asyncio.timeout(5):
            await whole.wait()
        await sideband.close()
    assert got == ["1", "2", "3", "\N{SNOWMAN}"]


async def test_nothing_is_sent_at_once_on_a_socket_that_is_closed() -> None:
    async def end(socket: ServerConnection) -> None:
        await socket.close()

    async with serve(end, "127.0.0.1", 0) as server:
        sideband = await attached(address(server))
        with pytest.raises(Detached):
            await sideband.receive()
        assert not sideband.send_now("1")
        with pytest.raises(Detached):
            await sideband.send("1")


async def test_nothing_is_sent_at_once_where_too_much_waits_to_be_sent(upstream: Peer) -> None:
    upstream.will(upgraded(upstream))
    sideband = await attached(ws(upstream))
    large = "x" * (512 * 1024)
    # nobody reads at the other end, so that the system's buffers fill up, and then ours
    sent = 0
    while sideband.send_now(large):
        sent += 1
        assert sent < 200
    assert not sideband.send_now("1")
    await sideband.close()
