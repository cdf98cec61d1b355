"""Sound for Chromium's fake microphone."""

from __future__ import annotations

import array
import math
import wave
from pathlib import Path

_RATE = 48_000
_SECONDS = 4.0
_PITCH = 140.0
_SYLLABLES_PER_SECOND = 4.0


def write_voice(path: Path) -> Path:
    """Write what a noise suppressor takes for a voice: harmonics that rise and fall with syllables; it never pauses."""
    samples = array.array("h")
    for number in range(int(_RATE * _SECONDS)):
        at = number / _RATE
        # whole turns in the file's length, so that a loop has no click in it
        pitch = 2 * math.pi * _PITCH * at + 1.5 * math.sin(2 * math.pi * at)
        tone = sum(math.sin(harmonic * pitch) / harmonic for harmonic in range(1, 12))
        swell = 0.55 + 0.45 * math.sin(2 * math.pi * _SYLLABLES_PER_SECOND * at)
        samples.append(int(9000 * swell * tone))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples.tobytes())
    return path
