"""Take what observers record and hand it to the writer, within bounds.

The reader of a socket never waits here. What waits for the database is bounded, per call and in
all; as the bound comes nearer, `pressure` rises and observers shed frames class by class
(`realtime/shedding.py`), each of which a gap counts. Commands and gaps are always taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from msgspec.structs import astuple

from rtobserver.clock import Clock
from rtobserver.metrics import Metrics
from rtobserver.realtime import shedding
from rtobserver.realtime.entries import (
    Changed,
    CommandRow,
    DecisionRow,
    GapRow,
    OrderRow,
    Record,
    Recordable,
    Rows,
    Sums,
)
from rtobserver.store import folds, orders, tables
from rtobserver.store.care import Care
from rtobserver.store.identity import CallRef
from rtobserver.store.trouble import WORDS, Trouble
from rtobserver.store.writing import Writing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Say how much may wait for the database, in bytes of memory."""

    total: int = 256 * 1024 * 1024
    per_call: int = 48 * 1024 * 1024
    """More than the largest frame, so that one frame never sheds its own successor's class."""


# Shares of a bound at which each class is given up; below the first nothing is.
_LEVELS = (
    (1.0, shedding.KEPT),
    (0.85, shedding.OTHER),
    (0.7, shedding.BUFFER_MARK),
    (0.6, shedding.RATE_LIMITS),
    (0.5, shedding.DELTA),
)

_SHORT = shedding.BUFFER_MARK | shedding.FULL_DISK


class Recorder:
    """Record for all observers of this process."""

    def __init__(self, writer: Writing, *, bounds: Bounds) -> None:
        self._writer = writer
        self._bounds = bounds
        self._calm_total = int(bounds.total * _LEVELS[-1][0])
        self._calm_call = int(bounds.per_call * _LEVELS[-1][0])
        self._entry = writer.entry

    def pressure(self, call: CallRef) -> int:
        """Give the highest class that must be shed now; 0 is none.

        With the bit `shedding.FULL_DISK` where that is for want of room on the disk. Then deltas, rate limits
        and buffer marks go at once: what room there is belongs to the rest.
        """
        total, own = self._writer.queued_bytes, call.queued_in - call.queued_out
        if total < self._calm_total and own < self._calm_call:
            return _SHORT if self._writer.short_of_room else 0
        share = max(total / self._bounds.total, own / self._bounds.per_call)
        class_ = next(class_ for level, class_ in _LEVELS if share >= level)
        return max(class_ | shedding.FULL_DISK, _SHORT) if self._writer.short_of_room else class_

    def record(self, call: CallRef, what: Recordable) -> None:
        """Hand over one thing to store; it is committed within the next flushes."""
        match what:
            case Record():
                self._entry((call, *astuple(what)))
            case Rows():
                for item in what.items:
                    self._writer.fact(tables.item, call, folds.item_values(item))
                for response in what.responses:
                    self._writer.fact(tables.response, call, folds.response_values(response))
            case GapRow():
                self._writer.fact(tables.gap, call, _gap_values(what))
            case CommandRow():
                self._writer.fact(tables.command, call, _command_values(what))
            case DecisionRow():
                self._writer.fact(tables.decision, call, _decision_values(what))
            case OrderRow():
                self._writer.note(orders.settle(what)).add_done_callback(orders.hear)
            case Sums():
                counts = {"entry_count": what.entry_count, "gap_count": what.gap_count}
                self._writer.fact(tables.call, call, {**folds.call_values(what.totals), **counts})
            case Changed():
                self._writer.fact(tables.call, call, _call_values(what.values))


class Looked(Protocol):
    """Be who keeps files, as far as one may look at them from any thread."""

    @property
    def care(self) -> Care | None:
        """Who looks after them."""

    @property
    def damaged_files(self) -> list[str]:
        """Names of those that were moved aside."""

    @property
    def written_again(self) -> int:
        """How often files were taken away and what they held was saved."""


class FlushReport:
    """Turn what the writer's thread does into figures and log lines."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.failing_since: int | None = None
        """Wall clock in microseconds since when the database refuses; None while it takes rows."""
        self.trouble: Trouble | None = None
        """Why it refuses."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None:
        """Count a commit."""
        self._metrics.flush_seconds.observe(seconds)
        if oldest_at is not None:
            self._metrics.commit_lag_seconds.set(max(0, self._clock.now_us() - oldest_at) / 1e6)

    def failing(self, problem: str, tries: int, trouble: Trouble) -> None:
        """Say that the database refuses: once, and again only where it does so for another reason."""
        if self.failing_since is None:
            self.failing_since = self._clock.now_us()
        if trouble != self.trouble:
            self.trouble = trouble
            self._metrics.store_failures.labels(trouble).inc()
            log.error("store_failing", trouble=trouble, problem=problem)

    def recovered(self) -> None:
        """Say that the database takes rows again."""
        since, self.failing_since, self.trouble = self.failing_since, None, None
        seconds = (self._clock.now_us() - since) / 1e6 if since is not None else 0.0
        log.warning("store_recovered", seconds=round(seconds, 3))

    def reasons(self, keeper: Looked) -> dict[str, int | None]:
        """Say in short words what is wrong with the store, and since when where that is known, for `/readyz`."""
        found: dict[str, int | None] = {}
        if (trouble := self.trouble) is not None:
            found[WORDS[trouble]] = self.failing_since
        care = keeper.care
        if care is None:
            return found
        if care.short and self.trouble != "full":
            found["the disk is full; only what must not be lost is recorded"] = care.since.get("short")
        if care.is_away:
            found["a file of the database was taken away or replaced"] = care.since.get("is_away")
        if care.wal_held:
            found["somebody reads for long and keeps the write-ahead log from being emptied"] = care.since.get(
                "wal_held"
            )
        if keeper.damaged_files:
            found["the database was damaged and begun anew; the damaged file lies beside it"] = None
        if keeper.written_again:
            found["a file of the database was taken away since the start; what it held was saved"] = None
        return found

    def watch(self, writer: Writing, keeper: Looked) -> None:
        """Keep the figures of what waits, of the disk and of the files."""
        metrics, care = self._metrics, keeper.care
        metrics.queue_rows.set_function(lambda: writer.queued_rows)
        metrics.queue_bytes.set_function(lambda: writer.queued_bytes)
        metrics.store_failing.set_function(lambda: self.failing_since is not None)
        if care is not None:
            metrics.disk_full.set_function(lambda: care.short)
            metrics.disk_free_bytes.set_function(lambda: care.free_bytes or 0)
            metrics.wal_bytes.set_function(lambda: care.wal_bytes)
            metrics.damaged_files.set_function(lambda: len(keeper.damaged_files))
            metrics.files_away.set_function(lambda: len(care.away))
            metrics.files_saved.set_function(lambda: keeper.written_again)


def _gap_values(gap: GapRow) -> dict[str, Any]:
    return {
        "epoch": gap.epoch,
        "seq": gap.seq,
        "from_at": gap.from_at,
        "to_at": gap.to_at,
        "reason": gap.reason,
        "after": gap.after,
        "state": gap.state,
        "lost": gap.lost,
        "lost_by_type": json.dumps(gap.lost_by_type),
        "counted": gap.counted,
    }


def _command_values(command: CommandRow) -> dict[str, Any]:
    return {name: getattr(command, name) for name in CommandRow.__struct_fields__}


def _decision_values(decision: DecisionRow) -> dict[str, Any]:
    values = {name: getattr(decision, name) for name in DecisionRow.__struct_fields__}
    return {**values, "actions": json.dumps(decision.actions)}


def _call_values(values: dict[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in values.items()}
