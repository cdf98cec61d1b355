"""What the simulator's endpoints share: the secrets given out, the calls, the requests received."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rtobserver.simulator.call import Call
from rtobserver.simulator.changes import Changes
from rtobserver.simulator.credentials import ClientSecret


@dataclass(frozen=True, slots=True)
class Received:
    """Hold a request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    """Names are looked up without regard to case."""
    body: bytes
    at: float
    """Unix seconds."""


@dataclass(slots=True, eq=False)
class Exchange:
    """Hold the shared state of one simulator."""

    secrets: dict[str, ClientSecret] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Requests by endpoint."""
    changes: Changes = field(default_factory=Changes)
    """Wakes those who wait for something in here."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the simulator stops, for whoever waits for ever."""
