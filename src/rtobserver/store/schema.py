"""Bring the database to the schema of this release; the scripts in `migrations/` say how.

Nobody else runs DDL but for PostgreSQL's partitions. Alembic is imported only when there is something
to do: it is slow to load, and a daemon whose database is up to date starts without it.

On PostgreSQL replicas are replaced one after the other, so a release runs on the schema of the next
one as well: every script leaves what the release before it reads and writes.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import sqlalchemy as sa

from rtobserver.errors import SchemaMismatch, StoreError
from rtobserver.store import distribution, postgres, sqlite, tables
from rtobserver.store.places import Place, Server

_LOCK = 7_250_147_306_159_612_018
"""Of those who migrate the same PostgreSQL database; any number that is nobody else's."""

T = TypeVar("T")


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


def check(place: Place) -> None:
    """Refuse a database that has another schema than this release needs.

    For a thread that runs no loop.

    Raises:
        SchemaMismatch: it is older, newer, or empty.
        StoreUnavailable: it stayed locked, or cannot be reached.

    """
    found = visit(place, current)
    if not fits(found, head(), place):
        raise SchemaMismatch(found, head())


def fits(found: str | None, needed: str, place: Place) -> bool:
    """Tell whether a release that needs one schema runs on another one."""
    if found is None or found == needed:
        return found == needed
    return isinstance(place, Server) and int(found) == int(needed) + 1


def migrate(
    place: Place, *, home: Path | None = None, spread: Literal["none", "citus"] = "none"
) -> tuple[str | None, str]:
    """Bring the database to the newest revision; give the one before and the one after.

    All of it is one transaction: either every script ran or nothing happened. Several at once
    wait for each other. Makes the file if it is not there. For a thread that runs no loop.
    `spread` is `store.distribution`: with `citus` the tables of calls are distributed then.

    Raises:
        SchemaMismatch: the database is newer than this release.
        StoreError: the tables are to be distributed, and the server cannot do it.
        StoreUnavailable: it stayed locked, or cannot be reached.

    """
    home = home or scripts()
    needed = head(home)

    def work(connection: sa.Connection) -> tuple[str | None, str]:
        if isinstance(place, Server):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = current(connection)
        if found is not None and found > needed:
            if not fits(found, needed, place):
                raise SchemaMismatch(found, needed)
            return found, found
        if found != needed:
            _run_scripts(home, connection)
        if spread == "citus":
            distribution.distribute(connection)
        return found, needed

    return visit(place, work)


def visit(place: Place, function: Callable[[sa.Connection], T]) -> T:
    """Do something in one short transaction on a connection of its own; for a thread that runs no loop.

    Raises:
        StoreUnavailable: the file stayed locked, or the server cannot be reached.
        StoreError: it is no database, or refuses.

    """
    if isinstance(place, Server):
        return asyncio.run(postgres.visit(place, function))
    with sqlite.transaction(place) as connection:
        return function(connection)


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
