"""Provoke reactions and time them: a forbidden word goes out, a `response.cancel` comes back.

    python -m benchmarks.prober PATH

It gets the sockets of calls at a Unix socket (`benchmarks/probing.py`) and then takes orders on stdin:
`probe COUNT` gives the seconds that each took, `sent` what it sent on each call. The end is the kernel's time of
the command's arrival, which over loopback is that of its sending: what this process then waits for a processor
is no part of the reaction.
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.sender import spell_frame

PATIENCE = 10.0
"""Seconds that a reaction may take."""
PAUSE = (0.003, 0.009)
"""Seconds between two probes."""
FORBIDDEN = "forbidden word"
"""What the policy and the floor look for."""

SO_TIMESTAMPNS = 35
"""Asks the kernel for the time at which each segment came (socket(7)); Python has no name for it."""
_TIMESPEC = struct.Struct("@qq")

_DELTA = "response.output_audio_transcript.delta"


class Probed:
    """Be one call that is provoked."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self.name = name
        self.connection = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sent = [0, 0]
        self._buffer = b""
        self._number = self._arrived = 0

    def probe(self) -> float:
        """Have the model begin to speak, let it say the word, and give the seconds until it was cancelled."""
        self._number += 1
        response, item = f"resp_{self.name}_{self._number}", f"item_{self.name}_{self._number}"
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        message = {"id": item, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        self._tell(type="response.created", response=self._response(response, "in_progress"))
        self._tell(type="response.output_item.added", response_id=response, output_index=0, item=message)
        self._tell(type="conversation.item.added", previous_item_id=None, item=message)
        self._tell(type=_DELTA, **place, delta="well, please forget the forbidden")
        time.sleep(random.uniform(*PAUSE))
        frame = self._spell(type=_DELTA, **place, delta=" word now")
        began = time.time_ns()
        self.connection.sendall(frame)
        while True:
            command = self._receive()
            seconds = (self._arrived - began) / 1e9
            if command["type"] == "response.cancel":
                break
        if command.get("response_id") != response:
            raise RuntimeError(f"{command} cancels another response than {response}")
        self._tell(type="response.done", response=self._response(response, "cancelled"))
        return seconds

    def answer_pings(self) -> None:
        """Read what is there; only pings are."""
        self._buffer += self.connection.recv(65536)
        for _ in self._frames():
            pass

    def _response(self, id_: str, status: str) -> dict[str, Any]:
        return {"id": id_, "status": status, "conversation_id": "conv", "output": [], "usage": None, "metadata": None}

    def _tell(self, **event: Any) -> None:
        self.connection.sendall(self._spell(**event))

    def _spell(self, **event: Any) -> bytes:
        text = json.dumps(event | {"event_id": f"event_{self.sent[0]}"}).encode()
        self.sent[0] += 1
        self.sent[1] += len(text)
        return spell_frame(text)

    def _receive(self) -> dict[str, Any]:
        while True:
            for text in self._frames():
                command: dict[str, Any] = json.loads(text)
                return command
            data, told, _, _ = self.connection.recvmsg(65536, socket.CMSG_SPACE(_TIMESPEC.size))
            if not data:
                raise RuntimeError(f"{self.name} was left")
            self._buffer += data
            [(_, _, stamp)] = told
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            self._arrived = seconds * 1_000_000_000 + nanoseconds

    def _frames(self) -> Iterator[bytes]:
        """Unmask what came whole; pings are answered."""
        while len(self._buffer) >= 2:
            size, start = self._buffer[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + 4 + size:
                return
            opcode, mask = self._buffer[0] & 15, self._buffer[start : start + 4]
            body = self._buffer[start + 4 : start + 4 + size]
            self._buffer = self._buffer[start + 4 + size :]
            text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
            if opcode == 9:
                self.connection.sendall(spell_frame(text, 0x8A))
            elif opcode in (1, 2):
                yield text


def take_over(path: str) -> list[Probed]:
    """Wait for the sockets of the calls."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen(1)
        print(json.dumps({"path": path}), flush=True)
        channel, _ = server.accept()
    probed: list[Probed] = []
    with channel:
        while True:
            name, descriptors, _, _ = socket.recv_fds(channel, 1024, 1)
            if not name:
                return probed
            probed.append(Probed(name.decode(), socket.socket(fileno=descriptors[0])))
            channel.sendall(b".")


def obey(order: list[str], probed: list[Probed]) -> Any:
    match order:
        case ["probe", count]:
            return [probed[number % len(probed)].probe() for number in range(int(count))]
        case ["sent"]:
            return {each.name: each.sent for each in probed}
        case _:
            raise ValueError(order)


def main(path: str) -> None:
    probed = take_over(path)
    calls = {each.connection.fileno(): each for each in probed}
    while True:
        ready, _, _ = select.select([sys.stdin.fileno(), *calls], [], [])
        for number in ready:
            if number in calls:
                calls[number].answer_pings()
            elif line := sys.stdin.readline():
                print(json.dumps(obey(line.split(), probed)), flush=True)
            else:
                return


if __name__ == "__main__":
    main(sys.argv[1])
