"""What a case gives: always the same figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """Say what is left of what was produced."""

    produced: int
    stored: int
    missing: int
    missing_unexplained: int
    """Missing, and no gap stands at that place and that time; of a forgotten call, all without a reason."""
    forgotten: int
    """Calls that upstream made and of which the daemon knows nothing; what they produced is missing."""
    gap_s: float
    """Length of all gaps but those before the first attach."""
    gap_overhang_s: float
    """The longest part of any one gap in which nothing was cut and nothing lost."""
    empty_gaps: int
    """Gaps in whose time somebody listened, and nothing was lost."""
    overcounted: int
    """Losses that gaps count and that were none."""
    double_gaps: int
    """Gaps that begin before another one of their call has ended."""
    false_verdicts: int
    """Calls of which the API says what their record does not: completeness, number of gaps, number of entries."""
    dup: int
    holes: int
    """Numbers that are left out of an epoch and that no gap counts."""
    conflicts: int
    """Entries with other bytes than were sent, or that were never sent."""
    inversions: int
    closes_by_us: int
    """Connections that the daemon left with 1002, 1007, 1009, 1011 or none, while the call went on."""
    rss: float
    """The most memory that the daemon held, in MiB."""
    loop_gap: float
    """The longest that its loop did not turn, in ms."""
    starved: float
    """So much of that in which anything on this machine waited for a processor, in ms: told, and taken off nothing."""

    @property
    def is_lawful(self) -> bool:
        """Say whether nothing is wrong, whatever is missing."""
        wrong = (self.missing_unexplained, self.empty_gaps, self.overcounted, self.double_gaps, self.false_verdicts)
        return not any((*wrong, self.dup, self.holes, self.conflicts, self.inversions))
