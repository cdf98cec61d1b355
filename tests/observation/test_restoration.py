"""What an earlier run left is folded again, and what it was losing is counted by the holes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.observation.plan import Resumption
from rtobserver.observation.restoration import restore
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import GapRow
from rtobserver.realtime.holes import Loss
from rtobserver.realtime.shedding import DELTA
from rtobserver.recorder import Bounds, Recorder
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.sqlite import SqliteDatabase
from tests.observation.play import START, Play
from tests.store import stored

LOSS = Loss(2, START - 2_000, START - 1_000, "1:6")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored.fresh(tmp_path)


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with SqliteDatabase(path, clock=SystemClock()) as opened:
        yield opened


async def test_a_process_that_died_while_it_shed_frames_left_holes_that_its_gap_counts_later(
    path: Path, database: Database
) -> None:
    play = Play()
    play.attach()
    for number in range(5):
        play.frame({"type": "response.output_text.delta", "delta": "x"}, pressure=DELTA)
        play.frame({"type": "response.done", "response": {"id": f"r{number}"}}, pressure=DELTA)
    ref = stored.ref("rtc_a")
    writer = stored.writer_of(path)
    await writer.open()
    recorder = Recorder(writer, bounds=Bounds())
    for effect in play.all:
        # rows are written as they were when the effect came; the gap's was written once, at the first frame
        if isinstance(effect, GapRow) and effect.reason == "shed":
            effect = GapRow(effect.epoch, effect.seq, effect.from_at, "shed", effect.after, lost=1,
                            lost_by_type={"response.output_text.delta": 1})  # fmt: skip
        recorder.record(ref, effect)  # type: ignore[arg-type]
    await writer.close()
    restored = await restore(database, ref, CallState())
    [gap] = [gap for gap in restored.gaps if gap.reason == "shed"]
    seqs = {record.seq for record in play.records}
    assert gap.lost == len(set(range(1, play.machine.ledger.seq + 1)) - seqs) == 5
    assert gap.lost_by_type == {"response.output_text.delta": 1, "(unknown)": 4}


async def test_what_an_earlier_run_could_not_declare_any_more_is_declared_where_it_was(
    path: Path, database: Database
) -> None:
    rows = [stored.entry("rtc_a", seq) for seq in (1, 2, 5, 6, 9)]
    stored.insert(path, tables.entry, *rows)
    gap = {"epoch": 1, "seq": 10, "reason": "corrupt", "state": "bounded", "counted": True, "after": "1:2"}
    times = {"from_at": rows[1]["at"], "to_at": rows[2]["at"], "lost": 2, "lost_by_type": "{}"}
    stored.insert(path, tables.gap, {"call_key": rows[0]["call_key"], "day": rows[0]["day"], **gap, **times})
    restored = await restore(database, stored.ref("rtc_a"), CallState())
    assert restored.losses == (Loss(2, rows[3]["at"], rows[4]["at"], "1:6"),)


def test_a_run_that_takes_over_declares_what_is_not_there() -> None:
    play = Play(resumption=Resumption(watermark=START, last_position="1:9", was_live=True, losses=(LOSS,)))
    [first, second] = [effect for effect in play.all if isinstance(effect, GapRow)][:2]
    assert (first.reason, first.lost, first.from_at, first.to_at, first.after) == (
        "corrupt", 2, LOSS.from_at, LOSS.to_at, "1:6",
    )  # fmt: skip
    assert second.reason == "takeover"
