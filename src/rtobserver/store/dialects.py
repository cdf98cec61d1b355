"""Write what the two databases say differently, so that a statement is written once for both.

An expression of these is compiled for the database that it is run on; its other half is left out.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

COST_PLACES = 10
"""Decimals of a cost that are summed; no price yields more."""


class Either(FunctionElement[Any]):
    """Be one expression on SQLite and another one on PostgreSQL."""

    inherit_cache = True
    name = "either"

    def __init__(self, sqlite: Any, postgresql: Any, type_: sa.types.TypeEngine[Any]) -> None:
        super().__init__(sqlite, postgresql)
        self.type = type_


@compiles(Either, "sqlite")
def _sqlite(element: Either, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(next(iter(element.clauses)), **options)


@compiles(Either, "postgresql")
def _postgresql(element: Either, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(list(element.clauses)[1].self_group(), **options)


def json_text(document: sa.ColumnElement[str], key: str) -> sa.ColumnElement[str]:
    """Read a text out of a JSON object; `key` is one of letters, digits, `_` and `-`."""
    return Either(
        sa.func.json_extract(document, f'$."{key}"'),
        sa.cast(document, postgresql.JSON)[key].as_string(),
        sa.Text(),
    )


def json_integer(document: sa.ColumnElement[str], key: str) -> sa.ColumnElement[int]:
    """Read a whole number out of a JSON object."""
    return Either(
        sa.func.json_extract(document, f"$.{key}"),
        sa.cast(sa.cast(document, postgresql.JSON)[key].as_string(), sa.BigInteger),
        sa.BigInteger(),
    )


def json_holds(document: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    """Tell whether a JSON array of texts holds one."""
    each = sa.func.json_each(document).table_valued("value")
    return Either(
        sa.exists(sa.select(1).select_from(each).where(each.c.value == text)),
        sa.cast(document, postgresql.JSONB).contains(sa.func.jsonb_build_array(sa.cast(text, sa.Text))),
        sa.Boolean(),
    )


def matches(column: sa.ColumnElement[str | None], pattern: str) -> sa.ColumnElement[bool]:
    """Tell whether a text matches a pattern in which `*` stands for anything and `?` for one character."""
    # SQLite's GLOB knows brackets, our patterns do not
    glob = column.op("GLOB", return_type=sa.Boolean())(pattern.replace("[", "[[]"))
    like = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
    return Either(glob, column.like(like, escape="\\"), sa.Boolean())


def summed_cost(cost: sa.ColumnElement[str | None]) -> sa.ColumnElement[int]:
    """Add up exact decimals, as whole numbers of `10**-COST_PLACES`."""
    # sums of binary fractions would not be the sum of what the calls cost
    rounded = sa.cast(sa.func.round(sa.cast(cost, sa.REAL) * 10**COST_PLACES), sa.BigInteger)
    exact = sa.func.round(sa.cast(cost, sa.Numeric) * sa.cast(10**COST_PLACES, sa.BigInteger))
    return sa.func.sum(Either(rounded, exact, sa.Numeric(asdecimal=False)), type_=sa.BigInteger())
