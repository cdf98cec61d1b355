"""Find what an earlier run left unfinished, and keep the mark up to which everything is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rtobserver import __version__
from rtobserver.clock import Uptime
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.notes import Note
from rtobserver.store.writer import Transaction

_GOING_ON = ("connecting", "live")
_GIVEN_UP = ("unobserved", "lost")
"""Such calls may go on all the same, until they have an end."""

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
    ended_at: int | None
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

    @property
    def is_given_up(self) -> bool:
        """Say whether nobody observes it any more, though it may go on."""
        return self.status in _GIVEN_UP

    @property
    def is_over(self) -> bool:
        """Say whether nothing is left to do."""
        return self.status not in _GOING_ON and (self.status not in _GIVEN_UP or self.ended_at is not None)


async def calls(database: Database) -> list[Unfinished]:
    """List calls with a known id that are not known to be over, oldest first."""
    given_up = sa.and_(_call.c.status.in_(_GIVEN_UP), _call.c.ended_at.is_(None))
    wanted = sa.and_(
        sa.or_(_call.c.status.in_(_GOING_ON), given_up), _call.c.call_id.startswith("rtc_", autoescape=True)
    )
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(_call).where(wanted).order_by(_call.c.started_at))).mappings().all()
        return [await _found(connection, row) for row in rows]


async def call(database: Database, ref: CallRef) -> Unfinished | None:
    """Read one call, whatever its status; None where it has no row. Fills `ref`.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        row = (await connection.execute(sa.select(_call).where(_call.c.call_key == ref.key))).mappings().first()
        return None if row is None else await _found(connection, row, ref)


def unwritten(ref: CallRef, registration: Mapping[str, Any]) -> Unfinished:
    """Be a call whose row, and all that was recorded of it, still lies in the journal of a replica that is gone."""
    return Unfinished(
        ref=ref,
        status="connecting",
        started_at=registration["started_at"],
        ended_at=None,
        profile=registration["profile"],
        model=registration["model"],
        user=registration["user"],
        labels=registration["labels"],
        session=registration["session"],
        tampered=False,
        max_duration_us=registration["max_duration_us"],
        tags=(),
        entry_count=0,
        last_position=None,
        last_at=None,
    )


async def _found(connection: AsyncConnection, row: sa.RowMapping, ref: CallRef | None = None) -> Unfinished:
    entry = tables.entry
    own = (entry.c.call_key == row["call_key"], entry.c.day == row["day"])
    last = await connection.execute(
        sa.select(entry.c.epoch, entry.c.seq, entry.c.at)
        .where(*own)
        .order_by(entry.c.epoch.desc(), entry.c.seq.desc())
        .limit(1)
    )
    at = last.first()
    ref = ref or CallRef(row["call_id"], row["day"], row["call_key"])
    ref.stored = int((await connection.execute(sa.select(sa.func.count()).where(*own))).scalar() or 0)
    return Unfinished(
        ref=ref,
        status=row["status"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
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

    @property
    def boot(self) -> str | None:
        """Write down what it knows of the machine, as the column `boot` holds it."""
        if self.uptime is None:
            return None
        return json.dumps({"id": self.uptime.boot_id, "us": self.uptime.us, "set_back": self.was_set_back})

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


def mark_in(at: int, doubts: Mapping[str, int], boot: str | None) -> Mark:
    """Make a mark again of what was written down of it."""
    if boot is None:
        return Mark(at, doubts)
    told = json.loads(boot)
    return Mark(at, doubts, Uptime(told["id"], told["us"]), told["set_back"])


async def watermark(database: Database) -> Mark | None:
    """Read the mark that the last run left; None on a new database."""
    async with database.reading() as connection:
        found = (await connection.execute(_LAST_RUN)).first()
    return None if found is None else mark_in(found.beat_at, json.loads(found.doubts or "{}"), found.boot)


async def mark_of(database: Database, replica_id: str) -> Mark | None:
    """Read the mark that one replica left, maybe on another machine; None where it is not known."""
    statement = sa.select(_replica.beat_at, _replica.doubts, _replica.boot).where(_replica.replica_id == replica_id)
    async with database.reading() as connection:
        found = (await connection.execute(statement)).first()
    return None if found is None else mark_in(found.beat_at, json.loads(found.doubts or "{}"), found.boot)


async def stops(database: Database, since: int) -> list[int]:
    """List when runs of the daemon began to leave their calls, from a time on, in order."""
    at = tables.replica.c.stopped_at
    async with database.reading() as connection:
        found = await connection.execute(sa.select(at).where(at >= since).order_by(at))
    return [int(row[0]) for row in found]


def close_negotiations(at: int, *, begun_before: int | None = None) -> Callable[[Transaction], None]:
    """Close the rows of negotiations that died with an earlier run: whether a call came of them is unknown.

    Where others may be negotiating, those that began before a time that no negotiation takes.
    """
    wanted = [_call.c.status == "connecting", _call.c.call_id.startswith("neg_", autoescape=True)]
    if begun_before is not None:
        wanted.append(_call.c.started_at < begun_before)

    def work(transaction: Transaction) -> None:
        transaction.execute(
            _call.update().where(*wanted).values(status="lost", outcome="lost", ended_at=at, completeness="incomplete")
        )

    return work


def enter_replica(replica_id: str, at: int) -> Callable[[Transaction], None]:
    """Enter this run of the daemon; until its first beat, the mark of the run before stands."""

    def work(transaction: Transaction) -> None:
        [(beat_at, doubts, boot, number)] = transaction.execute(_LAST_RUN) or [(at, None, None, 0)]
        values = {"replica_id": replica_id, "started_at": at, "beat_at": beat_at, "doubts": doubts, "boot": boot}
        transaction.execute(tables.replica.insert().values(**values, number=number + 1, version=__version__))

    return work


def beat(replica_id: str, mark: Mark, *, stopped_at: int | None = None) -> Note:
    """Mark that whatever came before is stored or lies within a gap; true because the writer keeps the order."""

    def work(transaction: Transaction) -> None:
        doubts = json.dumps(dict(mark.doubts)) if mark.doubts else None
        values: dict[str, Any] = {"beat_at": mark.at, "doubts": doubts, "boot": mark.boot}
        if stopped_at is not None:
            values["stopped_at"] = stopped_at
        transaction.execute(tables.replica.update().where(tables.replica.c.replica_id == replica_id).values(values))

    told = {
        "replica_id": replica_id,
        "at": mark.at,
        "doubts": dict(mark.doubts),
        "boot": mark.boot,
        "stopped_at": stopped_at,
    }
    return Note("beat", work, (), told, is_last=True)
