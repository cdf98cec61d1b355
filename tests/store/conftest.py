from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.store.database import Database
from rtobserver.store.places import Place
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.store.writer import Writer
from rtobserver.store.writing import Writing
from tests.store import stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored.fresh(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give an empty database, each kind in its turn."""
    with stored.lent(request.param, tmp_path) as lent:
        yield lent


@pytest.fixture
async def reads(place: Place) -> AsyncIterator[Database]:
    """Read the `place`."""
    async with stored.reads_of(place) as opened:
        yield opened


@pytest.fixture
async def writing(place: Place, tmp_path: Path) -> AsyncIterator[Writing]:
    """Write to the `place`."""
    async with stored.writing_to(place, tmp_path) as opened:
        yield opened


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
