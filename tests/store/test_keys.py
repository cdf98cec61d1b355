from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.errors import SchemaMismatch, StoreError
from rtobserver.store import keys, schema, tables
from rtobserver.store import sqlite as store
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from tests.store import stored

NOW = 1_767_225_600_000_000


async def test_a_key_works_at_once_and_is_not_kept(place: Place, reads: Database) -> None:
    text = stored.apart(lambda: keys.create(place, name="laptop", scopes=["read", "control"], now_us=NOW))
    assert re.fullmatch(r"rto_[a-z2-7]{10}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}", text)
    key = await keys.verify(reads, text, now_us=NOW)
    assert key is not None
    assert key.name == "laptop"
    assert key.scopes == {"read", "control"}
    secret = text[15:58].encode()
    kept = stored.select(place, sa.select(tables.api_key)) + stored.select(place, sa.select(tables.audit))
    assert secret not in repr(kept).encode()
    if isinstance(place, Path):
        assert all(secret not in file.read_bytes() for file in place.parent.iterdir())


async def test_a_revoked_key_is_refused_from_the_next_look_on(place: Place, reads: Database) -> None:
    text = stored.apart(lambda: keys.create(place, name="laptop", now_us=NOW))
    [key] = stored.apart(lambda: keys.every(place))
    assert stored.apart(lambda: keys.revoke(place, key.key_id, now_us=NOW + 1))
    assert await keys.verify(reads, text, now_us=NOW + 2) is None
    assert not stored.apart(lambda: keys.revoke(place, key.key_id, now_us=NOW + 3))
    assert stored.apart(lambda: keys.every(place))[0].revoked_at == NOW + 1


async def test_a_key_ends_when_it_expires(place: Place, reads: Database) -> None:
    text = stored.apart(lambda: keys.create(place, name="laptop", expires_at=NOW + 10, now_us=NOW))
    assert await keys.verify(reads, text, now_us=NOW + 9) is not None
    assert await keys.verify(reads, text, now_us=NOW + 10) is None


async def test_nothing_but_the_key_itself_is_let_in(place: Place, reads: Database) -> None:
    text = stored.apart(lambda: keys.create(place, name="laptop", now_us=NOW))
    other = stored.apart(lambda: keys.create(place, name="other", now_us=NOW))
    wrong = [
        "",
        text[:-1],
        text + "0",
        text.upper(),
        text.replace(text[20], "A" if text[20] != "A" else "B"),
        f" {text}",
        text[:15] + other[15:],
        f"rto_{'a' * 10}_{'A' * 43}_00000000",
    ]
    assert [await keys.verify(reads, candidate, now_us=NOW) for candidate in wrong] == [None] * len(wrong)


@pytest.mark.parametrize("scope", keys.SCOPES)
def test_admin_has_every_scope_and_others_only_their_own(place: Place, scope: keys.Scope) -> None:
    keys.create(place, name="a", scopes=[scope], now_us=NOW)
    [key] = keys.every(place)
    assert {other for other in keys.SCOPES if key.allows(other)} == (set(keys.SCOPES) if scope == "admin" else {scope})


def test_the_first_key_makes_the_database(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rtobserver.db"
    keys.create(path, name="first", now_us=NOW)
    schema.check(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [key.name for key in keys.every(path)] == ["first"]
    assert keys.every(path)[0].scopes == {"read"}


def test_listing_and_revoking_make_no_database(tmp_path: Path) -> None:
    path = tmp_path / "rtobserver.db"
    with pytest.raises(StoreError, match="no database"):
        keys.every(path)
    with pytest.raises(StoreError, match="no database"):
        keys.revoke(path, "x", now_us=NOW)
    assert not path.exists()


def test_a_database_of_another_release_is_left_alone(place: Place) -> None:
    set_to = sa.text("UPDATE alembic_version SET version_num = :number")
    stored.visit(place, lambda connection: connection.execute(set_to, {"number": "0000"}))
    try:
        with pytest.raises(SchemaMismatch):
            keys.create(place, name="a", now_us=NOW)
    finally:
        # another test may get this database
        stored.visit(place, lambda connection: connection.execute(set_to, {"number": schema.head()}))


def test_a_key_is_made_and_ended_beside_a_daemon_that_holds_the_file(path: Path) -> None:
    with store.hold(path):
        keys.create(path, name="a", now_us=NOW)
        [key] = keys.every(path)
        assert keys.revoke(path, key.key_id, now_us=NOW)


def test_making_and_ending_keys_is_audited(place: Place) -> None:
    keys.create(place, name="a", now_us=NOW)
    [key] = keys.every(place)
    keys.revoke(place, key.key_id, now_us=NOW + 1)
    rows = stored.select(place, sa.select(tables.audit.c.action, tables.audit.c.object).order_by("audit_id"))
    assert rows == [("keys.create", key.key_id), ("keys.revoke", key.key_id)]
