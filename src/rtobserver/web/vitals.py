"""Say how the daemon is doing, from what only its process knows: no word of it needs the database.

So the person on duty sees it when the database is what is wrong. Counts are those since the daemon
started, as `/metrics` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta, Struct

from rtobserver import __version__
from rtobserver.clock import Clock
from rtobserver.config import display
from rtobserver.metrics import Metrics, tally
from rtobserver.outbound import HookState
from rtobserver.storage import Backlog
from rtobserver.store import schema
from rtobserver.store.writing import Writing
from rtobserver.web import shapes
from rtobserver.web.health import Health, Status


class Reason(Struct, frozen=True):
    """Say what is wrong."""

    reason: Annotated[str, Meta(description="In short words that name no call and no person, as in `/readyz`.")]
    since: Annotated[shapes.Time | None, Meta(description="Null where that is not known.")]


class Asked(Struct, frozen=True):
    """Count requests to upstream that were answered alike."""

    step: Annotated[str, Meta(description="`client_secrets`, `calls` or `attach`.")]
    status: Annotated[str, Meta(description="An HTTP status, `timeout`, or `error` where there was no answer.")]
    count: int


class Counts(Struct, frozen=True):
    """Count what happened since the daemon started; what never happened is not there."""

    negotiated: Annotated[dict[str, int], Meta(description="Offers that were taken to upstream, by what became of it.")]
    refused: Annotated[dict[str, int], Meta(description="Browsers' requests that were refused, by the problem's code.")]
    upstream: Annotated[
        list[Asked],
        Meta(description="Upstream's answers. An attach answered 404 is also how the end of a call is learnt."),
    ]
    attaches: Annotated[dict[str, int], Meta(description="Observers' connections that were made: first, again, probe.")]
    shed: Annotated[dict[str, int], Meta(description="Frames received and not stored, by class.")]
    gaps: Annotated[dict[str, int], Meta(description="Gaps declared, by reason.")]
    tools: Annotated[dict[str, int], Meta(description="Function calls given to endpoints, by outcome.")]
    store_failures: Annotated[dict[str, int], Meta(description="Times that the database began to refuse, by why.")]


class Hook(Struct, frozen=True):
    """Say how a webhook is doing."""

    id: str
    waiting: Annotated[int, Meta(description="Notifications that wait for their delivery.")]
    failing_since: Annotated[shapes.Time | None, Meta(description="Null while deliveries succeed.")]
    full: Annotated[bool, Meta(description="Whether so much waits that further notifications are dropped.")]
    failed_tries: int
    outcomes: Annotated[dict[str, int], Meta(description="What became of its notifications since the start.")]


class Queue(Struct, frozen=True):
    """Say what waits for the database."""

    rows: int
    bytes: int
    commit_lag_seconds: Annotated[float, Meta(description="How old the oldest entry of the last flush was by then.")]


class Disk(Struct, frozen=True):
    """Say how the files of the database are doing."""

    failing: Annotated[bool, Meta(description="Whether the database refuses to write now.")]
    short: Annotated[bool, Meta(description="Whether room is short, so that only what must not be lost is recorded.")]
    free_bytes: int
    wal_bytes: int
    damaged_files: Annotated[int, Meta(description="Damaged files that lie beside the database, moved aside.")]


class Journal(Struct, frozen=True):
    """Describe what this replica has recorded and not yet shipped to PostgreSQL."""

    rows: Annotated[int, Meta(description="Lines that are not yet in the database.")]
    bytes: Annotated[int, Meta(description="Size of the journal's files, shipped or not.")]
    oldest_at: Annotated[shapes.Time | None, Meta(description="Nothing that waits is older; null while nothing waits.")]
    away_since: Annotated[shapes.Time | None, Meta(description="Null while the database takes what is shipped.")]
    short: Annotated[bool, Meta(description="Whether it takes as much room as it may.")]
    shipped: Annotated[int, Meta(description="Entries shipped since the start.")]


class Loop(Struct, frozen=True):
    """Say how promptly the daemon works."""

    longest_gap_seconds: Annotated[float, Meta(description="The longest that anything had to wait of late.")]
    stalls: Annotated[int, Meta(description="Times since the start that it stood still for more than a second.")]


class Vitals(Struct, frozen=True, kw_only=True):
    """Be all that needs no database."""

    status: Annotated[Status, Meta(description="As `/readyz` has it.")]
    reasons: list[Reason]
    replica_id: Annotated[str, Meta(description="Of this run of the daemon.")]
    started_at: shapes.Time
    uptime_seconds: float
    version: str
    schema_revision: str
    live_calls: Annotated[int, Meta(description="Calls under observation.")]
    queue: Queue
    disk: Disk
    journal: Annotated[Journal | None, Meta(description="Null on SQLite, which needs none.")]
    loop: Loop
    since_start: Counts
    webhooks: list[Hook]
    config: Annotated[dict[str, Any], Meta(description="The settings in force, without what is secret.")]
    config_set: Annotated[
        list[str], Meta(description="Settings that are not at their defaults, as paths such as `profile.0.name`.")
    ]


@dataclass(frozen=True, slots=True)
class Checkup:
    """Know where to look."""

    replica_id: str
    started_at: int
    """Microseconds since 1970."""
    health: Health
    metrics: Metrics
    writer: Writing
    clock: Clock
    settings: Mapping[str, Any]
    """Must hold no secrets."""
    webhooks: Callable[[], Sequence[HookState]] = field(default=tuple)
    backlog: Callable[[], Backlog | None] = lambda: None

    def look(self) -> dict[str, Any]:
        """Give the fields of `Vitals`."""
        figures, (status, reasons) = self.metrics, self.health.verdict()
        return {
            "status": status,
            "reasons": [Reason(reason, shapes.time_or_none(since)) for reason, since in reasons.items()],
            "replica_id": self.replica_id,
            "started_at": shapes.time(self.started_at),
            "uptime_seconds": max(0, self.clock.now_us() - self.started_at) / 1e6,
            "version": __version__,
            "schema_revision": schema.head(),
            "live_calls": int(tally(figures.live_calls)[()]),
            "queue": Queue(self.writer.queued_rows, self.writer.queued_bytes, tally(figures.commit_lag_seconds)[()]),
            "disk": Disk(
                failing=bool(tally(figures.store_failing)[()]),
                short=bool(tally(figures.disk_full)[()]),
                free_bytes=int(tally(figures.disk_free_bytes)[()]),
                wal_bytes=int(tally(figures.wal_bytes)[()]),
                damaged_files=int(tally(figures.damaged_files)[()]),
            ),
            "journal": self._journal(),
            "loop": Loop(tally(figures.loop_gap_seconds)[()], int(tally(figures.loop_stalls)[()])),
            "since_start": self._counts(),
            "webhooks": [self._hook(state) for state in self.webhooks()],
            "config": dict(self.settings),
            "config_set": display.changed(self.settings),
        }

    def _journal(self) -> Journal | None:
        found = self.backlog()
        if found is None:
            return None
        return Journal(
            rows=found.rows,
            bytes=found.bytes,
            oldest_at=shapes.time_or_none(found.oldest_at),
            away_since=shapes.time_or_none(found.away_since),
            short=found.short,
            shipped=int(tally(self.metrics.shipped_rows)[()]),
        )

    def _counts(self) -> Counts:
        figures = self.metrics
        return Counts(
            negotiated=_counted(figures.calls_negotiated),
            refused=_counted(figures.requests_refused),
            upstream=[
                Asked(step, status, int(count)) for (step, status), count in tally(figures.upstream_requests).items()
            ],
            attaches=_counted(figures.attaches),
            shed=_counted(figures.frames_shed),
            gaps=_counted(figures.gaps),
            tools=_counted(figures.tool_asks),
            store_failures=_counted(figures.store_failures),
        )

    def _hook(self, state: HookState) -> Hook:
        outcomes = tally(self.metrics.webhook_notifications)
        return Hook(
            id=state.id,
            waiting=state.waiting,
            failing_since=shapes.time_or_none(state.failing_since),
            full=state.is_full,
            failed_tries=int(tally(self.metrics.webhook_failures).get((state.id,), 0)),
            outcomes={outcome: int(count) for (hook, outcome), count in outcomes.items() if hook == state.id},
        )


def _counted(figure: Any) -> dict[str, int]:
    return {label: int(count) for (label,), count in sorted(tally(figure).items()) if count}
