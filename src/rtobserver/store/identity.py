"""Who a call is to the store: a 63-bit key made from its id, and the day it began."""

from __future__ import annotations

import hashlib

_KEY_MASK = (1 << 63) - 1
_DAY_US = 86_400_000_000


def call_key(call_id: str, attempt: int = 0) -> int:
    """Hash a call id to 63 bits; `attempt` counts the collisions met before."""
    digest = hashlib.blake2b(call_id.encode(), digest_size=8, salt=attempt.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") & _KEY_MASK


def day_of(at_us: int) -> int:
    """Give the UTC day of a time, as days since 1970."""
    return at_us // _DAY_US


class CallRef:
    """Point at a call's rows.

    The writer sets `key` when it registers the call, before it writes any of its rows, so a hash
    collision changes no row that waits; a journal's shipper finds the key out by itself.
    """

    __slots__ = ("call_id", "day", "epoch", "key", "origin", "queued_in", "queued_out", "stored")

    def __init__(self, call_id: str, day: int, key: int | None = None) -> None:
        self.call_id = call_id
        self.day = day
        self.key = call_key(call_id) if key is None else key
        self.epoch = 1
        """Of whoever observes the call through this; set before anything is recorded."""
        self.origin: str | None = None
        """Id of the row in whose place the call is registered."""
        self.queued_in = 0
        """Bytes handed to the writer; only the loop counts here."""
        self.queued_out = 0
        """Bytes committed; only the writer counts here."""
        self.stored = 0
        """Entries in the database; only the writer counts here once the call is under observation."""

    @property
    def queued_bytes(self) -> int:
        """Count payload bytes of this call that are not yet committed."""
        return self.queued_in - self.queued_out
