"""Carry out what is ordered of a call: client events, speech, tags, a pause of the recording, its end.

Pure. The rooms behind it (`commands`, `speech`, `pause`) know nothing of orders; policies use the
same ones. An order is told of in `OrderRow`s. What cannot be sent within `ORDER_SECONDS` expires; a
drain gives back what was not sent, so that the next run of the daemon does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from rtobserver.observation.commands import OPERATOR, Author, Commands, HungUpBy, Json, Tell, Told
from rtobserver.observation.effects import Effect
from rtobserver.observation.farewell import Farewell
from rtobserver.observation.ledger import Ledger
from rtobserver.observation.pause import Pause
from rtobserver.observation.speech import Speech, spoken
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import Changed, CommandRow, GapRow, OrderRow
from rtobserver.realtime.events import Event

ORDER_SECONDS = 10.0
"""An order that was not sent by then is not sent any more (design, section 8)."""
GOODBYE_SECONDS = 5.0
"""How long a goodbye may take, unless the order says otherwise."""
METADATA = {"rtobserver": "operator"}
"""Metadata of responses that an operator ordered."""


class Order(msgspec.Struct, frozen=True):
    """Be an operator's order. Of `command`, a `type` with a dot is a client event's."""

    order_id: str
    command: Json
    ordered_at: int


class HangsUp(Protocol):
    """Have the call ended (`machine.py`)."""

    def __call__(self, by: HungUpBy, at: int, mono: float, author: Author | None = None) -> list[Effect]:
        """Begin to end it; a second time changes nothing."""


class _Waiting(msgspec.Struct):
    event: Json
    author: Author
    tell: Tell
    due: float


Ended = Callable[[int, str | None], list[Effect]]
"""Is told, with the time, that the call was ended, or why it was not; after a failure it may be told again."""


class Control:
    """Act on one call for one epoch."""

    __slots__ = (
        "_doubtful_id",
        "_failed_hang_ups",
        "_farewell",
        "_follows",
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
        hang_up: HangsUp,
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
        self._hang_ups: list[Ended] = []
        self._failed_hang_ups: list[Ended] = []
        """Those that were told of a failure, for when it is tried again."""
        self._doubtful_id: str | None = None
        self._follows = False
        self._refusal: Told | None = None
        """What orders are told that come when nothing can be done any more."""
        self.is_attentive = self.pause.is_engaged
        """Whether frames must be shown to `conceal` and `heard`; while not, they need not be."""

    def started(self, watermark: int, since: float, at: int, mono: float) -> list[Effect]:
        """Go on with a pause that an earlier epoch began; `since` is the monotonic time of the watermark."""
        if not self.pause.is_active:
            return []
        if self.gap is not None:
            self._ledger.gaps.go_on(self.gap, since - max(0, watermark - self.gap.from_at) / 1e6)
            return []
        # it was not stored
        record, gap = self._ledger.open_gap("paused", watermark, at, mono, since=since)
        self.gap = gap
        return [record, gap]

    # --- orders ---------------------------------------------------------------------------------

    def ordered(self, order: Order, at: int, mono: float) -> list[Effect]:
        """Begin to carry out an order."""
        if self._refusal is not None:
            return _tell(order)(self._refusal)
        if not self.is_attentive:
            self._learn_speech()
        due = mono + ORDER_SECONDS - max(0, at - order.ordered_at) / 1e6
        command = order.command
        match command.get("type"):
            case "say":
                event = spoken(str(command.get("text", "")), METADATA)
                effects = self.speech.wish(event, OPERATOR, _tell(order), at, mono, due=due)
            case "hangup":
                effects = self._end_call(order, at, mono)
            case "pause" | "resume" | "tags":
                effects = self._change_recording(order, at, mono)
            case _:
                effects = self.issue(command, OPERATOR, _tell(order), at, mono, due=due)
        return self._looked(effects)

    def _end_call(self, order: Order, at: int, mono: float) -> list[Effect]:
        words, after = order.command.get("goodbye"), order.command.get("after")
        seconds = float(after) if isinstance(after, int | float) else GOODBYE_SECONDS
        # a second goodbye is not waited for
        goodbye = spoken(str(words), METADATA) if words and self._farewell is None else None
        effects = self.end_call(goodbye, OPERATOR, seconds, _ended(order), at, mono)
        return [*effects, OrderRow(order.order_id, "sent", sent_at=at)]

    # --- what orders and policies ask for -------------------------------------------------------

    def issue(
        self, event: Json, author: Author, tell: Tell, at: int, mono: float, *, due: float | None = None
    ) -> list[Effect]:
        """Send a client event, or as soon as there is a sideband, or not at all after `due`."""
        if self._refusal is not None:
            return tell(self._refusal)
        if self.speech.is_open:
            return self.commands.issue(event, author, tell, at, mono)
        self._waiting.append(_Waiting(event, author, tell, mono + ORDER_SECONDS if due is None else due))
        return []

    def ask(self, event: Json, author: Author, tell: Tell, at: int, mono: float) -> list[Effect]:
        """Send a client event that nobody ordered."""
        if not self.is_attentive:
            self._learn_speech()
        return self._looked(self.issue(event, author, tell, at, mono))

    def say(self, event: Json, author: Author, tell: Tell, at: int, mono: float, *, due: float) -> list[Effect]:
        """Send a `response.create` as soon as no response is active, or not at all after `due`."""
        if self._refusal is not None:
            return tell(self._refusal)
        return self.speech.wish(event, author, tell, at, mono, due=due)

    def end_call(
        self, goodbye: Json | None, author: Author, seconds: float, ended: Ended, at: int, mono: float
    ) -> list[Effect]:
        """End the call; with a goodbye, after that was said, or after so many seconds at the latest.

        One goodbye is enough: a second waits for the first.
        """
        self._hang_ups.append(ended)
        by: HungUpBy = "policy" if author.source == "policy" else "operator"
        if goodbye is None:
            return self._hang_up(by, at, mono, author)
        if self._farewell is not None:
            return []
        farewell = self._farewell = Farewell(author, seconds, mono)

        def tell(told: Told) -> list[Effect]:
            farewell.told(told)
            return []

        return self.speech.wish(goodbye, author, tell, at, mono, due=farewell.due)

    def follow(self, *, follows: bool) -> None:
        """Be shown every frame, or only those that something waits for."""
        if follows and not self.is_attentive:
            self._learn_speech()
        self._follows = follows
        self._looked([])

    def _learn_speech(self) -> None:
        active_id = self._state.active_response_id
        self.speech.active_id = None if active_id == self._doubtful_id else active_id

    def _change_recording(self, order: Order, at: int, mono: float) -> list[Effect]:
        command = order.command
        match command["type"]:
            case "pause":
                event_id, effects = self.begin_pause(OPERATOR, at, mono)
            case "resume":
                event_id, effects = self.end_pause(OPERATOR, at, mono)
            case _:
                body = {"type": "tags", "add": command.get("add", []), "remove": command.get("remove", [])}
                event_id, effects = self.commands.note(body, OPERATOR, at, mono)
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

    def begin_pause(self, author: Author, at: int, mono: float) -> tuple[str, list[Effect]]:
        """Pause the recording; a second time it changes nothing. Gives the command's id."""
        if self.pause.is_active:
            return self.commands.note({"type": "pause", "ids": []}, author, at, mono)
        ids = self.pause.begin(self._state.open_ids())
        event_id, effects = self.commands.note({"type": "pause", "ids": ids}, author, at, mono)
        record, gap = self._ledger.open_gap("paused", at, at, mono)
        self.gap = gap
        return event_id, [*effects, record, gap]

    def end_pause(self, author: Author, at: int, mono: float) -> tuple[str, list[Effect]]:
        """Go on recording. Gives the command's id."""
        event_id, effects = self.commands.note({"type": "resume"}, author, at, mono)
        self.pause.end()
        return event_id, effects + self._close_gap(mono)

    def _close_gap(self, mono: float) -> list[Effect]:
        gap, self.gap = self.gap, None
        if gap is None:
            return []
        self._ledger.gaps.bound(gap, mono)
        return [gap]

    # --- frames ---------------------------------------------------------------------------------

    def conceal(self, event: Event, frame: bytes) -> bytes | None:
        """Give what stands for a frame that must not be stored; None for one that may."""
        if not self.pause.is_engaged:
            return None
        return self.pause.conceal(event, frame, self._state.knows, self._state.waiting_tools)

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
        effects = self._expire(waiting, at, mono)
        for each in waiting:
            if each.due > mono:
                effects += self.commands.issue(each.event, each.author, each.tell, at, mono)
        return self._looked(effects + self.speech.pump(at, mono))

    def detached(self, at: int, mono: float) -> list[Effect]:
        """Give up what is outstanding: its acknowledgement may be among what is missed now."""
        self.pause.miss()
        self.speech.detached()
        effects = self.commands.give_up("the sideband closed before an acknowledgement came", at, mono)
        return self._looked(effects + self._farewell_over(at, mono))

    def unsent(self, event_id: str, problem: str, at: int, mono: float, *, never: bool = False) -> list[Effect]:
        """Take note that a command could not be sent; it may have arrived all the same unless it `never` left."""
        effects = self.commands.unsent(event_id, problem, at, mono, never=never)
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
        effects = self._expire(self._waiting, at, mono)
        self._waiting = [each for each in self._waiting if each.due > mono]
        effects += self.commands.give_up("no acknowledgement came", at, mono, until=mono)
        effects += self.speech.woken(at, mono)
        if self._farewell is not None and self._farewell.due <= mono:
            self._farewell.is_over = True
        return self._looked(effects + self._farewell_over(at, mono))

    def hang_up(self, body: Json, author: Author, at: int, mono: float) -> tuple[CommandRow, list[Effect]]:
        """Record that upstream is asked to end the call, for the first time or again."""
        self._hang_ups += self._failed_hang_ups
        self._failed_hang_ups = []
        return self.commands.hang_up(body, author, at, mono)

    def hung_up(self, at: int, error: str | None) -> list[Effect]:
        """Take note of what became of the hang-up that was ordered; a failure may be followed by a success."""
        told, self._hang_ups = self._hang_ups, []
        self._failed_hang_ups = told if error is not None else []
        return [effect for ended in told for effect in ended(at, error)]

    def given_up(self, at: int, mono: float) -> list[Effect]:
        """Refuse what waits, because nobody can send it; the call itself can still be hung up."""
        return self._release(Told("failed", at, mono, error="the call is not observed"))

    def ended(self, at: int, mono: float) -> list[Effect]:
        """Settle everything, because the call is over; that is what a hang-up wanted."""
        effects = self.hung_up(at, None) if self._hang_ups else []
        self._refusal, self._farewell = Told("failed", at, mono, error="the call ended before it was sent"), None
        effects += self._release(self._refusal)
        return effects + self._close_gap(mono)

    def drained(self, at: int, mono: float) -> list[Effect]:
        """Give back what was not sent; a pause goes on."""
        self._refusal, self._farewell = Told("released", at, mono), None
        return self._release(self._refusal)

    def _release(self, told: Told) -> list[Effect]:
        waiting, self._waiting = self._waiting, []
        effects = [effect for each in waiting for effect in each.tell(told)]
        effects += self.speech.close(told)
        return effects + self.commands.give_up("the observer left the call", told.at, told.mono)

    def _expire(self, waiting: Iterable[_Waiting], at: int, mono: float) -> list[Effect]:
        told = Told("expired", at, mono)
        return [effect for each in waiting if each.due <= mono for effect in each.tell(told)]

    def _farewell_over(self, at: int, mono: float) -> list[Effect]:
        farewell = self._farewell
        if farewell is None or not farewell.is_over:
            return []
        self._farewell = None
        by: HungUpBy = "policy" if farewell.author.source == "policy" else "operator"
        return self._hang_up(by, at, mono, farewell.author)

    def _looked(self, effects: list[Effect]) -> list[Effect]:
        self.is_attentive = (
            self._follows
            or self.pause.is_engaged
            or bool(self.commands)
            or bool(self.speech)
            or self._farewell is not None
        )
        return effects


def _ended(order: Order) -> Ended:
    """Turn what first becomes of a hang-up into what becomes of its order."""
    is_told = False

    def ended(at: int, error: str | None) -> list[Effect]:
        nonlocal is_told
        if is_told:
            return []
        is_told = True
        if error is not None:
            return [OrderRow(order.order_id, "failed", sent_at=at, error=error)]
        return [OrderRow(order.order_id, "acknowledged", sent_at=at, acknowledged_at=at)]

    return ended


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
