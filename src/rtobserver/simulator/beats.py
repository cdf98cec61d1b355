"""The vocabulary between a script and whoever performs it: events, and the time between them.

A timeline is an iterator of beats. It holds no clock and no socket: the performer decides how long
a second is and where the frames go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Close = int | Literal["abort", "none"]
"""How sidebands see an end: a close code, a TCP drop, or no sign at all."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Have upstream produce an event."""

    event: Json
    origin: str | None = None
    """The peer whose mistake an `error` reports: a sideband's name, `browser`, or None for upstream's own."""


@dataclass(frozen=True, slots=True)
class EmitRaw:
    """Have upstream produce a frame as it stands; bytes that are not `text` go as a binary message."""

    frame: str | bytes
    text: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass, in seconds of the conversation."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitSince:
    """Wait until so many seconds of the conversation have passed since the call began."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Wait for something that a peer may do; `patience` is in real seconds, whatever the pace."""

    condition: Callable[[], bool]
    patience: float | None = None


@dataclass(frozen=True, slots=True)
class Play:
    """Perform another timeline beside this one."""

    timeline: Iterator[Beat]
    name: str


@dataclass(frozen=True, slots=True)
class End:
    """End the call."""

    cause: Literal["left", "expired", "hung_up"]
    close: Close | None = None
    """None is what the vendor does."""
    reason: str = ""


Beat = Emit | EmitRaw | Wait | WaitSince | Until | Play | End
Timeline = Iterator[Beat]
