"""What an earlier run left is folded again, and what it was losing is counted by the holes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.observation.restoration import restore
from rtobserver.realtime.call import CallState
from rtobserver.realtime.entries import GapRow
from rtobserver.realtime.shedding import DELTA
from rtobserver.recorder import Bounds, Recorder
from rtobserver.store.database import Database
from tests.observation.play import Play
from tests.store import stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored.fresh(tmp_path)


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with Database(path, clock=SystemClock()) as opened:
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
