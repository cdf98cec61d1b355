"""Carry out what is ordered of a call: client events, speech, tags, a pause of the recording, its end.

Pure. The rooms behind it (`commands`, `speech`, `pause`) know nothing of orders; policies use the
same ones. An order is told of in `OrderRow`s. What cannot be sent within `ORDER_SECONDS` expires; a
drain gives back what was not sent, so that the next run of the daemon does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from rtobserver.observation.commands import Commands, HungUpBy, Json, Source, Tell, Told
from rtobserver.observation.effects import Effect
from rtobserver.observation.farewell import Farewell
from rtobserver.observation.ledger import Ledger
from rtobserver.observation.pause import Pause
from rtobserver.observation.speech import Speech, spoken
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import Changed, GapRow, OrderRow
from rtobserver.realtime.events import Event

ORDER_SECONDS = 10.0
"""An order that was not sent by then is not sent any more (design, section 8)."""
GOODBYE_SECONDS = 5.0
"""How long a goodbye may take, unless the order says otherwise."""
OPERATOR = {"rtobserver": "operator"}
"""Metadata of responses that an operator ordered."""


class Order(msgspec.Struct, frozen=True):
    """Be an operator's order. Of `command`, a `type` with a dot is a client event's."""

    order_id: str
    command: Json
    ordered_at: int


class _Waiting(msgspec.Struct):
    order: Order
    due: float


class Control:
    """Act on one call for one epoch."""

    __slots__ = (
        "_doubtful_id",
        "_farewell",
        "_hang_up",
        "_hang_ups",
        "_ledger",
        "_refusal",
        "_state",
        "_waiting",
        "commands",
        "gap",
        "is_attentive",
        "pause",
        "speech",
        "tags",
    )

    def __init__(
        self,
        ledger: Ledger,
        state: CallState,
        *,
        audio_key: bytes | None,
        hang_up: Callable[[HungUpBy, int, float], list[Effect]],
        tags: Iterable[str] = (),
        pause: Pause | None = None,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._hang_up = hang_up
        self.tags = list(tags)
        self.pause = pause or Pause()
        self.gap: GapRow | None = ledger.gaps.paused if self.pause.is_active else None
        """The gap of a pause that goes on."""
        self.commands = Commands(ledger, audio_key)
        self.speech = Speech(self.commands)
        self._farewell: Farewell | None = None
        self._waiting: list[_Waiting] = []
        self._hang_ups: list[str] = []
        self._doubtful_id: str | None = None
        self._refusal: Told | None = None
        """What orders are told that come when nothing can be done any more."""
        self.is_attentive = self.pause.is_engaged
        """Whether frames must be shown to `conceal` and `heard`; while not, they need not be."""

    def started(self, since: int, at: int, mono: float) -> list[Effect]:
        """Go on with a pause that an earlier epoch began, and whose gap was not stored."""
        if not self.pause.is_active or self.gap is not None:
            return []
        record, gap = self._ledger.open_gap("paused", since, at, mono)
        self.gap = gap
        return [record, gap]

    # --- orders ---------------------------------------------------------------------------------

    def ordered(self, order: Order, at: int, mono: float) -> list[Effect]:
        """Begin to carry out an order."""
        if self._refusal is not None:
            return _tell(order)(self._refusal)
        if not self.is_attentive:
            active_id = self._state.active_response_id
            self.speech.active_id = None if active_id == self._doubtful_id else active_id
        due = mono + ORDER_SECONDS - max(0, at - order.ordered_at) / 1e6
        command = order.command
        match command.get("type"):
            case "say":
                event = spoken(str(command.get("text", "")), OPERATOR)
                effects = self.speech.wish(event, "operator", _tell(order), at, mono, due=due)
            case "hangup" if command.get("goodbye"):
                effects = self._say_goodbye(order, at, mono)
            case "hangup":
                effects = self._end_call(order, at, mono)
            case "pause" | "resume" | "tags":
                effects = self._change_recording(order, at, mono)
            case _ if not self.speech.is_open:
                self._waiting.append(_Waiting(order, due))
                effects = []
            case _:
                effects = self.commands.issue(command, "operator", _tell(order), at, mono)
        return self._looked(effects)

    def _end_call(self, order: Order, at: int, mono: float) -> list[Effect]:
        self._hang_ups.append(order.order_id)
        return [*self._hang_up("operator", at, mono), OrderRow(order.order_id, "sent", sent_at=at)]

    def _say_goodbye(self, order: Order, at: int, mono: float) -> list[Effect]:
        if self._farewell is not None:
            return self._end_call(order, at, mono)
        after = order.command.get("after")
        seconds = float(after) if isinstance(after, int | float) else GOODBYE_SECONDS
        event = spoken(str(order.command["goodbye"]), OPERATOR)
        effects = self.say_goodbye(event, "operator", seconds, at, mono)
        self._hang_ups.append(order.order_id)
        return [*effects, OrderRow(order.order_id, "sent", sent_at=at)]

    def say_goodbye(
        self, event: Json, by: Literal["operator", "policy"], seconds: float, at: int, mono: float
    ) -> list[Effect]:
        """Have something said and then end the call, after so many seconds at the latest."""
        farewell = self._farewell = Farewell(by, seconds, mono)

        def tell(told: Told) -> list[Effect]:
            farewell.told(told)
            return []

        return self.speech.wish(event, by, tell, at, mono, due=farewell.due)

    def _change_recording(self, order: Order, at: int, mono: float) -> list[Effect]:
        command = order.command
        match command["type"]:
            case "pause":
                event_id, effects = self.begin_pause("operator", at, mono)
            case "resume":
                event_id, effects = self.end_pause("operator", at, mono)
            case _:
                body = {"type": "tags", "add": command.get("add", []), "remove": command.get("remove", [])}
                event_id, effects = self.commands.note(body, "operator", at, mono)
                effects += self.change_tags(body["add"], body["remove"])
        row = OrderRow(order.order_id, "acknowledged", event_id, at, at)
        return [*effects, row]

    def change_tags(self, add: Iterable[str], remove: Iterable[str]) -> list[Effect]:
        """Add tags that are not there and take others away."""
        removed = set(remove)
        tags = list(dict.fromkeys(tag for tag in (*self.tags, *add) if tag not in removed))
        if tags == self.tags:
            return []
        self.tags = tags
        return [Changed({"tags": list(tags)})]

    def begin_pause(self, source: Source, at: int, mono: float) -> tuple[str, list[Effect]]:
        """Pause the recording; a second time it changes nothing. Gives the command's id."""
        if self.pause.is_active:
            return self.commands.note({"type": "pause", "ids": []}, source, at, mono)
        ids = self.pause.begin(self._state.open_ids())
        event_id, effects = self.commands.note({"type": "pause", "ids": ids}, source, at, mono)
        record, gap = self._ledger.open_gap("paused", at, at, mono)
        self.gap = gap
        return event_id, [*effects, record, gap]

    def end_pause(self, source: Source, at: int, mono: float) -> tuple[str, list[Effect]]:
        """Go on recording. Gives the command's id."""
        event_id, effects = self.commands.note({"type": "resume"}, source, at, mono)
        self.pause.end()
        return event_id, effects + self._close_gap(at)

    def _close_gap(self, at: int) -> list[Effect]:
        gap, self.gap = self.gap, None
        if gap is None:
            return []
        self._ledger.gaps.bound(gap, at)
        return [gap]

    # --- frames ---------------------------------------------------------------------------------

    def conceal(self, event: Event, frame: bytes) -> bytes | None:
        """Give what stands for a frame that must not be stored; None for one that may."""
        if not self.pause.is_engaged:
            return None
        return self.pause.conceal(event, frame, self._state.knows)

    def heard(self, event: Event, frame: bytes, at: int, mono: float) -> list[Effect]:
        """Take in a frame as it came, concealed or not."""
        self.speech.heard(event, frame)
        effects = self.commands.heard(event, frame, at, mono) if self.commands else []
        if self.speech:
            effects += self.speech.pump(at, mono)
        if self._farewell is not None:
            self._farewell.heard(event, frame)
            effects += self._farewell_over(at, mono)
        return self._looked(effects)

    # --- the sideband ---------------------------------------------------------------------------

    def attached(self, at: int, mono: float) -> list[Effect]:
        """Send what waited for a sideband."""
        self.speech.attached()
        # its end may have been missed; where it goes on after all, upstream refuses once and says so
        self._doubtful_id = self._state.active_response_id
        waiting, self._waiting = self._waiting, []
        effects = self._expire(waiting, mono)
        for each in waiting:
            if each.due > mono:
                effects += self.commands.issue(each.order.command, "operator", _tell(each.order), at, mono)
        return self._looked(effects + self.speech.pump(at, mono))

    def detached(self, at: int, mono: float) -> list[Effect]:
        """Give up what is outstanding: its acknowledgement may be among what is missed now."""
        self.pause.miss()
        self.speech.detached()
        effects = self.commands.give_up("the sideband closed before an acknowledgement came", at, mono)
        return self._looked(effects + self._farewell_over(at, mono))

    def unsent(self, event_id: str, problem: str, at: int, mono: float) -> list[Effect]:
        """Take note that a command could not be sent."""
        effects = self.commands.unsent(event_id, problem, at, mono)
        return self._looked(effects + self._farewell_over(at, mono))

    # --- time and the end -----------------------------------------------------------------------

    def wake_at(self) -> float | None:
        """Give the monotonic time at which `woken` may have something to do."""
        due = [each.due for each in self._waiting]
        due += [each for each in (self.commands.due, self.speech.due) if each is not None]
        if self._farewell is not None and not self._farewell.is_over:
            due.append(self._farewell.due)
        return min(due, default=None)

    def woken(self, at: int, mono: float) -> list[Effect]:
        """Do what has become due."""
        effects = self._expire([each for each in self._waiting if each.due <= mono], mono)
        self._waiting = [each for each in self._waiting if each.due > mono]
        effects += self.commands.give_up("no acknowledgement came", at, mono, until=mono)
        effects += self.speech.woken(at, mono)
        if self._farewell is not None and self._farewell.due <= mono:
            self._farewell.is_over = True
        return self._looked(effects + self._farewell_over(at, mono))

    def hung_up(self, at: int, error: str | None) -> list[Effect]:
        """Take note of what became of the hang-up that was ordered."""
        orders, self._hang_ups = self._hang_ups, []
        if error is not None:
            return [OrderRow(order_id, "failed", sent_at=at, error=error) for order_id in orders]
        return [OrderRow(order_id, "acknowledged", sent_at=at, acknowledged_at=at) for order_id in orders]

    def given_up(self, at: int, mono: float) -> list[Effect]:
        """Refuse what waits, because nobody can send it; the call itself can still be hung up."""
        return self._release(Told("failed", at, mono, error="the call is not observed"))

    def ended(self, at: int, mono: float) -> list[Effect]:
        """Settle everything, because the call is over; that is what a hang-up wanted."""
        effects = self.hung_up(at, None) if self._hang_ups else []
        self._refusal, self._farewell = Told("failed", at, mono, error="the call ended before it was sent"), None
        effects += self._release(self._refusal)
        return effects + self._close_gap(at)

    def drained(self, at: int, mono: float) -> list[Effect]:
        """Give back what was not sent; a pause goes on."""
        self._refusal, self._farewell = Told("released", at, mono), None
        return self._release(self._refusal)

    def _release(self, told: Told) -> list[Effect]:
        waiting, self._waiting = self._waiting, []
        effects = [effect for each in waiting for effect in _tell(each.order)(told)]
        effects += self.speech.close(told)
        return effects + self.commands.give_up("the observer left the call", told.at, told.mono)

    def _expire(self, waiting: Iterable[_Waiting], mono: float) -> list[Effect]:
        return [OrderRow(each.order.order_id, "expired") for each in waiting if each.due <= mono]

    def _farewell_over(self, at: int, mono: float) -> list[Effect]:
        farewell = self._farewell
        if farewell is None or not farewell.is_over:
            return []
        self._farewell = None
        return self._hang_up(farewell.by, at, mono)

    def _looked(self, effects: list[Effect]) -> list[Effect]:
        self.is_attentive = (
            self.pause.is_engaged or bool(self.commands) or bool(self.speech) or self._farewell is not None
        )
        return effects


def _tell(order: Order) -> Tell:
    """Turn what becomes of a command into what becomes of its order."""
    sent_at: int | None = None

    def tell(told: Told) -> list[Effect]:
        nonlocal sent_at
        if told.state == "sent":
            sent_at = told.at
        # an order knows no "unknown": it was sent, and the words say what is not known
        state = "sent" if told.state == "unknown" else "waiting" if told.state == "released" else told.state
        acknowledged_at = told.at if told.state == "acknowledged" else None
        return [OrderRow(order.order_id, state, told.event_id, sent_at, acknowledged_at, told.error)]

    return tell
