"""Compare what an upstream in this process produced in a call with what the API gives back of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence

from rtobserver.simulator.call import Call
from tests.faults import oracle
from tests.faults.figures import Figures
from tests.faults.oracle import Json, Record, Sent, Span, Told
from tests.support.stage import Entry


def verify(call: Call, entries: Sequence[Entry], gaps: Sequence[Json]) -> Figures:
    """Give the figures of one call; of the process, nothing is known here."""
    return verify_all([(call, Record(entries, gaps))])


def verify_all(calls: Sequence[tuple[Call, Record]], *, rss: float = 0.0, deaths: Sequence[Span] = ()) -> Figures:
    """Give the figures of some calls.

    `rss` is the most memory that a daemon held, in MiB; `deaths` are as in `tests/faults/oracle.py`.
    """
    records = {call.id: record for call, record in calls}
    return oracle.verify([_told(call) for call, _ in calls], records, rss=rss, loop_gap=0, deaths=deaths)


def _told(call: Call) -> Told:
    """Give what is known of a call without a ledger: a sideband is open up to the last frame that was written to it."""
    sent = [
        Sent(
            frame.ordinal,
            hashlib.sha256(frame.frame).hexdigest(),
            frame.event_id,
            frame.at,
            tuple(sorted(frame.sidebands)),
        )
        for frame in call.produced
    ]
    last = {name: each.at for each in sent for name in each.sidebands}
    return Told(
        call.id,
        events=sent,
        names=list(call.sidebands),
        attached=[(each.attached_at, last.get(name, each.attached_at)) for name, each in call.sidebands.items()],
        ended_at=None if call.ended is None else call.ended.at,
        last_at=max((each.at for each in sent), default=0.0),
    )


def say(name: str, **figures: object) -> None:
    """Show figures to whoever runs pytest with -s or -rP."""
    sys.stdout.write(f"{name}: {', '.join(f'{key}={value}' for key, value in figures.items())}\n")
