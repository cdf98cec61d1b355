"""What is shed for want of room on the disk is told apart from what is shed for want of memory."""

from __future__ import annotations

from rtobserver.observation.ledger import Ledger
from rtobserver.realtime.entries import GapRow, Record
from rtobserver.realtime.holes import Loss

NOW = 1_767_225_600_000_000


def _ledger() -> Ledger:
    return Ledger(epoch=1, started_at=NOW, at=NOW, mono=0.0)


def test_a_gap_of_the_disk_begins_with_the_first_frame_that_is_lost() -> None:
    ledger = _ledger()
    ledger.seq += 1
    record, gap = ledger.shed("response.output_text.delta", NOW + 5, 0.1, "disk")
    assert isinstance(record, Record)
    assert isinstance(gap, GapRow)
    assert (gap.reason, gap.state, gap.from_at, gap.after) == ("disk", "open", NOW + 5, None)
    assert gap.lost_by_type == {"response.output_text.delta": 1}


def test_another_reason_is_another_gap_and_each_counts_its_own() -> None:
    ledger = _ledger()
    told: list[object] = []
    for reason in ("shed", "shed", "disk", "disk", "disk", "shed"):
        ledger.seq += 1
        told += ledger.shed("rate_limits.updated", NOW, 0.1, reason)
    told += ledger.end_shedding()
    gaps = {id(row): row for row in told if isinstance(row, GapRow)}
    assert [(gap.reason, gap.lost, gap.state) for gap in gaps.values()] == [
        ("shed", 2, "bounded"),
        ("disk", 3, "bounded"),
        ("shed", 1, "bounded"),
    ]


def test_what_a_damaged_file_has_lost_is_a_gap_between_what_is_left() -> None:
    ledger = _ledger()
    for _ in range(7):
        ledger.seq += 1
    _, gap = ledger.damaged(Loss(5, NOW + 3, NOW + 6, "1:2"), NOW, NOW + 9, 0.1)
    assert isinstance(gap, GapRow)
    assert (gap.reason, gap.lost, gap.from_at, gap.to_at, gap.after) == ("corrupt", 5, NOW + 3, NOW + 6, "1:2")
    assert ledger.gaps.count == 1


def test_what_is_lost_before_the_first_entry_begins_with_the_call() -> None:
    _, gap = _ledger().damaged(Loss(2, None, NOW + 6, None), NOW, NOW + 9, 0.1)
    assert isinstance(gap, GapRow)
    assert (gap.from_at, gap.to_at, gap.after) == (NOW, NOW + 6, None)


def test_a_gap_of_what_was_shed_ends_with_the_last_of_it_however_late_that_is_known() -> None:
    ledger = _ledger()
    for at in (NOW + 5, NOW + 7):
        ledger.seq += 1
        ledger.shed("response.output_text.delta", at, (at - NOW) / 1e6, "shed")
    [gap] = ledger.end_shedding()
    assert isinstance(gap, GapRow)
    assert (gap.from_at, gap.to_at, gap.lost, gap.state) == (NOW + 5, NOW + 7, 2, "bounded")
    assert ledger.end_shedding() == []
