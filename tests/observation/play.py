"""Play a machine: a clock that is moved by hand, and the effects of each input kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from rtobserver.observation.control import Order
from rtobserver.observation.effects import Effect, Finish, Send
from rtobserver.observation.machine import Machine
from rtobserver.observation.plan import Plan, Resumption
from rtobserver.observation.restoration import Again
from rtobserver.observation.watch import Watch
from rtobserver.policy.active import Active
from rtobserver.policy.rules import Policy, PolicySet
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import Changed, CommandRow, DecisionRow, GapRow, OrderRow, Record

START = 1_800_000_000_000_000
KEY = b"k" * 32

SUBJECT = Subject(
    call_id="rtc_1", profile="default", model="gpt-realtime", started_at=START, user="ann", labels={"team": "a"}
)

T = TypeVar("T")


def answers(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give what upstream says to a client event."""
    match event["type"]:
        case "session.update":
            return [{"type": "session.updated", "session": {"object": "realtime.session", **event["session"]}}]
        case "conversation.item.create":
            return [{"type": "conversation.item.added", "item": {"status": "completed", **event["item"]}}]
        case "conversation.item.delete":
            return [{"type": "conversation.item.deleted", "item_id": event["item_id"]}]
        case "conversation.item.retrieve":
            content = [{"type": "output_audio", "transcript": f"the words of {event['item_id']}"}]
            item = {"id": event["item_id"], "type": "message", "role": "assistant", "status": "completed"}
            return [{"type": "conversation.item.retrieved", "item": {**item, "content": content}}]
        case "output_audio_buffer.clear":
            return [{"type": "output_audio_buffer.cleared"}]
        case "response.cancel":
            response = {"id": event["response_id"], "status": "cancelled", "conversation_id": "conv_1", "output": []}
            return [{"type": "response.done", "response": response}]
        case "response.create":
            asked = event.get("response", {})
            response = {"id": f"resp_{event['event_id']}", "status": "in_progress", "conversation_id": "conv_1"}
            return [{"type": "response.created", "response": response | {"metadata": asked.get("metadata")}}]
    raise AssertionError(event)


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "started_at": START,
        "asked_at": START - 50_000,
        "attach_timeout": 30.0,
        "idle_probe": 60.0,
        "max_duration": 1800.0,
        "hang_up_unobserved": False,
        "audio_key": KEY,
    }
    return Plan(**{**values, **changes})  # type: ignore[arg-type]


class Play:
    """Feed a machine and keep all that it wanted."""

    def __init__(
        self,
        setting: Plan | None = None,
        *,
        epoch: int = 1,
        resumption: Resumption | None = None,
        policies: Sequence[Policy] = (),
        session: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
        at: int = START,
        now: float = 100.0,
    ) -> None:
        self.now, self.at = now, at
        self._began = at, now
        self.setting, self.epoch, self.session = setting or plan(), epoch, session
        self.active = Active(PolicySet(policies=tuple(policies), hash="0123456789abcdef"))
        if watch is None:
            watch = Watch(CallState(), active=self.active, subject=SUBJECT, session=session)
        self.machine = Machine(
            self.setting,
            watch.state,
            epoch=epoch,
            at=at,
            mono=self.now,
            resumption=resumption,
            watch=watch,
        )
        self.all: list[Effect] = []
        self._do(self.machine.started(*self.time))

    @property
    def time(self) -> tuple[int, float]:
        return self.at, self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        at, now = self._began
        # both clocks go alike, however many small steps they make
        self.at = at + round((self.now - now) * 1e6)

    def _do(self, effects: Sequence[Effect]) -> list[Effect]:
        self.all += effects
        return list(effects)

    def attach(self) -> list[Effect]:
        return self._do(self.machine.attached(*self.time))

    def fail(self, status: int | None = None, retry_after: float | None = None) -> list[Effect]:
        return self._do(self.machine.attach_failed(status, retry_after, *self.time, 0.5))

    def frame(self, event: object, pressure: int = 0) -> list[Effect]:
        frame = event if isinstance(event, bytes) else msgspec.json.encode(event)
        return self._do(self.machine.frame_received(frame, *self.time, pressure))

    def close(
        self, code: int | None = 1000, reason: str = "", *, oversize: bool = False, silent: float = 0.0
    ) -> list[Effect]:
        told = self.machine.detached(code, reason, oversize=oversize, at=self.at, mono=self.now, silent=silent)
        return self._do(told)

    def wake(self) -> list[Effect]:
        return self._do(self.machine.woken(*self.time))

    def probed(self, alive: bool | None) -> list[Effect]:
        return self._do(self.machine.probed(alive, *self.time))

    def hang_up(self, by: str) -> list[Effect]:
        return self._do(self.machine.hang_up_ordered(by, *self.time))  # type: ignore[arg-type]

    def hung_up(self, ended: bool | None) -> list[Effect]:
        return self._do(self.machine.hung_up(ended, *self.time))

    def order(self, order_id: str, command: Mapping[str, Any], *, age: float = 0.0) -> list[Effect]:
        order = Order(order_id, dict(command), self.at - int(age * 1e6))
        return self._do(self.machine.ordered(order, *self.time))

    def answer_tool(self, key: str, output: str | None, problem: str | None = None) -> list[Effect]:
        return self._do(self.machine.tool_answered(key, output, problem, *self.time))

    def acknowledge(self, event_id: str) -> None:
        """Play what upstream says to a client event that was sent."""
        event = next(event for event in self.sent if event["event_id"] == event_id)
        for answer in answers(event):
            self.frame(answer)

    def unsent(self, event_id: str) -> list[Effect]:
        return self._do(self.machine.unsent(event_id, "gone", *self.time))

    @property
    def sent(self) -> list[dict[str, Any]]:
        """Give the client events that were to be sent, in order."""
        return [json.loads(send.text) for send in self.of(Send)]

    @property
    def decisions(self) -> list[DecisionRow]:
        """Give what was decided, as it stands at last, in order."""
        found = {(row.epoch, row.seq, row.policy): row for row in self.of(DecisionRow)}
        return list(found.values())

    @property
    def orders(self) -> dict[str, OrderRow]:
        """Give what is known of each order at last."""
        return {row.order_id: row for row in self.of(OrderRow)}

    @property
    def commands(self) -> dict[str, CommandRow]:
        return {row.event_id: row for row in self.of(CommandRow)}

    def drain(self) -> list[Effect]:
        return self._do(self.machine.drained(*self.time))

    def taken_over(self, stored: Store, *, policies: Sequence[Policy] = (), seconds: float = 1.0) -> Play:
        """Give the play of the next run, which knows what was stored and nothing else."""
        active = Active(PolicySet(policies=tuple(policies), hash="0123456789abcdef"))
        watch = Watch(CallState(), active=active, subject=SUBJECT, session=self.session)
        whose = {row.event_id: row.policy for row in stored.commands.values() if row.policy is not None}
        again = Again(watch.state, watch=watch, policies=whose)
        for record in stored.records:
            again.take(record)
        watch.recall_decisions([copy.copy(row) for row in stored.decisions.values()])
        restored = again.finish([copy.copy(gap) for gap in stored.gaps.values()])
        last = stored.records[-1] if stored.records else None
        resumption = Resumption(
            watermark=max(START, restored.heard_at or 0),
            last_position=f"{last.epoch}:{last.seq}" if last is not None else None,
            was_live=stored.columns.get("status") == "live",
            entry_count=restored.entry_count,
            counts=restored.counts,
            gaps=restored.gaps,
            tags=tuple(stored.columns.get("tags", ())),  # type: ignore[arg-type]
            pause=restored.pause,
            asked=restored.asked,
        )
        play = Play(
            self.setting,
            epoch=self.epoch + 1,
            resumption=resumption,
            session=self.session,
            watch=watch,
            at=self.at + round(seconds * 1e6),
            now=self.now + seconds,
        )
        play.active = active
        return play

    def of(self, kind: type[T]) -> list[T]:
        return [effect for effect in self.all if isinstance(effect, kind)]

    @property
    def records(self) -> list[Record]:
        return self.of(Record)

    @property
    def gaps(self) -> dict[tuple[int, int], GapRow]:
        return {(gap.epoch, gap.seq): gap for gap in self.of(GapRow)}

    @property
    def columns(self) -> dict[str, object]:
        """What the call's row holds after all changes."""
        merged: dict[str, object] = {}
        for change in self.of(Changed):
            merged.update(change.values)
        return merged

    @property
    def ending(self) -> tuple[str, str | None] | None:
        finished = self.of(Finish)
        return (finished[-1].status, finished[-1].outcome) if finished else None


class Store:
    """Keep what was committed, as it stood then."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.gaps: dict[tuple[int, int], GapRow] = {}
        self.commands: dict[str, CommandRow] = {}
        self.decisions: dict[tuple[int, int, str], DecisionRow] = {}
        self.columns: dict[str, object] = {}

    def commit(self, effects: Sequence[Effect]) -> None:
        """Take in what is to be recorded."""
        for effect in effects:
            match effect:
                case Record():
                    self.records.append(effect)
                case GapRow():
                    self.gaps[effect.epoch, effect.seq] = copy.copy(effect)
                case CommandRow():
                    self.commands[effect.event_id] = copy.copy(effect)
                case DecisionRow():
                    self.decisions[effect.epoch, effect.seq, effect.policy] = copy.copy(effect)
                case Changed():
                    self.columns.update(effect.values)
                case _:
                    pass
