"""What is recorded of a call, as values: entries, and the rows that follow from them.

Pure. Times named `at` are microseconds since 1970 (UTC).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals

EVENT, COMMAND, GAP = 1, 2, 3
"""Kinds of entries."""
STRIPPED, OVERLAP, JSON = 1, 2, 4
"""Flags of entries."""

GapReason = Literal[
    "before_attach",
    "reattach",
    "takeover",
    "oversize",
    "protocol",
    "shed",
    "disk",
    "corrupt",
    "paused",
    "erased",
    "unknown_end",
]


class Record(msgspec.Struct, gc=False):
    """Record one entry."""

    epoch: int
    seq: int
    kind: int
    at: int
    offset_us: int
    type: str | None
    event_id: str | None
    payload: bytes
    flags: int


class Rows(msgspec.Struct):
    """Write rows of the fold."""

    items: tuple[ItemRow, ...]
    responses: tuple[ResponseRow, ...]


class GapRow(msgspec.Struct):
    """Write what is known of a gap; `epoch` and `seq` are the position of its entry."""

    epoch: int
    seq: int
    from_at: int
    reason: GapReason
    after: str | None
    to_at: int | None = None
    state: Literal["open", "bounded", "recovered", "final"] = "open"
    lost: int | None = None
    lost_by_type: dict[str, int] = {}
    counted: bool = True


class CommandRow(msgspec.Struct):
    """Write what became of a command; `epoch` and `seq` are the position of its entry."""

    epoch: int
    seq: int
    event_id: str
    type: str
    source: Literal["policy", "operator", "system"]
    state: Literal["sent", "acknowledged", "failed", "unknown"]
    sent_at: int
    acknowledged_at: int | None = None
    error: str | None = None
    policy: str | None = None


class OrderRow(msgspec.Struct):
    """Write what became of an operator's order."""

    order_id: str
    state: Literal["waiting", "sent", "acknowledged", "failed", "expired"]
    """`waiting` gives the order back, for another run of the daemon to carry out."""
    event_id: str | None = None
    """Of the command that it led to."""
    sent_at: int | None = None
    acknowledged_at: int | None = None
    error: str | None = None


class DecisionRow(msgspec.Struct):
    """Write what a policy decided and what came of it; `epoch` and `seq` are the position of its trigger."""

    epoch: int
    seq: int
    policy: str
    policy_set: str
    """Hash of the set that decided."""
    trigger: str
    mode: Literal["observe", "canary", "enforce"]
    acted: bool
    actions: tuple[str, ...]
    received_at: int
    """When its trigger was here."""
    matched_at: int = 0
    """When it was decided; 0 until the observer has told the time."""
    sent_at: int | None = None
    """When the first of its commands left."""
    acknowledged_at: int | None = None
    """When the last of its commands was acknowledged."""
    outcome: Literal["observed", "not_in_canary", "fault", "done", "failed", "unknown", "no_response"] | None = None
    """None while nothing is known yet."""
    detail: str | None = None
    """The words to the outcome."""
    match: str | None = None
    """What was said that matched; None too where it must not be stored."""
    item_id: str | None = None
    response_id: str | None = None
    played_ms: int | None = None
    """Of a cancelled response: about how much of what matched was heard."""


class Sums(msgspec.Struct):
    """Write the call's sums."""

    totals: Totals
    entry_count: int
    gap_count: int


class Changed(msgspec.Struct):
    """Write columns of the call's row."""

    values: dict[str, Any]


Recordable = Record | Rows | GapRow | CommandRow | OrderRow | DecisionRow | Sums | Changed
"""Everything that a recorder takes."""
