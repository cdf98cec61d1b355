"""That the tables of calls can be spread over nodes: by the schema, by the statements, by what `migrate` says."""

from __future__ import annotations

import ast
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rtobserver import store
from rtobserver.errors import StoreError
from rtobserver.store import schema, tables
from rtobserver.store.places import Server
from rtobserver.store.postgres import connect
from tests.store.stored import fresh_server
from tests.support import postgres, statements

# What Citus refuses to distribute, as far as its documentation says (12.1): it stands in for the extension, which no
# package of this machine has. The rows that it keeps are where `distribute` looks.
TABLE = "CREATE TABLE pg_dist_partition (logicalrelid regclass PRIMARY KEY, partkey text, beside text)"
FUNCTION = """
CREATE FUNCTION create_distributed_table(name regclass, key text, kind text, colocate_with text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT 1 FROM pg_index WHERE indrelid = name AND indisunique AND NOT EXISTS (
      SELECT 1 FROM pg_attribute WHERE attrelid = name AND attname = key AND attnum = ANY (indkey::int2[])
    )
  ) THEN
    RAISE EXCEPTION 'cannot create constraint on %: it does not include the distribution column', name;
  END IF;
  IF EXISTS (SELECT 1 FROM pg_constraint WHERE contype = 'f' AND name IN (conrelid, confrelid)) THEN
    RAISE EXCEPTION 'cannot distribute %: it has foreign keys', name;
  END IF;
  IF EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = name AND NOT tgisinternal) THEN
    RAISE EXCEPTION 'cannot distribute relation % because it has triggers', name;
  END IF;
  IF EXISTS (
    SELECT 1 FROM pg_attribute
    WHERE attrelid = name AND attnum > 0 AND (attidentity <> '' OR (attname = key AND attgenerated <> ''))
  ) THEN
    RAISE EXCEPTION 'cannot distribute %: an identity or generated column is in the way', name;
  END IF;
  IF colocate_with <> 'default' AND NOT EXISTS (
    SELECT 1 FROM pg_dist_partition WHERE logicalrelid = colocate_with::regclass
  ) THEN
    RAISE EXCEPTION 'relation % is not distributed', colocate_with;
  END IF;
  INSERT INTO pg_dist_partition VALUES (name, key, colocate_with);
END $$
"""


def migrate(server: Server, **options: Any) -> tuple[str | None, str]:
    """Migrate in a thread, where no loop runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(schema.migrate, server, **options).result()


def rows(server: Server, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in postgres.shared().execute(sql, *values, url=server.url)]


def with_stand_in() -> Server:
    server = fresh_server()
    for statement in (TABLE, FUNCTION):
        postgres.shared().execute(statement, url=server.url)
    return server


# --- what `migrate` says ---------------------------------------------------------------------------------


def test_the_tables_of_calls_are_distributed_by_the_call_beside_each_other() -> None:
    server = with_stand_in()
    migrate(server, spread="citus")
    read = rows(server, "SELECT logicalrelid::text, partkey, beside FROM pg_dist_partition")
    found = {str(name): (key, beside) for name, key, beside in read}
    wanted = {str(table.name): ("call_key", "call") for table in tables.PER_CALL} | {"call": ("call_key", "default")}
    assert found == wanted
    assert not {str(table.name) for table in tables.SHARED} & set(found)


def test_tables_that_are_distributed_stay_as_they_are() -> None:
    server = with_stand_in()
    migrate(server, spread="citus")
    before = rows(server, "SELECT count(*), max(xmin::text::bigint) FROM pg_dist_partition")
    assert migrate(server, spread="citus") == (schema.head(), schema.head())
    assert rows(server, "SELECT count(*), max(xmin::text::bigint) FROM pg_dist_partition") == before


def test_a_table_that_a_later_release_adds_is_distributed_with_the_others() -> None:
    server = with_stand_in()
    migrate(server, spread="citus")
    postgres.shared().execute("DELETE FROM pg_dist_partition WHERE logicalrelid = 'gap'::regclass", url=server.url)
    migrate(server, spread="citus")
    assert rows(server, "SELECT count(*) FROM pg_dist_partition") == [(len(tables.PER_CALL),)]


def test_a_server_without_citus_is_said_to_have_none_and_nothing_is_changed() -> None:
    server = Server(postgres.shared().create())
    with pytest.raises(StoreError, match="no extension citus"):
        migrate(server, spread="citus")
    assert rows(server, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_where_nothing_is_to_be_spread_nothing_is() -> None:
    server = with_stand_in()
    migrate(server)
    assert rows(server, "SELECT count(*) FROM pg_dist_partition") == [(0,)]


# --- the schema ------------------------------------------------------------------------------------------


def test_every_table_is_of_one_kind() -> None:
    per_call, shared = {table.name for table in tables.PER_CALL}, {table.name for table in tables.SHARED}
    assert not per_call & shared
    assert per_call | shared == set(tables.metadata.tables)
    never = {"lease", "replica", "order", "audit", "api_key", "tombstone", "secret", "quota"}
    assert never <= shared


def test_the_schema_has_nothing_that_spans_calls() -> None:
    server = fresh_server()
    sequences = "SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
    assert rows(server, sequences) == []
    assert rows(server, "SELECT conname FROM pg_constraint WHERE contype = 'f'") == []
    triggers = rows(server, "SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal")
    assert not {str(name).strip('"') for (name,) in triggers} & statements.PER_CALL


def test_every_unique_index_of_a_calls_table_begins_with_the_call() -> None:
    found = rows(
        fresh_server(),
        """
        SELECT c.relname, i.indexrelid::regclass::text, a.attname
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace
        """,
    )
    begins = {str(index): column for table, index, column in found if str(table) in statements.PER_CALL}
    assert len(begins) >= len(tables.PER_CALL)
    assert set(begins.values()) == {"call_key"}


# --- the statements --------------------------------------------------------------------------------------


BAD = {
    "both kinds": [
        "SELECT * FROM call JOIN lease ON lease.call_key = call.call_key",
        "SELECT 1 FROM call WHERE call_key NOT IN (SELECT call_key FROM tombstone)",
        "UPDATE call SET epoch = 2 FROM replica WHERE call_key = 1",
        'DELETE FROM "order" USING call WHERE "order".call_key = call.call_key',
        "SELECT 1 FROM call c, lease l WHERE c.call_key = l.call_key",
        "SELECT 1 FROM call WHERE epoch = (SELECT max(epoch) FROM lease)",
        "WITH owned AS (SELECT call_key FROM lease) SELECT call.* FROM call JOIN owned USING (call_key)",
        "INSERT INTO call (call_key, epoch) SELECT call_key, epoch FROM lease",
        "SELECT call_key FROM call UNION ALL SELECT call_key FROM tombstone",
    ],
    "without the call's key": [
        "INSERT INTO entry (day, epoch) VALUES (1, 2)",
        "INSERT INTO entry (day, epoch) SELECT day, epoch FROM unnest($1::int[], $2::int[]) AS given (day, epoch)",
        'COPY "entry"("day", "epoch", "seq") FROM STDIN (FORMAT binary)',
    ],
    "settles conflicts": [
        "INSERT INTO item (call_key, item_id) VALUES (1, 2) ON CONFLICT (item_id) DO NOTHING",
        "INSERT INTO item (call_key, item_id) VALUES (1, 2) ON CONFLICT (item_id) DO UPDATE SET epoch = 1",
    ],
    "changes the key": [
        "UPDATE call SET call_key = 5 WHERE call_key = 4",
        "UPDATE call SET (epoch, call_key) = (5, 6) WHERE call_key = 4",
        "INSERT INTO item (call_key, day) VALUES (1, 2) ON CONFLICT (call_key, day) DO UPDATE SET call_key = 3",
    ],
    "otherwise than by the call's key": [
        "SELECT * FROM item JOIN gap ON gap.epoch = item.epoch",
        "SELECT item.call_key, gap.call_key FROM item JOIN gap ON gap.epoch = item.epoch",
        # the key is named twice, and joins nothing
        "SELECT * FROM call a JOIN item b ON a.call_key = a.call_key",
        "SELECT * FROM call a JOIN item b ON a.call_key = b.epoch",
        "SELECT * FROM call a JOIN item b ON a.call_key = b.day AND a.day = b.call_key",
        "SELECT * FROM call a JOIN item b ON a.call_key <= b.call_key",
        "SELECT * FROM call a JOIN item b ON a.call_key = b.call_key + 1",
        "SELECT * FROM call a JOIN item b ON a.call_key <> b.call_key OR a.call_key = b.call_key",
        "SELECT * FROM call a JOIN item b ON NOT (a.call_key = b.call_key)",
        "SELECT * FROM call a JOIN item b ON a.call_key = $1 AND b.call_key = $2",
        "SELECT * FROM call a JOIN item b ON a.call_key = ANY($1) AND b.call_key = ANY($1)",
        "SELECT * FROM call a JOIN item b USING (day) WHERE a.call_key = 1",
        "SELECT * FROM call a, item b WHERE a.day = b.day AND a.call_key IN (1, 2) AND b.call_key IN (1, 2)",
        # two that are joined, and a third that is not
        "SELECT * FROM call a JOIN item b ON a.call_key = b.call_key JOIN gap c ON c.epoch = b.epoch",
        'SELECT * FROM call a JOIN call b ON a."user" = b."user"',
        # within a query within one
        "SELECT * FROM call WHERE EXISTS (SELECT 1 FROM item WHERE item.call_key = item.call_key)",
        "SELECT * FROM call WHERE EXISTS (SELECT 1 FROM item WHERE item.day = call.day)",
        "SELECT (SELECT max(seq) FROM entry e WHERE e.day = c.day) FROM call c",
        "SELECT * FROM call WHERE call_key IN (SELECT epoch FROM item)",
        "SELECT * FROM call WHERE epoch IN (SELECT call_key FROM item)",
        "SELECT * FROM call WHERE call_key NOT IN (SELECT call_key FROM item)",
        "SELECT * FROM call JOIN (SELECT epoch AS call_key FROM item) i ON i.call_key = call.call_key",
        "SELECT * FROM call JOIN (SELECT call_key AS k, epoch FROM item) i ON i.epoch = call.call_key",
        "WITH i (call_key, epoch) AS (SELECT epoch, call_key FROM item) SELECT * FROM call JOIN i USING (call_key)",
        "WITH i AS (SELECT day FROM item) SELECT * FROM call WHERE day IN (SELECT day FROM i)",
        "UPDATE call SET epoch = 1 FROM item WHERE item.day = call.day AND call.call_key = 1",
        "DELETE FROM item USING gap WHERE gap.epoch = item.epoch",
        "DELETE FROM item WHERE day IN (SELECT day FROM call WHERE call.call_key = item.day)",
        "INSERT INTO gap (call_key, day) SELECT epoch, call_key FROM call",
        "COPY (SELECT * FROM call a JOIN item b ON a.day = b.day) TO STDOUT",
    ],
    "same name": ["SELECT * FROM call NATURAL JOIN item"],
    "more than one node": [
        "SELECT call_key FROM call WHERE status = 'live' FOR UPDATE SKIP LOCKED",
        "SELECT 1 FROM call WHERE call_key IN (1, 2) FOR UPDATE",
        "SELECT 1 FROM call WHERE call_key = 1 OR day = 2 FOR NO KEY UPDATE",
        "UPDATE call SET epoch = 1 WHERE call_key = (SELECT call_key FROM call LIMIT 1 FOR UPDATE SKIP LOCKED)",
    ],
    "cannot be read": [
        "SELECT * FROM call WHERE (item",
        "DO $$ BEGIN DELETE FROM call; END $$",
        "EXECUTE something (call)",
    ],
}


@pytest.mark.parametrize(("word", "sql"), [(word, sql) for word, found in BAD.items() for sql in found])
def test_the_rules_find_what_breaks_them(word: str, sql: str) -> None:
    assert word in " ".join(statements.breaches(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM call LEFT JOIN gap ON gap.call_key = call.call_key WHERE call.status = 'from lease'",
        "SELECT * FROM call a, item b, gap c WHERE b.call_key = a.call_key AND (c.call_key = b.call_key AND c.seq > 1)",
        "SELECT * FROM call JOIN item USING (call_key, day) JOIN gap USING (call_key)",
        "SELECT * FROM call a JOIN item b ON a.call_key = $1::bigint AND b.call_key = CAST($1 AS bigint)",
        "SELECT * FROM call WHERE NOT EXISTS (SELECT 1 FROM item WHERE item.call_key = call.call_key) OR day = 1",
        "SELECT * FROM call WHERE call_key IN (SELECT call_key FROM item) AND day = 1",
        "SELECT * FROM call WHERE (call_key, day) IN (SELECT call_key, day FROM item)",
        "SELECT (SELECT max(seq) FROM entry e WHERE e.call_key = call.call_key) FROM call",
        "SELECT * FROM call c JOIN (SELECT DISTINCT call_key AS k FROM item) i ON i.k = c.call_key",
        "WITH i (k) AS (SELECT call_key FROM item) SELECT * FROM call JOIN i ON i.k = call.call_key",
        "SELECT * FROM call c, LATERAL (SELECT * FROM item WHERE item.call_key = c.call_key LIMIT 1) i",
        "UPDATE call SET epoch = 1 FROM item WHERE item.call_key = call.call_key",
        "DELETE FROM item USING call WHERE call.call_key = item.call_key",
        "INSERT INTO item (call_key, item_id) VALUES (1, 2) ON CONFLICT (call_key, item_id) DO UPDATE SET text = 'x'",
        "INSERT INTO gap (call_key, day) SELECT call_key, day FROM call WHERE day = 1",
        "SELECT epoch FROM lease JOIN replica ON replica_id = owner FOR UPDATE",
        "SELECT 1 FROM call WHERE call_key = 1 FOR UPDATE",
        'COPY "entry"("call_key", "day") FROM STDIN (FORMAT binary)',
        'INSERT INTO "order" (order_id, call_key, state, command, actor) VALUES (1, 2, 3, 4, 5)',
        'SELECT state, command FROM "order" ORDER BY state, command',
        "-- from lease\nSELECT 1 FROM call",
    ],
)
def test_the_rules_let_pass_what_keeps_them(sql: str) -> None:
    assert statements.breaches(sql) == ()


async def test_a_statement_is_heard_whichever_way_it_is_sent() -> None:
    server = fresh_server()
    with statements.watched() as sent:
        migrate(server)
        connection = await connect(server, "ship")
        try:
            await connection.execute("SELECT 1 FROM call")
            await connection.fetch("SELECT 2 FROM call WHERE day = $1", 1)
            await connection.executemany("DELETE FROM call WHERE day = $1", [[1], [2]])
            await connection.copy_records_to_table("gap", records=[], columns=["call_key", "day"])
            await connection.copy_from_query("SELECT 3 FROM call", output=io.BytesIO())
            # one that the connection knows already
            await connection.fetch("SELECT 2 FROM call WHERE day = $1", 3)
        finally:
            await connection.close()
    for part in ("alembic_version", "SELECT 1", "SELECT 2", "DELETE FROM call", 'COPY "gap"', "SELECT 3"):
        assert any(part in sql for sql in sent), part


OF_FILES = {"damage.py", "regain.py", "salvage.py", "vital.py"}
"""Modules that speak to a SQLite file and to nothing else."""


def written() -> list[tuple[str, str]]:
    """Give the SQL that stands as text in the store's modules, with its place."""
    found = []
    for module in sorted(Path(store.__file__).parent.glob("*.py")):
        if module.name in OF_FILES:
            assert "sqlite3" in module.read_text(), module
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Constant(value=str() as text):
                    pass
                case ast.JoinedStr(values=values):
                    parts = [part.value if isinstance(part, ast.Constant) else "x" for part in values]
                    text = "".join(str(part) for part in parts)
                case _:
                    continue
            if re.match(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b.*\b(?:FROM|INTO|SET)\b", text, re.DOTALL):
                found.append((f"{module.name}:{node.lineno}", text))
    return found


def test_statements_that_are_written_as_text_keep_the_rules() -> None:
    texts = written()
    assert len(texts) > 10
    assert {place: found for place, text in texts if (found := statements.breaches(text))} == {}


def test_an_index_that_could_not_be_kept_on_many_nodes_is_refused() -> None:
    server = with_stand_in()
    postgres.shared().execute("CREATE UNIQUE INDEX wrong ON command (event_id)", url=server.url)
    with pytest.raises(StoreError):
        migrate(server, spread="citus")
    assert rows(server, "SELECT count(*) FROM pg_dist_partition") == [(0,)]
