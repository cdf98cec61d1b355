"""Number the entries of one call's epoch, and admit what is missing among them.

Pure. `seq` is dense over events, commands and gaps; a hole stands only for a frame that was shed
or that the database refused, and exactly one gap counts it.
"""

from __future__ import annotations

from typing import Literal

from rtobserver.observation import gaps
from rtobserver.realtime.entries import COMMAND, EVENT, GAP, JSON, CommandRow, GapReason, GapRow, Record, Recordable
from rtobserver.realtime.holes import Loss

MAX_TYPES = 200
"""Event types that are counted by name; upstream has about 50, what comes beyond counts as `(other)`."""


class Ledger:
    """Keep the books of one epoch."""

    def __init__(
        self,
        *,
        epoch: int,
        started_at: int,
        at: int,
        mono: float,
        last_position: str | None = None,
        entry_count: int = 0,
        counts: dict[str, int] | None = None,
        earlier: tuple[GapRow, ...] = (),
    ) -> None:
        self.epoch = epoch
        self.seq = 0
        self.entry_count = entry_count
        """Entries of all epochs."""
        self.counts: dict[str, int] = dict(counts or {})
        """Stored events by type."""
        self.gaps = gaps.Gaps(earlier)
        self._mono0, self._offset0 = mono, max(0, at - started_at)
        self._last_position = last_position
        self._shed: GapRow | None = None
        self._shed_mono = 0.0
        """When the last frame came that was given up, by the monotonic clock."""

    def age(self, mono: float) -> float:
        """Give the call's age in seconds."""
        return self._offset0 / 1e6 + mono - self._mono0

    def offset_us(self, mono: float) -> int:
        """Give the call's age in microseconds, as entries have it."""
        return self._offset0 + int((mono - self._mono0) * 1e6)

    def due(self, age: float) -> float:
        """Give the monotonic time at which the call will be so many seconds old."""
        return self._mono0 + age - self._offset0 / 1e6

    def event(self, type_: str | None, event_id: str | None, frame: bytes, flags: int, at: int, mono: float) -> Record:
        """Enter a frame under the number that `receive` gave it."""
        self.entry_count += 1
        counts = self.counts
        name = type_ or "(none)"
        if name not in counts and len(counts) >= MAX_TYPES:
            name = "(other)"
        counts[name] = counts.get(name, 0) + 1
        return Record(self.epoch, self.seq, EVENT, at, self.offset_us(mono), type_, event_id, frame, flags)

    def command(self, row: CommandRow, body: bytes, at: int, mono: float) -> Record:
        """Enter a command whose row was made with `next_command_id`."""
        return self._entry(COMMAND, row.type, row.event_id, body, at, mono)

    def next_command_id(self) -> str:
        """Take the next number for a command; its event id is our mark and its position."""
        self.seq += 1
        return f"rto_{self.epoch}_{self.seq}"

    def open_gap(
        self,
        reason: GapReason,
        from_at: int,
        at: int,
        mono: float,
        *,
        before: int | None = None,
        since: float | None = None,
    ) -> tuple[Record, GapRow]:
        """Enter a gap after the last entry, or after the one before the number `before`.

        `since` is the monotonic time at which it began, where that is known better than by the wall clock.
        """
        after = self.position(self.seq if before is None else before - 1)
        return self._open(reason, from_at, after, at, mono, since=since)

    def _open(
        self, reason: GapReason, from_at: int, after: str | None, at: int, mono: float, *, since: float | None = None
    ) -> tuple[Record, GapRow]:
        self.seq += 1
        if since is None:
            since = mono - max(0, at - from_at) / 1e6
        gap = self.gaps.open(self.epoch, self.seq, reason, from_at, after, since=since)
        return self._entry(GAP, None, None, gaps.payload(gap), at, mono), gap

    def shed(
        self, type_: str | None, at: int, mono: float, reason: Literal["shed", "disk"] = "shed"
    ) -> list[Recordable]:
        """Count a frame that was numbered and then given up; another reason than before is another gap's."""
        effects: list[Recordable] = []
        gap = self._shed
        if gap is not None and gap.reason != reason:
            effects, gap = self.end_shedding(), None
        if gap is None:
            # the frame's own number stays a hole, which stands before the gap's entry
            record, gap = self.open_gap(reason, at, at, mono, before=self.seq)
            self._shed = gap
            effects += [record, gap]
        _count(gap, type_)
        self._shed_mono = mono
        return effects

    def end_shedding(self) -> list[Recordable]:
        """End the gap of what was shed, if one is open, with the last of it."""
        gap, self._shed = self._shed, None
        if gap is None:
            return []
        self.gaps.bound(gap, self._shed_mono)
        return [gap]

    @property
    def shedding(self) -> bool:
        """Say whether frames are being given up."""
        return self._shed is not None

    def refused(self, lost: list[tuple[int, str | None, int]], at: int, mono: float) -> list[Recordable]:
        """Admit entries, as (seq, type, at), that the database would not store for what they hold."""
        first = min(lost)
        record, gap = self.open_gap("corrupt", first[2], at, mono, before=first[0])
        for _, type_, _ in lost:
            _count(gap, type_)
        self.gaps.bound_at(gap, max(when for _, _, when in lost))
        return [record, gap]

    def damaged(self, loss: Loss, started_at: int, at: int, mono: float) -> list[Recordable]:
        """Admit that entries which were stored, of this epoch or an earlier one, are so no longer."""
        since = started_at if loss.from_at is None else loss.from_at
        record, gap = self._open("corrupt", since, loss.after, at, mono)
        gap.lost = loss.lost
        self.gaps.bound_at(gap, loss.to_at)
        return [record, gap]

    def position(self, seq: int) -> str | None:
        """Give the position of a number of this epoch; 0 is the last entry of the epoch before."""
        return f"{self.epoch}:{seq}" if seq > 0 else self._last_position

    def _entry(self, kind: int, type_: str | None, event_id: str | None, body: bytes, at: int, mono: float) -> Record:
        self.entry_count += 1
        return Record(self.epoch, self.seq, kind, at, self.offset_us(mono), type_, event_id, body, JSON)


def _count(gap: GapRow, type_: str | None) -> None:
    name = type_ or "(none)"
    if name not in gap.lost_by_type and len(gap.lost_by_type) >= MAX_TYPES:
        name = "(other)"
    gap.lost_by_type[name] = gap.lost_by_type.get(name, 0) + 1
    gap.lost = (gap.lost or 0) + 1
