from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.errors import StoreUnavailable
from rtobserver.store import sqlite as store
from rtobserver.store import tables
from rtobserver.store.audit import Audit
from rtobserver.store.places import Place
from rtobserver.store.writer import Writer
from rtobserver.store.writing import Writing
from tests.store import stored


async def test_an_audit_row_is_committed_when_record_returns(writing: Writing, place: Place) -> None:
    await Audit(writing, clock=SystemClock()).record(
        action="calls.get", object_="rtc_1", status=200, actor="k", address="127.0.0.1", request_id="req_1"
    )
    columns = tables.audit.c
    rows = stored.select(place, sa.select(columns.action, columns.object, columns.actor, columns.count))
    assert rows == [("calls.get", "rtc_1", "k", 1)]


async def test_without_a_writer_there_is_no_audit(path: Path) -> None:
    writer = stored.writer_of(path)
    await writer.open()
    await writer.close()
    with pytest.raises(StoreUnavailable):
        await Audit(writer, clock=SystemClock()).record(action="calls.get", object_="rtc_1", status=200)


async def test_while_the_database_is_locked_there_is_no_audit(writer: Writer, path: Path) -> None:
    holder = store.open_writer(path)
    holder.execute("BEGIN IMMEDIATE")
    audit = Audit(writer, clock=SystemClock(), patience=0.05)
    with pytest.raises(StoreUnavailable, match="in time"):
        await audit.record(action="calls.get", object_="rtc_1", status=200)
    holder.execute("ROLLBACK")
    holder.close()
    await Audit(writer, clock=SystemClock()).record(action="calls.get", object_="rtc_2", status=200)


async def test_while_it_is_known_that_the_database_refuses_nobody_waits_long(writer: Writer, path: Path) -> None:
    holder = store.open_writer(path)
    holder.execute("BEGIN IMMEDIATE")
    audit = Audit(writer, clock=SystemClock(), patience=60, is_refused=lambda: True)
    with pytest.raises(StoreUnavailable, match="in time"):
        await audit.record(action="calls.get", object_="rtc_1", status=200)
    holder.execute("ROLLBACK")
    holder.close()
    await audit.record(action="calls.get", object_="rtc_2", status=200)
