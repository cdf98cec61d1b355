"""Have the model say something: one response at a time, after the one that goes on.

Pure. Upstream refuses a response while another one is active in the default conversation, and the
refusal costs the user a pause. So a wish waits for the active response's `response.done`; any event of
a response tells that it is active, also where its beginning was missed. What we do not know of (a response
that began as we sent) shows as `conversation_already_has_active_response`; the wish is then sent once more,
after that response's `response.done`.
"""

from __future__ import annotations

import re
from collections import deque
from functools import partial

import msgspec

from rtobserver.observation.commands import Author, Commands, Json, Tell, Told
from rtobserver.observation.effects import Effect
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.values import identifier, mapping, text

BUSY = "conversation_already_has_active_response"
RETRY_SECONDS = 10.0
"""A refused wish is sent again after so long, if nothing tells meanwhile which response is active."""
MAX_WAITING = 100
MAX_RESPONSES = 100
"""Responses that are remembered as over, or as not of the default conversation."""

_NAMED = re.compile(r"\bresp_\w{1,200}")


def spoken(words: str, metadata: Json) -> Json:
    """Write the client event that has the model say these words and no others."""
    instructions = (
        "Say the following to the user, word for word, in the language it is written in. Add nothing, leave nothing "
        f"out, do not comment on it, and call no tool:\n\u201c{words}\u201d"
    )
    response = {"conversation": "auto", "instructions": instructions, "tool_choice": "none", "metadata": metadata}
    return {"type": "response.create", "response": response}


class _Wish(msgspec.Struct):
    event: Json
    author: Author
    tell: Tell
    due: float
    """Monotonic time until which it must be sent for the first time."""
    tries: int = 0


class Speech:
    """Keep what the model is to say, and know which response is active."""

    __slots__ = ("_apart", "_commands", "_retry_due", "_sent", "_waiting", "active_id", "is_open")

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._waiting: deque[_Wish] = deque()
        self._sent: _Wish | None = None
        self._retry_due: float | None = None
        self._apart: dict[str, None] = {}
        """Responses that are over, or that are not of the default conversation."""
        self.active_id: str | None = None
        """The response that goes on in the default conversation."""
        self.is_open = False
        """Whether commands can be sent now."""

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._sent is not None

    @property
    def due(self) -> float | None:
        """Give the monotonic time at which `woken` may have something to do."""
        due = [wish.due for wish in self._waiting if not wish.tries]
        if self._retry_due is not None:
            due.append(self._retry_due)
        return min(due, default=None)

    def wish(self, event: Json, author: Author, tell: Tell, at: int, mono: float, *, due: float) -> list[Effect]:
        """Have a `response.create` sent as soon as no response is active, or not at all after `due`."""
        if len(self._waiting) >= MAX_WAITING:
            return tell(Told("failed", at, mono, error="too much waits to be said"))
        self._waiting.append(_Wish(event, author, tell, due))
        return self.pump(at, mono)

    def heard(self, event: Event, frame: bytes) -> None:
        """Take in a server event: which response is active."""
        if event.type == "response.created":
            response = mapping(fields(frame).get("response"))
            if "conversation_id" not in response or response["conversation_id"] is not None:
                self.active_id = identifier(response.get("id"))
            else:
                self._set_apart(response.get("id"))
        elif event.type == "response.done":
            response = mapping(fields(frame).get("response"))
            if response.get("id") == self.active_id:
                self.active_id = None
            self._set_apart(response.get("id"))
            if "conversation_id" not in response or response["conversation_id"] is not None:
                self._retry_due = None
        elif self.active_id is None:
            if event.response_id is not None and (event.type or "").startswith("response."):
                self._go_on(event.response_id)
            elif event.type == "error" and self._sent is not None:
                error = mapping(fields(frame).get("error"))
                named = _NAMED.search(text(error.get("message")) or "") if error.get("code") == BUSY else None
                if named is not None:
                    self._go_on(named[0])

    def _go_on(self, response_id: str) -> None:
        """Take note of a response whose beginning was missed."""
        if response_id not in self._apart:
            self.active_id = response_id

    def _set_apart(self, id_: object) -> None:
        response_id = identifier(id_)
        if response_id is not None:
            self._apart[response_id] = None
            if len(self._apart) > MAX_RESPONSES:
                del self._apart[next(iter(self._apart))]

    def pump(self, at: int, mono: float) -> list[Effect]:
        """Send what can be sent now."""
        if self._retry_due is not None and mono >= self._retry_due:
            self._retry_due = None
        effects: list[Effect] = []
        while self._waiting and self.is_open and not (self.active_id or self._sent or self._retry_due):
            wish = self._waiting.popleft()
            self._sent = wish
            wish.tries += 1
            tell = partial(self._told, wish)
            effects += self._commands.issue(wish.event, wish.author, tell, at, mono)
        return effects

    def woken(self, at: int, mono: float) -> list[Effect]:
        """Give up what was not sent in time, and send what can be sent."""
        effects: list[Effect] = []
        for wish in [wish for wish in self._waiting if not wish.tries and wish.due <= mono]:
            self._waiting.remove(wish)
            effects += wish.tell(Told("expired", at, mono))
        return effects + self.pump(at, mono)

    def attached(self) -> None:
        """Begin to send."""
        self.is_open = True

    def detached(self) -> None:
        """Cease to send; what waits goes on waiting."""
        self.is_open, self.active_id, self._retry_due = False, None, None

    def close(self, told: Told) -> list[Effect]:
        """Forget everything that waits, and tell it so."""
        self.detached()
        waiting = [*self._waiting]
        self._waiting.clear()
        refused = Told("failed", told.at, told.mono, error=BUSY)
        return [effect for wish in waiting for effect in wish.tell(refused if wish.tries else told)]

    def _told(self, wish: _Wish, told: Told) -> list[Effect]:
        if told.state == "sent":
            # whoever wished hears of the first time only
            return wish.tell(told) if wish.tries == 1 else []
        self._sent = None
        if told.state == "failed" and told.error == BUSY and wish.tries == 1:
            self._retry_due = told.mono + RETRY_SECONDS
            self._waiting.appendleft(wish)
            return []
        return wish.tell(told)
