"""Find what an earlier run left unfinished, and keep the mark up to which everything is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from rtobserver import __version__
from rtobserver.clock import Uptime
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.writer import Transaction

_call = tables.call
_replica = tables.replica.c
# by their number: a clock that was set back makes an earlier run's mark the later time
_LAST_RUN = sa.select(_replica.beat_at, _replica.doubts, _replica.boot, _replica.number)
_LAST_RUN = _LAST_RUN.order_by(_replica.number.desc(), _replica.started_at.desc()).limit(1)


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


@dataclass(frozen=True, slots=True)
class Mark:
    """Say up to when the last run had stored everything that upstream sent, or declared it lost."""

    at: int
    doubts: Mapping[str, int] = field(default_factory=dict)
    """Earlier times, by call id, for calls whose connection may have been dead without anybody having noticed."""
    uptime: Uptime | None = None
    """How long the machine had run at that time."""
    was_set_back: bool = False
    """Whether the wall clock was set back during that run: then times of entries cannot be compared with the mark."""

    def of(self, call_id: str) -> int:
        """Give the time that holds for a call."""
        return min(self.at, self.doubts.get(call_id, self.at))

    def since(self, call_id: str, heard_at: int, now: Uptime | None) -> tuple[int, float | None]:
        """Give since when nothing is known of a call of which an event was stored at a time, and how long ago that was.

        The time is by the wall clock as that run had it; the seconds are true, whoever has set it since, or None
        where nobody can tell: after a restart of the machine.
        """
        at = self.of(call_id)
        then = self.uptime
        if then is None or now is None or then.boot_id != now.boot_id:
            return max(at, heard_at), None
        ago = (now.us - then.us) / 1e6
        later = ago - (heard_at - self.at) / 1e6
        if heard_at > at and later >= 0 and (heard_at <= self.at or not self.was_set_back):
            return heard_at, later
        return at, ago + (self.at - at) / 1e6


async def watermark(database: Database) -> Mark | None:
    """Read the mark that the last run left; None on a new database."""
    async with database.reading() as connection:
        found = (await connection.execute(_LAST_RUN)).first()
    if found is None:
        return None
    boot = json.loads(found.boot) if found.boot else None
    return Mark(
        found.beat_at,
        json.loads(found.doubts or "{}"),
        None if boot is None else Uptime(boot["id"], boot["us"]),
        boot is not None and boot["set_back"],
    )


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

    def work(transaction: Transaction) -> None:
        [(beat_at, doubts, boot, number)] = transaction.execute(_LAST_RUN) or [(at, None, None, 0)]
        values = {"replica_id": replica_id, "started_at": at, "beat_at": beat_at, "doubts": doubts, "boot": boot}
        transaction.execute(tables.replica.insert().values(**values, number=number + 1, version=__version__))

    return work


def beat(replica_id: str, mark: Mark, *, stopped_at: int | None = None) -> Callable[[Transaction], None]:
    """Mark that whatever came before is stored or lies within a gap; true because the writer keeps the order."""
    boot = None
    if mark.uptime is not None:
        boot = json.dumps({"id": mark.uptime.boot_id, "us": mark.uptime.us, "set_back": mark.was_set_back})

    def work(transaction: Transaction) -> None:
        doubts = json.dumps(dict(mark.doubts)) if mark.doubts else None
        values: dict[str, Any] = {"beat_at": mark.at, "doubts": doubts, "boot": boot}
        if stopped_at is not None:
            values["stopped_at"] = stopped_at
        transaction.execute(tables.replica.update().where(tables.replica.c.replica_id == replica_id).values(values))

    return work
