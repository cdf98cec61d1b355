"""Read calls: newest first, filtered, in keyset pages; or one by its id.

Filters compare whole values; nothing here searches text. Pages are found through
`(started_at, call_key)`, never by counting rows off, so that a page costs the same however far
back it lies and calls which begin meanwhile move nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.dialects import json_holds, json_text
from rtobserver.store.identity import call_key

Has = Literal["gap", "interruption", "error", "tampered"]
HAS: tuple[Has, ...] = get_args(Has)

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLLISIONS = 4  # a second one at the same key is already past belief

_call = tables.call


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Be a call as its row has it; times are microseconds since 1970."""

    key: int
    day: int
    call_id: str
    protocol: str
    status: str
    outcome: str | None
    started_at: int
    ended_at: int | None
    profile: str
    model: str
    user: str | None
    labels: Mapping[str, str]
    tags: tuple[str, ...]
    epoch: int
    entry_count: int
    turn_count: int
    interruption_count: int
    error_count: int
    tampered: bool
    usage: Mapping[str, Any]
    cost_usd: str | None
    latency: Mapping[str, Any]
    metrics: Mapping[str, Any]
    attach_latency_ms: int | None
    completeness: str | None
    gap_count: int
    purged_at: int | None
    """When its entries and items were taken away; 0 while that goes on."""


class Before(NamedTuple):
    """Mark where a page of calls ended; the next one begins right behind."""

    started_at: int
    key: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Say which calls are wanted; all of it must hold."""

    status: str | None = None
    outcome: str | None = None
    profile: str | None = None
    model: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    since: int | None = None
    """Microseconds since 1970; calls that began then or later."""
    until: int | None = None
    """Calls that began earlier."""
    min_duration_us: int | None = None
    """Calls that ended and took so long."""
    has: tuple[Has, ...] = ()
    policy: str | None = None
    """Calls in which this policy decided anything, acted or not."""
    erased: bool = False
    """Whether calls that were erased are given too."""


COLUMNS = [column for name, column in _call.c.items() if name == "call_key" or name in Call.__struct_fields__]
_HAS: dict[Has, sa.ColumnElement[bool]] = {
    "gap": _call.c.gap_count > 0,
    "interruption": _call.c.interruption_count > 0,
    "error": _call.c.error_count > 0,
    "tampered": _call.c.tampered.is_(True),
}


def is_label(name: str) -> bool:
    """Tell whether calls can have a label of this name; a filter may name no other."""
    return _LABEL.fullmatch(name) is not None


async def page(
    database: Database, wanted: Filter, *, before: Before | None = None, limit: int
) -> tuple[list[Call], Before | None]:
    """Read a page of calls, newest first, and where the next page begins (None at the end).

    Raises:
        StoreUnavailable: the database cannot be read now, or the filter takes too long.

    """
    async with database.reading() as connection:
        rows = (await connection.execute(page_statement(wanted, before, limit + 1))).mappings().all()
    found = [call_of(row) for row in rows[:limit]]
    more = len(rows) > limit and bool(found)
    return found, Before(found[-1].started_at, found[-1].key) if more else None


async def profiles(database: Database) -> list[str]:
    """Read which profiles there are calls of.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        rows = await connection.execute(sa.select(_call.c.profile).distinct().order_by(_call.c.profile))
    return [str(row.profile) for row in rows]


def page_statement(wanted: Filter, before: Before | None, limit: int) -> sa.Select[Any]:
    """Write the statement of a page."""
    statement = sa.select(*COLUMNS).where(*conditions(wanted))
    if before is not None:
        statement = statement.where(sa.tuple_(_call.c.started_at, _call.c.call_key) < sa.tuple_(*before))
    return statement.order_by(_call.c.started_at.desc(), _call.c.call_key.desc()).limit(limit)


async def among(connection: AsyncConnection, keys: Sequence[int], wanted: Filter) -> list[Call]:
    """Read those of some calls that pass a filter, in no order."""
    rows = await connection.execute(among_statement(keys, wanted))
    return [call_of(row) for row in rows.mappings()]


def among_statement(keys: Sequence[int], wanted: Filter) -> sa.Select[Any]:
    """Write the statement that filters some calls."""
    # in a CASE no condition can tempt the planner to read other calls than these
    passes = sa.case((sa.and_(True, *conditions(wanted)), 1)) == 1
    return sa.select(*COLUMNS).where(_call.c.call_key.in_(keys), passes)


async def find(database: Database, call_id: str) -> Call | None:
    """Read one call.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        row = (await connection.execute(find_statement(call_id))).mappings().first()
    return call_of(row) if row is not None else None


def find_statement(call_id: str) -> sa.Select[Any]:
    """Write the statement that finds one call."""
    # by the key that follows from it, which names the node too where calls are spread over several
    return sa.select(*COLUMNS).where(_call.c.call_key.in_(keys_of(call_id)), _call.c.call_id == call_id)


def keys_of(call_id: str) -> list[int]:
    """Give all keys that a call of this id can have."""
    return [call_key(call_id, attempt) for attempt in range(_COLLISIONS)]


async def checks(database: Database, call: Call) -> Mapping[str, Any]:
    """Read what the verdict on a call's record rests on; empty while there is none.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        found = (await connection.execute(checks_statement(call.key))).scalar()
    value = msgspec.json.decode(found or b"{}")
    return value if isinstance(value, dict) else {}


def checks_statement(key: int) -> sa.Select[Any]:
    """Write the statement that reads a call's checks."""
    return sa.select(_call.c.checks).where(_call.c.call_key == key)


async def was_erased(database: Database, call_id: str, found: Call | None) -> bool:
    """Tell whether a call of this id was here and has been erased; `found` is what `find` gave.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    # a call that is there has its one key, another's tombstone at the key that it was moved from is not its own
    keys = [found.key] if found else keys_of(call_id)
    statement = sa.select(sa.exists().where(tables.tombstone.c.call_key.in_(keys)))
    async with database.reading() as connection:
        return bool((await connection.execute(statement)).scalar())


def conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    """Write what must hold of a call that passes a filter."""
    conditions: list[sa.ColumnElement[bool]] = [
        _call.c[name] == value
        for name in ("status", "outcome", "profile", "model", "user")
        if (value := getattr(wanted, name)) is not None
    ]
    conditions += [json_text(_call.c.labels, key) == value for key, value in sorted(wanted.labels.items())]
    conditions += [json_holds(_call.c.tags, tag) for tag in wanted.tags]
    if wanted.since is not None:
        conditions.append(_call.c.started_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(_call.c.started_at < wanted.until)
    if wanted.min_duration_us is not None:
        conditions.append(_call.c.ended_at - _call.c.started_at >= wanted.min_duration_us)
    if wanted.policy is not None:
        decision = tables.decision
        conditions.append(
            sa.exists().where(
                decision.c.call_key == _call.c.call_key,
                decision.c.day == _call.c.day,
                decision.c.policy == wanted.policy,
            )
        )
    if not wanted.erased:
        conditions.append(_call.c.erased_at.is_(None))
    return conditions + [_HAS[name] for name in wanted.has]


def call_of(row: Mapping[Any, Any]) -> Call:
    """Read a row of `COLUMNS`, by their names."""
    values = dict(row)
    values["key"] = values.pop("call_key")
    for name in ("labels", "usage", "latency", "metrics"):
        values[name] = msgspec.json.decode(values[name])
    values["tags"] = tuple(msgspec.json.decode(values["tags"]))
    return Call(**values)


async def count(database: Database) -> int:
    """Count all calls.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(_call))).scalar() or 0)
