"""Sum up calls: all of them, or by hour, day, profile, model or policy.

Latencies are percentiles over all turns of a group, not means of the calls' own. What is read is
bounded by the range of time; the database's time-out ends what is too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.dialects import COST_PLACES, json_integer, summed_cost

GroupBy = Literal["all", "hour", "day", "profile", "model", "policy"]
GROUPS: tuple[GroupBy, ...] = get_args(GroupBy)
MAX_GROUPS = 1000

_PERCENTS = (50, 95)
_FIRST_DAY = date(1970, 1, 1)
_HOUR_US = 3_600_000_000

_call, _response, _decision = tables.call, tables.response, tables.decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Be the sums of one group of calls."""

    group: str
    call_count: int
    duration_us: int
    """Of the calls that ended."""
    turn_count: int
    interruption_count: int
    error_count: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    cost_usd: Decimal | None
    """Of the calls whose cost is known; None where there is none."""
    unpriced_call_count: int
    first_audio_ms: tuple[int | None, int | None]
    """The median, and what 95 percent of the turns do not exceed."""
    generation_ms: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Say which calls are summed up; times are microseconds since 1970."""

    since: int
    """They began then or later,"""
    until: int
    """and before then."""
    profile: str | None = None
    model: str | None = None


async def groups(database: Database, by: GroupBy, wanted: Wanted) -> list[Group]:
    """Sum up the calls that began in a range of time, by groups in their order, at most `MAX_GROUPS`.

    With `policy` a call counts for each policy that decided anything in it, and for none otherwise.
    With `all` there is one group, or none where there is no call.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    async with database.reading() as connection:
        rows = (await connection.execute(sums_statement(by, wanted))).mappings().all()
        latencies = {
            name: _by_group((await connection.execute(latency_statement(by, name, wanted))).all())
            for name in ("heard_latency_ms", "generation_latency_ms")
        }
    return [_group(by, dict(row), latencies) for row in rows]


def sums_statement(by: GroupBy, wanted: Wanted) -> sa.Select[Any]:
    """Write the statement that adds up the calls' own sums."""
    tokens = [
        sa.func.coalesce(sa.func.sum(json_integer(_call.c.usage, name)), 0).label(name)
        for name in ("input_tokens", "output_tokens", "total_tokens", "cached_tokens")
    ]
    source, group = _grouped(by, wanted)
    return (
        sa.select(
            group,
            sa.func.count().label("call_count"),
            sa.func.coalesce(sa.func.sum(_call.c.ended_at - _call.c.started_at), 0).label("duration_us"),
            sa.func.sum(_call.c.turn_count).label("turn_count"),
            sa.func.sum(_call.c.interruption_count).label("interruption_count"),
            sa.func.sum(_call.c.error_count).label("error_count"),
            *tokens,
            summed_cost(_call.c.cost_usd).label("cost_usd"),
            (sa.func.count() - sa.func.count(_call.c.cost_usd)).label("unpriced_call_count"),
        )
        .select_from(source)
        .where(*_within(wanted))
        .group_by(group)
        .order_by(group)
        .limit(MAX_GROUPS)
    )


def latency_statement(by: GroupBy, name: str, wanted: Wanted) -> sa.Select[Any]:
    """Write the statement that gives a latency's percentiles by nearest rank: group, rank, how many, value."""
    (source, group), value = _grouped(by, wanted), _response.c[name]
    own = sa.and_(_response.c.call_key == _call.c.call_key, _response.c.day == _call.c.day)
    ranked = (
        sa.select(
            group,
            sa.func.row_number().over(partition_by=group, order_by=value).label("rank"),
            sa.func.count().over(partition_by=group).label("many"),
            value.label("value"),
        )
        .select_from(source.join(_response, own))
        .where(*_within(wanted), value.is_not(None))
        .subquery("ranked")
    )
    ranks = [ranked.c.rank == (ranked.c.many * percent + 99) // 100 for percent in _PERCENTS]
    return sa.select(ranked).where(sa.or_(*ranks))


def _grouped(by: GroupBy, wanted: Wanted) -> tuple[sa.FromClause, sa.Label[Any]]:
    """Give the calls to sum up, and by what."""
    if by == "day":
        return _call, _call.c.day.label("group")
    if by == "hour":
        return _call, (_call.c.started_at // _HOUR_US).label("group")
    if by == "all":
        # of no column: a constant to group by would be taken for the number of one
        return _call, (_call.c.day * 0).label("group")
    if by != "policy":
        # no column but an expression: an index on it would be read for all times, to spare a small sort
        return _call, _call.c[by].concat("").label("group")
    own = sa.and_(_decision.c.call_key == _call.c.call_key, _decision.c.day == _call.c.day)
    decided = (
        sa.select(_decision.c.call_key, _decision.c.policy)
        .distinct()
        .join_from(_call, _decision, own)
        .where(*_within(wanted))
        .subquery("decided")
    )
    return decided.join(_call, _call.c.call_key == decided.c.call_key), decided.c.policy.label("group")


def _within(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found = [_call.c.started_at >= wanted.since, _call.c.started_at < wanted.until]
    if wanted.profile is not None:
        found.append(_call.c.profile == wanted.profile)
    if wanted.model is not None:
        found.append(_call.c.model == wanted.model)
    return found


def _by_group(rows: Sequence[Any]) -> dict[Any, tuple[int | None, int | None]]:
    found: dict[Any, dict[int, int]] = {}
    many: dict[Any, int] = {}
    for group, rank, count, value in rows:
        found.setdefault(group, {})[rank] = value
        many[group] = count
    ranks = {group: [(count * percent + 99) // 100 for percent in _PERCENTS] for group, count in many.items()}
    return {group: (found[group].get(middle), found[group].get(high)) for group, (middle, high) in ranks.items()}


def _name(by: GroupBy, group: Any) -> str:
    match by:
        case "all":
            return by
        case "hour":
            return datetime.fromtimestamp(group * 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "day":
            return (_FIRST_DAY + timedelta(days=group)).isoformat()
        case _:
            return str(group)


def _group(by: GroupBy, row: dict[str, Any], latencies: dict[str, dict[Any, tuple[int | None, int | None]]]) -> Group:
    group, cost = row.pop("group"), row.pop("cost_usd")
    # sums of large numbers are decimals on PostgreSQL
    sums = {name: int(value) for name, value in row.items()}
    return Group(
        group=_name(by, group),
        cost_usd=None if cost is None else Decimal(int(cost)).scaleb(-COST_PLACES),
        first_audio_ms=latencies["heard_latency_ms"].get(group, (None, None)),
        generation_ms=latencies["generation_latency_ms"].get(group, (None, None)),
        **sums,
    )
