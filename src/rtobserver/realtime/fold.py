"""What the fold of a call knows while it goes on, and the steps that several events share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias, TypeVar

from rtobserver.realtime.conversation import Changes, Conversation
from rtobserver.realtime.events import Event
from rtobserver.realtime.item import Item
from rtobserver.realtime.meters import Meters
from rtobserver.realtime.response import Response
from rtobserver.realtime.sound import Sound

_Held = TypeVar("_Held", Item, Response)

MAX_NAMED = 100
"""Ids that are listed of each sort, and tool calls that are waited for."""
MAX_TOOL_TIMES = 1_000
"""Latest tool calls that the percentiles are made of."""


@dataclass(slots=True)
class Fold:
    """Be the working state of one call."""

    session_model: str | None = None
    transcriber: str | None = None
    """Model or deployment that transcribes."""
    padding_ms: int = 0
    """What voice detection adds around speech: its prefix and the silence it waits for."""
    talk: Conversation = field(default_factory=Conversation)
    meters: Meters = field(default_factory=Meters)
    sound: Sound = field(default_factory=Sound)
    broken: dict[str, None] = field(default_factory=dict)
    recovered: dict[str, None] = field(default_factory=dict)
    """Items whose text was asked for, because a gap had swallowed it."""
    waiting_tools: dict[str, tuple[str, int]] = field(default_factory=dict)
    tool_ms: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_TOOL_TIMES))
    """How long tools took, from their complete arguments to their output."""
    error_count: int = 0
    playing_response_id: str | None = None
    transcription_failure_count: int = 0
    transcription_error: str | None = None

    def name_item(self, item_id: object) -> Item | None:
        """Find or begin an item that an event names as if it were known; note it if it is not."""
        item = self.talk.item(item_id)
        if item is not None and not item.introduced:
            self.talk.lack(item.id)
        return item

    def introduce_item(self, item_id: object) -> Item | None:
        """Find or begin an item that an event announces."""
        item = self.talk.item(item_id)
        if item is not None:
            self.talk.introduce(item)
        return item

    def complete_item(self, item: Item, value: dict[str, Any]) -> None:
        """Take in the final state of an item."""
        item.absorb(value, self.talk.at)
        if item.visible and item.status == "in_progress":
            item.status = "completed"
        if item.ended_at is None:
            item.ended_at = self.talk.at
        if item.kind == "tool_call":
            self.expect_tool(item)
        self.answer_tool(item)

    def expect_tool(self, item: Item) -> None:
        """Note that a tool can begin: its arguments are complete."""
        if item.called_at is None:
            item.called_at = self.talk.at
            if item.tool_call_id is not None and len(self.waiting_tools) < MAX_NAMED:
                self.waiting_tools[item.tool_call_id] = (item.id, item.called_at)

    def answer_tool(self, item: Item) -> None:
        """Note that an item gives a function's output, if it does."""
        if item.kind != "tool_output" or item.tool_call_id is None:
            return
        call_item_id, called_at = self.waiting_tools.pop(item.tool_call_id, ("", None))
        self.time_tool(called_at)
        call = self.talk.items.get(call_item_id)
        if call is not None and item.tool_name is None:
            item.tool_name = call.tool_name

    def time_tool(self, called_at: int | None) -> None:
        """Note that a tool which began then is done."""
        if called_at is not None and called_at <= self.talk.at:
            self.tool_ms.append((self.talk.at - called_at) // 1000)

    def fork(self) -> Self:
        """Give another one that knows the same and goes its own way."""
        talk = self.talk
        # an item or response holds texts and lists of texts only: copied one by one they cost a tenth
        items = {id(each): _twin(each) for each in talk.items.values()}
        responses = {id(each): _twin(each) for each in talk.responses.values()}
        return deepcopy(self, {**items, **responses})

    def changes_of(self, response: Response, *, settled: bool = False) -> Changes | None:
        """Give what changed of a response and its items."""
        return self.talk.changes(self.talk.outputs(response), [response], settled=settled)


def _twin(held: _Held) -> _Held:
    made = copy(held)
    for name in type(held).__slots__:
        value = getattr(held, name)
        if isinstance(value, dict | list):
            setattr(made, name, value.copy())
    return made


Step: TypeAlias = Callable[[Fold, Event, bytes], Changes | None]
"""What one type of event does to the fold."""
