"""Admit in PostgreSQL what a damaged file of a journal has cost."""

from __future__ import annotations

from collections.abc import Sequence

from rtobserver.realtime.holes import Counted, Loss, Run, fewest, undeclared
from rtobserver.store import holes, postgres_driver
from rtobserver.store.identity import CallRef

_RUNS, _GAPS = (sql.replace("?", "$") for sql in (holes.RUNS, holes.GAPS))
_DECLARE = """
INSERT INTO gap (call_key, day, epoch, seq, from_at, to_at, reason, after, state, lost, lost_by_type, counted)
SELECT call_key, day, $3::integer, 1 + greatest(
    coalesce((SELECT max(seq) FROM entry AS e
        WHERE e.call_key = call.call_key AND e.day = call.day AND e.epoch = $3::integer), 0),
    coalesce((SELECT max(seq) FROM gap AS g
        WHERE g.call_key = call.call_key AND g.day = call.day AND g.epoch = $3::integer), 0)
), coalesce($4::bigint, started_at), $5::bigint, 'corrupt', $6::text, 'final', $7::integer, '{}', true
FROM call WHERE call_key = $1::bigint AND day = $2::integer
"""
_COUNT = """
UPDATE call SET gap_count = gap_count + 1, completeness =
    CASE completeness WHEN 'complete' THEN 'complete_with_gaps' ELSE completeness END
WHERE call_key = $1::bigint
"""


async def missing(driver: postgres_driver.Connection, call: CallRef) -> list[Loss]:
    """List what the stored entries of a call leave out and no stored gap counts."""
    runs = [Run(*row) for row in await driver.fetch(_RUNS, call.key, call.day)]
    if not runs:
        return []
    counted = [Counted(*row) for row in await driver.fetch(_GAPS, call.key, call.day)]
    return fewest(undeclared(runs, counted))


async def declare(driver: postgres_driver.Connection, call: CallRef, losses: Sequence[Loss]) -> None:
    """Write gaps of a call that nobody observes here, behind all that its epoch has."""
    for loss in losses:
        place = (call.key, call.day, call.epoch)
        await driver.execute(_DECLARE, *place, loss.from_at, loss.to_at, loss.after, loss.lost)
        await driver.execute(_COUNT, call.key)
