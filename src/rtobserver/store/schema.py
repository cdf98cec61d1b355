"""Bring the database to the schema of this release; the scripts in `migrations/` say how.

Nobody else runs DDL. Alembic is imported only when there is something to do: it is slow to load,
and a daemon whose database is up to date starts without it.
"""

from __future__ import annotations

import io
from pathlib import Path

import sqlalchemy as sa

from rtobserver.errors import SchemaMismatch, StoreError
from rtobserver.store import sqlite, tables


def scripts() -> Path:
    """Find the scripts: beside the package in a wheel, else at the checkout's top.

    Raises:
        StoreError: the install is broken.

    """
    package = Path(__file__).resolve().parents[1]
    for home in (package / "_migrations", package.parents[1] / "migrations"):
        if (home / "env.py").is_file():
            return home
    raise StoreError("the migration scripts are missing: install rtobserver again")


def head(home: Path | None = None) -> str:
    """Name the newest revision: the number that its script's file name begins with."""
    return max(script.name.partition("_")[0] for script in (home or scripts()).glob("versions/[0-9]*_*.py"))


def current(connection: sa.Connection) -> str | None:
    """Name the revision that the database has; None where it has no schema yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def check(path: Path) -> None:
    """Refuse a database that has another schema than this release needs.

    Raises:
        SchemaMismatch: it is older, newer, or empty.
        StoreUnavailable: it stayed locked.

    """
    with sqlite.transaction(path) as connection:
        found = current(connection)
    if found != head():
        raise SchemaMismatch(found, head())


def migrate(path: Path, *, home: Path | None = None) -> tuple[str | None, str]:
    """Bring the database to the newest revision; give the one before and the one after.

    All of it is one transaction: either every script ran or nothing happened. Several at once
    wait for each other. Makes the file if it is not there.

    Raises:
        SchemaMismatch: the database is newer than this release.
        StoreUnavailable: it stayed locked.

    """
    home = home or scripts()
    needed = head(home)
    with sqlite.transaction(path) as connection:
        found = current(connection)
        if found is not None and found > needed:
            raise SchemaMismatch(found, needed)
        if found != needed:
            _run_scripts(home, connection)
    return found, needed


def _run_scripts(home: Path, connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    # the path goes through an ini parser, which reads % as its own
    config.set_main_option("script_location", str(home).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["metadata"] = tables.metadata
    command.upgrade(config, "head")
