"""Compare what an upstream in this process produced in a call with what the API gives back of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence

from rtobserver.simulator.call import Call
from tests.faults import oracle
from tests.faults.figures import Figures
from tests.faults.oracle import Json, Record, Sent, Told
from tests.support.stage import Entry


def verify(call: Call, entries: Sequence[Entry], gaps: Sequence[Json]) -> Figures:
    """Give the figures of one call; nothing of its sidebands and of the process is known here."""
    sent = [
        Sent(frame.ordinal, hashlib.sha256(frame.frame).hexdigest(), frame.event_id, frame.at, bool(frame.sidebands))
        for frame in call.produced
    ]
    told = Told(call.id, sent, ended_at=None if call.ended is None else call.ended.at)
    return oracle.verify([told], {call.id: Record(entries, gaps)}, rss=0, loop_gap=0)


def say(name: str, **figures: object) -> None:
    """Show figures to whoever runs pytest with -s or -rP."""
    sys.stdout.write(f"{name}: {', '.join(f'{key}={value}' for key, value in figures.items())}\n")
