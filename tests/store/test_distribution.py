"""That the tables of calls can be spread over nodes: by the schema, by the statements, by what `migrate` says."""

from __future__ import annotations

import ast
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rtobserver import store
from rtobserver.errors import StoreError
from rtobserver.store import schema, tables
from rtobserver.store.places import Server
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


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT * FROM call JOIN lease ON lease.call_key = call.call_key", "both kinds"),
        ("SELECT 1 FROM call WHERE call_key NOT IN (SELECT call_key FROM tombstone)", "both kinds"),
        ("UPDATE call SET epoch = 2 FROM replica WHERE call_key = 1", "both kinds"),
        ('DELETE FROM "order" USING call WHERE "order".call_key = call.call_key', "both kinds"),
        ("SELECT 1 FROM call c, lease l WHERE c.call_key = l.call_key", "both kinds"),
        ("INSERT INTO entry (day, epoch) VALUES (1, 2)", "without the call's key"),
        ("INSERT INTO item (call_key, item_id) VALUES (1, 2) ON CONFLICT (item_id) DO NOTHING", "settles conflicts"),
        ("UPDATE call SET call_key = 5 WHERE call_key = 4", "changes the key"),
        ("SELECT * FROM item JOIN gap ON gap.epoch = item.epoch", "otherwise than by the call's key"),
        ("SELECT call_key FROM call WHERE status = 'live' FOR UPDATE SKIP LOCKED", "more than one node"),
    ],
)
def test_the_rules_find_what_breaks_them(sql: str, word: str) -> None:
    assert word in " ".join(statements.breaches(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM call LEFT JOIN gap ON gap.call_key = call.call_key WHERE call.status = 'from lease'",
        "INSERT INTO item (call_key, item_id) VALUES (1, 2) ON CONFLICT (call_key, item_id) DO UPDATE SET text = 'x'",
        "SELECT epoch FROM lease JOIN replica ON replica_id = owner FOR UPDATE",
        "SELECT 1 FROM call WHERE call_key = 1 FOR UPDATE",
        'INSERT INTO "order" (order_id, call_key, state, command, actor) VALUES (1, 2, 3, 4, 5)',
        'SELECT state, command FROM "order" ORDER BY state, command',
        "-- from lease\nSELECT 1 FROM call",
    ],
)
def test_the_rules_let_pass_what_keeps_them(sql: str) -> None:
    assert statements.breaches(sql) == ()


def test_a_statement_of_an_engine_is_heard() -> None:
    with statements.watched() as sent:
        migrate(fresh_server())
    assert any("alembic_version" in sql for sql in sent)


OF_FILES = {"regain.py", "salvage.py"}
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
