"""Play upstream for a measurement of reactions: load on some calls, and further calls that the prober takes over.

    python -m benchmarks.probing LOAD_CALLS PROBED_CALLS EVENTS_PER_CALL

Orders are those of `benchmarks/sender.py`, and besides:

`hand PATH`: the sockets of the probed calls go to who listens at that Unix socket, so that a probe is timed
in a process that does nothing else.
`load RATE`: send to the other calls, frame by frame, until `rest`. A call that has said everything says it
again, so that the load outlasts the probes of any machine.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
import time
from typing import Any

import uvloop

from benchmarks.sender import NAP, Sideband, Upstream, call_id, listen


class ProbedUpstream(Upstream):
    """Have calls for the load, and calls for probes."""

    def __init__(self, calls: int, probed: int, events: int) -> None:
        super().__init__(calls, events)
        self._probed = {call_id(number): Sideband(number, 0) for number in range(calls, calls + probed)}
        self.sidebands |= self._probed
        self._next: asyncio.TimerHandle | None = None

    def hand(self, path: str) -> dict[str, Any]:
        """Give the sockets of the probed calls away; from then on this process does not look at them."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(path)
            for name, sideband in self._probed.items():
                del self.sidebands[name]
                if sideband.transport is None:
                    raise RuntimeError(f"{name} was left")
                sideband.transport.pause_reading()
                descriptor = os.dup(sideband.transport.get_extra_info("socket").fileno())
                # one at a time, or names and descriptors could come apart
                socket.send_fds(channel, [name.encode()], [descriptor])
                os.close(descriptor)
                channel.recv(1)
        return {"handed": len(self._probed)}

    def load(self, rate: int) -> dict[str, Any]:
        """Begin to send at this rate."""
        turns = itertools.cycle(self.sidebands.values())
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        sent = 0

        def tick() -> None:
            nonlocal sent
            # whoever fails here leaves nothing to end
            self._next = None
            due = int((time.perf_counter() - began) * rate)
            while sent < due:
                sideband = next(turns)
                if sideband.is_over:
                    sideband.frames *= 2
                    sideband.sizes *= 2
                sideband.put()
                sent += 1
            self._next = loop.call_later(NAP, tick)

        tick()
        return {"loading": True}

    def rest(self) -> dict[str, Any]:
        """End the load; one that ended by itself fails here."""
        if self._next is None:
            raise RuntimeError("the load was over before it was ended")
        self._next.cancel()
        self._next = None
        return {"loading": False}

    async def obey(self, order: list[str]) -> dict[str, Any]:
        match order:
            case ["hand", path]:
                return self.hand(path)
            case ["load", rate]:
                return self.load(int(rate))
            case ["rest"]:
                return self.rest()
            case _:
                return await super().obey(order)


if __name__ == "__main__":
    load, probed, events = map(int, sys.argv[1:4])
    uvloop.run(listen(ProbedUpstream(load, probed, events), None))
