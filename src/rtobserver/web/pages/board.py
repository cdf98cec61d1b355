"""Follow the calls that go on, for everybody who looks at the page of live calls.

One reader for all of them, and only while somebody looks: after a commit, at most twice a second, it
asks the store three questions and works out what changed. A viewer who reads too slowly is given the
whole board again in place of what it missed, so that nothing piles up here, and nothing is wrong there.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreError
from rtobserver.realtime.talk import SOUNDS, TYPES, WORDS_CHARACTERS, Talk
from rtobserver.store import feed, ongoing
from rtobserver.store.database import Database
from rtobserver.store.ongoing import Ongoing
from rtobserver.store.signal import Signal
from rtobserver.web import shapes, sse

PAUSE_SECONDS = 0.5
"""Between two looks, and so between two updates, at the least."""
LOOK_SECONDS = 1.0
"""How long to wait for word of a commit."""
LINGER_SECONDS = 8.0
"""How long a call that has ended stays on the board."""
MOST_CALLS = 2_000
LONGEST_US = 3_600_000_000
"""Upstream lets no call last longer than an hour: of one that nobody observes, that is all that is known."""
CHUNK_ROWS, MOST_ROWS = 500, 10_000
"""Events that are read at once, and at most between two updates; the final text of a line makes up for more."""
STEP = 100
"""Calls or events after which others have their turn on the event loop."""

_USER = tuple(name for name in SOUNDS if name.startswith("input_"))
_ASSISTANT = tuple(name for name in SOUNDS if name.startswith("output_"))

_SILENCE = Talk()
_STALE = sse.event(b"stale", b"{}")

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class LiveCall(msgspec.Struct, frozen=True):
    """Be a call at a glance."""

    call_id: str
    status: shapes.Status
    outcome: shapes.Outcome | None
    started_at: shapes.Time
    ended_at: shapes.Time | None
    profile: str
    model: str
    user: str | None
    tags: list[str]
    turn_count: int
    interruption_count: int
    error_count: int
    gap_count: int
    tampered: bool
    cost_usd: str | None
    decision_count: int
    last_policy: str | None
    paused: bool
    user_speaking: bool
    assistant_speaking: bool
    user_words: str
    assistant_words: str


class Whole(msgspec.Struct, frozen=True):
    """Be the whole board."""

    now: shapes.Time
    calls: list[LiveCall]
    is_cut: bool
    """Whether there are more calls than these, the newest."""


class Update(msgspec.Struct, frozen=True):
    """Say what changed on the board."""

    now: shapes.Time
    calls: list[dict[str, object]]
    """Of each call its `call_id` and what changed; of a new one everything."""
    gone: list[str]
    is_cut: bool


class Watcher:
    """Hold what waits for one viewer."""

    def __init__(self) -> None:
        self.has_ended = False
        self.block: bytes | None = None
        self.wants_all = True
        self._changed = asyncio.Event()

    def put(self, block: bytes) -> None:
        """Give an update; whoever has not taken the one before gets the whole board next."""
        if self.block is not None:
            self.block, self.wants_all = None, True
        elif not self.wants_all:
            self.block = block
        self._changed.set()

    def end(self) -> None:
        """Tell the viewer that there will be nothing more."""
        self.has_ended = True
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait for something to take, or the end, but no longer than so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def rest(self) -> None:
        """Note that everything was taken."""
        self._changed.clear()


class Board:
    """Know the calls that go on; `follow` runs for as long as the listener."""

    def __init__(self, *, database: Database, clock: Clock, commits: Signal) -> None:
        self._database = database
        self._clock = clock
        self._commits = commits
        self._watchers: set[Watcher] = set()
        self._some = asyncio.Event()
        self._forget()

    def join(self) -> Watcher:
        """Add a viewer."""
        watcher = Watcher()
        self._watchers.add(watcher)
        self._some.set()
        if self._is_known:
            watcher.put(b"")
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Remove a viewer."""
        self._watchers.discard(watcher)
        if not self._watchers:
            self._some.clear()

    def end(self) -> None:
        """Tell all viewers that there will be nothing more."""
        for watcher in self._watchers:
            watcher.end()

    def take(self, watcher: Watcher) -> bytes | None:
        """Take what waits for a viewer: an update, the whole board, or nothing."""
        watcher.rest()
        if self._is_stale and not self._is_known:
            return _STALE
        if watcher.wants_all and self._is_known:
            watcher.wants_all, watcher.block = False, None
            return self._whole()
        block, watcher.block = watcher.block, None
        return block

    async def follow(self) -> None:
        """Look again and again, while there are viewers."""
        while True:
            if not self._some.is_set():
                self._forget()
                await self._some.wait()
            seen, begun = self._commits.count, self._clock.mono()
            try:
                await self._look()
            except StoreError as exc:
                _log.warning("live_calls_not_readable", problem=str(exc))
                self._grow_stale()
                await self._clock.sleep(LOOK_SECONDS)
                continue
            # where a look takes long, others need the machine more than viewers need to see at once
            await self._clock.sleep(max(PAUSE_SECONDS, 2 * (self._clock.mono() - begun)))
            await self._commits.wait(seen, LOOK_SECONDS)

    # --- looking --------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._is_known = False
        self._mark = feed.START
        self._rows: dict[int, Ongoing] = {}
        self._shown: dict[int, LiveCall] = {}
        self._talk: dict[int, Talk] = {}
        self._touched: set[int] = set()
        """Calls in which something was said, and that were not made anew since."""
        self._over: dict[int, float] = {}
        self._is_cut = self._is_stale = False
        self._all: bytes | None = None

    def _grow_stale(self) -> None:
        """Tell viewers, once, that what they see cannot be kept up to date."""
        if not self._is_stale:
            self._is_stale = True
            self._give(_STALE)

    def _give(self, block: bytes) -> None:
        for watcher in self._watchers:
            watcher.put(block)

    async def _look(self) -> None:
        if not self._is_known:
            await self._begin()
        await self._listen()
        # rows behind events: the call of an event that was committed is among them, unless it is over
        since = self._clock.now_us() - LONGEST_US
        rows = {
            row.call_key: row for row in await ongoing.calls(self._database, limit=MOST_CALLS, given_up_since=since)
        }
        is_cut = len(rows) == MOST_CALLS
        rows |= await self._read_over(set(self._rows) - set(rows))
        shown, changed = await self._show(rows)
        # from here on nobody else has a turn: viewers see the board before or behind this look
        gone = [self._rows[key].call_id for key in self._rows.keys() - rows.keys()]
        is_fresh = not self._is_known or self._is_stale or is_cut != self._is_cut
        self._shown = {key: shown.get(key) or self._shown[key] for key in rows}
        self._talk = {key: talk for key, talk in self._talk.items() if key in rows}
        self._touched.clear()
        self._rows, self._is_cut, self._is_stale, self._is_known = rows, is_cut, False, True
        if is_fresh or changed or gone:
            self._all = None
            self._give(sse.event(b"some", shapes.encode(Update(self._now(), changed, gone, is_cut))))

    async def _begin(self) -> None:
        # the mark before all else: what is read below may be told again behind it, and must not be left out
        self._mark = await feed.newest(self._database)
        for line in await ongoing.last_lines(self._database, characters=WORDS_CHARACTERS):
            talk = self._talk.setdefault(line.call_key, Talk())
            (talk.user if line.role == "user" else talk.assistant).words = line.words
        for sounds in await ongoing.last_sounds(self._database, user=_USER, assistant=_ASSISTANT):
            talk = self._talk.setdefault(sounds.call_key, Talk())
            for last in (sounds.user, sounds.assistant):
                if last is not None:
                    talk.take(last, b"")

    async def _listen(self) -> None:
        """Take in what was said since the last look."""
        newest = await feed.newest(self._database)
        mark = await feed.settle(self._database, self._mark)
        for _ in range(MOST_ROWS // CHUNK_ROWS):
            found = await ongoing.talk(self._database, mark, until=newest, types=TYPES, limit=CHUNK_ROWS)
            for number, each in enumerate(found):
                if each.payload is not None:
                    self._talk.setdefault(each.call_key, Talk()).take(each.type, each.payload)
                    self._touched.add(each.call_key)
                if number % STEP == STEP - 1:
                    await asyncio.sleep(0)
            if len(found) < CHUNK_ROWS:
                break
            mark = found[-1].mark
        self._mark = newest

    async def _read_over(self, keys: set[int]) -> dict[int, Ongoing]:
        """Read calls that go on no more, for a while."""
        now = self._clock.mono()
        self._over = {key: self._over.get(key, now) for key in keys}
        left = [key for key, since in self._over.items() if now - since < LINGER_SECONDS]
        if not left:
            return {}
        return {row.call_key: row for row in await ongoing.calls_of(self._database, left)}

    # --- showing --------------------------------------------------------------------------------

    async def _show(self, rows: dict[int, Ongoing]) -> tuple[dict[int, LiveCall], list[dict[str, object]]]:
        """Make those calls anew of which something may have changed; gives them, and what did."""
        shown: dict[int, LiveCall] = {}
        changed: list[dict[str, object]] = []
        for key, row in rows.items():
            if key in self._touched or row != self._rows.get(key):
                call = shown[key] = _live_call(row, self._talk.get(key) or _SILENCE)
                if change := _change(self._shown.get(key), call):
                    changed.append(change)
                if len(shown) % STEP == 0:
                    await asyncio.sleep(0)
        return shown, changed

    def _whole(self) -> bytes:
        if self._all is None:
            whole = Whole(self._now(), list(self._shown.values()), self._is_cut)
            self._all = sse.event(b"all", shapes.encode(whole))
        return self._all + _STALE * self._is_stale

    def _now(self) -> str:
        return shapes.time(self._clock.now_us())


def _change(before: LiveCall | None, after: LiveCall) -> dict[str, object]:
    """Give what changed of a call; of a new one everything."""
    if before is None:
        return msgspec.structs.asdict(after)
    both = zip(LiveCall.__struct_fields__, msgspec.structs.astuple(before), msgspec.structs.astuple(after), strict=True)
    changes: dict[str, object] = {name: new for name, old, new in both if new != old}
    return {"call_id": after.call_id} | changes if changes else {}


def _live_call(row: Ongoing, talk: Talk) -> LiveCall:
    is_on = row.status in ongoing.STATUSES
    return LiveCall(
        call_id=row.call_id,
        status=row.status,
        outcome=row.outcome,
        started_at=shapes.time(row.started_at),
        ended_at=shapes.time_or_none(row.ended_at),
        profile=row.profile,
        model=row.model,
        user=row.user,
        tags=msgspec.json.decode(row.tags),
        turn_count=row.turn_count,
        interruption_count=row.interruption_count,
        error_count=row.error_count,
        gap_count=row.gap_count,
        tampered=bool(row.tampered),
        cost_usd=row.cost_usd,
        decision_count=row.decision_count,
        last_policy=row.last_policy,
        paused=is_on and bool(row.paused),
        user_speaking=is_on and talk.is_user_speaking,
        assistant_speaking=is_on and talk.is_assistant_speaking,
        user_words=talk.user.words,
        assistant_words=talk.assistant.words,
    )
