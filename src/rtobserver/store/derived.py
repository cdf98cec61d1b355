"""Spell out the rows that follow from entries, so that a flush writes each of them once.

A row of a call's items, responses, gaps and commands is told whole each time, columns of the call's
own row as they change; of what a flush has for the same row, only the last counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Dialect, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg

from rtobserver.store import tables
from rtobserver.store.identity import CallRef

DIALECT = sqlite.dialect(paramstyle="qmark")
POSTGRESQL: Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]

_AFTER_ERASURE = {"status", "outcome", "ended_at", "completeness"}

_SHARED = (tables.item, tables.response)
"""Tables whose rows several epochs write."""

Fact = tuple[Table, CallRef, dict[str, Any]]
"""(table, call, values by column, without the call's own key)"""


@dataclass(frozen=True, slots=True)
class Statement:
    """Be an SQL text with the rows to run it for."""

    table: str
    sql: str
    rows: list[tuple[Any, ...]]


def statements(facts: Iterable[Fact], takes: Callable[[CallRef], bool]) -> Iterator[Statement]:
    """Give what is to be run on SQLite for these facts; `takes` is false for a call that was erased."""
    rows, changes = _last(facts, takes)
    for table, found in rows.items():
        upsert = _upsert(table)
        told = [(call.key, call.day, *upsert.columns(values)) for (call, _), values in found.items()]
        yield Statement(table.name, upsert.sql, told)
    updates: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for call, values in changes.items():
        if values:
            updates.setdefault(tuple(values), []).append((*values.values(), call.key))
    for names, told in updates.items():
        yield Statement(tables.call.name, _update(names), told)


def shipped(
    facts: Iterable[Fact], takes: Callable[[CallRef], bool], is_stale: Callable[[CallRef], bool]
) -> Iterator[Statement]:
    """Give what is to be run on PostgreSQL for these facts.

    Of a call that `is_stale` for whoever told them, since a successor observes it, nothing that the successor may
    have told is changed: rows of the teller's own epoch go in, others only fill what is not there.
    """
    rows, changes = _last(facts, takes)
    for table, found in rows.items():
        upsert = _upsert(table)
        told: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]] = ([], [])
        for (call, _), values in found.items():
            only_fills = is_stale(call) and (table in _SHARED or values["epoch"] != call.epoch)
            told[only_fills].append((call.key, call.day, *upsert.columns(values)))
        for sql, values_ in zip((upsert.shipping, upsert.filling), told, strict=True):
            if values_:
                # in one order for all replicas, so that none waits for another in a circle
                yield Statement(table.name, sql, sorted(values_, key=itemgetter(0)))
    updates: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for call, values in sorted(changes.items(), key=lambda change: change[0].key):
        if values and not is_stale(call):
            updates.setdefault(tuple(values), []).append((*values.values(), call.key, call.epoch))
    for names, changed in updates.items():
        yield Statement(tables.call.name, _guarded_update(names), changed)


Rows = dict[Table, dict[tuple[CallRef, Any], dict[str, Any]]]
Changes = dict[CallRef, dict[str, Any]]


def _last(facts: Iterable[Fact], takes: Callable[[CallRef], bool]) -> tuple[Rows, Changes]:
    """Keep of each row what was told of it last."""
    rows: Rows = {}
    changes: Changes = {}
    for table, call, values in facts:
        taken = takes(call)
        if table is tables.call:
            if not taken:
                # how it ended may still be told, not what was said or by whom
                values = {name: values[name] for name in _AFTER_ERASURE & values.keys()}
            changes.setdefault(call, {}).update(values)
        elif taken:
            rows.setdefault(table, {})[call, _upsert(table).key(values)] = values
    return rows, changes


@dataclass(frozen=True, slots=True)
class _Upsert:
    sql: str
    shipping: str
    """The same for PostgreSQL."""
    filling: str
    """For PostgreSQL, where what is there stays."""
    key: Callable[[dict[str, Any]], Any]
    """Gives what names a row within its call."""
    columns: Callable[[dict[str, Any]], tuple[Any, ...]]
    """Gives the columns that follow `call_key` and `day`."""


@cache
def _upsert(table: Table) -> _Upsert:
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    statement = sqlite.insert(table)
    updates = {name: statement.excluded[name] for name in names if name not in keys}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=updates)
    shipping = postgresql.insert(table)
    updates = {name: shipping.excluded[name] for name in names if name not in keys}
    return _Upsert(
        str(statement.compile(dialect=DIALECT)),
        str(shipping.on_conflict_do_update(index_elements=keys, set_=updates).compile(dialect=POSTGRESQL)),
        str(shipping.on_conflict_do_nothing().compile(dialect=POSTGRESQL)),
        itemgetter(*keys[2:]),
        itemgetter(*names[2:]),
    )


@cache
def _update(names: tuple[str, ...]) -> str:
    """Compile an update of a call's columns; its parameters are those, in that order, and `call_key`."""
    columns: list[Any] = [(tables.call.c[name], bindparam(f"new_{name}")) for name in names]
    statement = tables.call.update().where(tables.call.c.call_key == bindparam("key")).ordered_values(*columns)
    return str(statement.compile(dialect=DIALECT))


@cache
def _guarded_update(names: tuple[str, ...]) -> str:
    """Compile the same for PostgreSQL; its last parameter is the newest epoch that is no successor's."""
    columns: list[Any] = [(tables.call.c[name], bindparam(f"new_{name}")) for name in names]
    own = (tables.call.c.call_key == bindparam("key"), tables.call.c.epoch <= bindparam("own_epoch"))
    return str(tables.call.update().where(*own).ordered_values(*columns).compile(dialect=POSTGRESQL))
