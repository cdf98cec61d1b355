"""Answer for the daemon as a whole: how it is doing, how it is set."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rtobserver import __version__
from rtobserver.clock import Clock
from rtobserver.store import facts
from rtobserver.store.database import Database
from rtobserver.store.writer import Writer
from rtobserver.web import shapes
from rtobserver.web.queries import MOMENT
from rtobserver.web.routes import Answer, Ask, Route

_DAY_US = 86_400_000_000


class Replica(Struct, frozen=True):
    """Be one run of a daemon."""

    replica_id: str
    version: str
    started_at: shapes.Time
    beat_at: Annotated[shapes.Time, Meta(description="All that it received before this is stored.")]
    stopped_at: Annotated[shapes.Time | None, Meta(description="Null while it runs, and where it was killed.")]


class Losses(Struct, frozen=True):
    """Sum up the gaps of one reason."""

    reason: str
    count: int
    lost: Annotated[int, Meta(description="Frames, where it is known how many.")]


class Queue(Struct, frozen=True):
    """Say what waits for the database."""

    rows: int
    bytes: int


class StoreFacts(Struct, frozen=True, rename={"schema_": "schema"}):
    """Describe the database."""

    kind: Literal["sqlite"]
    size_bytes: int
    wal_bytes: int
    schema_: str
    erasures_pending: Annotated[int, Meta(description="Erasures whose bytes may still be in the files.")]


class Journal(Struct, frozen=True):
    """Describe what waits to be shipped to the database."""

    rows: int
    bytes: int


class System(Struct, frozen=True):
    """Describe the daemon."""

    versions: Annotated[dict[str, str], Meta(description="Of rtobserver, Python and the database.")]
    replicas: Annotated[list[Replica], Meta(description="Newest first.")]
    calls: Annotated[dict[str, int], Meta(description="Calls that began in the time asked for, by status.")]
    gaps: Annotated[list[Losses], Meta(description="What those calls lost.")]
    shed: Annotated[int, Meta(description="Frames of those calls that were given up because the database was slow.")]
    queue: Queue
    store: StoreFacts
    journal: Annotated[Journal | None, Meta(description="Null on SQLite, which needs none.")]
    config: Annotated[dict[str, Any], Meta(description="The settings in force, without what is secret.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSystem:
    """Ask how the daemon is doing."""

    since: Annotated[int | None, MOMENT, "Count calls and gaps from this time on; by default of the last day."] = None


def routes(*, database: Database, writer: Writer, settings: Mapping[str, Any], clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them; `settings` must hold no secrets."""

    async def system(ask: Ask[AskSystem, None]) -> System:
        await ask.record("")
        since = clock.now_us() - _DAY_US if ask.query.since is None else ask.query.since
        found = await facts.read(database, since=since)
        return System(
            versions={"rtobserver": __version__, "python": platform.python_version(), "sqlite": found.sqlite},
            replicas=[
                Replica(
                    replica_id=each.replica_id,
                    version=each.version,
                    started_at=shapes.time(each.started_at),
                    beat_at=shapes.time(each.beat_at),
                    stopped_at=shapes.time_or_none(each.stopped_at),
                )
                for each in found.replicas
            ],
            calls=found.calls,
            gaps=[Losses(reason=each.reason, count=each.count, lost=each.lost) for each in found.losses],
            shed=sum(each.lost for each in found.losses if each.reason in ("shed", "disk")),
            queue=Queue(rows=writer.queued_rows, bytes=writer.queued_bytes),
            store=StoreFacts(
                kind="sqlite",
                size_bytes=found.size_bytes,
                wal_bytes=found.wal_bytes,
                schema_=found.schema,
                erasures_pending=found.erasures_pending,
            ),
            journal=None,
            config=dict(settings),
        )

    return [
        Route(
            name="system.get",
            path="/api/v1/system",
            summary="Say how the daemon is doing and how it is set.",
            query=AskSystem,
            answers=(Answer(description="Replicas, losses, queue, store, versions, settings.", body=System),),
            answer=system,
        ),
    ]
