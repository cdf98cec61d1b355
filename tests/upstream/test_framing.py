"""Where frames begin, and that those which are handed over without the library are as if it had read them."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from rtobserver.upstream import attach as module
from rtobserver.upstream.attach import Detached, Sideband
from rtobserver.upstream.framing import Place
from tests.upstream.test_attach import frame
from tests.upstream.test_delivery import pieces
from tests.upstream.test_delivery_in_turns import Wire, connected, divided, opcodes

SIZES = st.sampled_from([0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000])
CUTS = st.lists(st.integers(1, 70_000) | st.integers(1, 12), max_size=30)


class Stream(NamedTuple):
    """Be what upstream sends, where its frames begin, and the messages in it."""

    data: bytes
    begins: set[int]
    messages: list[bytes]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    data, begins, messages = b"", set[int](), list[bytes]()
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["text", "text", "binary", "pieces", "ping", "pong"]))
        payload = bytes([0x30 + number]) * draw(SIZES)
        begins.add(len(data))
        if kind == "pieces":
            data += pieces(payload, b"-", payload)
            messages.append(payload + b"-" + payload)
        elif kind in ("ping", "pong"):
            data += frame(payload[:125], opcode=9 if kind == "ping" else 10)
        else:
            data += frame(payload, opcode=1 if kind == "text" else 2)
            messages.append(payload)
    return Stream(data, begins | {len(data)}, messages)


@settings(max_examples=200, deadline=None)
@given(stream=streams(), cuts=CUTS)
def test_a_place_is_between_frames_exactly_where_one_begins_and_no_message_is_in_pieces(
    stream: Stream, cuts: list[int]
) -> None:
    place, rest, passed = Place(), b"", 0
    for read in divided(stream.data, cuts):
        data = rest + read
        end = place.pass_over(data, 0)
        rest, passed = data[end:], passed + end
        assert place.is_between == (passed in stream.begins)
        # of a frame nothing but the beginning of its head is held back
        assert len(rest) < 10
    assert (rest, passed) == (b"", len(stream.data))


@settings(max_examples=100, deadline=None)
@given(stream=streams(), cuts=CUTS)
def test_messages_of_any_length_are_delivered_whole_whatever_way_they_are_cut(stream: Stream, cuts: list[int]) -> None:
    async def play() -> list[bytes]:
        connection, sideband = connected(Wire())
        got: list[bytes] = []
        delivering = await begun(sideband, got)
        for read in divided(stream.data, cuts):
            connection.data_received(read)
            await asyncio.sleep(0)
        await until(lambda: len(got) == len(stream.messages))
        connection.connection_lost(None)
        with pytest.raises(Detached):
            await delivering
        return got

    assert asyncio.run(play()) == stream.messages


def test_a_message_in_pieces_is_not_over_between_them() -> None:
    place = Place()

    assert place.pass_over(frame(b"begun", fin=False), 0) == 7
    assert not place.is_between
    place.pass_over(frame(b"ping", opcode=9), 0)
    assert not place.is_between
    place.pass_over(frame(b"ended", opcode=0), 0)
    assert place.is_between


async def test_what_follows_the_answer_to_the_handshake_is_found_wherever_the_two_are_cut() -> None:
    for cut in range(1, len(answered("")) + 20):
        protocol = ClientProtocol(parse_uri("ws://upstream.invalid/"))
        connection = module._Connection(protocol, max_queue=module.QUEUE, ping_interval=None, close_timeout=1)
        connection.connection_made(Wire())
        request = protocol.connect()
        protocol.send_request(request)
        data = answered(request.headers["Sec-WebSocket-Key"]) + frame(b"first\r\n\r\n") + pieces(b"sec", b"ond")
        for read in divided(data, [cut]):
            connection.data_received(read)
        assert protocol.state is State.OPEN
        sideband, got = Sideband(connection), list[bytes]()
        delivering = await begun(sideband, got)
        await until(lambda got=got: len(got) == 2)  # type: ignore[misc]
        connection.data_received(frame(b"third"))
        await until(lambda got=got: len(got) == 3)  # type: ignore[misc]
        connection.connection_lost(None)
        with pytest.raises(Detached):
            await delivering
        assert got == [b"first\r\n\r\n", b"second", b"third"]
        # whoever takes the lane past the library has found where frames begin
        assert connection._place.is_between
        assert not connection._rest


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(b"x" * 4097), 1009),
        (frame(b"x", rsv=0x40), 1002),
        (b"\x81\x81\0\0\0\0x", 1002),
        (frame(b"begun", fin=False) + frame(b"another"), 1002),
        (frame(b"x", opcode=0), 1002),
    ],
    ids=["too long", "compressed", "masked", "within another", "stray continuation"],
)
async def test_what_must_not_come_ends_a_delivery_after_what_came_before(wrong: bytes, code: int) -> None:
    wire = Wire()
    protocol_limit = 4096
    connection, sideband = connected(wire)
    connection.protocol.max_message_size = connection.longest = protocol_limit
    got: list[bytes] = []
    delivering = await begun(sideband, got)

    connection.data_received(frame(b"good") + wrong + frame(b"after"))
    connection.connection_lost(None)

    with pytest.raises(Detached) as over:
        await delivering
    assert got[0] == b"good"
    assert b"after" not in got
    assert (over.value.code, over.value.by_us) == (code, True)


async def test_a_sign_of_life_between_messages_is_none_of_them_and_a_ping_is_answered() -> None:
    wire = Wire()
    connection, sideband = connected(wire)
    got: list[bytes] = []
    delivering = await begun(sideband, got)

    sideband.prove()
    connection.data_received(frame(b"1") + frame(b"", opcode=10) + frame(b"2"))
    pong = await connection.ping()
    connection.data_received(frame(b"3") + frame(b"", opcode=9) + frame(sent_ping(wire), opcode=10) + frame(b"4"))

    assert got == [b"1", b"2", b"3", b"4"]
    assert pong.done()
    assert opcodes(bytes(wire.written)).count(0xA) == 1
    connection.connection_lost(None)
    with pytest.raises(Detached):
        await delivering


def sent_ping(wire: Wire) -> bytes:
    """Give the payload of the ping that was written last before anything else: it has four bytes, masked."""
    last = bytes(wire.written)[-10:]
    assert last[0] == 0x89
    return bytes(byte ^ mask for byte, mask in zip(last[6:], last[2:6], strict=True))


def answered(key: str) -> bytes:
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


async def begun(sideband: Sideband, got: list[bytes]) -> asyncio.Task[Any]:
    task = asyncio.create_task(sideband.deliver(got.append))  # noqa: TID251 - who asked awaits it
    await asyncio.sleep(0)
    return task


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise TimeoutError
