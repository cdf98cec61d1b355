"""Which events may be given up when storage cannot keep up, and in which order.

Pure. The order is fixed (design, section 6): deltas first, then `rate_limits.updated`, then buffer
marks, then whatever is not known to matter; lifecycle events, `*.done` and `error` last of all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

DELTA, RATE_LIMITS, BUFFER_MARK, OTHER, KEPT = 1, 2, 3, 4, 5
"""Classes, the first to be shed first; `KEPT` is given up only when there is no room at all."""

FULL_DISK = 8
"""Bit of a pressure: what is shed is shed for want of room on the disk."""

NAMES = {DELTA: "delta", RATE_LIMITS: "rate_limits", BUFFER_MARK: "buffer_mark", OTHER: "other", KEPT: "kept"}

_KEPT_PREFIXES = ("session.", "conversation.", "response.", "error", "mcp_list_tools.")


@lru_cache(maxsize=512)
def shed_class(type_: str | None) -> int:
    """Give the class of an event type; what is not JSON counts as `OTHER`."""
    if type_ is None:
        return OTHER
    if type_.endswith(".delta"):
        return DELTA
    if type_ == "rate_limits.updated":
        return RATE_LIMITS
    if type_.startswith(("input_audio_buffer.", "output_audio_buffer.")):
        return BUFFER_MARK
    if type_.endswith(".done") or type_.startswith(_KEPT_PREFIXES):
        return KEPT
    return OTHER


def gives_up(type_: str | None, pressure: int) -> bool:
    """Say whether an event of this type is shed under a pressure that is not 0."""
    return shed_class(type_) <= pressure & ~FULL_DISK


def reason(pressure: int) -> Literal["shed", "disk"]:
    """Give the reason of the gap that counts what is shed."""
    return "disk" if pressure & FULL_DISK else "shed"
