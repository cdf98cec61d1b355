"""The tables, as SQLAlchemy Core knows them; `migrations/` makes them.

Rules that a schema test holds (design, sections 6 and 11): every key of a call's tables starts with
`call_key`, no foreign keys across calls, no sequences, `entry` is narrow. What only one database has
(SQLite's search index, PostgreSQL's partitions, the columns `entry.landed` and `item.words`) stands in
`migrations/` and in the few modules that know that database. Times are microseconds
since 1970 (UTC). Columns of `item` and `response` are the fields of `realtime/rows.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from rtobserver.realtime import entries

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

KIND_EVENT, KIND_COMMAND, KIND_GAP = entries.EVENT, entries.COMMAND, entries.GAP
"""Values of `entry.kind`."""
FLAG_STRIPPED, FLAG_OVERLAP, FLAG_JSON = entries.STRIPPED, entries.OVERLAP, entries.JSON
"""Bits of `entry.flags`; JSON: the payload can be embedded in JSON as it stands."""

call = Table(
    "call",
    metadata,
    Column("call_key", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Integer, nullable=False, doc="UTC day that the call began, as days since 1970"),
    Column("call_id", Text, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("outcome", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("profile", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("user", Text),
    Column("labels", Text, nullable=False, doc="JSON object of strings"),
    Column("tags", Text, nullable=False, doc="JSON array of strings"),
    Column("token_id", Text, doc="which sealed token opened the call"),
    Column("max_duration_us", BigInteger, nullable=False, doc="0 is no limit"),
    Column("epoch", Integer, nullable=False, doc="the newest owner's"),
    Column("entry_count", Integer, nullable=False),
    Column("turn_count", Integer, nullable=False),
    Column("interruption_count", Integer, nullable=False),
    Column("error_count", Integer, nullable=False),
    Column("tampered", Boolean, nullable=False),
    Column("usage", Text, nullable=False, doc="JSON object, as the API shows it"),
    Column("cost_usd", Text, doc="exact decimal; null where anything used has no known price"),
    Column("latency", Text, nullable=False, doc="JSON object, as the API shows it"),
    Column("metrics", Text, nullable=False, doc="JSON object: talk times, tools, transcription, parts of the cost"),
    Column("attach_latency_ms", Integer),
    Column("completeness", Text),
    Column("checks", Text, nullable=False, doc="JSON object: counts by type and the self-checks' findings"),
    Column("gap_count", Integer, nullable=False),
    Column("upstream_request_id", Text, doc="upstream's own reference for the negotiation"),
    Column("session", Text, doc="JSON object: the session that was minted"),
    Column("purged_at", BigInteger, doc="when its entries and items were taken away; 0 while that goes on"),
    Column("erased_at", BigInteger, doc="when somebody had it erased"),
    # where calls are spread over nodes only their key can be unique; it follows from the id
    UniqueConstraint("call_id").ddl_if(dialect="sqlite"),
    Index("ix_call_call_id", "call_id").ddl_if(dialect="postgresql"),
    Index("ix_call_started", "started_at", "call_key"),
    Index("ix_call_status_started", "status", "started_at", "call_key"),
    Index("ix_call_user_started", "user", "started_at", "call_key"),
    Index("ix_call_profile_started", "profile", "started_at", "call_key"),
    # what retention has yet to take, oldest first
    Index(
        "ix_call_unpurged",
        "started_at",
        sqlite_where=text("purged_at IS NULL OR purged_at = 0"),
        postgresql_where=text("purged_at IS NULL OR purged_at = 0"),
    ),
)

entry = Table(
    "entry",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("offset_us", BigInteger, nullable=False),
    Column("type", Text),
    Column("event_id", Text),
    Column("payload", LargeBinary, nullable=False),
    Column("flags", SmallInteger, nullable=False),
    UniqueConstraint("call_key", "day", "epoch", "seq"),
    postgresql_partition_by="RANGE (day)",
)

item = Table(
    "item",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("previous_item_id", Text),
    Column("response_id", Text),
    Column("role", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("heard_text", Text),
    Column("heard_confidence", Text),
    Column("status", Text, nullable=False),
    Column("interrupted", Boolean, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("tool_name", Text),
    Column("tool_call_id", Text),
    Column("called_at", BigInteger),
    Column("tool_output", Text),
    Column("out_of_band", Boolean, nullable=False),
    Column("idle_timeout", Boolean, nullable=False),
    Column("error", Text),
    Column("recovered", Boolean, nullable=False),
    PrimaryKeyConstraint("call_key", "day", "item_id"),
)

response = Table(
    "response",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("response_id", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("out_of_band", Boolean, nullable=False),
    Column("user_item_id", Text),
    Column("created_at", BigInteger),
    Column("done_at", BigInteger),
    Column("first_output_at", BigInteger),
    Column("playback_started_at", BigInteger),
    Column("playback_ended_at", BigInteger),
    Column("playback_cleared", Boolean, nullable=False),
    Column("interrupted", Boolean, nullable=False),
    Column("heard_latency_ms", Integer),
    Column("generation_latency_ms", Integer),
    Column("usage", Text, doc="JSON object; null until known"),
    PrimaryKeyConstraint("call_key", "day", "response_id"),
)

gap = Table(
    "gap",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False, doc="position of the gap's own entry"),
    Column("from_at", BigInteger, nullable=False),
    Column("to_at", BigInteger),
    Column("reason", Text, nullable=False),
    Column("after", Text, doc="position of the last entry before it"),
    Column("state", Text, nullable=False),
    Column("lost", Integer),
    Column("lost_by_type", Text, nullable=False, doc="JSON object"),
    Column("counted", Boolean, nullable=False, doc="whether it enters gap_count and the verdict"),
    PrimaryKeyConstraint("call_key", "day", "epoch", "seq"),
)

command = Table(
    "command",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("policy", Text),
    Column("state", Text, nullable=False),
    Column("sent_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("error", Text),
    PrimaryKeyConstraint("call_key", "day", "event_id"),
)

decision = Table(
    "decision",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False, doc="position of the trigger"),
    Column("policy", Text, nullable=False),
    Column("policy_set", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("acted", Boolean, nullable=False),
    Column("actions", Text, nullable=False, doc="JSON array"),
    Column("received_at", BigInteger, nullable=False),
    Column("matched_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("outcome", Text),
    Column("detail", Text, doc="the words to the outcome"),
    Column("match", Text, doc="what was said that matched"),
    Column("item_id", Text),
    Column("response_id", Text),
    Column("played_ms", Integer),
    PrimaryKeyConstraint("call_key", "day", "epoch", "seq", "policy"),
    # what each policy did of late is counted from the index alone
    Index("ix_decision_policy", "policy", "received_at", "acted", "outcome", "mode"),
    Index("ix_decision_received", "received_at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("call_key", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("call_key", "day", "epoch", "seq"),
    comment="entries that the database refused one by one",
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("call_key", BigInteger, primary_key=True, autoincrement=False),
    Column("erased_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("completed_at", BigInteger, doc="when the bytes had left the files; null until then"),
)

lease = Table(
    "lease",
    metadata,
    Column("call_key", BigInteger, primary_key=True, autoincrement=False),
    Column("call_id", Text, nullable=False),
    Column("day", Integer, nullable=False),
    Column("owner", Text, nullable=False, doc="the replica's incarnation"),
    Column("epoch", Integer, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("previous", Text, doc="the replica that it was taken from"),
    Column("phase", Text, nullable=False, doc="held, offered, taken, attached or left"),
    Column("attached_at", BigInteger),
    Column("registration", Text, nullable=False, doc="JSON object: the call's row as it was registered"),
    Index("ix_lease_owner", "owner"),
    Index("ix_lease_previous", "previous"),
)

replica = Table(
    "replica",
    metadata,
    Column("replica_id", Text, primary_key=True, doc="one incarnation of a daemon process"),
    Column("started_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False, doc="everything received before it is stored"),
    Column("doubts", Text, doc="JSON object: calls of which nothing was heard for a while then, and since when"),
    Column("number", Integer, nullable=False, doc="which run on this database it is"),
    Column(
        "boot", Text, doc="JSON object: the machine's start, the time since it at `beat_at`, if the clock was set back"
    ),
    Column("stopped_at", BigInteger),
    Column("version", Text, nullable=False),
    # by the clock of the database, and of PostgreSQL only
    Column("lease_until", BigInteger),
    Column("fenced_at", BigInteger),
    Column("draining_at", BigInteger),
    Column("journal", Text, doc="id of the journal's folder that it writes to"),
)

journal = Table(
    "journal",
    metadata,
    Column("journal_id", Text, primary_key=True),
    Column("replica_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False, doc="up to where it is in the database"),
    Column("oldest_at", BigInteger, doc="when the oldest thing was handed over that still lies in its files"),
    Column("shipped_at", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False, doc="how many wait"),
    Column("bytes", BigInteger, nullable=False, doc="how much waits"),
    comment="how far each replica's journal has come; empty on SQLite",
)

quota = Table(
    "quota",
    metadata,
    Column("slot_id", Text, primary_key=True),
    Column("caller", Text, nullable=False, doc="digest of the user"),
    Column("owner", Text, nullable=False, doc="the replica's incarnation"),
    Column("begun_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("ix_quota_caller", "caller", "begun_at"),
    Index("ix_quota_owner", "owner"),
    comment="calls that count for the limits of several replicas; empty on SQLite",
)

order = Table(
    "order",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("call_key", BigInteger, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, doc="the run of the daemon that took it"),
    Column("command", Text, nullable=False, doc="JSON object"),
    Column("actor", Text, nullable=False),
    Column("ordered_at", BigInteger, nullable=False),
    Column("event_id", Text, doc="of the command that it led to"),
    Column("sent_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("error", Text),
    Index("ix_order_call_key", "call_key", "ordered_at"),
    Index("ix_order_state", "state", "ordered_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", Text, primary_key=True, doc="sorts by time"),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False, doc="key id, or empty"),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("count", Integer, nullable=False, doc="how many refusals it stands for"),
    Index("ix_audit_at", "at"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, doc="SHA-256 of the key"),
    Column("scopes", Text, nullable=False, doc="JSON array"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

secret = Table(
    "secret",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    comment="keys that rtobserver made for itself: the token key, the HMAC key of stripped audio",
)

PER_CALL = (call, entry, item, response, gap, command, decision, quarantine)
"""Tables that may be distributed by `call_key`."""
SHARED = (tombstone, lease, replica, journal, quota, order, audit, api_key, secret)
"""Tables that never are; no statement joins or locks rows of both kinds."""
