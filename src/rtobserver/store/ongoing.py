"""Read the calls that go on, with what a glance at all of them needs: a few questions, however many calls there are.

Who follows them reads `calls` and `talk` again and again; `last_lines` and `last_sounds` are for the
beginning, when what was said before is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from rtobserver.store import entries, marks, tables
from rtobserver.store.database import Database
from rtobserver.store.marks import Mark

STATUSES = ("connecting", "live")
GIVEN_UP = ("unobserved", "lost")
"""Calls that nobody observes may go on all the same, and cost."""
LOOK_BACK = 300
"""How many of a call's entries are searched for the last one that tells who speaks."""

_call, _entry, _item, _gap, _decision = tables.call, tables.entry, tables.item, tables.gap, tables.decision


class Ongoing(NamedTuple):
    """Be a call at a glance; times are microseconds since 1970."""

    call_key: int
    call_id: str
    status: str
    outcome: str | None
    started_at: int
    ended_at: int | None
    profile: str
    model: str
    user: str | None
    tags: str
    """A JSON array of strings."""
    turn_count: int
    interruption_count: int
    error_count: int
    gap_count: int
    tampered: bool
    cost_usd: str | None
    decision_count: int
    """What policies decided, acted or not."""
    last_policy: str | None
    paused: bool


class Talked(NamedTuple):
    """Be an event that tells who speaks or what was said."""

    mark: Mark
    call_key: int
    type: str
    payload: bytes | None
    """None where it is too long for a glance."""


class Line(NamedTuple):
    """Be the end of what one side of a call said last."""

    call_key: int
    role: str
    words: str


class Sounds(NamedTuple):
    """Name the events of a call that last told who speaks, as far as there are any."""

    call_key: int
    user: str | None
    assistant: str | None


async def calls(database: Database, *, limit: int, given_up_since: int) -> list[Ongoing]:
    """Read the calls that go on, newest first; of those that nobody observes, what began since a time.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        return [Ongoing(*row) for row in await connection.execute(calls_statement(given_up_since, limit))]


async def calls_of(database: Database, keys: Collection[int]) -> list[Ongoing]:
    """Read some calls, in whatever state they are, but for those that were erased.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        return [Ongoing(*row) for row in await connection.execute(calls_of_statement(keys))]


def calls_statement(given_up_since: int, limit: int) -> sa.Select[Any]:
    """Write the statement that reads calls that go on."""
    given_up = sa.and_(
        _call.c.status.in_(GIVEN_UP),
        _call.c.started_at >= given_up_since,
        _call.c.ended_at.is_(None),
        # one without an id of upstream's never began, or nobody can know of it
        _call.c.call_id.startswith("rtc_", autoescape=True),
    )
    return _glance().where(sa.or_(_call.c.status.in_(STATUSES), given_up)).limit(limit)


def calls_of_statement(keys: Collection[int]) -> sa.Select[Any]:
    """Write the statement that reads some calls."""
    return _glance().where(_call.c.call_key.in_(sorted(keys)), _call.c.erased_at.is_(None))


def _glance() -> sa.Select[Any]:
    of_call = sa.and_(_decision.c.call_key == _call.c.call_key, _decision.c.day == _call.c.day)
    latest = (_decision.c.epoch.desc(), _decision.c.seq.desc(), _decision.c.policy.desc())
    is_paused = sa.exists().where(
        _gap.c.call_key == _call.c.call_key,
        _gap.c.day == _call.c.day,
        _gap.c.reason == "paused",
        _gap.c.state == "open",
    )
    own = Ongoing._fields[: Ongoing._fields.index("decision_count")]
    statement = sa.select(
        *(_call.c[name] for name in own),
        sa.select(sa.func.count()).select_from(_decision).where(of_call).correlate(_call).scalar_subquery(),
        sa.select(_decision.c.policy).where(of_call).order_by(*latest).limit(1).correlate(_call).scalar_subquery(),
        is_paused,
    )
    return statement.order_by(_call.c.started_at.desc(), _call.c.call_key.desc())


async def talk(database: Database, mark: Mark, *, until: Mark, types: Sequence[str], limit: int) -> list[Talked]:
    """Read events of some types behind a mark, of all calls, in the order in which they were committed.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        rows = await connection.execute(talk_statement(mark, until, types, limit))
        return [Talked(marks.mark_of(row), row.call_key, row.type, row.payload) for row in rows]


def talk_statement(mark: Mark, until: Mark, types: Sequence[str], limit: int) -> sa.Select[Any]:
    """Write the statement that reads events."""
    short = sa.func.length(_entry.c.payload) <= entries.INLINE_BYTES
    return (
        sa.select(*marks.COLUMNS, _entry.c.call_key, _entry.c.type, sa.case((short, _entry.c.payload)).label("payload"))
        .where(marks.between(mark, until))
        .where(_entry.c.kind == tables.KIND_EVENT, _entry.c.type.in_(types))
        .where(_entry.c.flags.op("&")(tables.FLAG_OVERLAP) == 0)
        .order_by(*marks.ORDER)
        .limit(limit)
    )


async def last_lines(database: Database, *, characters: int) -> list[Line]:
    """Read the end of what each side said last, of every call that goes on.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        return [Line(*row) for row in await connection.execute(lines_statement(characters))]


def lines_statement(characters: int) -> sa.Select[Any]:
    """Write the statement that reads lines."""
    own = sa.and_(_item.c.call_key == _call.c.call_key, _item.c.day == _call.c.day)
    place = (_item.c.epoch.desc(), _item.c.seq.desc())
    ranked = (
        sa.select(
            _item.c.call_key,
            _item.c.role,
            sa.func.substr(_item.c.text, -characters).label("words"),
            sa.func.row_number().over(partition_by=(_item.c.call_key, _item.c.role), order_by=place).label("rank"),
        )
        .join_from(_call, _item, own)
        .where(_call.c.status.in_(STATUSES))
        .where(_item.c.role.in_(("user", "assistant")), _item.c.kind.in_(("speech", "text")))
        .where(_item.c.text != "", _item.c.status != "deleted", _item.c.out_of_band.is_(False))
        .subquery("ranked")
    )
    return sa.select(ranked.c.call_key, ranked.c.role, ranked.c.words).where(ranked.c.rank == 1)


async def last_sounds(database: Database, *, user: Sequence[str], assistant: Sequence[str]) -> list[Sounds]:
    """Read which of these events came last for each side, of every call that goes on.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        return [Sounds(*row) for row in await connection.execute(sounds_statement(user, assistant))]


def sounds_statement(user: Sequence[str], assistant: Sequence[str]) -> sa.Select[Any]:
    """Write the statement that reads the last sounds, of the newest entries of the newest epoch."""

    def last(types: Sequence[str]) -> sa.ScalarSelect[Any]:
        other = _entry.alias()
        newest = (
            sa.select(sa.func.max(other.c.seq))
            .where(other.c.call_key == _call.c.call_key, other.c.day == _call.c.day, other.c.epoch == _call.c.epoch)
            .correlate(_call)
            .scalar_subquery()
        )
        return (
            sa.select(_entry.c.type)
            .where(_entry.c.call_key == _call.c.call_key, _entry.c.day == _call.c.day, _entry.c.epoch == _call.c.epoch)
            .where(_entry.c.seq > newest - LOOK_BACK, _entry.c.type.in_(types))
            .order_by(_entry.c.seq.desc())
            .limit(1)
            .correlate(_call)
            .scalar_subquery()
        )

    return sa.select(_call.c.call_key, last(user), last(assistant)).where(_call.c.status.in_(STATUSES))
