"""Make the derived rows of recorded calls again: items, responses, sums, and gaps that have no row.

They are a pure fold over entries, so this gives the rows that the live calls wrote. It runs while
no daemon does. Calls whose entries were purged or erased are left alone, and named.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from rtobserver.clock import SystemClock
from rtobserver.metrics import Metrics
from rtobserver.observation import verdict
from rtobserver.observation.gaps import Gaps
from rtobserver.observation.restoration import restore
from rtobserver.realtime.call import CallState, Changes
from rtobserver.realtime.entries import Changed, Rows, Sums
from rtobserver.realtime.regained import Life
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.recorder import Bounds, Recorder
from rtobserver.storage import for_command, reading
from rtobserver.store import calls, folds, schema
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.places import Place
from rtobserver.store.writing import Writing

FLUSH_INTERVAL = 0.005
"""Nobody records meanwhile, and each call waits for its rows."""
PAGE = 200
"""Calls that are read at a time."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Say what became of one call."""

    call_id: str
    entries: int
    left_alone: bool
    """True where its entries are gone, so that nothing could be made of them, or where it goes on."""
    goes_on: bool = False
    """Whether it is being recorded, maybe by a daemon somewhere else."""


async def count(place: Place) -> int:
    """Count the calls that `rebuild` will go through.

    Raises:
        SchemaMismatch: the database is of another release.

    """
    await asyncio.to_thread(schema.check, place)
    async with reading(place, SystemClock()) as reads:
        return await calls.count(reads)


async def rebuild(place: Place, new_state: Callable[[str, str], CallState]) -> AsyncIterator[Rebuilt]:
    """Rebuild all calls, newest first; `new_state` begins the fold of a call of (profile, model).

    Right rows take the place of wrong ones, and those that should not be go: interrupted at any
    moment, it leaves no call with less than it had.

    Raises:
        StoreBusy: a daemon runs on the file.
        SchemaMismatch: the database is of another release.

    """
    async with for_command(place, clock=SystemClock(), metrics=Metrics(), flush_interval=FLUSH_INTERVAL) as (
        writer,
        reads,
    ):
        recorder = Recorder(writer, bounds=Bounds())
        before = None
        while True:
            page, before = await calls.page(reads, calls.Filter(erased=True), before=before, limit=PAGE)
            for call in page:
                yield await _rebuild(reads, writer, recorder, call, new_state)
            if before is None:
                return


async def _rebuild(
    reads: Database,
    writer: Writing,
    recorder: Recorder,
    call: Call,
    new_state: Callable[[str, str], CallState],
) -> Rebuilt:
    # on a server somebody may be recording it
    if reads.dialect != "sqlite" and call.status in ("connecting", "live"):
        return Rebuilt(call.call_id, 0, left_alone=True, goes_on=True)
    if call.purged_at is not None:
        return Rebuilt(call.call_id, 0, left_alone=True)
    items: dict[str, ItemRow] = {}
    responses: dict[str, ResponseRow] = {}

    def changed(changes: Changes) -> None:
        items.update((item.item_id, item) for item in changes.items)
        responses.update((response.response_id, response) for response in changes.responses)

    ref = CallRef(call.call_id, call.day, call.key)
    heard = None if call.attach_latency_ms is None else call.started_at + call.attach_latency_ms * 1000
    life = Life(call.ended_at, heard)
    restored = await restore(reads, ref, new_state(call.profile, call.model), changed, life=life)
    if not restored.entry_count:
        return Rebuilt(call.call_id, 0, left_alone=call.entry_count > 0)
    over = call.status in ("ended", "unobserved", "lost")
    if over:
        changed(restored.state.finish())
    totals = restored.state.totals()
    gaps = Gaps(restored.gaps)
    missed = totals.missed or call.status == "unobserved"
    settled = gaps.close(missed=missed, heard_nothing=not restored.counts) if over else []

    recorder.record(ref, Rows(tuple(items.values()), tuple(responses.values())))
    for gap in (*restored.regained, *settled):
        recorder.record(ref, gap)
    recorder.record(ref, Sums(totals, restored.entry_count, gaps.count))
    if over:
        completeness, checks = verdict.judge(call.status, totals, gaps.count, restored.counts)
        recorder.record(ref, Changed({"completeness": completeness, "checks": checks}))
    await writer.run(folds.forget(ref, items.keys(), responses.keys()))
    return Rebuilt(call.call_id, restored.entry_count, left_alone=False)
