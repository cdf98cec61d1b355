"""Ask upstream for the text of items that a gap swallowed. Pure.

After a re-attach or a take-over some items are known of which the text cannot come any more by itself:
what should have told it fell into the gap. They are asked for by `conversation.item.retrieve`, and the
answer is an event like any other: the fold takes the text from it. It tells words, not times.

There is restraint, since an answer holds the item's sound and goes to every peer: what still comes by
itself is waited for, few are asked for at a time and in all, each at most twice in a call, and nothing
that may have been said while the recording was paused (docs/decisions/0100).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial

import msgspec

from rtobserver.observation.commands import Author, Told
from rtobserver.observation.control import Control
from rtobserver.observation.effects import Effect
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import GapReason, GapRow
from rtobserver.realtime.lacking import Lack

FIRST_LOOK = 2.0
"""Seconds after an attach until the first look; also between two looks while something waits."""
PATIENCE = 64.0
"""Seconds after an attach in which items that are only named afterwards are asked for."""
AT_ONCE = 2
PER_ITEM = 2
"""How often one item is asked for in a call: the first answer may have come before its words."""
PER_GAP = 20
PER_CALL = 100
MAX_WOUNDS = 10
"""Gaps that are followed at a time; the oldest stays as it is."""

SYSTEM = Author("system")

_HEALED: frozenset[GapReason] = frozenset({"reattach", "takeover", "oversize", "protocol"})


class _Wound(msgspec.Struct):
    gap: GapRow
    missing: set[str]
    has_gained: bool = False
    """Whether anything was given back."""


class Healing:
    """Heal the gaps of one call in one epoch."""

    __slots__ = (
        "_asked",
        "_control",
        "_interval",
        "_is_careful",
        "_left",
        "_open",
        "_ripe",
        "_seen",
        "_since",
        "_state",
        "_wounds",
        "due",
    )

    def __init__(self, state: CallState, control: Control, asked: Mapping[str, int]) -> None:
        self._state = state
        self._control = control
        self._asked = dict(asked)
        """How often each item was asked for in this call."""
        self.due: float | None = None
        """Monotonic time of the next look."""
        self._since = 0.0
        self._interval = FIRST_LOOK
        self._left = 0
        self._open: set[str] = set()
        """Items whose answer is awaited."""
        self._ripe: deque[str] = deque()
        self._seen: dict[str, Lack] = {}
        """What was lacking at the last look."""
        self._wounds: list[_Wound] = []
        self._is_careful = control.pause.is_engaged
        """Whether something of a pause may have been missed."""

    def attached(self, gap: GapRow | None, mono: float) -> None:
        """Take note that frames come again; the gap was before."""
        if gap is None or gap.reason not in _HEALED:
            return
        lacks = self._state.lacking()
        known = {item_id for wound in self._wounds for item_id in wound.missing}
        self._wounds.append(_Wound(gap, {lack.item_id for lack in lacks} - known))
        del self._wounds[:-MAX_WOUNDS]
        self._seen = {lack.item_id: lack for lack in lacks}
        self._since, self._interval, self._left = mono, FIRST_LOOK, PER_GAP
        self.due = mono + FIRST_LOOK

    def detached(self, *, oversize: bool) -> None:
        """Take note that frames are missed from now on."""
        if oversize:
            # an answer may have been what was too large; it would be so again
            self._asked.update(dict.fromkeys(self._open, PER_ITEM))
        self.due = None
        self._ripe.clear()
        self._is_careful = self._is_careful or self._control.pause.is_engaged

    def woken(self, at: int, mono: float) -> list[Effect]:
        """Look, if it is time to, and ask for what will not come by itself."""
        if self.due is None or mono < self.due:
            return []
        lacks = self._state.lacking()
        # what is named only now was in the gap as a whole
        named = {lack.item_id for lack in lacks if not lack.is_seen and not self._is_wanted(lack)}
        self._wounds[-1].missing |= named
        effects = self._close(lacks)
        wanted = [lack for lack in lacks if self._may_ask(lack)]
        self._ripe = deque(lack.item_id for lack in wanted if self._seen.get(lack.item_id) == lack)
        self._seen = {lack.item_id: lack for lack in lacks}
        self._interval = FIRST_LOOK if wanted else self._interval * 2
        due = mono + self._interval
        self.due = due if due - self._since <= PATIENCE else None
        return effects + self._ask(at, mono)

    def _is_wanted(self, lack: Lack) -> bool:
        return any(lack.item_id in wound.missing for wound in self._wounds)

    def _may_ask(self, lack: Lack) -> bool:
        if not lack.is_at_hand or not self._is_wanted(lack) or self._asked.get(lack.item_id, 0) >= PER_ITEM:
            return False
        pause = self._control.pause
        if pause.is_active:
            return False
        if not pause.is_engaged and not self._is_careful:
            return True
        return lack.is_seen and not pause.holds(lack.item_id)

    def _ask(self, at: int, mono: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._ripe and self._control.speech.is_open and len(self._open) < AT_ONCE:
            item_id = self._ripe.popleft()
            if item_id in self._open or not self._left or sum(self._asked.values()) >= PER_CALL:
                continue
            self._left -= 1
            self._asked[item_id] = self._asked.get(item_id, 0) + 1
            self._open.add(item_id)
            event = {"type": "conversation.item.retrieve", "item_id": item_id}
            effects += self._control.ask(event, SYSTEM, partial(self._told, item_id), at, mono)
        return effects

    def _told(self, item_id: str, told: Told) -> list[Effect]:
        if told.state == "sent":
            return []
        self._open.discard(item_id)
        if told.state == "failed":
            # there is no such item, and there will be none
            self._asked[item_id] = PER_ITEM
        effects = self._close(self._state.lacking()) if told.state == "acknowledged" else []
        return effects + self._ask(told.at, told.mono)

    def _close(self, lacks: Iterable[Lack]) -> list[Effect]:
        """Say of each gap whether all that is known to be missing was given back."""
        lacking = {lack.item_id for lack in lacks}
        effects: list[Effect] = []
        for wound in self._wounds:
            came = wound.missing - lacking
            wound.missing -= came
            wound.has_gained = wound.has_gained or any(self._state.is_recovered(item_id) for item_id in came)
            gap = wound.gap
            if gap.state == "bounded" and wound.has_gained and not wound.missing:
                gap.state = "recovered"
                effects.append(gap)
            elif gap.state == "recovered" and wound.missing:
                gap.state = "bounded"
                effects.append(gap)
        return effects
