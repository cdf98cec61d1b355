"""Identifiers shaped as each vendor makes them (protocol.md 3.1)."""

from __future__ import annotations

import random
import time
from typing import Literal

Provider = Literal["azure", "openai"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_EPOCH = 1_576_800_000
"""Upstream counts the seconds at the front of an id from here."""


class Ids:
    """Make identifiers for one simulator; `seed` makes the random part repeat."""

    def __init__(self, provider: Provider, seed: int | None = None) -> None:
        self._provider = provider
        self._random = random.Random(seed)  # noqa: S311 - ids need to differ, not to be secret
        self._stamp = (0, "")

    def letters(self, count: int) -> str:
        """Draw so many letters and digits."""
        # Pairs from one draw: ten times faster than drawing each letter, which floods would feel.
        bits = self._random.getrandbits(13 * (count // 2 + 1))
        return "".join([_PAIRS[(bits >> shift) % 3844] for shift in range(0, 13 * (count // 2 + 1), 13)])[:count]

    def hexadecimal(self, count: int) -> str:
        """Draw so many hexadecimal digits."""
        return f"{self._random.getrandbits(count * 4):0{count}x}"

    def stamped(self, prefix: str) -> str:
        """Give `prefix` and 21 characters, of which the first five tell the second of creation."""
        second = int(time.time())
        if self._stamp[0] != second:
            self._stamp = (second, _in_base_62(second - _EPOCH))
        return f"{prefix}{self._stamp[1]}{self.letters(16)}"

    def event(self) -> str:
        """Give the id of an ordinary event."""
        return self.stamped("event_")

    def buffer_event(self) -> str:
        """Give the id of an `output_audio_buffer` event, which another generator makes."""
        return f"event_{self.hexadecimal(16)}"

    def secret(self) -> str:
        """Give the value of a client secret."""
        return f"ek_{self.hexadecimal(32)}"

    def call(self) -> tuple[str, str | None]:
        """Give a call id and the id of its session, if the vendor ties the two together.

        On Azure the session keeps the id that the client secret had, hence None.
        """
        if self._provider == "azure":
            return f"rtc_{self.hexadecimal(32)}", None
        stem = self.stamped(f"u{self._random.randrange(3)}_")
        return f"rtc_{stem}", f"sess_{stem}"


def _in_base_62(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return f"{text:0>5}"
