"""Numbers without an entry, and which of them no gap counts."""

from __future__ import annotations

from rtobserver.realtime.holes import Counted, Loss, Run, fewest, undeclared

RUN = Run(epoch=1, first=4, lost=3, from_at=100, to_at=200)


def test_what_no_gap_counts_lies_between_its_neighbours() -> None:
    assert undeclared([RUN], []) == [Loss(3, 100, 200, "1:3")]


def test_what_begins_an_epoch_comes_behind_nothing_of_it() -> None:
    assert undeclared([Run(1, 1, 2, None, 50)], []) == [Loss(2, None, 50, None)]


def test_a_gap_accounts_for_as_many_as_it_counts() -> None:
    shed = Counted(1, 110, 190, "shed", 2)
    assert undeclared([RUN], [shed]) == [Loss(1, 100, 200, "1:3")]
    assert undeclared([RUN], [shed, shed]) == []


def test_a_gap_accounts_for_runs_in_between_of_which_frames_were_kept() -> None:
    runs = [Run(1, 2 * n, 1, 100 + 10 * n, 110 + 10 * n) for n in range(1, 6)]
    assert undeclared(runs, [Counted(1, 120, None, "disk", 5)]) == []


def test_a_gap_of_another_time_epoch_or_reason_accounts_for_nothing() -> None:
    others = [
        Counted(1, 300, 400, "shed", 9),
        Counted(2, 100, 200, "shed", 9),
        Counted(1, 100, 200, "takeover", 9),
        Counted(1, 100, 200, "shed", None),
    ]
    assert undeclared([RUN], others) == [Loss(3, 100, 200, "1:3")]


def test_damage_that_was_declared_in_a_later_epoch_is_not_declared_again() -> None:
    assert undeclared([RUN], [Counted(7, 100, 200, "corrupt", 3)]) == []


def test_a_clock_that_was_set_back_meanwhile_changes_nothing() -> None:
    back = Run(1, 4, 3, from_at=5_000, to_at=200)
    assert undeclared([back], [Counted(1, 5_100, 5_100, "shed", 3)]) == [Loss(3, 5_000, 200, "1:3")]
    assert undeclared([back], [Counted(1, 4_000, 5_000, "shed", 3)]) == []


def test_many_losses_share_the_last_gap() -> None:
    losses = [Loss(1, at, at + 5, f"1:{at}") for at in range(0, 100, 10)]
    assert fewest(losses, 3) == [*losses[:2], Loss(8, 20, 95, "1:20")]
    assert fewest(losses, 10) == losses
