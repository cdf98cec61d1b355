"""Say when a quiet call is to be probed. Pure; times are monotonic seconds."""

from __future__ import annotations

CEILING = 300.0
"""A quiet call is probed at least this often, in seconds."""


class Probing:
    """Know how quiet a call is."""

    def __init__(self, every: float, mono: float) -> None:
        self._idle = every
        self.frame_mono = mono
        """When the last frame came."""
        self.is_asking = False
        self._asked_mono = self._looked_mono = mono
        self._every = every

    def attached(self, mono: float) -> None:
        """Begin anew."""
        self.frame_mono = self._asked_mono = mono
        self._every = self._idle

    def look_at(self) -> float:
        """Give when to look again: often, since a frame brings the next probe forward without a word."""
        return min(self._due(), max(self.frame_mono, self._asked_mono, self._looked_mono) + self._idle)

    def is_due(self, mono: float) -> bool:
        """Look; where it is true, a probe is begun."""
        self._looked_mono = mono
        self.is_asking = mono >= self._due()
        return self.is_asking

    def answered(self, mono: float, *, alive: bool) -> None:
        """Take note of what a probe found."""
        if alive:
            quiet_since_last = self.frame_mono < self._asked_mono
            self._every = min(CEILING, self._every * 2) if quiet_since_last else self._idle * 2
        self._asked_mono = mono

    def _due(self) -> float:
        if self.frame_mono >= self._asked_mono:
            return self.frame_mono + self._idle
        return self._asked_mono + self._every
