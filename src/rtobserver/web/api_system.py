"""Answer for the daemon as a whole: how it is doing, how it is set."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

from rtobserver import __version__
from rtobserver.clock import Clock
from rtobserver.store import facts, gaps
from rtobserver.store.database import Database
from rtobserver.web import shapes
from rtobserver.web.queries import MOMENT
from rtobserver.web.routes import Answer, Ask, Route
from rtobserver.web.vitals import Checkup, Vitals

DAY_US = 86_400_000_000
GAPS_SHOWN = 50


class Replica(Struct, frozen=True):
    """Be one run of a daemon."""

    replica_id: str
    version: str
    started_at: shapes.Time
    beat_at: Annotated[shapes.Time, Meta(description="All that it received before this is stored.")]
    stopped_at: Annotated[shapes.Time | None, Meta(description="Null while it runs, and where it was killed.")]
    runs: Annotated[bool, Meta(description="Whether it answers this, or is another one that is not taken for dead.")]


class Losses(Struct, frozen=True):
    """Sum up the gaps of one reason."""

    reason: str
    count: int
    lost: Annotated[int, Meta(description="Frames, where it is known how many.")]


class StoreFacts(Struct, frozen=True, rename={"schema_": "schema"}):
    """Describe the database."""

    kind: Literal["sqlite", "postgresql"]
    size_bytes: int
    wal_bytes: int
    schema_: str
    erasures_pending: Annotated[int, Meta(description="Erasures whose bytes may still be in the files.")]
    quarantined: Annotated[
        int, Meta(description="Entries that the database refused for what they hold; a gap counts each.")
    ]


class RecentGap(shapes.Gap, frozen=True, kw_only=True):
    """Be a gap, and say in which call."""

    call_id: str


class System(Vitals, frozen=True, kw_only=True):
    """Describe the daemon."""

    versions: Annotated[dict[str, str], Meta(description="Of rtobserver, Python and the database.")]
    replicas: Annotated[list[Replica], Meta(description="Newest first.")]
    calls: Annotated[dict[str, int], Meta(description="Calls that began in the time asked for, by status.")]
    outcomes: Annotated[dict[str, int], Meta(description="Those of them that are over, by outcome.")]
    gaps: Annotated[list[Losses], Meta(description="What those calls lost.")]
    recent_gaps: Annotated[
        list[RecentGap], Meta(description=f"Open ones first, then the newest; {GAPS_SHOWN} at most.")
    ]
    shed: Annotated[int, Meta(description="Frames of those calls that were given up because the database was slow.")]
    store: StoreFacts
    leases: Annotated[int | None, Meta(description="Null on SQLite, where one daemon holds the file.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSystem:
    """Ask how the daemon is doing."""

    since: Annotated[int | None, MOMENT, "Count calls and gaps from this time on; by default of the last day."] = None


async def read(database: Database, checkup: Checkup, *, since: int) -> System:
    """Read all of it; calls and gaps are those of calls that began since a time.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    found = await facts.read(database, since=since)
    lost = await gaps.recent(database, since=since, limit=GAPS_SHOWN)
    vitals = checkup.look()
    return System(
        **vitals,
        versions={"rtobserver": __version__, "python": platform.python_version(), found.dialect: found.version},
        replicas=[
            Replica(
                replica_id=each.replica_id,
                version=each.version,
                started_at=shapes.time(each.started_at),
                beat_at=shapes.time(each.beat_at),
                stopped_at=shapes.time_or_none(each.stopped_at),
                runs=each.fenced_at is None
                and (each.replica_id == vitals["replica_id"] or (each.lease_until is not None and not each.stopped_at)),
            )
            for each in found.replicas
        ],
        calls=found.calls,
        outcomes=found.outcomes,
        gaps=[Losses(reason=each.reason, count=each.count, lost=each.lost) for each in found.losses],
        recent_gaps=[RecentGap(**structs.asdict(shapes.gap(gap)), call_id=call_id) for call_id, gap in lost],
        shed=sum(each.lost for each in found.losses if each.reason in ("shed", "disk")),
        store=StoreFacts(
            kind=found.dialect,
            size_bytes=found.size_bytes,
            wal_bytes=found.wal_bytes,
            schema_=found.schema,
            erasures_pending=found.erasures_pending,
            quarantined=found.quarantined,
        ),
        leases=None,
    )


def routes(*, database: Database, checkup: Checkup, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def system(ask: Ask[AskSystem, None]) -> System:
        await ask.record("")
        since = clock.now_us() - DAY_US if ask.query.since is None else ask.query.since
        return await read(database, checkup, since=since)

    return [
        Route(
            name="system.get",
            path="/api/v1/system",
            summary="Say how the daemon is doing and how it is set.",
            query=AskSystem,
            answers=(Answer(description="Verdict, runs, losses, queue, store, counts, settings.", body=System),),
            answer=system,
        ),
    ]
