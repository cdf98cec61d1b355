"""React with nothing but what cannot be left out, and record nothing: the floor of a reaction.

    python -m benchmarks.reacting URL CALLS DATABASE

The daemon's websocket client with the daemon's settings, the fields of a delta decoded, a search in its
item's text, a `response.cancel` from the same loop. The database is not touched.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import defaultdict

import msgspec
import uvloop
from websockets.asyncio.client import connect

from benchmarks.floor import CONNECTING
from benchmarks.prober import FORBIDDEN
from benchmarks.sender import call_id
from rtobserver.config.sections import Observer
from rtobserver.terminal.running import GC_THRESHOLD
from rtobserver.upstream import attach


class Head(msgspec.Struct, gc=False):
    type: str
    event_id: str | None = None
    item_id: str | None = None
    response_id: str | None = None
    delta: str | None = None


class Reacting:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connecting = asyncio.Semaphore(CONNECTING)

    async def run(self, calls: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(calls):
                tasks.create_task(self._react(call_id(number)), name=call_id(number))
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)

    async def _react(self, name: str) -> None:
        decode = msgspec.json.Decoder(Head).decode
        texts: defaultdict[str | None, str] = defaultdict(str)
        async with self._connecting:
            socket = await connect(
                f"{self._url}/realtime?call_id={name}",
                compression=None,
                proxy=None,
                ping_interval=attach.PING_INTERVAL,
                ping_timeout=attach.PING_TIMEOUT,
                close_timeout=attach.CLOSE_TIMEOUT,
                max_size=Observer().max_frame,
                max_queue=attach.QUEUE,
                write_limit=attach.UNSENT_BYTES,
            )
        receive = socket.recv
        while True:
            head = decode(await receive(False))
            if head.type == "response.output_audio_transcript.delta":
                text = texts[head.item_id] = texts[head.item_id] + (head.delta or "")
                if FORBIDDEN in text:
                    texts.clear()
                    await socket.send(f'{{"type":"response.cancel","response_id":"{head.response_id}"}}')
            elif head.type == "response.done":
                texts.clear()


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    uvloop.run(Reacting(sys.argv[1]).run(int(sys.argv[2])))
