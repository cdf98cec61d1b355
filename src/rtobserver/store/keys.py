"""The operators' keys: made, listed and revoked beside a running daemon, verified by it.

`create` and `revoke` are the only writes to the file by another process than the daemon: each is
one short transaction that waits its turn. The key itself is shown once and never stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import sqlalchemy as sa

from rtobserver.errors import SchemaMismatch, StoreError
from rtobserver.store import audit, schema, tables
from rtobserver.store.database import Database
from rtobserver.store.places import Place

Scope = Literal["read", "export", "metrics", "control", "erase", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: tuple[Scope, ...] = ("read",)
USES_LOOKED_AT = 10_000
"""Rows of the audit, newest first, among which a key's last use is looked for: it has no index of actors."""

# the secret's own alphabet has an underscore: parts are told by their lengths
_FORM = re.compile(r"(rto_([a-z2-7]{10})_[A-Za-z0-9_-]{43})_([0-9a-f]{8})")

_table = tables.api_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Be what is kept of a key; times are microseconds since 1970."""

    key_id: str
    name: str
    scopes: frozenset[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    def is_good(self, now_us: int) -> bool:
        """Tell whether it may be used now."""
        return self.revoked_at is None and (self.expires_at is None or now_us < self.expires_at)

    def allows(self, scope: Scope) -> bool:
        """Tell whether it is good for a scope; `admin` has all the others."""
        return scope in self.scopes or "admin" in self.scopes


def create(
    place: Place,
    *,
    name: str,
    scopes: Collection[Scope] = DEFAULT_SCOPES,
    expires_at: int | None = None,
    now_us: int,
) -> str:
    """Make a key and give it, for the only time; makes the database if there is none.

    Raises:
        SchemaMismatch: the database is of another release.
        StoreUnavailable: it stayed locked.

    """
    key_id = base64.b32encode(os.urandom(10)).decode().lower()[:10]
    text = _with_checksum(f"rto_{key_id}_{base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip('=')}")
    if schema.visit(place, schema.current) is None:
        schema.migrate(place)

    def work(connection: sa.Connection) -> None:
        _check_schema(connection, place)
        connection.execute(
            _table.insert().values(
                key_id=key_id,
                name=name,
                digest=_digest(text),
                scopes=json.dumps(sorted(scopes)),
                created_at=now_us,
                expires_at=expires_at,
            )
        )
        connection.execute(audit.insertion(now_us, action="keys.create", object_=key_id, status=200))

    schema.visit(place, work)
    return text


def every(place: Place) -> list[Key]:
    """List all keys, oldest first, those that are no longer good included.

    Raises:
        StoreError: there is no database.
        SchemaMismatch: the database is of another release.

    """
    _check_file(place)

    def work(connection: sa.Connection) -> list[Key]:
        _check_schema(connection, place)
        rows = connection.execute(sa.select(_table).order_by(_table.c.created_at, _table.c.key_id)).mappings()
        return [_key_of(row) for row in rows]

    return schema.visit(place, work)


async def listed(database: Database) -> list[tuple[Key, int | None]]:
    """List all keys, oldest first, each with the time of its last use where the newest rows of the audit have one.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    columns = tables.audit.c
    newest = sa.select(columns.actor, columns.at).order_by(columns.audit_id.desc()).limit(USES_LOOKED_AT).subquery()
    used = sa.select(newest.c.actor, sa.func.max(newest.c.at)).group_by(newest.c.actor)
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(_table).order_by(_table.c.created_at, _table.c.key_id))).mappings()
        uses = {str(row[0]): int(row[1]) for row in await connection.execute(used)}
        return [(key, uses.get(key.key_id)) for key in map(_key_of, rows)]


def revoke(place: Place, key_id: str, *, now_us: int) -> bool:
    """End a key; a running daemon refuses it from its next request on. False where no good key has this id.

    Raises:
        StoreError: there is no database.
        SchemaMismatch: the database is of another release.

    """
    _check_file(place)
    statement = _table.update().where(_table.c.key_id == key_id, _table.c.revoked_at.is_(None))

    def work(connection: sa.Connection) -> bool:
        _check_schema(connection, place)
        done = connection.execute(statement.values(revoked_at=now_us)).rowcount > 0
        if done:
            connection.execute(audit.insertion(now_us, action="keys.revoke", object_=key_id, status=200))
        return done

    return schema.visit(place, work)


async def verify(database: Database, text: str, *, now_us: int) -> Key | None:
    """Find the key that somebody presents; None unless it is one of ours and good now.

    Reads the database each time, so that a revocation is seen at once.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    match = _FORM.fullmatch(text)
    if match is None or text != _with_checksum(match[1]):
        return None
    async with database.reading() as connection:
        row = (await connection.execute(sa.select(_table).where(_table.c.key_id == match[2]))).mappings().first()
    if row is None or not hmac.compare_digest(bytes(row["digest"]), _digest(text)):
        return None
    key = _key_of(row)
    return key if key.is_good(now_us) else None


async def find(database: Database, key_id: str, *, now_us: int) -> Key | None:
    """Find the key of an id; None unless it is good now. For whoever has shown the key itself before.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        row = (await connection.execute(sa.select(_table).where(_table.c.key_id == key_id))).mappings().first()
    key = None if row is None else _key_of(row)
    return key if key is not None and key.is_good(now_us) else None


async def good(database: Database, key_ids: Collection[str], *, now_us: int) -> set[str]:
    """Say which of some keys are good now.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    async with database.reading() as connection:
        rows = (await connection.execute(sa.select(_table).where(_table.c.key_id.in_(key_ids)))).mappings().all()
    return {row["key_id"] for row in rows if _key_of(row).is_good(now_us)}


def _with_checksum(text: str) -> str:
    # lets a scanner for leaked keys, and us, tell a typo without asking the database
    return f"{text}_{zlib.crc32(text.encode()):08x}"


def _digest(text: str) -> bytes:
    # 256 random bits cannot be guessed, so a slow hash would only slow down each request
    return hashlib.sha256(text.encode()).digest()


def _check_file(place: Place) -> None:
    if isinstance(place, Path) and not place.is_file():
        raise StoreError(f"there is no database at {place} yet")


def _check_schema(connection: sa.Connection, place: Place) -> None:
    found, needed = schema.current(connection), schema.head()
    if not schema.fits(found, needed, place):
        raise SchemaMismatch(found, needed)


def _key_of(row: sa.RowMapping) -> Key:
    values: dict[str, Any] = {name: row[name] for name in Key.__slots__}
    return Key(**values | {"scopes": frozenset(json.loads(values["scopes"]))})
