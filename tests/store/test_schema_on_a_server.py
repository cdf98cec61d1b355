"""The schema on PostgreSQL: what the tables say, made once however many begin, fit for two releases at a time."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtobserver.errors import SchemaMismatch, StoreUnavailable
from rtobserver.store import phrases, schema, tables
from rtobserver.store.hits import CLOSES, OPENS
from rtobserver.store.places import Server
from rtobserver.store.snippets import snippet
from tests.store import stored
from tests.support import postgres


@pytest.fixture
def empty() -> Server:
    return Server(postgres.shared().create())


def version(server: Server, number: str) -> None:
    stored.visit(
        server, lambda connection: connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{number}'"))
    )


def test_an_empty_database_comes_to_what_the_tables_say(empty: Server) -> None:
    assert schema.migrate(empty) == (None, schema.head())

    def look(connection: sa.Connection) -> None:
        inspector = sa.inspect(connection)
        assert set(inspector.get_view_names()) == {"calls", "entries"}
        assert inspector.get_sequence_names() == []
        for table in tables.metadata.tables.values():
            made = {column["name"]: column for column in inspector.get_columns(table.name)}
            own = {"entry": {"landed"}, "item": {"words"}}.get(table.name, set())
            assert made.keys() == {column.name for column in table.columns} | own
            assert all(made[column.name]["nullable"] == column.nullable for column in table.columns)
            assert {
                index["name"] for index in inspector.get_indexes(table.name) if not index.get("duplicates_constraint")
            } >= {index.name for index in table.indexes}
            assert inspector.get_foreign_keys(table.name) == []
            unique = [set(key["column_names"]) for key in inspector.get_unique_constraints(table.name)]
            primary = inspector.get_pk_constraint(table.name)["constrained_columns"]
            keys = [*unique, set(primary)] if primary else unique
            assert all("call_key" in key for key in keys) or table not in tables.PER_CALL

    stored.visit(empty, look)


def test_every_table_is_spread_or_is_not() -> None:
    assert {*tables.PER_CALL, *tables.SHARED} == set(tables.metadata.tables.values())
    assert not {*tables.PER_CALL} & {*tables.SHARED}


def test_five_migrators_at_once_wait_for_each_other(empty: Server) -> None:
    with ThreadPoolExecutor(5) as pool:
        found = sorted(str(before) for before, _ in pool.map(schema.migrate, [empty] * 5))
    assert found == [schema.head()] * 4 + ["None"]
    schema.check(empty)


def test_a_failing_script_leaves_nothing(empty: Server, tmp_path: Path) -> None:
    home = tmp_path / "scripts"
    shutil.copytree(schema.scripts(), home, ignore=shutil.ignore_patterns("__pycache__"))
    home.joinpath("versions", "9999_fails.py").write_text(
        f"from alembic import op\nrevision, down_revision = '9999', '{schema.head()}'\n\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (x int)'); raise RuntimeError('no')\n"
    )
    with pytest.raises(RuntimeError, match="no"):
        schema.migrate(empty, home=home)
    assert (
        postgres.shared().execute("SELECT relname FROM pg_class WHERE relname IN ('half', 'call')", url=empty.url) == []
    )


def test_a_release_runs_on_the_schema_of_the_next_one_and_on_no_other() -> None:
    server = stored.fresh_server()
    needed = int(schema.head())
    version(server, f"{needed + 1:04d}")
    schema.check(server)
    assert schema.migrate(server) == (f"{needed + 1:04d}",) * 2
    for wrong in (needed - 1, needed + 2):
        version(server, f"{wrong:04d}")
        with pytest.raises(SchemaMismatch):
            schema.check(server)
    postgres.shared().drop(server.url)


def test_a_server_that_is_away_is_said_to_be() -> None:
    with pytest.raises(StoreUnavailable):
        schema.check(Server("postgresql://nobody@127.0.0.1:1/nothing"))


FTS5 = "CREATE VIRTUAL TABLE f USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')"
TEXTS = st.text(
    # two letters that SQLite takes for others, and nobody types
    st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0x17F, exclude_characters="µſ"),
    max_size=60,
) | st.sampled_from(["Don't", "3.14 km/h", "naïve Straße", "x_y-z", "ĄĆĘ", "a@b.example", "東京 タワー", "I.B.M."])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_words_are_those_that_sqlite_finds(text: str) -> None:
    said = [set(_words_on_a_server(text)), set(_words_on_file(text))]
    assert said[0] == said[1]


def _words_on_a_server(text: str) -> list[str]:
    server = _server()
    [[found]] = postgres.shared().execute("SELECT tsvector_to_array(rtobserver_words($1))", text, url=server.url)
    return list(found)


_servers: list[Server] = []


def _server() -> Server:
    if not _servers:
        _servers.append(stored.fresh_server())
    return _servers[0]


def _words_on_file(text: str) -> list[str]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE f USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')"
        )
        connection.exec_driver_sql("CREATE VIRTUAL TABLE v USING fts5vocab(f, 'row')")
        connection.exec_driver_sql("INSERT INTO f VALUES (?)", (text,))
        found = [row[0] for row in connection.exec_driver_sql("SELECT term FROM v")]
    engine.dispose()
    return found


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(
        st.sampled_from(["money", "back", "Please.", "a", "refund:", "no", "Naïve,"]), min_size=1, max_size=60
    ),
    asked=st.sampled_from(["money", '"money back"', "please no", "nai*", '"a a"', "refund money"]),
)
def test_a_snippet_is_what_sqlite_shows(words: list[str], asked: str) -> None:
    text = " ".join(words)
    wanted = phrases.read(asked)
    assert wanted is not None
    query = " ".join('"{}"{}'.format(each.text, " *" * each.is_prefix) for each in wanted)
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE f USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')"
        )
        connection.exec_driver_sql("INSERT INTO f VALUES (?)", (text,))
        shown = connection.exec_driver_sql(
            f"SELECT snippet(f, 0, '{OPENS}', '{CLOSES}', '\u2026', 24) FROM f WHERE f MATCH ?", (query,)
        ).all()
    engine.dispose()
    for (expected,) in shown:
        assert snippet(text, wanted) == expected
        assert re.search(OPENS, expected)
