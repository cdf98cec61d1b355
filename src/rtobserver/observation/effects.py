"""What the machine wants done, in the order in which it must be done.

Pure. What is to be recorded stands in `realtime/entries.py`; here is the rest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rtobserver.config.sections import Secret
from rtobserver.realtime.entries import CommandRow, DecisionRow, Recordable


class RefreshCredential(msgspec.Struct):
    """Forget the cached credential before the next attach."""


class Probe(msgspec.Struct):
    """Attach a second time, to learn whether the call is still there."""


class HangUp(msgspec.Struct):
    """Ask upstream to end the call."""

    row: CommandRow
    """Takes the time at which it was asked."""
    decision: DecisionRow | None = None


class Send(msgspec.Struct):
    """Send a client event on the call's sideband; its record came before it."""

    event_id: str
    text: str
    row: CommandRow
    """Takes the time at which it left."""
    decision: DecisionRow | None = None
    """The decision that it carries out; takes the time of its first command."""


class AskTool(msgspec.Struct):
    """Ask a tool's endpoint, once; what it says is told as `tool_answered` under the same key."""

    key: str
    url: str
    timeout: float
    """Seconds."""
    secret: Secret | None
    body: dict[str, Any]


class Notify(msgspec.Struct):
    """Notify an address of the configuration, and wait for nothing."""

    webhook: str
    """Its id."""
    body: dict[str, Any]


class CloseSideband(msgspec.Struct):
    """Close our websocket."""


class Alarm(msgspec.Struct):
    """Tell the operator's log that something needs a person."""

    event: str
    details: dict[str, Any]


class Finish(msgspec.Struct):
    """Stop observing: the call is over, or was given up."""

    status: str
    outcome: str | None


Effect = Recordable | RefreshCredential | Probe | HangUp | Send | AskTool | Notify | CloseSideband | Alarm | Finish
