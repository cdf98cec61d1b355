"""Read what is sent to PostgreSQL as a node of many would have to: which tables of which kind, and joined by what.

Citus cannot be installed here. What it demands of statements is written down as rules, and all that the tests send
is held to them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from rtobserver.store import tables

PER_CALL = frozenset(str(table.name) for table in tables.PER_CALL)
SHARED = frozenset(str(table.name) for table in tables.SHARED)

_ONE = r'"?(\w+)"?'
_TABLE = re.compile(rf"\b(?:JOIN|INTO|UPDATE(?:\s+ONLY)?)\s+{_ONE}", re.IGNORECASE)
_NAME = r'(?:ONLY\s+)?"?\w+"?(?:\s+(?:AS\s+)?(?!USING\b)\w+)?'
_LIST = re.compile(rf"\b(?:FROM|USING)\s+({_NAME}(?:\s*,\s*{_NAME})*)", re.IGNORECASE)
_FREE = re.compile(r"'(?:[^']|'')*'")
_COMMENT = re.compile(r"--[^\n]*")
_INSERT = re.compile(r'\bINSERT\s+INTO\s+"?(\w+)"?\s*(?:AS\s+\w+\s*)?\(([^)]*)\)', re.IGNORECASE)
_CONFLICT = re.compile(r"\bON\s+CONFLICT\s*\(([^)]*)\)", re.IGNORECASE)
_SET = re.compile(r"\bSET\b(.*?)(?:\bWHERE\b|\bRETURNING\b|$)", re.IGNORECASE | re.DOTALL)
_ELSE = "CREATE|ALTER|DROP|COMMENT|LOCK|ANALYZE|VACUUM|SET|SHOW|BEGIN|COMMIT|TRUNCATE"
_IGNORED = re.compile(rf"^\s*(?:{_ELSE})\b", re.IGNORECASE)


def named(sql: str) -> frozenset[str]:
    """Give the tables of ours that a statement names where tables can stand."""
    bare = _bare(sql)
    lists = [one for found in _LIST.findall(bare) for one in found.replace("ONLY ", "").split(",")]
    listed = [one.split()[0].strip('"') for one in lists]
    return (frozenset(_TABLE.findall(bare)) | frozenset(listed)) & (PER_CALL | SHARED)


@functools.cache
def breaches(sql: str) -> tuple[str, ...]:
    """Say which rules a statement breaks."""
    if _IGNORED.match(sql):
        return ()
    bare = _bare(sql)
    found: list[str] = []
    used = named(sql)
    if used & PER_CALL and used & SHARED:
        found.append(f"joins or locks both kinds: {', '.join(sorted(used))}")
    for table, columns in _INSERT.findall(bare):
        if table in PER_CALL and "call_key" not in _names(columns):
            found.append(f"inserts into {table} without the call's key")
    if len(used & PER_CALL) > 1 and len(re.findall(r"\bcall_key\b", bare)) < 2:
        found.append("joins tables of calls otherwise than by the call's key")
    written = re.match(r'\s*(?:INSERT\s+INTO|UPDATE)\s+(?:ONLY\s+)?"?(\w+)"?', bare, re.IGNORECASE)
    if written is not None and written[1] in PER_CALL:
        for columns in _CONFLICT.findall(bare):
            if "call_key" not in _names(columns):
                found.append("settles conflicts otherwise than by the call's key")
        for assignments in _SET.findall(bare):
            if re.search(r'(?:^|,)\s*"?call_key"?\s*=', assignments):
                found.append("changes the key by which its row is placed")
    locks = re.search(r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE)\b", bare, re.IGNORECASE)
    if locks and used & PER_CALL and not re.search(r"\bcall_key\b\s*(?:=|IN)", bare):
        found.append("locks rows of calls on more than one node")
    return tuple(found)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect what any engine sends to a PostgreSQL server while the block lasts."""
    sent: list[str] = []

    def hear(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if connection.dialect.name == "postgresql":
            sent.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", hear)
    try:
        yield sent
    finally:
        event.remove(sa.Engine, "before_cursor_execute", hear)


def _bare(sql: str) -> str:
    return _FREE.sub("''", _COMMENT.sub("", sql))


def _names(columns: str) -> set[str]:
    return {column.strip().strip('"').rpartition(".")[2] for column in columns.split(",")}
