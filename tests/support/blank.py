"""A database without a call in it, made once in a process: its migrations would take most of a test's time."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from rtobserver.clock import SystemClock
from rtobserver.store import keys, schema


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blank.db"
        schema.migrate(path)
        return path.read_bytes()


@functools.cache
def _with_a_key() -> tuple[bytes, str]:
    scopes: tuple[keys.Scope, ...] = ("admin",)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blank.db"
        path.write_bytes(_migrated())
        key = keys.create(path, name="test", scopes=scopes, now_us=SystemClock().now_us())
        return path.read_bytes(), key


def migrated(path: Path) -> None:
    """Put an empty database at a path, where there is nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_migrated())


def with_a_key(path: Path) -> str:
    """Put a database with one key for everything at a path, unless there is one already; gives the key."""
    content, key = _with_a_key()
    if not path.exists():
        path.write_bytes(content)
    return key
