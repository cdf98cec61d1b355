"""Let a scripted conversation be observed, recorded and stored as a real one would be, by the real parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from rtobserver.observation.effects import Effect
from rtobserver.observation.machine import Machine
from rtobserver.observation.plan import Plan
from rtobserver.observation.watch import Watch
from rtobserver.policy.active import Active
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState, Changes
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.entries import Recordable
from rtobserver.recorder import Bounds, Recorder
from rtobserver.store import registration
from rtobserver.store.identity import CallRef
from rtobserver.store.registration import NewCall
from rtobserver.store.writing import Writing
from tests.realtime.script import START_US, Script

MODEL, TRANSCRIBER = "gpt-realtime", "whisper-1"
PRICES = Prices.parse(
    """
    [[model]]
    name = "gpt-realtime"
    text = { in = 4, cached = 0.40, out = 16 }
    audio = { in = 32, cached = 0.40, out = 64 }
    [[model]]
    name = "whisper-1"
    minute = 0.006
    """
)


def new_state(_profile: str = "default", model: str = MODEL) -> CallState:
    """Begin the fold of a scripted call."""
    return CallState(model=model, transcription_model=TRANSCRIBER, prices=PRICES)


class Talk(Script):
    """A script that folds nothing: it keeps what would come over the sideband, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[tuple[int, bytes | None]] = []

    def send(self, event_type: str, **fields: Any) -> Changes | None:
        self.seq += 1
        frame = {"type": event_type, "event_id": f"event_{self.seq}", **fields}
        self.happened.append((self.ms, json.dumps(frame).encode()))
        return None

    def loses_the_sideband(self, back_ms: int) -> None:
        """The sideband breaks now, and is there again at `back_ms`."""
        self.happened.append((self.ms, None))
        self.at(back_ms)
        self.happened.append((self.ms, None))


@dataclass(frozen=True)
class Conversation:
    """A conversation, and what a person would say of it. Times are milliseconds since its beginning."""

    name: str
    play: Callable[[Talk], None]
    lines: list[str]
    """`role kind: text`, then ` | heard` where it was cut, ` (status)` where it was not completed."""
    turns: list[dict[str, Any]]
    """Those members that say something; the others must be empty."""
    call: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)


async def record(
    writer: Writing,
    call_id: str,
    happened: Sequence[tuple[int, bytes | None]],
    started_at: int = START_US,
    *,
    active: Active | None = None,
) -> CallRef:
    """Observe a call from its beginning to its end, one second after the last event, by policies if there are any."""
    ref = CallRef(call_id, started_at // 86_400_000_000)
    new = NewCall(call_id=call_id, started_at=started_at, profile="default", model=MODEL, max_duration_us=0)
    await writer.run(registration.register(ref, new))
    recorder = Recorder(writer, bounds=Bounds())
    plan = Plan(
        started_at=started_at,
        asked_at=started_at,
        attach_timeout=30,
        idle_probe=60,
        max_duration=0,
        hang_up_unobserved=False,
        audio_key=None,
    )
    subject = Subject(call_id=call_id, profile="default", model=MODEL, started_at=started_at)
    watch = Watch(new_state(), active=active, subject=subject)
    machine = Machine(plan, watch.state, epoch=1, at=started_at, mono=0.0, watch=watch)

    def do(effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, get_args(Recordable)):
                recorder.record(ref, effect)

    do(machine.started(started_at, 0.0))
    do(machine.attached(started_at, 0.0))
    away, ms = False, 0
    for ms, frame in happened:
        at, mono = started_at + ms * 1000, ms / 1000
        if frame is not None:
            do(machine.frame_received(frame, at, mono))
        elif away:
            away = False
            do(machine.attached(at, mono))
        else:
            away = True
            do(machine.detached(1006, "", oversize=False, at=at, mono=mono))
    ms += 1000
    at, mono = started_at + ms * 1000, ms / 1000
    do(machine.detached(1000, "", oversize=False, at=at, mono=mono))
    do(machine.attach_failed(404, None, at, mono, 0.5))
    await writer.readable()
    # what was posted with that work is in the next flush at the latest
    await writer.readable()
    return ref
