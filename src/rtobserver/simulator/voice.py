"""Voice activity: find where a caller speaks, from the loudness of each packet of sound.

Pure: levels and times go in. Upstream's own detection is not public; this one is made to be
predictable. Four loud packets (80 ms) within 120 ms are speech, so that a click or a browser's fake
beep is not.
"""

from __future__ import annotations

from collections import deque

SILENCE = -127.0
"""The lowest level, in dBov (RFC 6464)."""
_ONSET_PACKETS = 4
_ONSET_SECONDS = 0.12
_LOWEST, _SPAN = -70.0, 50.0


def lowest_loud_level(threshold: float) -> float:
    """Give the level that counts as loud, in dBov, for a session's `threshold` of 0 to 1; 0.5 is -45."""
    return _LOWEST + _SPAN * threshold


class Voice:
    """Hold what is known of one caller's voice; times are seconds since the first packet."""

    def __init__(self) -> None:
        self.is_speaking = False
        self.utterance_count = 0
        """Utterances that have begun."""
        self.began_seconds = 0.0
        self.ended_seconds = 0.0
        """When the last utterance began and when its end was noticed."""
        self.last_loud_seconds = 0.0
        self.buffered_seconds = 0.0
        """Sound since the last commit, where a client commits by itself."""
        self._loud: deque[float] = deque(maxlen=_ONSET_PACKETS)

    def hear(self, level: float, at: float, threshold: float) -> bool:
        """Take a packet's level and say whether somebody begins to speak with it."""
        if level < lowest_loud_level(threshold):
            return False
        self.last_loud_seconds = at
        self._loud.append(at)
        if self.is_speaking or len(self._loud) < _ONSET_PACKETS or at - self._loud[0] > _ONSET_SECONDS:
            return False
        self.is_speaking = True
        self.utterance_count += 1
        self.began_seconds = self._loud[0]
        return True

    def pause(self, at: float, silence: float) -> bool:
        """Say whether an utterance is over, because nothing was loud for `silence` seconds."""
        if not self.is_speaking or at - self.last_loud_seconds < silence:
            return False
        self.is_speaking = False
        self.ended_seconds = at
        self._loud.clear()
        return True
