"""Follow who is making a sound: how long each side talks, and for how long nobody does."""

from __future__ import annotations


class Sound:
    """Keep the talk times of one call. Times are microseconds since 1970, as received."""

    __slots__ = (
        "dead_us",
        "playing_since",
        "plays",
        "quiet_since",
        "speaking_since",
        "started_at",
        "stopped_at",
        "talked_us",
        "user_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.speaking_since: int | None = None
        self.playing_since: int | None = None
        self.quiet_since: int | None = None
        """Since when nobody speaks and nothing plays; None while somebody does, and before the first sound."""
        self.started_at: int | None = None
        """When the user last began to speak."""
        self.stopped_at: int | None = None
        """When the user last ceased to speak."""
        self.plays = False
        """True once upstream reported any playback."""
        self.user_ms = 0
        self.talked_us = 0
        self.dead_us = 0

    def user_started(self, at: int) -> None:
        """Note that the user began to speak."""
        self._break_silence(at)
        self.speaking_since = self.started_at = at

    def user_stopped(self, at: int, spoken_ms: int | None) -> None:
        """Note that the user ceased to speak; `spoken_ms` by the media clock, if known."""
        if self.speaking_since is None:
            return
        self.user_ms += max((at - self.speaking_since) // 1000, 0) if spoken_ms is None else spoken_ms
        self.speaking_since = None
        self.stopped_at = at
        self._fall_silent(at)

    def play_started(self, at: int) -> None:
        """Note that playback began."""
        if self.playing_since is not None:
            self.play_stopped(at)
        self._break_silence(at)
        self.playing_since = at
        self.plays = True

    def play_stopped(self, at: int) -> None:
        """Note that playback ended or was cut."""
        if self.playing_since is None:
            return
        self.talked_us += max(at - self.playing_since, 0)
        self.playing_since = None
        self._fall_silent(at)

    def _break_silence(self, at: int) -> None:
        if self.quiet_since is not None:
            self.dead_us += max(at - self.quiet_since, 0)
            self.quiet_since = None

    def _fall_silent(self, at: int) -> None:
        if self.speaking_since is None and self.playing_since is None:
            self.quiet_since = at
