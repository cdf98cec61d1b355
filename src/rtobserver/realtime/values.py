"""Read values out of decoded JSON, whatever their type turns out to be. Never raises.

What is read here ends in table columns, so text is made storable: no NUL (PostgreSQL refuses it),
no lone surrogates (UTF-8 has none), bounded length.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

MAX_ID = 512
"""Longest id that is taken for one, in characters; upstream's own limit for `event_id`."""
MAX_TEXT = 1_000_000
"""Longest text that a row keeps, in characters; the frame has the whole."""
MAX_COUNT = 10**12
"""Largest count that is believed; sums of many of these still fit a 64-bit column."""

MAX_SECONDS = 10**7
"""Longest duration that is believed; no call lasts longer than an hour."""


def mapping(value: object) -> dict[str, Any]:
    """Give a JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """Give the JSON objects of an array; anything else in it is left out."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """Give a storable text, or None where there is none."""
    if not isinstance(value, str):
        return None
    value = value[:MAX_TEXT]
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value


def identifier(value: object) -> str | None:
    """Give an id, or None where it cannot be one."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    return value if text(value) == value else None


def count(value: object) -> int:
    """Give a count of tokens or milliseconds; 0 for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), MAX_COUNT)


def whole(value: object) -> int | None:
    """Give a count, or None where there is no number at all."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) else count(value)


def seconds(value: object) -> Decimal:
    """Give a duration in seconds, with the digits that it was written with; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Decimal(0)
    if not math.isfinite(value) or not 0 <= value <= MAX_SECONDS:
        return Decimal(0)
    return Decimal(str(value))
