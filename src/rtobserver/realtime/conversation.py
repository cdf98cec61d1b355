"""Working state of a call: its items and responses, and which rows of them are worth writing.

Memory is bounded, so that a call of hours holds no more than one of minutes: beyond `MAX_ITEMS` items,
`MAX_RESPONSES` responses or `MAX_TEXT_HELD` characters the oldest are forgotten, finished ones first, a
response together with its items. Their rows were given out; what comes for them later is ignored, so
that it cannot spoil those rows. Of the forgotten a hash of the id is kept, and of responses how long
the user waited for them.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from rtobserver.realtime.item import Item
from rtobserver.realtime.response import Response
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.realtime.turns import is_user_turn
from rtobserver.realtime.values import identifier

_Held = TypeVar("_Held", Item, Response)

MAX_ITEMS = 192
MAX_RESPONSES = 64
MAX_TEXT_HELD = 1_000_000
MAX_OPEN = 64
"""Items whose deltas are gathered at once; beyond it the oldest is not checked."""
MAX_ABSENT = 1_000
MAX_TIMES = 1_000
"""Latest forgotten responses whose latencies the percentiles are made of."""
_MAX_GONE = 4_000
_MAX_OUTPUTS = 64
_MAX_STEPS = 200
"""How far a chain is followed back to the user's item."""


class Changes(msgspec.Struct, frozen=True, gc=False):
    """Hold the rows that are worth writing now."""

    items: tuple[ItemRow, ...]
    responses: tuple[ResponseRow, ...]
    settled: bool
    """True when a response ended, so that the call's totals are worth writing too."""


class Conversation:
    """Keep the items and responses of one call."""

    __slots__ = (
        "_absent", "_gone", "_late_items", "_late_responses", "_linked", "_lost_count", "_opened", "_text_held",
        "active_id", "at", "epoch", "generated_ms", "heard_ms", "interruption_count", "items", "last_user_id",
        "responses", "seq", "turn_count",
    )  # fmt: skip

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.responses: dict[str, Response] = {}
        self.at = self.epoch = self.seq = 0
        self.active_id: str | None = None
        self.last_user_id: str | None = None
        self.turn_count = 0
        self.interruption_count = 0
        self._absent: dict[str, bool] = {}
        self._gone = array("q")
        """Hashes of the ids that were forgotten, the oldest first."""
        self.heard_ms: deque[int] = deque(maxlen=MAX_TIMES)
        """Latencies of forgotten responses, as the user heard them."""
        self.generated_ms: deque[int] = deque(maxlen=MAX_TIMES)
        """Latencies of forgotten responses, up to their first output."""
        self._opened: dict[str, Item] = {}
        self._late_items: list[ItemRow] = []
        self._late_responses: list[ResponseRow] = []
        self._linked = False
        self._lost_count = 0
        self._text_held = 0

    @property
    def missed(self) -> bool:
        """True where something can only have happened before the attach.

        The first item that tells its predecessor ends the doubt: what is found missing after that
        was lost on the way, and has a gap of its own.
        """
        return self._lost_count > 0 or any(self._absent.values())

    @property
    def absent(self) -> tuple[str, ...]:
        """Ids of items that were named and never seen."""
        return tuple(self._absent)

    def item(self, item_id: object) -> Item | None:
        """Find an item, or begin one; None for what is no id, and for one that was forgotten."""
        known = self.items.get(item_id) if isinstance(item_id, str) else None
        name = identifier(item_id)
        if known is not None or name is None or hash(name) in self._gone:
            return known
        if len(self.items) >= MAX_ITEMS or self._text_held > MAX_TEXT_HELD:
            self._forget_item()
        item = self.items[name] = Item(name, self.epoch, self.seq, self.at)
        return item

    def response(self, response_id: object) -> Response | None:
        """Find a response, or begin one: whatever event names it first."""
        known = self.responses.get(response_id) if isinstance(response_id, str) else None
        name = identifier(response_id)
        if known is not None or name is None or hash(name) in self._gone:
            return known
        if len(self.responses) >= MAX_RESPONSES:
            self._forget_response(_oldest(self.responses.values()))
        response = self.responses[name] = Response(name, self.epoch, self.seq)
        self._answer(response, self.items.get(self.last_user_id or ""))
        return response

    def knows(self, id_: str) -> bool:
        """Say whether an item or response of this id is held, or was."""
        return id_ in self.items or id_ in self.responses or hash(id_) in self._gone

    def introduce(self, item: Item) -> None:
        """Note that upstream announced an item."""
        item.introduced = True
        self._absent.pop(item.id, None)

    def recover(self, item_id: str, value: dict[str, Any]) -> Item | None:
        """Take in an item that somebody asked for, if its text was missing and is told; it may have been only named.

        That it was missed before the attach stays true.
        """
        item = self.items.get(item_id)
        if item is None:
            if item_id not in self._absent or not Item(item_id, 0, 0, 0).recover(value):
                return None
            item = self.item(item_id)
            if item is None:
                return None
            item.started_at = None
        if not item.lacks_text or not item.recover(value):
            return None
        item.introduced = True
        if not self._absent.get(item_id, True):
            del self._absent[item_id]
        return item

    @property
    def lost(self) -> list[str]:
        """Ids of items that were named and never seen, and can only have been lost on the way."""
        return [id_ for id_, before in self._absent.items() if not before and id_ not in self.items]

    def lack(self, item_id: str) -> None:
        """Note that something named an item which was not announced."""
        known = self.items.get(item_id)
        if (known is not None and known.introduced) or hash(item_id) in self._gone:
            return
        before = not self._linked or self._absent.get(item_id, False)
        if item_id in self._absent or len(self._absent) < MAX_ABSENT:
            self._absent[item_id] = before
        else:
            self._lost_count += before

    def link(self, item: Item, previous_id: object) -> None:
        """Note which item comes before another."""
        previous = identifier(previous_id)
        if previous is not None and previous not in ("root", item.id):
            item.previous = previous
            self.lack(previous)
        self._linked = True

    def belong(self, item: Item, response: Response | None) -> None:
        """Note that a response made an item, or merely named it."""
        if response is None:
            return
        if item.response_id is None:
            item.response_id = response.id
            if len(response.items) < _MAX_OUTPUTS:
                response.items.append(item.id)
            if response.text_only and item.kind == "speech" and not item.texts:
                item.kind = "text"
        if item.added and item.response_id == response.id:
            response.in_conversation = True
            self._follow_chain(response, item)

    def put_out(self, response: Response | None) -> None:
        """Note output of a response: the first gives its generation latency."""
        if response is None or response.first_output_at is not None:
            return
        response.first_output_at = self.at
        self._claim(response)
        if self.active_id is None and not response.is_done and not response.is_out_of_band:
            self.active_id = response.id

    def play(self, response: Response) -> None:
        """Note that a response is heard: the first of a turn has the latency that the user felt."""
        if response.playback_started_at is None:
            response.playback_started_at = self.at
            self._claim(response)

    def gather(self, item: Item) -> None:
        """Begin to gather an item's deltas."""
        item.open = True
        self._opened[item.id] = item
        if len(self._opened) > MAX_OPEN:
            self._opened = {key: each for key, each in self._opened.items() if each.open}
        if len(self._opened) > MAX_OPEN:
            self._opened.pop(next(iter(self._opened))).stop_gathering()

    def outputs(self, response: Response | None) -> list[Item]:
        """Give the items of a response that are still held."""
        if response is None:
            return []
        return [item for key in response.items if (item := self.items.get(key)) is not None]

    def changes(
        self, items: Iterable[Item] = (), responses: Iterable[Response] = (), *, settled: bool = False
    ) -> Changes | None:
        """Give those rows that differ from when they were last given; None if there is nothing to say."""
        response_rows = [row for row in map(self._changed_response, responses) if row is not None]
        item_rows = [row for row in map(self._changed_item, items) if row is not None]
        if self._late_items or self._late_responses:
            item_rows, self._late_items = self._late_items + item_rows, []
            response_rows, self._late_responses = self._late_responses + response_rows, []
        if not item_rows and not response_rows and not settled:
            return None
        return Changes(tuple(item_rows), tuple(response_rows), settled)

    def row(self, item: Item) -> ItemRow:
        """Make an item's row as things stand."""
        response = self.responses.get(item.response_id or "")
        siblings = []
        if response is not None and (response.cleared or item.truncated_ms is not None):
            siblings = [each for each in self.outputs(response) if each.kind == "speech" and each.role == "assistant"]
        return item.make_row(response, siblings)

    def _changed_item(self, item: Item) -> ItemRow | None:
        if not item.visible:
            return None
        row = self.row(item)
        turn = is_user_turn(row)
        if turn != item.turn:
            self.turn_count += 1 if turn else -1
            item.turn = turn
        if row == item.row:
            return None
        self._text_held += _weight(row) - (_weight(item.row) if item.row else 0)
        item.row = row
        return row

    def _changed_response(self, response: Response) -> ResponseRow | None:
        row = response.make_row()
        if row.interrupted != response.counted:
            self.interruption_count += 1 if row.interrupted else -1
            response.counted = row.interrupted
        if row == response.row:
            return None
        response.row = row
        return row

    def _follow_chain(self, response: Response, item: Item) -> None:
        current = self.items.get(item.previous or "")
        for _ in range(0 if response.linked else _MAX_STEPS):
            if current is None:
                return
            if current.role == "user" and current.visible:
                response.linked = True
                self._answer(response, None if current.idle else current)
                return
            current = self.items.get(current.previous or "")

    def _answer(self, response: Response, user: Item | None) -> None:
        former = self.items.get(response.user_id or "")
        if former is not None and former is not user:
            former.generated_by = None if former.generated_by == response.id else former.generated_by
            former.heard_by = None if former.heard_by == response.id else former.heard_by
        response.generated_first = response.heard_first = False
        response.user_id = user.id if user else None
        response.user_end = user.user_end if user else None
        self._claim(response)

    def _claim(self, response: Response) -> None:
        user = self.items.get(response.user_id or "")
        if user is None or response.is_out_of_band:
            return
        if response.first_output_at is not None and user.generated_by in (None, response.id):
            user.generated_by = response.id
            response.generated_first = True
        if response.playback_started_at is not None and user.heard_by in (None, response.id):
            user.heard_by = response.id
            response.heard_first = True

    def _forget_item(self) -> None:
        victim = _oldest(self.items.values())
        response = self.responses.get(victim.response_id or "")
        if response is not None:
            self._forget_response(response)
        if victim.id in self.items:
            self._drop(victim)

    def _forget_response(self, response: Response) -> None:
        row = self._changed_response(response)
        if row is not None:
            self._late_responses.append(row)
        if (heard := response.heard_latency_ms) is not None:
            self.heard_ms.append(heard)
        if (generated := response.generation_latency_ms) is not None:
            self.generated_ms.append(generated)
        # the rows of its items need it, so they are made before it goes
        for output in self.outputs(response):
            self._drop(output)
        del self.responses[response.id]
        self._bury(response.id)
        if self.active_id == response.id:
            self.active_id = None

    def release(self) -> None:
        """Let go of all that is held."""
        for held in (self.items, self.responses, self._opened, self._absent):
            held.clear()
        self._gone = array("q")
        self._late_items, self._late_responses = [], []
        self._text_held = 0

    def _drop(self, item: Item) -> None:
        row = self._changed_item(item)
        if row is not None:
            self._late_items.append(row)
        self._text_held -= _weight(item.row) if item.row else 0
        del self.items[item.id]
        self._opened.pop(item.id, None)
        self._bury(item.id)

    def _bury(self, key: str) -> None:
        self._gone.append(hash(key))
        if len(self._gone) > _MAX_GONE:
            del self._gone[: _MAX_GONE // 8]


def _weight(row: ItemRow) -> int:
    return len(row.text) + len(row.tool_output or "")


def _oldest(values: Iterable[_Held]) -> _Held:
    """Give the oldest that is finished; if none of the first few is, the oldest."""
    first: _Held | None = None
    for number, value in enumerate(values):
        if first is None:
            first = value
        if value.is_done:
            return value
        if number == 32:
            break
    if first is None:
        raise LookupError("nothing is held")
    return first
