from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.store.database import Database
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.writer import Writer
from tests.store import stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored.fresh(tmp_path)


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with SqliteDatabase(path, clock=SystemClock()) as opened:
        yield opened


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[Writer]:
    opened = stored.writer_of(path)
    await opened.open()
    yield opened
    await opened.close()
