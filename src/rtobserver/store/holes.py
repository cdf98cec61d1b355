"""Find in the database what a call's entries leave out and no gap counts (`realtime/holes.py`)."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from rtobserver.realtime.holes import LEAVE_HOLES, Counted, Loss, Run, fewest, undeclared

RUNS = """
SELECT epoch, before + 1, seq - before - 1, before_at, at FROM (
    SELECT epoch, seq, at,
        coalesce(lag(seq) OVER (PARTITION BY epoch ORDER BY seq), 0) AS before,
        lag(at) OVER (ORDER BY epoch, seq) AS before_at
    FROM entry WHERE call_key = ?1 AND day = ?2
) AS neighbours WHERE seq > before + 1 ORDER BY epoch, seq
"""
_LAST = "SELECT epoch, seq, at FROM entry WHERE call_key = ?1 AND day = ?2 ORDER BY epoch DESC, seq DESC LIMIT 1"
_FIRST = "SELECT epoch, at FROM entry WHERE call_key = ?1 AND day = ?2 ORDER BY epoch, seq LIMIT 1"
GAPS = f"""
SELECT epoch, from_at, to_at, reason, lost FROM gap
WHERE call_key = ?1 AND day = ?2 AND lost > 0 AND reason IN {LEAVE_HOLES}
"""  # noqa: S608 - our own words


def of_call(connection: sqlite3.Connection, key: int, day: int) -> list[Loss]:
    """List what a call's stored entries leave out and no stored gap counts; raises sqlite3.Error."""
    runs = [Run(*row) for row in connection.execute(RUNS, (key, day))]
    return undeclared(runs, [Counted(*row) for row in connection.execute(GAPS, (key, day))]) if runs else []


def of_damage(connection: sqlite3.Connection, key: int, day: int, count: int, until: int) -> list[Loss]:
    """Place so many entries that a call had and has no longer; `until` is when the last of them can have come.

    What is not found between others was behind all of them. Raises sqlite3.Error.
    """
    placed: list[Loss] = []
    left = count
    for loss in of_call(connection, key, day):
        # the newest may be what is being shed right now: its gap is not written to its end
        taken = min(left, loss.lost)
        if taken:
            placed.append(replace(loss, lost=taken))
        left -= taken
    return fewest([*placed, *behind(connection, key, day, left, until)])


def behind(connection: sqlite3.Connection, key: int, day: int, count: int, until: int) -> list[Loss]:
    """Place entries behind the last one that is there, or before the first where whole epochs are gone.

    Raises sqlite3.Error.
    """
    if count <= 0:
        return []
    last = connection.execute(_LAST, (key, day)).fetchone()
    if last is None:
        return [Loss(count, None, until, None)]
    epoch, seq, at = last
    first_epoch, first_at = connection.execute(_FIRST, (key, day)).fetchone()
    if first_epoch > 1:
        return [Loss(count, None, first_at, None)]
    return [Loss(count, at, max(at, until), f"{epoch}:{seq}")]
