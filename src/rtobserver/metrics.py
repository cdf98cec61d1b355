"""Counters and gauges of one daemon, rendered as Prometheus text.

What this must not do: take a call id, a user, a label of a call or any text from outside as a
label. Every label here has a short, closed list of values (ids of policies and webhooks are those
of the configuration), so that a scrape stays small and tells nobody who called. Nothing that the
product does hangs on them: metrics are for people and alarms; `/system` shows some (`tally`).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rtobserver import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""What `Metrics.render` gives, as a Content-Type header says it."""

_NEGOTIATION_BUCKETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0)
# one flush is due each 50 ms: the first buckets tell a healthy disk from a slow one
_FLUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# an action belongs on the wire within 5 ms
_REACTION_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class Metrics:
    """Hold the figures of one daemon; safe to touch from any thread."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("rtobserver_info", "Which release this is.", ["version"], registry=registry).labels(__version__).set(1)

        self.calls_negotiated = Counter(
            "rtobserver_calls_negotiated",
            "Offers that were taken to upstream: answered, or the outcome they failed with.",
            ["outcome"],
            registry=registry,
        )
        self.negotiation_seconds = Histogram(
            "rtobserver_negotiation_seconds",
            "From the whole offer to the answer, upstream's own time included.",
            buckets=_NEGOTIATION_BUCKETS,
            registry=registry,
        )
        self.requests_refused = Counter(
            "rtobserver_requests_refused",
            "Requests refused before anything was asked of upstream, by the problem's code.",
            ["code"],
            registry=registry,
        )
        self.upstream_requests = Counter(
            "rtobserver_upstream_requests",
            "Requests to upstream by step (client_secrets, calls, hangup, attach) and HTTP status or error.",
            ["step", "status"],
            registry=registry,
        )
        self.upstream_failing = Gauge(
            "rtobserver_upstream_failing",
            "Whether nothing of a kind gets through to upstream (offer, client_secret, attach), or comes (sideband).",
            ["what"],
            registry=registry,
        )
        self.live_calls = Gauge("rtobserver_live_calls", "Calls under observation.", registry=registry)
        self.attaches = Counter(
            "rtobserver_attaches",
            "Observers' connections that were made, by kind (first, again, probe).",
            ["kind"],
            registry=registry,
        )
        self.entries_recorded = Counter(
            "rtobserver_entries_recorded",
            "Entries committed to the store, by kind (event, command, gap).",
            ["kind"],
            registry=registry,
        )
        self.frames_shed = Counter(
            "rtobserver_frames_shed",
            "Frames received and not stored, by class; a gap counts each.",
            ["frames"],
            registry=registry,
        )
        self.gaps = Counter("rtobserver_gaps", "Gaps declared, by reason.", ["reason"], registry=registry)
        self.purged_rows = Counter(
            "rtobserver_purged_rows",
            "Rows that retention took away, of what was said (recordings) or of whole calls (calls).",
            ["what"],
            registry=registry,
        )
        self.audit_refusals = Counter(
            "rtobserver_audit_refusals",
            "Refused requests to the operator listener, audited one by one or counted.",
            ["written"],
            registry=registry,
        )
        self._of_the_store(registry)
        self._of_the_journal(registry)
        self._of_policies(registry)

    def _of_the_store(self, registry: CollectorRegistry) -> None:
        self.flush_seconds = Histogram(
            "rtobserver_flush_seconds",
            "One transaction of the writer, from BEGIN to the end of COMMIT.",
            buckets=_FLUSH_BUCKETS,
            registry=registry,
        )
        self.queue_rows = Gauge("rtobserver_queue_rows", "Rows that wait for the writer.", registry=registry)
        self.queue_bytes = Gauge(
            "rtobserver_queue_bytes", "Bytes of memory that entries take which wait for the writer.", registry=registry
        )
        self.commit_lag_seconds = Gauge(
            "rtobserver_commit_lag_seconds",
            "Age of the oldest row that is not committed yet.",
            registry=registry,
        )
        self.store_failing = Gauge(
            "rtobserver_store_failing", "Whether the database refuses to write now.", registry=registry
        )
        self.store_failures = Counter(
            "rtobserver_store_failures",
            "Times that the database began to refuse, by why (locked, full, failing, closed, damaged, other).",
            ["trouble"],
            registry=registry,
        )
        self.disk_full = Gauge(
            "rtobserver_disk_full",
            "Whether room on the disk is short, so that only what must not be lost is recorded.",
            registry=registry,
        )
        self.disk_free_bytes = Gauge("rtobserver_disk_free_bytes", "Free on the database's disk.", registry=registry)
        self.wal_bytes = Gauge("rtobserver_wal_bytes", "Size of the write-ahead log.", registry=registry)
        self.damaged_files = Gauge(
            "rtobserver_damaged_files", "Damaged files that lie beside the database, moved aside.", registry=registry
        )
        self.files_away = Gauge(
            "rtobserver_files_away",
            "Open files of the database that are not at their place: a crash would take with it what they hold.",
            registry=registry,
        )
        self.files_saved = Gauge(
            "rtobserver_files_saved",
            "Times since the start that files of the database were taken away and what they held was saved.",
            registry=registry,
        )
        self.missing_commits = Counter(
            "rtobserver_missing_commits",
            "What an earlier run had committed and the start did not find: entries, and calls without a trace.",
            ["what"],
            registry=registry,
        )
        self.loop_gap_seconds = Gauge(
            "rtobserver_loop_gap_seconds",
            "The longest that the loop kept anything waiting in the last minute.",
            registry=registry,
        )
        self.loop_stalls = Counter(
            "rtobserver_loop_stalls", "Times that the loop stood still for more than a second.", registry=registry
        )
        self.loop_tasks = Gauge(
            "rtobserver_loop_tasks",
            "Tasks of the loop that have not ended: some for each live call.",
            registry=registry,
        )

    def _of_the_journal(self, registry: CollectorRegistry) -> None:
        self.journal_rows = Gauge(
            "rtobserver_journal_rows",
            "Lines of the journal that are not yet in the database; PostgreSQL only.",
            registry=registry,
        )
        self.journal_bytes = Gauge(
            "rtobserver_journal_bytes", "Size of the journal's files; PostgreSQL only.", registry=registry
        )
        self.journal_oldest_seconds = Gauge(
            "rtobserver_journal_oldest_seconds",
            "Age of the oldest journal file that holds anything not yet in the database; PostgreSQL only.",
            registry=registry,
        )
        self.shipped_rows = Counter(
            "rtobserver_shipped_rows", "Entries shipped from the journal to PostgreSQL.", registry=registry
        )
        self.database_away = Gauge(
            "rtobserver_database_away",
            "Whether PostgreSQL is away, so that the journal grows.",
            registry=registry,
        )
        self.lease_seconds = Gauge(
            "rtobserver_lease_seconds",
            "How long this replica may still act without renewing its lease.",
            registry=registry,
        )
        self.calls_taken_over = Counter(
            "rtobserver_calls_taken_over",
            "Calls that another replica had, by how they came here.",
            ["how"],
            registry=registry,
        )
        self.replicas_fenced = Counter(
            "rtobserver_replicas_fenced", "Replicas that this one has declared dead.", registry=registry
        )

    def _of_policies(self, registry: CollectorRegistry) -> None:
        self.policy_decisions = Counter(
            "rtobserver_policy_decisions",
            "Decisions by policy, the mode it was in, and whether it acted (yes, no).",
            ["policy", "mode", "acted"],
            registry=registry,
        )
        self.policy_faults = Counter(
            "rtobserver_policy_faults",
            "Decisions that could not be taken or filled in.",
            ["policy"],
            registry=registry,
        )
        self.policy_demotions = Counter(
            "rtobserver_policy_demotions",
            "Times that a policy went past its own rate and only observes since then.",
            ["policy"],
            registry=registry,
        )
        self.reaction_seconds = Histogram(
            "rtobserver_reaction_seconds",
            "From the receipt of an entry to the sending of the first command that a policy made of it.",
            buckets=_REACTION_BUCKETS,
            registry=registry,
        )
        self.policy_reloads = Counter(
            "rtobserver_policy_reloads",
            "Times that the configuration was read again, by outcome (reloaded, unchanged, refused).",
            ["outcome"],
            registry=registry,
        )
        self.tool_asks = Counter(
            "rtobserver_tool_asks",
            "Function calls given to endpoints, by outcome (answered, unreachable, refused, timeout, broken).",
            ["outcome"],
            registry=registry,
        )
        self.webhook_notifications = Counter(
            "rtobserver_webhook_notifications",
            "Notifications by what became of them (delivered, failed, given_up, dropped, lost).",
            ["webhook", "outcome"],
            registry=registry,
        )
        self.webhook_failures = Counter(
            "rtobserver_webhook_failures",
            "Tries to deliver a notification that failed.",
            ["webhook"],
            registry=registry,
        )
        self.webhook_queue = Gauge(
            "rtobserver_webhook_queue",
            "Notifications that wait for their delivery.",
            ["webhook"],
            registry=registry,
        )

    def render(self) -> bytes:
        """Give all figures as text."""
        return generate_latest(self._registry)


def tally(figure: Counter | Gauge) -> dict[tuple[str, ...], float]:
    """Give what a figure stands at, by the values of its labels in their order; without labels the key is empty."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in figure.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
