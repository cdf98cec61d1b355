"""Record with nothing but what cannot be left out: the floor that the daemon is measured against.

    python -m benchmarks.floor URL CALLS DATABASE

The daemon's websocket client with the daemon's settings, two fields decoded, and every 50 ms one
`executemany` in a thread, into the daemon's own table on the daemon's own connection.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.client import connect

from benchmarks.sender import call_id
from rtobserver.config.sections import Observer
from rtobserver.realtime.entries import EVENT, JSON
from rtobserver.store import sqlite, tables
from rtobserver.store.identity import call_key, day_of
from rtobserver.store.writer import FLUSH_INTERVAL
from rtobserver.terminal.running import GC_THRESHOLD
from rtobserver.upstream import attach

CONNECTING = 50

_SQL = f"INSERT INTO entry VALUES ({', '.join('?' * len(tables.entry.columns))})"


class Head(msgspec.Struct, gc=False):
    type: str
    event_id: str | None = None


class Floor:
    def __init__(self, url: str, path: Path) -> None:
        self._url = url
        self._connection = sqlite.open_writer(path)
        self._batches: queue.SimpleQueue[list[tuple[Any, ...]]] = queue.SimpleQueue()
        self._rows: list[tuple[Any, ...]] = []
        self._connecting = asyncio.Semaphore(CONNECTING)

    async def run(self, calls: int) -> None:
        threading.Thread(target=_write, args=(self._connection, self._batches), daemon=True).start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._flush(), name="flush")
            for number in range(calls):
                tasks.create_task(self._record(call_id(number)), name=call_id(number))
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)

    async def _record(self, name: str) -> None:
        key, day, seq = call_key(name), day_of(time.time_ns() // 1000), 0
        decode, now = msgspec.json.Decoder(Head).decode, time.time_ns
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
            frame = await receive(False)
            head = decode(frame)
            seq += 1
            self._rows.append((key, day, 1, seq, EVENT, now() // 1000, 0, head.type, head.event_id, frame, JSON))

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + FLUSH_INTERVAL, loop.time())
            await asyncio.sleep(due - loop.time())
            if self._rows:
                rows, self._rows = self._rows, []
                self._batches.put(rows)


def _write(connection: sqlite3.Connection, batches: queue.SimpleQueue[list[tuple[Any, ...]]]) -> None:
    while True:
        rows = batches.get()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_SQL, rows)
        connection.execute("COMMIT")


async def main(url: str, calls: int, path: Path) -> None:
    await Floor(url, path).run(calls)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
