"""Follow the store for all viewers of tails: one reader, however many look on.

After a commit, or `LOOK_SECONDS` without word of one, the follower reads what is new since its last
look: entries of the calls that somebody views, and the rows of calls that changed. Each entry is
written once and shared by its viewers. A viewer's queue is bounded: what does not fit is counted,
and the viewer is told how many entries it missed. Nothing here waits for a viewer, and the recorder
waits for nothing here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreError
from rtobserver.store import feed
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.entries import Entry
from rtobserver.store.feed import CallRows, Fed, Mark
from rtobserver.store.signal import Signal
from rtobserver.web import cursors, shapes, sse

PAUSE_SECONDS = 0.1
"""Between two looks: a viewer's lag against how often hundreds of them are woken."""
LOOK_SECONDS = 0.5
CALLS_SECONDS = 0.5
"""Between two looks at the rows of all calls, which cost more the more calls are live."""
CHUNK_ROWS = 1_000
QUEUE_ENTRIES, QUEUE_BYTES = 2_000, 2 * 1024 * 1024
"""What may wait for one viewer; a single chunk may be larger."""
LINGER_SECONDS = 5.0
"""How long a call that has ended is still looked at."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Viewer:
    """Hold what waits for one viewer of one call, or of all (`call_key` None)."""

    def __init__(self, call_key: int | None) -> None:
        self.call_key = call_key
        self.mark: Mark | None = None
        """Where the live part begins: what was committed up to here is not in the queue."""
        self.has_ended = False
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = self._entries = self._missed = 0
        self._calls: dict[int, bytes] = {}
        self._shown = b""
        self._changed, self._admitted = asyncio.Event(), asyncio.Event()

    def put_entries(self, block: bytes, count: int) -> None:
        """Queue written entries; where there is no room they are counted instead."""
        if self._missed or (
            self._queue and (self._entries + count > QUEUE_ENTRIES or self._bytes + len(block) > QUEUE_BYTES)
        ):
            self._missed += count
        else:
            self._queue.append((block, count))
            self._bytes += len(block)
            self._entries += count
        self._changed.set()

    def put_call(self, call_key: int, block: bytes) -> None:
        """Queue a call's row; of several that wait only the last is given, and none twice in a row."""
        if self.call_key is not None:
            if block == self._shown:
                return
            self._shown = block
        self._calls[call_key] = block
        self._changed.set()

    def admit(self, mark: Mark) -> None:
        """Begin the live part."""
        self.mark = mark
        self._admitted.set()

    async def admitted(self) -> Mark:
        """Wait for the beginning of the live part."""
        await self._admitted.wait()
        return self.mark or feed.START

    def end(self) -> None:
        """Tell the viewer that there will be nothing more."""
        self.has_ended = True
        self._changed.set()
        self._admitted.set()

    def take(self) -> list[bytes]:
        """Take what waits, in order: entries, how many were missed behind them, rows of calls."""
        self._changed.clear()
        blocks = [block for block, _ in self._queue]
        self._queue.clear()
        self._bytes = self._entries = 0
        if self._missed:
            blocks.append(sse.event(b"missed", b'{"count":%d}' % self._missed))
            self._missed = 0
        blocks += self._calls.values()
        self._calls.clear()
        return blocks

    async def wait(self, seconds: float) -> None:
        """Wait for something to take, or the end, but no longer than so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return


class Follower:
    """Read the store for viewers; `follow` runs for as long as the listener."""

    def __init__(self, *, database: Database, clock: Clock, commits: Signal) -> None:
        self._database = database
        self._clock = clock
        self._commits = commits
        self._viewers: set[Viewer] = set()
        self._joining: list[Viewer] = []
        self._some = asyncio.Event()
        self._mark = feed.START
        self._rows: CallRows = {}
        self._over: dict[int, float] = {}
        self._looked_mono = 0.0

    async def join(self, viewer: Viewer) -> Mark:
        """Add a viewer; gives the mark behind which everything comes to its queue."""
        self._joining.append(viewer)
        self._some.set()
        self._commits.announce()
        return await viewer.admitted()

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer."""
        self._viewers.discard(viewer)
        if viewer in self._joining:
            self._joining.remove(viewer)
        if not self._viewers and not self._joining:
            self._some.clear()

    def end(self) -> None:
        """Tell all viewers that there will be nothing more."""
        for viewer in (*self._viewers, *self._joining):
            viewer.end()

    async def follow(self) -> None:
        """Look again and again, while there are viewers."""
        while True:
            if not self._some.is_set():
                self._rows, self._over, self._looked_mono = {}, {}, 0.0
                await self._some.wait()
            seen = self._commits.count
            try:
                await self._look()
            except StoreError as exc:
                _log.warning("tails_not_readable", problem=str(exc))
                await self._clock.sleep(LOOK_SECONDS)
                continue
            await self._clock.sleep(PAUSE_SECONDS)
            if not self._joining:
                await self._commits.wait(seen, LOOK_SECONDS)

    async def _look(self) -> None:
        # only those that were there before: their history ends before what is read now
        joining = list(self._joining)
        # rows before entries: what a row follows from is then among the entries, which are given first
        changed = await self._changed_calls()
        newest = await feed.newest(self._database)
        # while nobody looks on, there is nothing to go on from
        self._mark = await feed.settle(self._database, self._mark) if self._viewers else newest
        while self._mark < newest:
            found = await feed.behind(self._database, self._mark, until=newest, keys=self._viewed(), limit=CHUNK_ROWS)
            self._give(found)
            self._mark = found[-1].mark if len(found) == CHUNK_ROWS else newest
        self._mark = newest
        self._give_calls(changed)
        for viewer in joining:
            if viewer not in self._joining:
                continue
            self._joining.remove(viewer)
            self._viewers.add(viewer)
            viewer.admit(newest)
            if row := self._rows.get(viewer.call_key or -1):
                viewer.put_call(row[0], call_block(feed.call_of(row)))

    def _viewed(self) -> set[int] | None:
        keys = {viewer.call_key for viewer in self._viewers}
        return None if None in keys else {key for key in keys if key is not None}

    # --- entries --------------------------------------------------------------------------------

    def _give(self, found: list[Fed]) -> None:
        lines = [(fed, entry_line(fed)) for fed in found]
        if everything := [viewer for viewer in self._viewers if viewer.call_key is None]:
            block = b"".join(sse.event(b"entry", line, cursors.of_tail(fed.mark).encode()) for fed, line in lines)
            _share(everything, block, len(lines))
        by_call: dict[int, list[Viewer]] = {}
        for viewer in self._viewers:
            if viewer.call_key is not None:
                by_call.setdefault(viewer.call_key, []).append(viewer)
        written: dict[int, list[bytes]] = {}
        for fed, line in lines:
            if fed.call_key in by_call:
                written.setdefault(fed.call_key, []).append(entry_block(fed.entry, line))
        for key, blocks in written.items():
            _share(by_call[key], b"".join(blocks), len(blocks))

    # --- rows of calls --------------------------------------------------------------------------

    async def _changed_calls(self) -> CallRows:
        """Read the rows that somebody views; gives those that changed since they were last read."""
        viewers = (*self._viewers, *self._joining)
        keys = {viewer.call_key for viewer in viewers if viewer.call_key is not None}
        now, since = self._clock.mono(), None
        if len(keys) < len({viewer.call_key for viewer in viewers}) and now - self._looked_mono >= CALLS_SECONDS:
            self._looked_mono = now
            since = self._clock.now_us()
        if since is None and not keys:
            return {}
        rows = await feed.rows_of_calls(self._database, keys, all_since=since)
        if since is not None:
            rows |= await self._read_lingering(set(self._rows) - set(rows), now)
        before = self._rows
        changed = {key: row for key, row in rows.items() if before.get(key) != row}
        self._rows = rows if since is not None else before | rows
        return changed

    async def _read_lingering(self, keys: set[int], now: float) -> CallRows:
        """Read the rows of calls that go on no more, for a while."""
        self._over = {key: self._over.get(key, now) for key in keys}
        left = [key for key, since in self._over.items() if now - since < LINGER_SECONDS]
        return await feed.rows_of_calls(self._database, left) if left else {}

    def _give_calls(self, changed: CallRows) -> None:
        for key, row in changed.items():
            block = call_block(feed.call_of(row))
            for viewer in self._viewers:
                if viewer.call_key in (None, key):
                    viewer.put_call(key, block)


def entry_line(fed: Fed) -> bytes:
    """Write an entry as NDJSON has it, with its call's id before the rest."""
    return b'{"call_id":%b,%b' % (shapes.encode(fed.call_id), shapes.entry(fed.entry)[1:])


def entry_block(entry: Entry, line: bytes) -> bytes:
    """Write an entry for the viewer of one call."""
    return sse.event(b"entry", line, str(entry.position).encode())


def call_block(call: Call) -> bytes:
    """Write a call's row."""
    return sse.event(b"call", shapes.encode(shapes.call(call)))


def _share(viewers: Iterable[Viewer], block: bytes, count: int) -> None:
    for viewer in viewers:
        viewer.put_entries(block, count)
