"""Keep the gaps of one call: what is being lost, since when, and whether it is over.

Pure. A gap's entry is written when the loss begins and says what was known then; the row in the
table `gap` follows what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rtobserver.realtime.entries import GapReason, GapRow
from rtobserver.realtime.times import rfc3339

LATE_US = 2_000_000
"""A browser whose call was accepted so long ago may have been served by now."""

_UNTIL_ATTACH = ("before_attach", "reattach", "takeover", "oversize", "protocol")


class Gaps:
    """Hold a call's gaps, those of earlier epochs included."""

    def __init__(self, earlier: tuple[GapRow, ...] = ()) -> None:
        self._rows = list(earlier)
        self._begun: dict[tuple[int, int], float] = {}
        """Monotonic times of the beginnings that this epoch knows, by position."""

    @property
    def count(self) -> int:
        """Count the gaps that enter `gap_count` and the verdict."""
        return sum(gap.counted for gap in self._rows)

    @property
    def rows(self) -> tuple[GapRow, ...]:
        """Give all of them as they are now."""
        return tuple(self._rows)

    def open(self, epoch: int, seq: int, reason: GapReason, from_at: int, after: str | None, *, since: float) -> GapRow:
        """Begin a gap whose entry stands at (epoch, seq); `since` is the monotonic time of its beginning."""
        gap = GapRow(epoch, seq, from_at, reason, after, counted=reason != "before_attach", lost_by_type={})
        self._rows.append(gap)
        self._begun[epoch, seq] = since
        return gap

    def go_on(self, gap: GapRow, since: float) -> None:
        """Take note of the monotonic time at which a gap began that an earlier epoch left open."""
        self._begun[gap.epoch, gap.seq] = since

    def bound(self, gap: GapRow, mono: float) -> None:
        """End a gap that goes on: it has lasted as long as it has, whatever the wall clock says by now."""
        since = self._begun[gap.epoch, gap.seq]
        self.bound_at(gap, gap.from_at + round((mono - since) * 1e6))

    def bound_at(self, gap: GapRow, to_at: int) -> None:
        """End a gap by a time of the wall clock; one before its beginning (a clock set back) counts as none."""
        gap.to_at = max(gap.from_at, to_at)
        gap.state = "bounded"

    @property
    def paused(self) -> GapRow | None:
        """Give the gap of a pause that was not ended."""
        found = [gap for gap in self._rows if gap.state == "open" and gap.reason == "paused"]
        return found[-1] if found else None

    def bound_open(self, to_at: int, *, keep: GapRow | None = None) -> list[GapRow]:
        """End what an earlier epoch left open, but for one gap; gives those that were ended."""
        left = [gap for gap in self._rows if gap.state == "open" and gap is not keep]
        for gap in left:
            self.bound_at(gap, to_at)
        return left

    def close(self, *, missed: bool, heard_nothing: bool) -> list[GapRow]:
        """Settle all gaps at the end of the call; gives those that changed.

        `missed` says that events before the attach are known to be missing. Where `heard_nothing` of the
        whole call, nobody can tell, and an attach that was late is taken for a loss.
        """
        changed = []
        for gap in self._rows:
            counts = missed or (heard_nothing and (gap.to_at is None or gap.to_at - gap.from_at > LATE_US))
            counted = gap.counted or (gap.reason == "before_attach" and counts)
            if gap.state in ("open", "bounded") or counted != gap.counted:
                gap.counted = counted
                gap.state = "final" if gap.state != "recovered" else "recovered"
                changed.append(gap)
        return changed


def payload(gap: GapRow) -> bytes:
    """Give the entry's payload: the gap as it is known now."""
    return msgspec.json.encode(
        {
            "reason": gap.reason,
            "from": rfc3339(gap.from_at),
            "to": None if gap.to_at is None else rfc3339(gap.to_at),
            "after": gap.after,
            "state": gap.state,
            "lost": gap.lost,
            "lost_by_type": gap.lost_by_type,
        }
    )


def last_attach(rows: Iterable[GapRow], now: int) -> int | None:
    """Give when the last absence ended that was declared, since up to then all that is missing is declared.

    One that ended behind `now` (the clock was set back since) tells nothing.
    """
    ends = (row.to_at for row in rows if row.reason in _UNTIL_ATTACH and row.to_at is not None)
    return max((end for end in ends if end <= now), default=None)
