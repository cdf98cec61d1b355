"""Reckon how long to wait before the next attempt. Pure: jitter and the time are arguments."""

from __future__ import annotations

import re
from datetime import UTC, datetime

LONGEST = 60.0
"""Seconds beyond which upstream's wish to wait is not honoured (design 4)."""

_SPREAD = 0.2
_DELTA = re.compile(r"\d{1,30}(?:\.\d{1,9})?", re.ASCII)
_DATE = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def delay(
    attempt: int, jitter: float, *, first: float = 0.25, ceiling: float = 4.0, retry_after: float | None = None
) -> float:
    """Give the seconds to wait after the failed attempt number `attempt`, counted from 0.

    Doubles from `first` up to `ceiling`, and is shortened by up to a fifth by `jitter` in [0, 1).
    Where upstream asked for a time, that is the least, lengthened by up to a fifth so that many
    callers do not come back as one, and never more than a minute.
    """
    # The exponent is bounded because a float overflows at 2 ** 1024.
    computed = min(ceiling, first * 2.0 ** min(max(attempt, 0), 64)) * (1 - _SPREAD * jitter)
    if retry_after is None:
        return computed
    return min(LONGEST, max(computed, retry_after * (1 + _SPREAD * jitter)))


def retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date (RFC 9110 section 10.2.3), at most a minute.

    `now` is the wall clock in unix seconds. None for a header that is missing or makes no sense.
    """
    text = (value or "").strip()
    if _DELTA.fullmatch(text):
        return min(LONGEST, float(text))
    if found := _DATE.fullmatch(text):
        day, month, year, hour, minute, second = found.groups()
        if month not in _MONTHS:
            return None
        try:
            at = datetime(
                int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
        except ValueError:
            return None
        return min(LONGEST, max(0.0, at.timestamp() - now))
    return None


class Hold:
    """Keep what upstream asked of one caller for all of them: a resource's limit is one, whoever meets it."""

    def __init__(self) -> None:
        self._until = 0.0

    def asked(self, seconds: float, mono: float) -> None:
        """Take note that upstream asked for a wait."""
        self._until = max(self._until, mono + min(LONGEST, seconds))

    def left(self, mono: float) -> float:
        """Give the seconds for which nobody should ask."""
        return max(0.0, self._until - mono)
