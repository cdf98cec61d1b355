"""Check and resolve `store.url`. Pure."""

from __future__ import annotations

import posixpath
from urllib.parse import urlsplit, urlunsplit

from rtobserver.config.values import Wrong

SQLITE = "sqlite:///"
POSTGRESQL = "postgresql:"
_SPELLINGS = "write sqlite:///PATH or postgresql://user@host/database"


def store_url(value: str) -> str:
    """Check the address of the database; a driver's name in it is refused, we choose our own."""
    if not value.isprintable():
        raise Wrong("is not an address: it holds control characters", _SPELLINGS)
    scheme, colon, _ = value.partition(":")
    if value.startswith(SQLITE):
        path = value.removeprefix(SQLITE)
        if not path or path == ":memory:" or path.endswith("/"):
            raise Wrong("names no file to keep recordings in", "write it as in sqlite:///rtobserver.db")
        if "?" in path or "#" in path:
            raise Wrong("holds a query", "leave out the ? and what follows; durability has its own key")
        return value
    if scheme == "postgresql" and colon:
        return _postgresql(value)
    # Never the whole value in a message: it may hold a password.
    if scheme in ("postgres", "sqlite") or scheme.startswith(("postgresql+", "sqlite+")):
        raise Wrong(f"is not spelt as it must be: {scheme[:30]}:", _SPELLINGS)
    raise Wrong("is not the address of a database that is known here", _SPELLINGS)


def absolute_store_url(value: str, folder: str) -> str:
    """Give the address with its path made absolute; PostgreSQL's stays as it is."""
    if not value.startswith(SQLITE):
        return value
    return SQLITE + posixpath.normpath(posixpath.join(folder, value.removeprefix(SQLITE)))


def store_path(url: str) -> str:
    """Give the path of an SQLite address, or nothing for another database."""
    return url.removeprefix(SQLITE) if url.startswith(SQLITE) else ""


def without_password(url: str) -> str:
    """Give the address as it may be shown."""
    if not url.startswith(POSTGRESQL):
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query="***" if parts.query else ""))


def _postgresql(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = value.startswith("postgresql://") and parts.path.strip("/") != "" and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise Wrong("is not a whole PostgreSQL address", "write it as in postgresql://user@host/database")
    return value
