"""Read what is sent to PostgreSQL as a node of many would have to: which tables of which kind, and joined by what.

Citus cannot be installed here. What it demands of statements is written down as rules, and all that the product sends
in a test is held to them: by way of SQLAlchemy, of the driver alone, and by COPY.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from rtobserver.store import tables
from tests.support.joins import Joins

PER_CALL = frozenset(str(table.name) for table in tables.PER_CALL)
SHARED = frozenset(str(table.name) for table in tables.SHARED)
OURS = PER_CALL | SHARED

_WORD = re.compile(r"\w+")
_FREE = re.compile(r"'(?:[^']|'')*'")
_COMMENT = re.compile(r"--[^\n]*")
_SESSION = "SET|SHOW|BEGIN|START|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|LISTEN|UNLISTEN|NOTIFY"
_ELSE = re.compile(rf"^\s*(?:CREATE|ALTER|DROP|COMMENT|LOCK|ANALYZE|VACUUM|TRUNCATE|{_SESSION})\b", re.IGNORECASE)
_COPY = re.compile(r'^\s*COPY\s+"?(\w+)"?\s*(?:\(([^)]*)\))?\s*(FROM|TO)\b', re.IGNORECASE)
_COPY_QUERY = re.compile(r"^\s*COPY\s*\((.*)\)\s*TO\b[^)]*(?:\([^)]*\))?\s*$", re.IGNORECASE | re.DOTALL)
_SIMPLE = re.compile(r"^\s*(?:SELECT|DELETE)\b(?!.*\bFOR\b)", re.IGNORECASE | re.DOTALL)
# how many values a list has changes nothing
_VALUES = re.compile(r"(IN \(\$\d+(?:::\w+)?, \$\d+(?:::\w+)?)(?:, \$\d+(?:::\w+)?)+")


@functools.lru_cache(10_000)
def breaches(sql: str) -> tuple[str, ...]:
    """Say which rules a statement breaks."""
    bare = _FREE.sub("''", _COMMENT.sub("", sql))
    named = [word for word in _WORD.findall(bare) if word in OURS]
    if _ELSE.match(bare) or not PER_CALL & set(named) or (len(named) == 1 and _SIMPLE.match(bare)):
        return ()
    return _breaches(_VALUES.sub(r"\1", bare))


@functools.cache
def _breaches(sql: str) -> tuple[str, ...]:
    if copy := _COPY.match(sql):
        columns = {column.strip(' "') for column in (copy[2] or "call_key").split(",")}
        lacks = copy[1] in PER_CALL and copy[3].upper() == "FROM" and "call_key" not in columns
        return (f"inserts into {copy[1]} without the call's key",) if lacks else ()
    if query := _COPY_QUERY.match(sql):
        sql = query[1]
    try:
        parsed = sqlglot.parse(sql, read="postgres")
    except SqlglotError as error:
        return (f"cannot be read: {error}",)
    return tuple(breach for one in parsed if one is not None for breach in _of(one))


def _of(statement: exp.Expr) -> list[str]:
    if isinstance(statement, exp.Command):
        return [f"cannot be read: {statement.sql()}"]
    joins = Joins(statement, PER_CALL, "call_key")
    here = {table.name for table in statement.find_all(exp.Table)} - joins.defined
    found = list(joins.problems)
    if here & PER_CALL and here & SHARED:
        found.append(f"joins or locks both kinds: {', '.join(sorted(here & OURS))}")
    if joins.parts > 1:
        found.append("joins tables of calls otherwise than by the call's key")
    for insert in statement.find_all(exp.Insert):
        found += _of_insert(insert)
    for update in statement.find_all(exp.Update):
        if isinstance(update.this, exp.Table) and update.this.name in PER_CALL:
            found += _of_assignments(update.expressions)
    return found


def _of_insert(insert: exp.Insert) -> list[str]:
    target = insert.find(exp.Table)
    if target is None or target.name not in PER_CALL:
        return []
    found = []
    if isinstance(insert.this, exp.Schema) and "call_key" not in {column.name for column in insert.this.expressions}:
        found.append(f"inserts into {target.name} without the call's key")
    conflict = insert.args.get("conflict")
    if conflict is not None:
        keys = {
            key.name for given in conflict.args.get("conflict_keys") or () for key in given.find_all(exp.Identifier)
        }
        if keys and "call_key" not in keys:
            found.append("settles conflicts otherwise than by the call's key")
        found += _of_assignments(conflict.expressions)
    return found


def _of_assignments(assignments: list[exp.Expr]) -> list[str]:
    changed = {
        column.name for one in assignments if isinstance(one, exp.EQ) for column in one.left.find_all(exp.Column)
    }
    return ["changes the key by which its row is placed"] if "call_key" in changed else []


_WAYS = ("_get_statement", "execute", "_copy_in", "_copy_out", "copy_records_to_table")
"""Where the driver is told of a statement, however it is sent."""


@contextmanager
def watched() -> Iterator[set[str]]:
    """Collect what the product's connections send to PostgreSQL servers while the block lasts."""
    sent: set[str] = set()
    kept = {name: getattr(asyncpg.Connection, name) for name in _WAYS}

    def hearing(way: Any) -> Any:
        @functools.wraps(way)
        def heard(connection: asyncpg.Connection[Any], told: str, *args: Any, **options: Any) -> Any:
            # tests have connections of their own, without a name, to look at things as no product would
            if connection.get_settings().application_name.startswith("rtobserver"):
                sent.add(told if way is not kept["copy_records_to_table"] else _copy(told, **options))
            return way(connection, told, *args, **options)

        return heard

    for name, way in kept.items():
        setattr(asyncpg.Connection, name, hearing(way))
    try:
        yield sent
    finally:
        for name, way in kept.items():
            setattr(asyncpg.Connection, name, way)


def _copy(table: str, *, columns: Sequence[str] | None = None, **_: Any) -> str:
    """Write the statement that the driver makes of it."""
    names = ", ".join(f'"{column}"' for column in columns or ())
    return f'COPY "{table}"({names}) FROM STDIN' if names else f'COPY "{table}" FROM STDIN'
