from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from rtobserver.errors import SchemaMismatch, StoreBusy, StoreError, StoreUnavailable
from rtobserver.store import schema, sqlite, tables
from tests.store import stored


def objects(path: Path) -> set[str]:
    with sqlite.transaction(path) as connection:
        return set(connection.execute(sa.text("SELECT name FROM sqlite_master")).scalars())


def test_an_empty_database_comes_to_what_the_tables_say(tmp_path: Path) -> None:
    path = tmp_path / "rtobserver.db"
    assert schema.migrate(path) == (None, schema.head())
    with sqlite.transaction(path) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                # the search index is SQLite's own, `store/search.py` alone knows it
                "include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("search_"),
                "include_object": lambda each, *_: getattr(each, "name", None) != "ix_call_call_id",
            },
        )
        assert compare_metadata(context, tables.metadata) == []
        inspector = sa.inspect(connection)
        assert set(inspector.get_view_names()) == {"calls", "entries", "search_text"}
        for table in tables.metadata.tables.values():
            made = inspector.get_columns(table.name)
            # the writer hands values over in this order
            assert [column["name"] for column in made] == [column.name for column in table.columns]
            assert [column["nullable"] for column in made] == [column.nullable for column in table.columns]


def test_the_scripts_are_numbered_in_a_row_and_alembic_agrees_on_the_newest() -> None:
    names = sorted(script.name for script in schema.scripts().glob("versions/*.py"))
    assert all(re.fullmatch(rf"{number:04d}_[a-z_]+\.py", name) for number, name in enumerate(names, start=1))
    directory = ScriptDirectory(str(schema.scripts()))
    assert directory.get_heads() == [schema.head()]
    order = [script.revision for script in reversed(list(directory.walk_revisions()))]
    assert order == [name.partition("_")[0] for name in names]


def test_the_scripts_know_nothing_of_the_package() -> None:
    for script in schema.scripts().glob("versions/*.py"):
        assert not re.search(r"^\s*(import|from) rtobserver", script.read_text(), re.MULTILINE)


def test_a_second_migration_has_nothing_to_do_and_does_not_load_alembic(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rtobserver.store import schema;"
        "print(schema.migrate(Path(sys.argv[1]))); schema.check(Path(sys.argv[1])); assert 'alembic' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    assert said.strip() == str((schema.head(), schema.head()))


def test_five_migrators_at_once_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "rtobserver.db"
    with ProcessPoolExecutor(5, mp_context=get_context("spawn")) as pool:
        found = sorted(str(before) for before, _ in pool.map(schema.migrate, [path] * 5))
    assert found == [schema.head()] * 4 + ["None"]
    schema.check(path)


def test_a_failing_script_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "scripts 100%"
    shutil.copytree(schema.scripts(), home, ignore=shutil.ignore_patterns("__pycache__"))
    failing = "from alembic import op\nrevision, down_revision = '9999', '{}'\n\ndef upgrade():\n    {}\n"
    home.joinpath("versions", "9999_fails.py").write_text(
        failing.format(schema.head(), "op.execute('CREATE TABLE half (x)'); raise RuntimeError('no')")
    )
    path = tmp_path / "rtobserver.db"
    with pytest.raises(RuntimeError, match="no"):
        schema.migrate(path, home=home)
    assert objects(path) == set()


def test_a_failing_script_leaves_an_older_database_as_it_was(tmp_path: Path, path: Path) -> None:
    stored.insert(path, tables.call, stored.call("rtc_1"))
    before = objects(path)
    home = tmp_path / "scripts"
    shutil.copytree(schema.scripts(), home, ignore=shutil.ignore_patterns("__pycache__"))
    home.joinpath("versions", "9999_fails.py").write_text(
        "from alembic import op\nrevision, down_revision = '9999', '0001'\n\n"
        "def upgrade():\n    op.drop_table('call')\n    raise RuntimeError('no')\n"
    )
    with pytest.raises(RuntimeError, match="no"):
        schema.migrate(path, home=home)
    assert objects(path) == before
    schema.check(path)


def test_an_empty_database_is_refused_until_it_is_migrated(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch, match="no schema yet") as caught:
        schema.check(tmp_path / "rtobserver.db")
    assert caught.value.found is None


def test_a_newer_database_is_refused(path: Path) -> None:
    with sqlite.transaction(path) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9000'"))
    with pytest.raises(SchemaMismatch):
        schema.check(path)
    with pytest.raises(SchemaMismatch):
        schema.migrate(path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be taken for one by nobody" * 20)
    with pytest.raises(StoreError, match=r"notes\.txt"):
        schema.migrate(path)


def test_one_daemon_holds_a_file_at_a_time(path: Path) -> None:
    with sqlite.hold(path):
        with pytest.raises(StoreBusy, match="another rtobserver runs on"), sqlite.hold(path):
            pass
        assert path.with_name("rtobserver.db.lock").stat().st_mode & 0o777 == 0o600
    with sqlite.hold(path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with pytest.raises(StoreUnavailable, match="file"):
        sqlite.create(tmp_path / "file" / "deeper" / "rtobserver.db")
