"""Find what an earlier run left unfinished, and keep the mark up to which everything is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rtobserver import __version__
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.writer import Transaction

_call = tables.call


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """Be a call that may still be going on."""

    ref: CallRef
    status: str
    started_at: int
    profile: str
    model: str
    user: str | None
    labels: Mapping[str, str]
    session: Mapping[str, Any]
    """The session that was minted."""
    tampered: bool
    max_duration_us: int
    tags: tuple[str, ...]
    entry_count: int
    last_position: str | None
    last_at: int | None
    """Receipt of its last stored entry."""


async def calls(database: Database) -> list[Unfinished]:
    """List calls with a known id that are not known to be over, oldest first."""
    given_up = sa.and_(_call.c.status.in_(("unobserved", "lost")), _call.c.ended_at.is_(None))
    wanted = sa.and_(
        sa.or_(_call.c.status.in_(("connecting", "live")), given_up),
        _call.c.call_id.startswith("rtc_", autoescape=True),
    )
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(_call).where(wanted).order_by(_call.c.started_at))).mappings().all()
        found = []
        for row in rows:
            entry = tables.entry
            last = await connection.execute(
                sa.select(entry.c.epoch, entry.c.seq, entry.c.at)
                .where(entry.c.call_key == row["call_key"], entry.c.day == row["day"])
                .order_by(entry.c.epoch.desc(), entry.c.seq.desc())
                .limit(1)
            )
            at = last.first()
            ref = CallRef(row["call_id"], row["day"], row["call_key"])
            own = (entry.c.call_key == row["call_key"], entry.c.day == row["day"])
            ref.stored = int((await connection.execute(sa.select(sa.func.count()).where(*own))).scalar() or 0)
            found.append(
                Unfinished(
                    ref=ref,
                    status=row["status"],
                    started_at=row["started_at"],
                    profile=row["profile"],
                    model=row["model"],
                    user=row["user"],
                    labels=json.loads(row["labels"]),
                    session=json.loads(row["session"] or "{}"),
                    tampered=bool(row["tampered"]),
                    max_duration_us=row["max_duration_us"],
                    tags=tuple(json.loads(row["tags"])),
                    entry_count=row["entry_count"],
                    last_position=f"{at.epoch}:{at.seq}" if at else None,
                    last_at=at.at if at else None,
                )
            )
    return found


async def watermark(database: Database) -> int | None:
    """Give the time up to which the last run had stored everything, or declared it lost; None on a new database."""
    async with database.reading() as connection:
        found: int | None = (await connection.execute(sa.select(sa.func.max(tables.replica.c.beat_at)))).scalar()
    return found


async def stops(database: Database, since: int) -> list[int]:
    """List when runs of the daemon began to leave their calls, from a time on, in order."""
    at = tables.replica.c.stopped_at
    async with database.reading() as connection:
        found = await connection.execute(sa.select(at).where(at >= since).order_by(at))
    return [int(row[0]) for row in found]


def close_negotiations(at: int) -> Callable[[Transaction], None]:
    """Close the rows of negotiations that died with an earlier run: whether a call came of them is unknown."""

    def work(transaction: Transaction) -> None:
        transaction.execute(
            _call.update()
            .where(_call.c.status == "connecting", _call.c.call_id.startswith("neg_", autoescape=True))
            .values(status="lost", outcome="lost", ended_at=at, completeness="incomplete")
        )

    return work


def enter_replica(replica_id: str, at: int) -> Callable[[Transaction], None]:
    """Enter this run of the daemon; until its first beat, the mark of the run before stands."""
    mark = sa.select(sa.func.coalesce(sa.func.max(tables.replica.c.beat_at), at)).scalar_subquery()

    def work(transaction: Transaction) -> None:
        transaction.execute(
            tables.replica.insert().values(replica_id=replica_id, started_at=at, beat_at=mark, version=__version__)
        )

    return work


def beat(replica_id: str, at: int, *, stopped: bool = False) -> Callable[[Transaction], None]:
    """Mark that whatever came before `at` is stored or lies within a gap; true because the writer keeps the order."""

    def work(transaction: Transaction) -> None:
        values = {"beat_at": at, "stopped_at": at} if stopped else {"beat_at": at}
        transaction.execute(tables.replica.update().where(tables.replica.c.replica_id == replica_id).values(values))

    return work
