"""Find calls that go on by their rows, and what it takes to own one: what leases do not know must come from there.

Functions give work for `Writing.run`; rows of leases are not theirs to touch (`leases.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.identity import CallRef
from rtobserver.store.transaction import Transaction

_call = tables.call.c
_GOING_ON = sa.and_(_call.status.in_(("connecting", "live")), _call.call_id.startswith("rtc_", autoescape=True))
_REGISTERED = (
    *(_call.call_id, _call.status, _call.started_at, _call.profile, _call.model, _call.max_duration_us),
    *(_call.protocol, _call.user, _call.labels, _call.token_id, _call.upstream_request_id, _call.session),
)


def going_on() -> Callable[[Transaction], list[CallRef]]:
    """List the calls with a known id whose rows say that they go on."""
    statement = sa.select(_call.call_id, _call.day, _call.call_key, _call.epoch).where(_GOING_ON)

    def work(transaction: Transaction) -> list[CallRef]:
        found = []
        for call_id, day, key, epoch in transaction.execute(statement):
            ref = CallRef(call_id, day, key)
            ref.epoch = epoch
            found.append(ref)
        return found

    return work


def registered(calls: Collection[CallRef]) -> Callable[[Transaction], list[tuple[CallRef, dict[str, Any]]]]:
    """Give these calls as they were registered, as far as they still go on."""
    refs = {call.key: call for call in calls}
    statement = sa.select(_call.call_key, *_REGISTERED).where(_GOING_ON, _call.call_key.in_(refs))

    def work(transaction: Transaction) -> list[tuple[CallRef, dict[str, Any]]]:
        found = []
        for key, *values in transaction.execute(statement):
            told = dict(zip((column.name for column in _REGISTERED), values, strict=True))
            told |= {"labels": json.loads(told["labels"]), "session": json.loads(told["session"] or "{}")}
            found.append((refs[key], told))
        return found

    return work
