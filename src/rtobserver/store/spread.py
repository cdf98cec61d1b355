"""Spread the calls that pass a filter over slices of time: how many began in each, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from rtobserver.store import calls, tables
from rtobserver.store.calls import Filter
from rtobserver.store.database import Database
from rtobserver.store.dialects import COST_PLACES, summed_cost

_call = tables.call


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Be the calls that began in one slice of time."""

    begins_at: int
    """Microseconds since 1970."""
    call_count: int
    cost_usd: Decimal
    """Of the calls whose cost is known."""
    unpriced_call_count: int


async def spread(database: Database, wanted: Filter, *, width_us: int) -> list[Slice]:
    """Sum up the calls that pass a filter by slices of this width, in order; slices without any are left out.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    async with database.reading() as connection:
        rows = (await connection.execute(spread_statement(wanted, width_us))).all()
    return [
        Slice(
            begins_at=number * width_us,
            call_count=count,
            cost_usd=Decimal(int(cost or 0)).scaleb(-COST_PLACES),
            unpriced_call_count=count - priced,
        )
        for number, count, priced, cost in rows
    ]


def spread_statement(wanted: Filter, width_us: int) -> sa.Select[Any]:
    """Write the statement that sums up."""
    number = (_call.c.started_at // width_us).label("number")
    return (
        calls.page_statement(wanted, None, 0)
        .with_only_columns(number, sa.func.count(), sa.func.count(_call.c.cost_usd), summed_cost(_call.c.cost_usd))
        .group_by("number")
        .order_by(None)
        .order_by("number")
        .limit(None)
    )
