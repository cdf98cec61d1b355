"""Make the tables of calls, entries and keys, and the views for people.

A fact about the past: this script imports SQLAlchemy and nothing of rtobserver, and is never
changed once it was released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# texts are compared by their bytes on both: it is the same everywhere, and an index finds what begins with something
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# --- SQLite -------------------------------------------------------------------------------------------------------

CALLS = """
CREATE VIEW calls AS
SELECT
  call_id, protocol, status, outcome,
  strftime('%Y-%m-%dT%H:%M:%S', started_at / 1000000, 'unixepoch') || printf('.%06dZ', started_at % 1000000)
    AS started_at,
  strftime('%Y-%m-%dT%H:%M:%S', ended_at / 1000000, 'unixepoch') || printf('.%06dZ', ended_at % 1000000)
    AS ended_at,
  (ended_at - started_at) / 1000000.0 AS duration_seconds,
  profile, model, user, labels, tags,
  entry_count, turn_count, interruption_count, error_count, tampered,
  json_extract(usage, '$.input_tokens') AS input_tokens,
  json_extract(usage, '$.output_tokens') AS output_tokens,
  json_extract(usage, '$.total_tokens') AS total_tokens,
  json_extract(usage, '$.cached_tokens') AS cached_tokens,
  cost_usd,
  json_extract(latency, '$.first_audio_ms.p50') AS first_audio_p50_ms,
  json_extract(latency, '$.first_audio_ms.p95') AS first_audio_p95_ms,
  attach_latency_ms, completeness, gap_count
FROM call
"""

ENTRIES = """
CREATE VIEW entries AS
SELECT
  call.call_id AS call_id,
  entry.epoch || ':' || entry.seq AS position,
  entry.epoch AS epoch, entry.seq AS seq,
  strftime('%Y-%m-%dT%H:%M:%S', entry.at / 1000000, 'unixepoch') || printf('.%06dZ', entry.at % 1000000) AS at,
  entry.offset_us / 1000.0 AS offset_ms,
  CASE entry.kind WHEN 1 THEN 'event' WHEN 2 THEN 'command' WHEN 3 THEN 'gap' END AS kind,
  entry.type AS type, entry.event_id AS event_id,
  (entry.flags & 1) <> 0 AS stripped,
  (entry.flags & 2) <> 0 AS overlap,
  CASE WHEN entry.flags & 4 THEN CAST(entry.payload AS TEXT) END AS payload,
  CASE WHEN entry.flags & 4 THEN NULL ELSE entry.payload END AS payload_bytes
FROM call JOIN entry ON entry.call_key = call.call_key AND entry.day = call.day
"""

# What can be searched: final lines of the conversation, by people and by the model.
LINE = (
    "{0}.role IN ('user', 'assistant') AND {0}.kind IN ('speech', 'text') AND {0}.status <> 'in_progress' "
    "AND NOT {0}.out_of_band AND {0}.text <> ''"
)
OF_ITEM = "call_key = {0}.call_key AND day = {0}.day AND item_id = {0}.item_id"

# A line's number sorts by the beginning of its call (milliseconds, then 21 bits for the lines of all calls that
# began in it), so that the newest hits are read first and nothing else is.
NUMBER = """
  INSERT INTO search_line (line_id, call_key, day, item_id)
  SELECT
    coalesce(
      (SELECT line_id + 1 FROM search_line WHERE line_id >= first AND line_id < first + 2097152
       ORDER BY line_id DESC LIMIT 1),
      first
    ),
    NEW.call_key, NEW.day, NEW.item_id
  FROM (
    SELECT coalesce((SELECT started_at FROM call WHERE call_key = NEW.call_key), NEW.day * 86400000000)
      / 1000 * 2097152 AS first
  )
  WHERE {line};
"""
INDEX = """
  INSERT INTO search_index (rowid, text) SELECT line_id, NEW.text FROM search_line WHERE {of_item};
"""
FORGET = """
  INSERT INTO search_index (search_index, rowid, text)
  SELECT 'delete', line_id, OLD.text FROM search_line WHERE {of_item};
  DELETE FROM search_line WHERE {of_item};
"""

# The index has no copy of the texts; it reads them through the view. Triggers keep it in step with `item` whoever
# writes there, in the same transaction.
SEARCH = (
    """
    CREATE TABLE search_line (
      line_id INTEGER PRIMARY KEY, call_key BIGINT NOT NULL, day INTEGER NOT NULL, item_id TEXT NOT NULL,
      UNIQUE (call_key, day, item_id)
    )
    """,
    """
    CREATE VIEW search_text AS
    SELECT
      search_line.line_id AS line_id,
      replace(replace(item.text, char(10214), '['), char(10215), ']') AS text
    FROM search_line CROSS JOIN item
      ON item.call_key = search_line.call_key AND item.day = search_line.day AND item.item_id = search_line.item_id
    """,
    """
    CREATE VIRTUAL TABLE search_index USING fts5(
      text, content = 'search_text', content_rowid = 'line_id', columnsize = 0,
      tokenize = 'unicode61 remove_diacritics 2'
    )
    """,
    f"""
    CREATE TRIGGER search_insert AFTER INSERT ON item WHEN {LINE.format("NEW")}
    BEGIN {NUMBER.format(line="true")} {INDEX.format(of_item=OF_ITEM.format("NEW"))} END
    """,
    f"""
    CREATE TRIGGER search_update AFTER UPDATE ON item
    WHEN OLD.text <> NEW.text OR ({LINE.format("OLD")}) <> ({LINE.format("NEW")})
    BEGIN
      {FORGET.format(of_item=OF_ITEM.format("OLD"))}
      {NUMBER.format(line=LINE.format("NEW"))}
      {INDEX.format(of_item=OF_ITEM.format("NEW"))}
    END
    """,
    f"""
    CREATE TRIGGER search_delete AFTER DELETE ON item WHEN {LINE.format("OLD")}
    BEGIN {FORGET.format(of_item=OF_ITEM.format("OLD"))} END
    """,
)


# --- PostgreSQL ---------------------------------------------------------------------------------------------------

# Rows of days that nobody made a partition for have a place too. What a row was committed with orders the entries of
# all calls: transactions become visible in another order than they begin, and what is not over yet is known.
PARTITIONS = (
    "CREATE TABLE entry_rest PARTITION OF entry DEFAULT",
    "ALTER TABLE entry ADD COLUMN landed bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint)",
    "CREATE INDEX ix_entry_landed ON entry (landed)",
)

# The words of a text as SQLite's tokenizer finds them: letters and digits without their marks, folded; everything else
# is between words. A word that is longer than the index takes is left out, and so is what a line has beyond any use.
FOLD = r"""
CREATE FUNCTION rtobserver_fold(content text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT btrim(regexp_replace(
    lower(regexp_replace(normalize(left(content, 200000), NFD), '[\u0300-\u036f]', '', 'g') COLLATE {collation}),
    -- the numbers behind are letters or digits to no collation, and words to SQLite
    '[^[:alnum:]\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2089\u2150-\u218b\u2460-\u249b\u24ea-\u24ff]+'
      COLLATE {collation}, ' ', 'g'
  ))
$$
"""
WORDS_OF = """
CREATE FUNCTION rtobserver_words(content text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT coalesce(string_agg(word || ':' || least(place, 16383), ' '), '')::tsvector
  FROM unnest(string_to_array(rtobserver_fold(content), ' ')) WITH ORDINALITY AS found (word, place)
  WHERE word <> '' AND octet_length(word) < 1000 AND place < 60000
$$
"""
# Words in a row, or nothing where there are none; the last one may go on.
QUERY_OF = """
CREATE FUNCTION rtobserver_query(content text, is_prefix boolean) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
  SELECT CASE WHEN rtobserver_fold(content) = '' THEN ''::tsquery ELSE
    (replace(rtobserver_fold(content), ' ', ' <-> ') || CASE WHEN is_prefix THEN ':*' ELSE '' END)::tsquery
  END
$$
"""
WORDS = (
    f"""
    ALTER TABLE item ADD COLUMN words tsvector GENERATED ALWAYS AS
    (CASE WHEN {LINE.format("item").replace("item.", "")} THEN rtobserver_words(text) END) STORED
    """,
    "CREATE INDEX ix_item_words ON item USING gin (words)",
    # what is found is read day by day, the newest first
    "CREATE INDEX ix_item_day ON item (day) WHERE words IS NOT NULL",
)

# Wakes whoever looks for orders; looking is what they rely on.
WAKE = """
CREATE FUNCTION rtobserver_ordered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('rtobserver_orders', ''); RETURN NULL; END
$$
"""
WAKER = """
CREATE TRIGGER rtobserver_ordered AFTER INSERT ON "order" FOR EACH STATEMENT EXECUTE FUNCTION rtobserver_ordered()
"""

MOMENT = """to_char(timestamp 'epoch' + {} * interval '1 microsecond', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
PG_CALLS = f"""
CREATE VIEW calls AS
SELECT
  call_id, protocol, status, outcome,
  {MOMENT.format("started_at")} AS started_at,
  {MOMENT.format("ended_at")} AS ended_at,
  (ended_at - started_at) / 1000000.0 AS duration_seconds,
  profile, model, "user", labels::json AS labels, tags::json AS tags,
  entry_count, turn_count, interruption_count, error_count, tampered,
  (usage::json ->> 'input_tokens')::bigint AS input_tokens,
  (usage::json ->> 'output_tokens')::bigint AS output_tokens,
  (usage::json ->> 'total_tokens')::bigint AS total_tokens,
  (usage::json ->> 'cached_tokens')::bigint AS cached_tokens,
  cost_usd::numeric AS cost_usd,
  (latency::json #>> '{{first_audio_ms,p50}}')::bigint AS first_audio_p50_ms,
  (latency::json #>> '{{first_audio_ms,p95}}')::bigint AS first_audio_p95_ms,
  attach_latency_ms, completeness, gap_count
FROM call
"""  # noqa: S608 - nothing is put in but our own words
PG_ENTRIES = f"""
CREATE VIEW entries AS
SELECT
  call.call_id AS call_id,
  entry.epoch || ':' || entry.seq AS position,
  entry.epoch AS epoch, entry.seq AS seq,
  {MOMENT.format("entry.at")} AS at,
  entry.offset_us / 1000.0 AS offset_ms,
  CASE entry.kind WHEN 1 THEN 'event' WHEN 2 THEN 'command' WHEN 3 THEN 'gap' END AS kind,
  entry.type AS type, entry.event_id AS event_id,
  (entry.flags & 1) <> 0 AS stripped,
  (entry.flags & 2) <> 0 AS overlap,
  CASE WHEN (entry.flags & 4) <> 0 THEN convert_from(entry.payload, 'UTF8')::json END AS payload,
  CASE WHEN (entry.flags & 4) = 0 THEN entry.payload END AS payload_bytes
FROM call JOIN entry ON entry.call_key = call.call_key AND entry.day = call.day
"""  # noqa: S608 - as above


def _functions() -> tuple[str, ...]:
    """Give the functions, for a collation that knows letters beyond ASCII, whatever the database's own is."""
    known = sa.text(
        """
        SELECT quote_ident(collname) FROM pg_collation
        WHERE collname IN ('und-x-icu', 'pg_c_utf8', 'C.utf8', 'C.UTF-8')
          AND collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))
        ORDER BY array_position(ARRAY['und-x-icu', 'pg_c_utf8'], collname::text) NULLS LAST LIMIT 1
        """
    )
    collation = op.get_bind().execute(known).scalar() or '"default"'
    return (FOLD.format(collation=collation), WORDS_OF, QUERY_OF)


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "api_key",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_key")),
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("object", TEXT, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_table(
        "call",
        sa.Column("call_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("protocol", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("user", TEXT, nullable=True),
        sa.Column("labels", TEXT, nullable=False),
        sa.Column("tags", TEXT, nullable=False),
        sa.Column("token_id", TEXT, nullable=True),
        sa.Column("max_duration_us", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("turn_count", sa.Integer(), nullable=False),
        sa.Column("interruption_count", sa.Integer(), nullable=False),
        sa.Column("error_count", sa.Integer(), nullable=False),
        sa.Column("tampered", sa.Boolean(), nullable=False),
        sa.Column("usage", TEXT, nullable=False),
        sa.Column("cost_usd", TEXT, nullable=True),
        sa.Column("latency", TEXT, nullable=False),
        sa.Column("metrics", TEXT, nullable=False),
        sa.Column("attach_latency_ms", sa.Integer(), nullable=True),
        sa.Column("completeness", TEXT, nullable=True),
        sa.Column("checks", TEXT, nullable=False),
        sa.Column("gap_count", sa.Integer(), nullable=False),
        sa.Column("upstream_request_id", TEXT, nullable=True),
        sa.Column("session", TEXT, nullable=True),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("call_key", name=op.f("pk_call")),
        *([sa.UniqueConstraint("call_id", name=op.f("uq_call_call_id"))] if is_sqlite else []),
    )
    if not is_sqlite:
        op.create_index("ix_call_call_id", "call", ["call_id"])
    op.create_index("ix_call_profile_started", "call", ["profile", "started_at", "call_key"], unique=False)
    op.create_index("ix_call_started", "call", ["started_at", "call_key"], unique=False)
    op.create_index("ix_call_status_started", "call", ["status", "started_at", "call_key"], unique=False)
    op.create_index(
        "ix_call_unpurged",
        "call",
        ["started_at"],
        unique=False,
        sqlite_where=sa.text("purged_at IS NULL OR purged_at = 0"),
        postgresql_where=sa.text("purged_at IS NULL OR purged_at = 0"),
    )
    op.create_index("ix_call_user_started", "call", ["user", "started_at", "call_key"], unique=False)
    op.create_table(
        "command",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("policy", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("call_key", "day", "event_id", name=op.f("pk_command")),
    )
    op.create_table(
        "decision",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("policy_set", TEXT, nullable=False),
        sa.Column("trigger", TEXT, nullable=False),
        sa.Column("mode", TEXT, nullable=False),
        sa.Column("acted", sa.Boolean(), nullable=False),
        sa.Column("actions", TEXT, nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("matched_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", TEXT, nullable=True),
        sa.Column("detail", TEXT, nullable=True),
        sa.Column("match", TEXT, nullable=True),
        sa.Column("item_id", TEXT, nullable=True),
        sa.Column("response_id", TEXT, nullable=True),
        sa.Column("played_ms", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("call_key", "day", "epoch", "seq", "policy", name=op.f("pk_decision")),
    )
    op.create_index("ix_decision_policy", "decision", ["policy", "received_at", "acted", "outcome", "mode"])
    op.create_index("ix_decision_received", "decision", ["received_at"])
    op.create_table(
        "entry",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("offset_us", sa.BigInteger(), nullable=False),
        sa.Column("type", TEXT, nullable=True),
        sa.Column("event_id", TEXT, nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("flags", sa.SmallInteger(), nullable=False),
        sa.UniqueConstraint("call_key", "day", "epoch", "seq", name=op.f("uq_entry_call_key_day_epoch_seq")),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_table(
        "gap",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("after", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("lost", sa.Integer(), nullable=True),
        sa.Column("lost_by_type", TEXT, nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("call_key", "day", "epoch", "seq", name=op.f("pk_gap")),
    )
    op.create_table(
        "item",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("item_id", TEXT, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("previous_item_id", TEXT, nullable=True),
        sa.Column("response_id", TEXT, nullable=True),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("heard_text", TEXT, nullable=True),
        sa.Column("heard_confidence", TEXT, nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("tool_name", TEXT, nullable=True),
        sa.Column("tool_call_id", TEXT, nullable=True),
        sa.Column("called_at", sa.BigInteger(), nullable=True),
        sa.Column("tool_output", TEXT, nullable=True),
        sa.Column("out_of_band", sa.Boolean(), nullable=False),
        sa.Column("idle_timeout", sa.Boolean(), nullable=False),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("recovered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("call_key", "day", "item_id", name=op.f("pk_item")),
    )
    op.create_table(
        "journal",
        sa.Column("journal_id", TEXT, nullable=False),
        sa.Column("replica_id", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("oldest_at", sa.BigInteger(), nullable=True),
        sa.Column("shipped_at", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("journal_id", name=op.f("pk_journal")),
        comment="how far each replica's journal has come; empty on SQLite",
    )
    op.create_table(
        "lease",
        sa.Column("call_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("previous", TEXT, nullable=True),
        sa.Column("phase", TEXT, nullable=False),
        sa.Column("attached_at", sa.BigInteger(), nullable=True),
        sa.Column("registration", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("call_key", name=op.f("pk_lease")),
    )
    op.create_index("ix_lease_owner", "lease", ["owner"], unique=False)
    op.create_index("ix_lease_previous", "lease", ["previous"], unique=False)
    op.create_table(
        "order",
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=True),
        sa.Column("command", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("ordered_at", sa.BigInteger(), nullable=False),
        sa.Column("event_id", TEXT, nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_order")),
    )
    op.create_index("ix_order_call_key", "order", ["call_key", "ordered_at"], unique=False)
    op.create_index("ix_order_state", "order", ["state", "ordered_at"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("problem", TEXT, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("call_key", "day", "epoch", "seq", name=op.f("pk_quarantine")),
        comment="entries that the database refused one by one",
    )
    op.create_table(
        "quota",
        sa.Column("slot_id", TEXT, nullable=False),
        sa.Column("caller", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("slot_id", name=op.f("pk_quota")),
        comment="calls that count for the limits of several replicas; empty on SQLite",
    )
    op.create_index("ix_quota_caller", "quota", ["caller", "begun_at"])
    op.create_index("ix_quota_owner", "quota", ["owner"])
    op.create_table(
        "replica",
        sa.Column("replica_id", TEXT, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("doubts", TEXT, nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("boot", TEXT, nullable=True),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fenced_at", sa.BigInteger(), nullable=True),
        sa.Column("draining_at", sa.BigInteger(), nullable=True),
        sa.Column("journal", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("replica_id", name=op.f("pk_replica")),
    )
    op.create_table(
        "response",
        sa.Column("call_key", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("response_id", TEXT, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("out_of_band", sa.Boolean(), nullable=False),
        sa.Column("user_item_id", TEXT, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=True),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("first_output_at", sa.BigInteger(), nullable=True),
        sa.Column("playback_started_at", sa.BigInteger(), nullable=True),
        sa.Column("playback_ended_at", sa.BigInteger(), nullable=True),
        sa.Column("playback_cleared", sa.Boolean(), nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.Column("heard_latency_ms", sa.Integer(), nullable=True),
        sa.Column("generation_latency_ms", sa.Integer(), nullable=True),
        sa.Column("usage", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("call_key", "day", "response_id", name=op.f("pk_response")),
    )
    op.create_table(
        "secret",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secret")),
        comment="keys that rtobserver made for itself: the token key, the HMAC key of stripped audio",
    )
    op.create_table(
        "tombstone",
        sa.Column("call_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("call_key", name=op.f("pk_tombstone")),
    )
    statements: tuple[str, ...]
    if is_sqlite:
        statements = (CALLS, ENTRIES, *SEARCH)
    else:
        statements = (*_functions(), *PARTITIONS, *WORDS, WAKE, WAKER, PG_CALLS, PG_ENTRIES)
    for statement in statements:
        # a colon is no parameter here
        op.execute(sa.text(statement.replace(":", r"\:")))
