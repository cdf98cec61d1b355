"""Say where the database is: in a file of SQLite's, or on a PostgreSQL server. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtobserver.config.storage import SQLITE, without_password
from rtobserver.errors import ConfigError, Mistake


@dataclass(frozen=True, slots=True)
class Server:
    """Be the address of a database on a PostgreSQL server, as libpq has it; shown without its password."""

    url: str
    """`postgresql://…`; what it leaves out comes from the standard `PG…` variables and the password file."""

    def __str__(self) -> str:
        return without_password(self.url)

    __repr__ = __str__


Place = Path | Server


def place_of(url: str, folder: Path = Path()) -> Place:
    """Give what `store.url` names; a file is relative to `folder`.

    Raises:
        ConfigError: it is neither `sqlite:///PATH` nor `postgresql://…`.

    """
    rest = url.removeprefix(SQLITE)
    if rest != url and rest and not rest.startswith(":") and "?" not in rest:
        return folder / rest
    if url.startswith("postgresql://"):
        return Server(url)
    advice = 'write "sqlite:///PATH", where PATH is a file, or "postgresql://user@host/database"'
    raise ConfigError([Mistake("store.url", "not a database that can be kept", advice)])
