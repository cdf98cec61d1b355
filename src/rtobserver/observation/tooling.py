"""Answer function calls with what tools' endpoints say. Pure.

The endpoint is asked once. Its answer becomes the function call's output, under an item id of ours, and
when upstream has taken that, one `response.create` is wished for: one for all calls of a response that are
answered here, after the last of them and after the response itself, which may make more of them. Where
somebody else answers first, ours is not sent; where both are under way at once, upstream takes one of them.
What comes after the end of the call is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from rtobserver.observation.commands import Author, Json, Tell, Told
from rtobserver.observation.control import Control
from rtobserver.observation.deed import Deed
from rtobserver.observation.effects import AskTool, Effect
from rtobserver.policy.rules import AnswerTool
from rtobserver.policy.verdicts import Match
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import identifier, mapping

_T = TypeVar("_T")

SPEAK_SECONDS = 30.0
"""How long the response to an output may have to wait for the one that goes on."""
OUTPUT_SECONDS = 60.0
"""How long an output may have to wait for a sideband."""
STOPPED = "the observer that asked the tool stopped before it heard the answer"
MAX_CALLS = 2_000
"""Function calls that are remembered."""


@dataclass(slots=True)
class _Ask:
    function_call_id: str
    response_id: str | None
    author: Author
    deed: Deed
    tell: Tell
    is_sent: bool = False
    goes_on: Tell | None = None
    """Who is told of the `response.create` that follows the output."""


class Tooling:
    """Answer the function calls of one call."""

    __slots__ = (
        "_answered",
        "_asks",
        "_call_id",
        "_control",
        "_count",
        "_is_done",
        "_is_ours",
        "_over",
        "_owned",
        "_postponed",
    )

    def __init__(
        self, call_id: str, control: Control, is_ours: Callable[[str], bool], is_done: Callable[[str], bool]
    ) -> None:
        self._call_id = call_id
        self._control = control
        self._is_ours = is_ours
        """Whether an item is."""
        self._is_done = is_done
        """Whether a response is, as far as the fold knows."""
        self._count = 0
        self._asks: dict[str, _Ask] = {}
        self._owned: dict[str, str] = {}
        """Function calls that are ours to answer, and who answers them."""
        self._answered: dict[str, None] = {}
        """Function calls that somebody else answered."""
        self._postponed: dict[str, _Ask] = {}
        """Responses of which a call was answered, while they go on or others are still to be."""
        self._over: dict[str, None] = {}
        """Responses that make no more calls, as far as anybody can tell."""

    def __bool__(self) -> bool:
        """Say whether a function call is being answered, or the model is to go on after that."""
        return bool(self._asks or self._postponed)

    def owns(self, function_call_id: str) -> bool:
        """Say whether a function call's output is ours to give."""
        return function_call_id in self._owned

    def own(self, function_call_id: str, policy: str) -> None:
        """Take note that an earlier epoch answered, or was about to; nobody asks a second time."""
        _keep(self._owned, function_call_id, policy)

    def ask(self, action: AnswerTool, match: Match, author: Author, deed: Deed) -> list[Effect]:
        """Begin to answer the function call that was matched."""
        call = match.function_call_id
        if call is None:
            return deed.fail("there is no function call to answer")
        if call in self._owned:
            deed.do()
            deed.note(f"the policy {self._owned[call]} answers the function call")
            return []
        if call in self._answered:
            deed.do()
            deed.note("somebody else had answered the function call")
            return []
        _keep(self._owned, call, author.policy or "")
        self._count += 1
        key = f"ask_{self._count}"
        self._asks[key] = _Ask(call, match.response_id, author, deed, deed.begin())
        body = {
            "call_id": self._call_id,
            "function_call_id": call,
            "name": match.name,
            "arguments": _arguments(match.arguments),
        }
        return [AskTool(key, action.url, action.timeout, action.secret, body)]

    def resume(
        self, function_call_id: str, response_id: str | None, author: Author, deed: Deed, at: int, mono: float
    ) -> list[Effect]:
        """Answer a function call whose endpoint an earlier epoch asked, since nobody knows what it said."""
        _keep(self._owned, function_call_id, author.policy or "")
        if response_id is not None:
            _keep(self._over, response_id, None)
        self._count += 1
        key = f"ask_{self._count}"
        self._asks[key] = _Ask(function_call_id, response_id, author, deed, deed.begin())
        return self.answered(key, None, STOPPED, at, mono)

    def answered(self, key: str, output: str | None, problem: str | None, at: int, mono: float) -> list[Effect]:
        """Take note of what an endpoint said, or why it said nothing."""
        ask = self._asks.get(key)
        if ask is None or ask.is_sent:
            return []
        if output is None:
            ask.deed.fail(problem or "the tool gave no answer")
            output = json.dumps({"error": "The tool could not be used. It gave no answer."})
        ask.is_sent = True
        item = {"type": "function_call_output", "call_id": ask.function_call_id, "output": output}
        event = {"type": "conversation.item.create", "item": item}
        tell = partial(self._told, key, ask)
        return self._control.issue(event, ask.author, tell, at, mono, due=mono + OUTPUT_SECONDS)

    def heard(self, event: Event, frame: bytes, at: int, mono: float) -> list[Effect]:
        """Take in a server event: whether somebody else answers."""
        effects: list[Effect] = []
        if event.type == "response.done":
            response_id = identifier(mapping(fields(frame).get("response")).get("id"))
            if response_id is not None:
                _keep(self._over, response_id, None)
        for group in [group for group in self._postponed if group in self._over]:
            effects += self._go_on(group, at, mono)
        if canonical(event.type or "") != "conversation.item.added":
            return effects
        item = mapping(fields(frame).get("item"))
        call = identifier(item.get("call_id"))
        if item.get("type") != "function_call_output" or call is None:
            return effects
        item_id = identifier(item.get("id"))
        if item_id is not None and self._is_ours(item_id):
            return effects
        _keep(self._answered, call, None)
        for key, ask in list(self._asks.items()):
            if ask.function_call_id == call and not ask.is_sent:
                del self._asks[key]
                effects += ask.deed.end("done", "somebody else answered the function call first")
                # whoever answered has the model go on
                postponed = self._postponed.pop(ask.response_id or "", None)
                if postponed is not None:
                    effects += postponed.deed.end("done")
        return effects

    def detached(self) -> None:
        """Take note that the end of what goes on now may be missed."""
        for ask in [*self._asks.values(), *self._postponed.values()]:
            if ask.response_id is not None:
                _keep(self._over, ask.response_id, None)

    def close(self, words: str) -> list[Effect]:
        """Give up what is being asked, since nobody needs the answers any more."""
        asks = [ask for ask in self._asks.values() if not ask.is_sent] + [*self._postponed.values()]
        self._asks, self._postponed = {}, {}
        return [effect for ask in asks for effect in ask.deed.end("failed", words)]

    def leave(self) -> None:
        """Forget what is being asked, without a word."""
        self._asks = {key: ask for key, ask in self._asks.items() if ask.is_sent}
        self._postponed = {}

    def _told(self, key: str, ask: _Ask, told: Told) -> list[Effect]:
        effects: list[Effect] = []
        if told.state != "sent":
            self._asks.pop(key, None)
            if told.state == "failed" and ask.function_call_id in self._answered:
                ask.deed.note("somebody else answered the function call first")
            effects += self._took(ask, told)
        return effects + ask.tell(told)

    def _took(self, ask: _Ask, told: Told) -> list[Effect]:
        group = ask.response_id or ""
        if told.state == "acknowledged" and group not in self._postponed:
            # one of them speaks for all calls of the response
            ask.goes_on = ask.deed.begin()
            self._postponed[group] = ask
        if told.state in ("released", "unknown"):
            found = self._postponed.pop(group, None)
            return found.deed.end("unknown") if found is not None else []
        return self._go_on(group, told.at, told.mono)

    def _go_on(self, group: str, at: int, mono: float) -> list[Effect]:
        """Have the model respond, once a response is over and all its function calls that are ours were answered."""
        if group and (any(ask.response_id == group for ask in self._asks.values()) or not self._is_over(group)):
            return []
        answered = self._postponed.pop(group, None)
        if answered is None or answered.goes_on is None:
            return []
        event, due = {"type": "response.create"}, mono + SPEAK_SECONDS
        return self._control.say(event, answered.author, answered.goes_on, at, mono, due=due)

    def _is_over(self, response_id: str) -> bool:
        return response_id in self._over or self._is_done(response_id)


def _arguments(written: str | None) -> Json | str:
    """Give the arguments as the object that they are, or as they were written where they are none."""
    found = fields((written or "").encode())
    return found or written or {}


def _keep(found: dict[str, _T], key: str, value: _T) -> None:
    found[key] = value
    if len(found) > MAX_CALLS:
        del found[next(iter(found))]
