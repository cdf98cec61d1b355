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

from sqlalchemy import Table, bindparam
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert

from rtobserver.store import tables
from rtobserver.store.identity import CallRef

DIALECT = sqlite.dialect(paramstyle="qmark")

_AFTER_ERASURE = {"status", "outcome", "ended_at", "completeness"}

Fact = tuple[Table, CallRef, dict[str, Any]]
"""(table, call, values by column, without the call's own key)"""


@dataclass(frozen=True, slots=True)
class Statement:
    """Be an SQL text with the rows to run it for."""

    table: str
    sql: str
    rows: list[tuple[Any, ...]]


def statements(facts: Iterable[Fact], takes: Callable[[CallRef], bool]) -> Iterator[Statement]:
    """Give what is to be run for these facts; `takes` is false for a call that was erased."""
    rows: dict[Table, dict[tuple[CallRef, Any], dict[str, Any]]] = {}
    changes: dict[CallRef, dict[str, Any]] = {}
    for table, call, values in facts:
        taken = takes(call)
        if table is tables.call:
            if not taken:
                # how it ended may still be told, not what was said or by whom
                values = {name: values[name] for name in _AFTER_ERASURE & values.keys()}
            changes.setdefault(call, {}).update(values)
        elif taken:
            rows.setdefault(table, {})[call, _upsert(table).key(values)] = values
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


@dataclass(frozen=True, slots=True)
class _Upsert:
    sql: str
    key: Callable[[dict[str, Any]], Any]
    """Gives what names a row within its call."""
    columns: Callable[[dict[str, Any]], tuple[Any, ...]]
    """Gives the columns that follow `call_key` and `day`."""


@cache
def _upsert(table: Table) -> _Upsert:
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    updates = {name: statement.excluded[name] for name in names if name not in keys}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=updates)
    return _Upsert(str(statement.compile(dialect=DIALECT)), itemgetter(*keys[2:]), itemgetter(*names[2:]))


@cache
def _update(names: tuple[str, ...]) -> str:
    """Compile an update of a call's columns; its parameters are those, in that order, and `call_key`."""
    columns: list[Any] = [(tables.call.c[name], bindparam(f"new_{name}")) for name in names]
    statement = tables.call.update().where(tables.call.c.call_key == bindparam("key")).ordered_values(*columns)
    return str(statement.compile(dialect=DIALECT))
