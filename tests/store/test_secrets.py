from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.errors import StoreUnavailable
from rtobserver.store import database as store
from rtobserver.store import secrets, tables
from rtobserver.store.audit import Audit
from rtobserver.store.writer import Writer


class Deaf:
    """Hear nothing of the flushes."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None:
        """Pass over it."""

    def failing(self, problem: str, tries: int) -> None:
        """Pass over it."""

    def recovered(self) -> None:
        """Pass over it."""


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[Writer]:
    opened = Writer(lambda: store.open_writer(path), flushes=Deaf(), refused=lambda _: None, flush_interval=0.005)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_key_is_made_once_and_stays(writer: Writer) -> None:
    made = await writer.run(lambda transaction: secrets.keep(transaction, secrets.TOKEN_KEY))
    assert len(made) == secrets.KEY_BYTES
    assert await writer.run(lambda transaction: secrets.keep(transaction, secrets.TOKEN_KEY)) == made
    assert await writer.run(lambda transaction: secrets.keep(transaction, secrets.AUDIO_KEY)) != made


async def test_an_audit_row_is_committed_when_record_returns(writer: Writer, path: Path) -> None:
    await Audit(writer, clock=SystemClock()).record(
        action="calls.get", object_="rtc_1", status=200, actor="k", address="127.0.0.1", request_id="req_1"
    )
    with store.transaction(path) as connection:
        [row] = connection.execute(sa.select(tables.audit)).mappings()
    assert (row["action"], row["object"], row["actor"], row["count"]) == ("calls.get", "rtc_1", "k", 1)


async def test_without_a_writer_there_is_no_audit(path: Path) -> None:
    writer = Writer(lambda: store.open_writer(path), flushes=Deaf(), refused=lambda _: None, flush_interval=0.005)
    await writer.open()
    await writer.close()
    with pytest.raises(StoreUnavailable):
        await Audit(writer, clock=SystemClock()).record(action="calls.get", object_="rtc_1", status=200)
