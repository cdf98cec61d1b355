"""Fold a call again from what is stored of it: for a take-over, and for `rtobserver rebuild`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from rtobserver.observation.pause import Pause
from rtobserver.observation.watch import Watch
from rtobserver.realtime.call import CallState, Changes
from rtobserver.realtime.entries import COMMAND, EVENT, GAP, OVERLAP, GapRow, Record
from rtobserver.realtime.events import Event, fields, read
from rtobserver.realtime.holes import LEAVE_HOLES, Counted, Loss, Run, fewest, undeclared
from rtobserver.realtime.regained import Declaration, Life, regained
from rtobserver.store import commands, decisions, entries, gaps
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey


@dataclass(slots=True)
class Restored:
    """Be what the stored entries of a call amount to."""

    state: CallState
    entry_count: int = 0
    overlapping: int = 0
    """Entries that another owner recorded too; who recorded them may have counted them before that was known."""
    counts: dict[str, int] = field(default_factory=dict)
    """Stored events by type."""
    gaps: tuple[GapRow, ...] = ()
    regained: tuple[GapRow, ...] = ()
    """Those of them whose row was not there, made of their entries."""
    pause: Pause = field(default_factory=Pause)
    first: tuple[int, int] | None = None
    """The epoch of the first entry, and when that was recorded."""
    last_at: int | None = None
    """When the last entry was recorded."""
    heard_at: int | None = None
    """When the last stored event came. What was recorded later says nothing of what was heard until then."""
    age_us: int | None = None
    """How old the call was at that time."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each item was asked for."""
    losses: tuple[Loss, ...] = ()
    """What is neither there nor counted by a gap: a run was killed before it could say so."""

    def lacking(self, entry_count: int, last_position: str | None, until: int) -> tuple[Loss, ...]:
        """Give the losses of a call whose row counts so many entries: what is not found between others was behind them.

        A row counts no more than was stored, but for what a damaged file has lost since.
        """
        told = sum(gap.lost or 0 for gap in self.gaps if gap.reason == "corrupt")
        lost = entry_count - self.entry_count - self.overlapping - told - sum(loss.lost for loss in self.losses)
        if lost <= 0:
            return self.losses
        if self.first is not None and self.first[0] > 1:
            # whole epochs are gone
            return (Loss(lost, None, self.first[1], None), *self.losses)
        last = self.last_at
        return (*self.losses, Loss(lost, last, max(until, last or until), last_position))


async def restore(
    database: Database,
    call: CallKey,
    state: CallState,
    changed: Callable[[Changes], None] = lambda _: None,
    watch: Watch | None = None,
    life: Life = Life(),  # noqa: B008 - it is frozen
) -> Restored:
    """Fold all entries of a call into `state`, which must be new; `changed` is given each change of a row.

    `watch` is told of the entries and decisions too, to go on where the policies were.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    policies = {} if watch is None else await commands.policies(database, call)
    again = Again(state, changed, watch, policies)
    async for entry in entries.read(database, call, entries.Filter(overlap=True)):
        again.take(entry)
    if watch is not None:
        watch.recall_decisions(await decisions.rows(database, call))
    return again.finish([_row(gap) for gap in await gaps.page(database, call, limit=10_000)], life)


class Again:
    """Take a call's stored entries in again, in their order; pure."""

    def __init__(
        self,
        state: CallState,
        changed: Callable[[Changes], None] = lambda _: None,
        watch: Watch | None = None,
        policies: Mapping[str, str] | None = None,
    ) -> None:
        self._restored = Restored(state)
        self._changed = changed
        self._watch = watch
        self._policies = policies or {}
        """Commands of policies, and whose they are."""
        self._holes: Counter[int] = Counter()
        self._last = (0, 0)
        self._last_at: int | None = None
        self._runs: list[Run] = []
        self._declared: list[Declaration] = []

    def take(self, entry: entries.Entry | Record) -> None:
        """Take in one entry."""
        restored, watch = self._restored, self._watch
        epoch, seq = entry.epoch, entry.seq
        before = self._last[1] if epoch == self._last[0] else 0
        if seq > before + 1:
            self._holes[epoch] += seq - before - 1
            self._runs.append(Run(epoch, before + 1, seq - before - 1, self._last_at, entry.at))
        self._last, self._last_at = (epoch, seq), entry.at
        restored.last_at = entry.at
        if restored.first is None:
            restored.first = (epoch, entry.at)
        if entry.flags & OVERLAP:
            restored.overlapping += 1
            return
        restored.entry_count += 1
        self._declare(entry)
        if entry.kind != EVENT or restored.pause.is_engaged:
            restored.pause.recall(entry.kind, entry.type, entry.payload)
        if entry.kind != EVENT:
            if entry.kind == COMMAND and entry.type == "conversation.item.retrieve":
                restored.asked[str(fields(entry.payload).get("item_id"))] += 1
            if watch is not None and entry.kind == COMMAND:
                policy = self._policies.get(entry.event_id or "")
                watch.recall(entry, Event(), policy)
            return
        restored.heard_at, restored.age_us = entry.at, entry.offset_us
        name = entry.type or "(none)"
        restored.counts[name] = restored.counts.get(name, 0) + 1
        event, _ = read(entry.payload)
        changes = restored.state.apply(event, entry.payload, entry.at, epoch, seq)
        if changes is not None:
            self._changed(changes)
        if watch is not None:
            watch.recall(entry, event)

    def _declare(self, entry: entries.Entry | Record) -> None:
        """Take note of where a gap was declared, and of what ended it."""
        if entry.kind == GAP:
            self._declared.append(Declaration(entry.epoch, entry.seq, entry.payload))
            return
        is_resumed = entry.kind == COMMAND and entry.type == "resume"
        for declared in reversed(self._declared):
            if declared.next_at is not None and not is_resumed:
                break
            if declared.next_at is None:
                declared.next_at = entry.at
            if is_resumed and declared.resumed_at is None:
                declared.resumed_at = entry.at

    def finish(self, rows: Iterable[GapRow], life: Life = Life()) -> Restored:  # noqa: B008 - it is frozen
        """Take in the gaps as they were left, and give what it all amounts to."""
        restored, holes = self._restored, self._holes
        known = list(rows)
        places = {(gap.epoch, gap.seq) for gap in known}
        lost = [each for each in self._declared if (each.epoch, each.seq) not in places]
        if lost:
            restored.regained = tuple(regained(lost, undeclared(self._runs, map(_counted, known)), life))
        restored.gaps = tuple(sorted([*known, *restored.regained], key=lambda gap: (gap.epoch, gap.seq)))
        for gap in restored.gaps:
            if gap.reason in ("shed", "disk") and gap.state == "open":
                others = [other for other in restored.gaps if other.epoch == gap.epoch and other is not gap]
                _count(gap, holes[gap.epoch] - sum(other.lost or 0 for other in others if other.reason in LEAVE_HOLES))
        restored.losses = tuple(fewest(undeclared(self._runs, map(_counted, restored.gaps))))
        return restored


def _count(gap: GapRow, lost: int) -> None:
    """Count by the holes what a killed process was shedding; of what types the rest was, nobody knows any more."""
    known = sum(gap.lost_by_type.values())
    gap.lost = max(known, lost)
    if gap.lost > known:
        gap.lost_by_type["(unknown)"] = gap.lost - known


def _counted(gap: GapRow) -> Counted:
    return Counted(gap.epoch, gap.from_at, gap.to_at, gap.reason, gap.lost)


def _row(gap: gaps.Gap) -> GapRow:
    return GapRow(
        epoch=gap.position.epoch,
        seq=gap.position.seq,
        from_at=gap.from_at,
        reason=gap.reason,  # type: ignore[arg-type]
        after=gap.after,
        to_at=gap.to_at,
        state=gap.state,  # type: ignore[arg-type]
        lost=gap.lost,
        lost_by_type=dict(gap.lost_by_type),
        counted=bool(gap.counted),
    )
