"""Play upstream for a measurement of reactions: load on some calls, and further calls that the prober takes over.

    python -m benchmarks.probing LOAD_CALLS PROBED_CALLS EVENTS_PER_CALL

Orders are those of `benchmarks/sender.py`, and `hand PATH`: the sockets of the probed calls go to who
listens at that Unix socket, so that a probe is timed in a process that does nothing else.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvloop

from benchmarks.sender import Sideband, Upstream, call_id, listen


class ProbedUpstream(Upstream):
    """Have calls for the load, and calls for probes."""

    def __init__(self, calls: int, probed: int, events: int) -> None:
        super().__init__(calls, events)
        self._probed = {call_id(number): Sideband(number, 0) for number in range(calls, calls + probed)}
        self.sidebands |= self._probed

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

    async def obey(self, order: list[str]) -> dict[str, Any]:
        match order:
            case ["hand", path]:
                return self.hand(path)
            case _:
                return await super().obey(order)


if __name__ == "__main__":
    load, probed, events = map(int, sys.argv[1:4])
    uvloop.run(listen(ProbedUpstream(load, probed, events), None))
