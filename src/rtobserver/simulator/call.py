"""One call as it runs: performs timelines at the simulator's pace and hands every frame to all who listen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from rtobserver.simulator.acknowledgements import Acknowledgements
from rtobserver.simulator.beats import Beat, Close, Emit, EmitRaw, End, Json, Play, Timeline, Until, Wait, WaitSince
from rtobserver.simulator.changes import Changes
from rtobserver.simulator.conversation import Conversation
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.ledger import Ledger
from rtobserver.simulator.media import Browser, reaches_browser
from rtobserver.simulator.sideband import ClientEvent, Sideband, framed

_TURNS_OF_OTHERS = 32
"""After so many waits that took no time the other tasks get a turn."""
BROWSER = "browser"
"""The name of the data channel, where sidebands are `sb1`, `sb2`."""
_SHORTEST_SLEEP = 0.001
"""Shorter waits are saved up: the loop's timers are not finer."""


@dataclass(frozen=True, slots=True)
class Produced:
    """Hold a frame that upstream produced."""

    ordinal: int
    """From 1, dense within the call."""
    frame: bytes
    at: float
    """Unix seconds."""
    sidebands: frozenset[str]
    """Names of those it was sent to."""
    is_text: bool
    event_id: str | None
    variants: dict[str, bytes] = field(default_factory=dict)
    """What single connections got instead, where each sees event ids of its own."""
    on_channel: bool = False
    """Whether the browser's data channel got it too."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Say how a call ended."""

    cause: str
    at: float
    close: Close


class Call:
    """Run one call."""

    def __init__(self, *, call_id: str, offer: str, query: dict[str, str], conversation: Conversation,
                 acknowledgements: Acknowledgements, ledger: Ledger, tasks: asyncio.TaskGroup, changes: Changes,
                 pace: float, remember: bool, browser: Browser | None = None) -> None:  # fmt: skip
        self.id = call_id
        self.offer = offer
        self.query = query
        """Query of the request that created the call, such as `webrtcfilter`."""
        self.conversation = conversation
        self.browser = browser
        """The caller's end; None without media."""
        self.produced: list[Produced] = []
        """All frames so far; empty if the simulator does not remember them."""
        self.produced_count = 0
        self.sidebands: dict[str, Sideband] = {}
        """Every sideband that ever attached, by name (`sb1`, `sb2`)."""
        self.client_events: list[ClientEvent] = []
        self.hangups = 0
        self.attach_count = 0
        """Handshakes tried, refused ones included."""
        self.ended: Ended | None = None
        self.released: set[str] = set()
        self._acknowledgements = acknowledgements
        self._ledger = ledger
        self._tasks = tasks
        self._pace = pace
        self._began = asyncio.get_running_loop().time()
        self._remember = remember
        # Only Azure knows the filter; OpenAI takes the parameter for one that it does not know.
        self._is_filtered = query.get("webrtcfilter") == "on" and conversation.provider == "azure"
        self._running: set[asyncio.Task[None]] = set()
        self._changes = changes

    @property
    def session(self) -> Json:
        """Give the session object as upstream now has it."""
        return self.conversation.session

    @property
    def turn_detection(self) -> Json | None:
        """Give the session's turn detection, or None where the page commits by itself."""
        return self.conversation.turn_detection

    @property
    def open_sidebands(self) -> list[Sideband]:
        """Give the sidebands that can be sent to."""
        return [sideband for sideband in self.sidebands.values() if sideband.is_open]

    @property
    def _faults(self) -> Faults:
        return self.conversation.faults

    def play(self, timeline: Timeline, name: str) -> None:
        """Perform a timeline beside whatever else goes on."""
        task = self._tasks.create_task(self._perform(timeline), name=f"{name} {self.id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def release(self, name: str) -> None:
        """Let a scenario go on that holds at this name."""
        self.released.add(name)
        self._changes.notify()

    def receive(self, sideband: Sideband, message: str | bytes) -> None:
        """Take a client event and do what upstream does about it."""
        sideband.last_frame_mono = asyncio.get_running_loop().time()
        event = ClientEvent(sideband.name, message, time.time())
        sideband.client_events.append(event)
        self._take(event)

    def receive_from_browser(self, message: str | bytes) -> None:
        """Take a client event from the data channel; the filter does not apply to these."""
        self._take(ClientEvent(BROWSER, message, time.time()))

    def greet(self) -> None:
        """Tell the browser that its session exists; sidebands see nothing of that."""
        self.produce(self.conversation.frames.plain("session.created", session=self.session), only=BROWSER)

    def notice(self) -> None:
        """Look again at whatever waits for the caller."""
        self._changes.notify()

    def leave(self) -> None:
        """Note that the browser is gone."""
        if self.ended is None:
            self._tasks.create_task(self.end("left"), name=f"leave {self.id}")

    def _take(self, event: ClientEvent) -> None:
        self.client_events.append(event)
        self._changes.notify()
        message, origin = event.message, event.sideband
        if self._faults.acknowledge and self.ended is None:
            if self._faults.acknowledge_delay:
                task = self._tasks.create_task(self._receive_late(message, origin), name=f"acknowledge {self.id}")
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            else:
                self._carry_out(message, origin)

    def produce(self, event: Json, only: str | None = None) -> None:
        """Send an event to all who listen, serialised once, or to the one peer `only`."""
        if event.get("type") == "conversation.item.input_audio_transcription.completed":
            self.conversation.transcribed(event["item_id"], event["transcript"])
        frame = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
        targets = [sideband for sideband in self.open_sidebands if only is None or sideband.name == only]
        reached = only in (None, BROWSER) and self._reaches_browser(event.get("type"))
        variants: dict[str, bytes] = {}
        if not self._faults.same_event_ids and "event_id" in event:
            for name in [*(sideband.name for sideband in targets), *([BROWSER] if reached else [])]:
                own = {**event, "event_id": self.conversation.ids.event()}
                variants[name] = json.dumps(own, separators=(",", ":"), ensure_ascii=False).encode()
        self._send(frame, targets, text=True, event_id=event.get("event_id"), variants=variants, channel=reached)

    def emit(self, frame: str | bytes, *, text: bool = True) -> None:
        """Send a frame as it stands."""
        payload = frame.encode() if isinstance(frame, str) else frame
        head = _head(payload)
        reached = self._reaches_browser(head.get("type"))
        event_id = head.get("event_id")
        self._send(
            payload,
            self.open_sidebands,
            text=text,
            event_id=event_id if isinstance(event_id, str) else None,
            variants={},
            channel=reached,
        )

    def emit_all(self, frames: Sequence[tuple[bytes, str]]) -> None:
        """Send many frames with their event ids to all sidebands: written down together, then sent together."""
        targets, at = self.open_sidebands, time.time()
        names, first = sorted(each.name for each in targets), self.produced_count + 1
        self.produced_count += len(frames)
        if self._remember:
            known = frozenset(names)
            for ordinal, (frame, event_id) in enumerate(frames, first):
                self.produced.append(Produced(ordinal, frame, at, known, True, event_id))
        self._ledger.write_events(self.id, frames, first=first, at=at, sidebands=names)
        if targets:
            data = b"".join(framed(frame, text=True) for frame, _ in frames)
            now = asyncio.get_running_loop().time()
            for sideband in targets:
                sideband.send(data, now, count=len(frames))
        self._changes.notify()

    async def end(self, cause: str, close: Close | None = None, reason: str = "") -> None:
        """End the call and show its sidebands as much of that as `close` says; a second end does nothing."""
        close = self._faults.leave_close if close is None else close
        if self._stop(cause, close):
            await self.close_sidebands(close, reason)

    def end_soon(self, cause: str, close: Close, *, delay: float) -> None:
        """End the call now, but close its sidebands only after a while."""
        if self._stop(cause, close):
            self._tasks.create_task(self._close_late(close, delay), name=f"close {self.id}")

    async def _close_late(self, close: Close, delay: float) -> None:
        await asyncio.sleep(delay)
        await self.close_sidebands(close)

    def _stop(self, cause: str, close: Close) -> bool:
        if self.ended is not None:
            return False
        self.ended = Ended(cause, time.time(), close)
        self._ledger.write("end", self.id, cause=cause, close=close, at=self.ended.at, produced=self.produced_count)
        for task in self._running - {asyncio.current_task()}:
            task.cancel()
        self._close_browser()
        self._changes.notify()
        return True

    def _close_browser(self) -> None:
        if self.browser is not None:
            self._tasks.create_task(self.browser.close(), name=f"close the connection of {self.id}")

    def _reaches_browser(self, kind: object) -> bool:
        if self.browser is None or not self.browser.is_open:
            return False
        return reaches_browser(kind if isinstance(kind, str) else None, filtered=self._is_filtered)

    def stop(self) -> None:
        """Stop all work and drop all connections, because the simulator ends."""
        for task in self._running:
            task.cancel()
        for sideband in self.sidebands.values():
            if sideband.is_open:
                sideband.abort()
        self._close_browser()

    async def close_sidebands(self, close: Close, reason: str = "") -> None:
        """Close all open sidebands, without ending the call."""
        if close == "none":
            return
        if close == "abort":
            for sideband in self.open_sidebands:
                sideband.abort()
            return
        await asyncio.gather(*(sideband.close(close, reason) for sideband in self.open_sidebands))

    def attach(self, sideband: Sideband) -> None:
        """Count a sideband among those who listen."""
        self.sidebands[sideband.name] = sideband
        self._ledger.write(
            "attach", self.id, sideband=sideband.name, at=sideband.attached_at, after=self.produced_count
        )
        self._changes.notify()

    def detach(self, sideband: Sideband) -> None:
        """Note that a sideband is gone."""
        self._ledger.write(
            "detach", self.id, sideband=sideband.name, at=time.time(), code=sideband.close_code, end=sideband.end
        )
        self._changes.notify()

    async def _perform(self, timeline: Timeline) -> None:
        loop = asyncio.get_running_loop()
        due, unbroken = loop.time(), 0
        for beat in timeline:
            if isinstance(beat, Wait | WaitSince):
                since = due if isinstance(beat, Wait) else self._began
                due = max(due, since + beat.seconds * self._pace)
                unbroken += 1
                if due - loop.time() > _SHORTEST_SLEEP:
                    await asyncio.sleep(due - loop.time())
                    unbroken = 0
                elif unbroken >= _TURNS_OF_OTHERS:
                    await asyncio.sleep(0)
                    unbroken = 0
            elif isinstance(beat, Until):
                await self._changes.until(partial(self._is_met, beat), beat.patience)
                due = loop.time()
            else:
                await self._do(beat)
            if self.ended is not None:
                return

    def _is_met(self, beat: Until) -> bool:
        return self.ended is not None or beat.condition()

    async def _do(self, beat: Beat) -> None:
        if isinstance(beat, EmitRaw):
            self.emit(beat.frame, text=beat.text)
        elif isinstance(beat, End):
            await self.end(beat.cause, beat.close, beat.reason)
        else:
            self._do_now(beat)
        self._changes.notify()

    def _do_now(self, beat: Beat) -> None:
        if isinstance(beat, Emit):
            everyone = beat.origin is None or self._faults.errors_reach == "all"
            self.produce(beat.event, only=None if everyone else beat.origin)
        elif isinstance(beat, Play):
            self.play(beat.timeline, beat.name)

    def _carry_out(self, message: str | bytes, origin: str) -> None:
        for beat in self._acknowledgements.receive(message, origin):
            self._do_now(beat)
        self._changes.notify()

    async def _receive_late(self, message: str | bytes, origin: str) -> None:
        await asyncio.sleep(self._faults.acknowledge_delay)
        self._carry_out(message, origin)

    def _send(self, frame: bytes, targets: list[Sideband], *, text: bool, event_id: str | None,
              variants: dict[str, bytes], channel: bool) -> None:  # fmt: skip
        self.produced_count += 1
        names = frozenset(sideband.name for sideband in targets)
        channel = channel and self.browser is not None and self.browser.takes(len(frame))
        produced = Produced(self.produced_count, frame, time.time(), names, text, event_id, variants, channel)
        if self._remember:
            self.produced.append(produced)
        if self._ledger.is_kept:
            self._write_down(produced)
        if channel and self.browser is not None:
            self.browser.send(variants.get(BROWSER, frame), text=text)
        now = asyncio.get_running_loop().time()
        shared = framed(frame, text=text) if targets else b""
        for sideband in targets:
            own = variants.get(sideband.name)
            sideband.send(shared if own is None else framed(own, text=text), now)

    def _write_down(self, produced: Produced) -> None:
        own = {
            name: {"event_id": json.loads(frame)["event_id"], "sha256": hashlib.sha256(frame).hexdigest()}
            for name, frame in produced.variants.items()
        }
        self._ledger.write(
            "event",
            self.id,
            ordinal=produced.ordinal,
            event_id=produced.event_id,
            sha256=hashlib.sha256(produced.frame).hexdigest(),
            at=produced.at,
            sidebands=sorted(produced.sidebands),
            bytes=len(produced.frame),
            **({"variants": own} if own else {}),
            **({"on_channel": True} if produced.on_channel else {}),
        )


def _head(frame: bytes) -> Json:
    """Parse an event that came as bytes, if they are one."""
    try:
        event = json.loads(frame)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
