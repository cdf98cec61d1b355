"""Say what is to be observed, and what is left of it from before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rtobserver.observation.pause import Pause
from rtobserver.realtime.entries import GapRow
from rtobserver.realtime.holes import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Say what is to be observed, and how patiently; durations in seconds."""

    started_at: int
    """When upstream's answer was here."""
    asked_at: int
    """When the offer was sent: from then on the call may have been producing events."""
    attach_timeout: float
    idle_probe: float
    max_duration: float
    """0 is no limit."""
    hang_up_unobserved: bool
    audio_key: bytes | None
    """Key of the hashes that stand for stripped audio; None keeps the audio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Say what an earlier epoch left of the call."""

    watermark: int
    """Time up to which everything received is stored, by the wall clock of that time."""
    ago: float | None = None
    """True seconds since then, whoever has set the clock; None where only the wall clock tells."""
    age_us: int | None = None
    """How old the call was then; None where only the wall clock tells."""
    last_position: str | None
    was_live: bool
    """False where the earlier epoch never attached."""
    given_up: str | None = None
    """Status (`unobserved`, `lost`) where only a hang-up at the maximal duration is left to do."""
    is_hopeless: bool = False
    """Whether observing it has failed so often that it is given up now."""
    entry_count: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    gaps: tuple[GapRow, ...] = ()
    tags: tuple[str, ...] = ()
    pause: Pause | None = None
    """What earlier epochs left of pauses of the recording."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """How often each item was asked for."""
    is_handed_over: bool = False
    """Whether who had the call heard it until we did: then nothing was missed in between."""
    losses: tuple[Loss, ...] = ()
    """What earlier epochs recorded, and what is neither there nor counted by a gap."""

    def seconds_ago(self, at: int) -> float:
        """Give how long ago the watermark was, at a time of the wall clock; never less than 0."""
        return max(0, at - self.watermark) / 1e6 if self.ago is None else self.ago

    def unset(self, started_at: int, at: int) -> int:
        """Give a time of the wall clock as if nobody had set that since the call began."""
        then = self.watermark if self.age_us is None else started_at + self.age_us
        return then + round(self.seconds_ago(at) * 1e6)
