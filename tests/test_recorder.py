"""Recording is bounded: pressure rises class by class, and only while the database is behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.metrics import Metrics
from rtobserver.realtime import shedding
from rtobserver.realtime.entries import EVENT, JSON, Changed, CommandRow, GapRow, Record, Rows, Sums
from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals, Usage
from rtobserver.recorder import Bounds, FlushReport, Recorder
from rtobserver.store import sqlite, tables
from rtobserver.store.identity import CallRef
from rtobserver.store.sqlite import transaction
from rtobserver.store.writer import Writer
from tests.store import stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored.fresh(tmp_path)


def _writer(path: Path, interval: float = 0.01) -> Writer:
    report = FlushReport(Metrics(), SystemClock())
    return Writer(lambda: sqlite.open_writer(path), flushes=report, refused=lambda _: None, flush_interval=interval)


def _record(seq: int, payload: bytes) -> Record:
    return Record(1, seq, EVENT, stored.START + seq, seq, "t", None, payload, JSON)


async def test_pressure_rises_class_by_class_as_the_bound_comes_nearer(path: Path) -> None:
    # an hour between flushes: nothing is written while this looks
    writer = _writer(path, interval=3600.0)
    await writer.open()
    recorder = Recorder(writer, bounds=Bounds(total=100_000, per_call=1_000_000))
    ref, seen = stored.ref("rtc_a"), []
    for seq in range(1, 12):
        seen.append(recorder.pressure(ref))
        recorder.record(ref, _record(seq, b"x" * 10_000))
    await writer.close()
    assert seen == [
        0, 0, 0, 0, 0, shedding.DELTA, shedding.RATE_LIMITS, shedding.BUFFER_MARK, shedding.BUFFER_MARK,
        shedding.OTHER, shedding.KEPT,
    ]  # fmt: skip
    assert recorder.pressure(ref) == 0, "what is committed presses no more"


async def test_one_flooding_call_presses_on_itself_only(path: Path) -> None:
    writer = _writer(path, interval=3600.0)
    await writer.open()
    recorder = Recorder(writer, bounds=Bounds(total=1_000_000, per_call=10_000))
    flood, calm = stored.ref("rtc_flood"), stored.ref("rtc_calm")
    recorder.record(flood, _record(1, b"x" * 6_000))
    assert recorder.pressure(flood) == shedding.RATE_LIMITS
    assert recorder.pressure(calm) == 0
    await writer.close()


async def test_everything_that_is_recorded_is_there_to_be_read(path: Path) -> None:
    ref = CallRef("rtc_a", 20_000)
    with transaction(path) as connection:
        connection.execute(tables.call.insert(), stored.call("rtc_a") | {"day": ref.day})
    writer = _writer(path)
    await writer.open()
    recorder = Recorder(writer, bounds=Bounds())
    recorder.record(ref, _record(1, b'{"type":"t"}'))
    item = ItemRow(item_id="i", epoch=1, seq=1, role="user", kind="speech", text="hello")
    response = ResponseRow(response_id="r", epoch=1, seq=1, usage=Usage(input_tokens=3))
    recorder.record(ref, Rows((item,), (response,)))
    recorder.record(ref, GapRow(1, 2, 5, "shed", "1:1", lost=2, lost_by_type={"a": 2}))
    recorder.record(ref, CommandRow(1, 3, "rto_1_3", "hangup", "system", "sent", 7))
    recorder.record(ref, Sums(Totals(turn_count=4), entry_count=9, gap_count=1))
    recorder.record(ref, Changed({"status": "ended", "checks": {"counts": {"t": 1}}}))
    await writer.close()
    with sqlite3.connect(path) as connection:
        for table in ("entry", "item", "response", "gap", "command"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
        columns = "status, turn_count, entry_count, gap_count, checks"
        row = connection.execute(f"SELECT {columns} FROM call").fetchone()
    assert row == ("ended", 4, 9, 1, '{"counts": {"t": 1}}')


def test_the_report_says_once_that_the_database_refuses_and_when_it_takes_rows_again() -> None:
    report = FlushReport(Metrics(), SystemClock())
    report.failing("disk full", 1, "full")
    since = report.failing_since
    report.failing("disk full", 2, "full")
    assert since is not None
    assert report.failing_since == since
    report.recovered()
    assert report.failing_since is None


async def test_a_full_disk_sheds_what_may_be_shed_before_anything_waits(path: Path) -> None:
    report = FlushReport(Metrics(), SystemClock())
    writer = Writer(lambda: sqlite.open_writer(path), flushes=report, refused=lambda _: None, path=path)
    await writer.open()
    recorder, ref = Recorder(writer, bounds=Bounds()), stored.ref("rtc_a")
    assert recorder.pressure(ref) == 0
    care = writer.recovery.care
    assert care is not None
    care.short = True
    # the writer looks at the disk after a second, and finds room
    pressure, reasons = recorder.pressure(ref), report.reasons(writer.recovery)
    await writer.close()
    assert shedding.reason(pressure) == "disk"
    given_up = {type_ for type_ in TYPES if shedding.gives_up(type_, pressure)}
    assert given_up == {"response.output_text.delta", "rate_limits.updated", "input_audio_buffer.speech_started"}
    assert list(reasons) == ["the disk is full; only what must not be lost is recorded"]


TYPES = (
    "response.output_text.delta", "rate_limits.updated", "input_audio_buffer.speech_started", "response.done",
    "session.created", "error", "response.output_text.done", "conversation.item.created", "something.new",
)  # fmt: skip
