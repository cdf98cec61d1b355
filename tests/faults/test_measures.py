"""What measures a case: how late something is committed, what a death has cost, the limits that are shown."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import oracle
from tests.faults.figures import Figures
from tests.faults.oracle import Json, Record
from tests.faults.table import Case
from tests.faults.test_harness import BEGAN, entry, frame, sound, time, written
from tests.faults.test_load import Lags
from tests.support.stage import Entry

pytestmark = [pytest.mark.faults, pytest.mark.quarter]


def test_of_some_calls_a_ledger_says_what_it_says_of_all(tmp_path: Path) -> None:
    path = written(tmp_path / "l")
    other = path.read_text().replace("rtc_1", "rtc_12")
    path.write_text(path.read_text() + other)
    everything = oracle.read_ledger(path)
    assert oracle.read_ledger(path, ["rtc_12"]) == {"rtc_12": everything["rtc_12"]}
    assert set(everything) == {"rtc_1", "rtc_12"}


def test_who_looks_from_outside_sees_a_disk_that_stood_still(tmp_path: Path) -> None:
    entries, _ = sound()
    [told] = oracle.read_ledger(written(tmp_path / "l")).values()
    # one flush after each event, but for the second and third, which wait for the fourth's and beyond
    looks = [(0.5, 0), (1.1, 1), (2.1, 1), (3.1, 1), (4.9, 4), (8.1, 6), (9.1, 7), (12.0, 7)]
    path = tmp_path / "looks"
    path.write_text("".join(json.dumps([BEGAN + at, {"rtc_1": [1, seq]}]) + "\n" for at, seq in looks) + "[1, {")
    found = [round(each, 1) for each in Lags(path).of(told, entries)]
    # the last event was never seen: it is as late as the last look at least
    assert found == [0.1, 2.9, 1.9, 0.9, 0.1, 0.1, 2.0]


def show(figures: Figures, **more: Any) -> None:
    node = SimpleNamespace(name="a_case", user_properties=[])
    Case(SimpleNamespace(node=node), "A99").show(figures, **more)  # type: ignore[arg-type]


def test_a_case_is_held_to_the_limits_that_it_shows(tmp_path: Path) -> None:
    entries, gaps = sound()
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    figures = oracle.verify(told, {"rtc_1": Record(entries, gaps)}, rss=1, loop_gap=2)
    show(figures, most={"lag": 5}, least={"rate": 9}, lag=5, rate=9)
    for wrong in ({"lag": 6, "rate": 9}, {"lag": 5, "rate": 8}):
        with pytest.raises(AssertionError, match=r"'(lag|rate)'"):
            show(figures, most={"lag": 5}, least={"rate": 9}, **wrong)


def died(path: Path, stored: int) -> tuple[oracle.Told, list[Entry], list[Json]]:
    """Give that call as if the daemon had been killed at 4.5, and a record with so many of the first four events."""
    entries = [entry(seq, "event", frame(seq), event_id=f"event_{seq}") for seq in range(1, stored + 1)]
    entries.append(entry(stored + 1, "gap", b"{}"))
    entries += [entry(seq, "event", frame(seq), event_id=f"event_{seq}") for seq in range(8, 11)]
    gap = {"reason": "takeover", "from": time(stored + 0.1), "to": time(7.5), "lost": None, "epoch": 1}
    [told] = oracle.read_ledger(written(path)).values()
    return told, entries, [gap]


@pytest.mark.parametrize(
    ("stored", "begins", "overhang"),
    [
        pytest.param(1, 1.1, 0.9, id="nothing behind the first"),
        pytest.param(3, 3.1, 0.9, id="the last one lost"),
        pytest.param(4, 4.1, 0.4, id="nothing lost"),
        pytest.param(4, 1.0, 3.5, id="too wide"),
    ],
)
def test_a_gap_of_a_killed_daemon_may_begin_with_what_was_lost(
    tmp_path: Path, stored: int, begins: float, overhang: float
) -> None:
    told, entries, gaps = died(tmp_path / "l", stored)
    gaps[0]["from"] = time(begins)
    record = {"rtc_1": Record(entries, gaps)}
    figures = oracle.verify([told], record, rss=0, loop_gap=0, deaths=[(BEGAN + 4.45, BEGAN + 4.5)])
    assert figures.gap_overhang_s == pytest.approx(overhang, abs=0.01)
    if stored < 4:
        # who was not killed has lost nothing by it
        assert oracle.verify([told], record, rss=0, loop_gap=0).gap_overhang_s > overhang


def test_one_writer_has_lost_for_a_quiet_call_as_long_as_for_one_that_spoke(tmp_path: Path) -> None:
    loud, entries, gaps = died(tmp_path / "l", 1)
    quiet_ledger = tmp_path / "q"
    lines = [json.loads(line) for line in written(quiet_ledger).read_text().splitlines()]
    kept = [line | {"call_id": "rtc_2"} for line in lines if line["kind"] != "event"]
    quiet_ledger.write_text("".join(json.dumps(line) + "\n" for line in kept))
    [quiet] = oracle.read_ledger(quiet_ledger).values()
    gap = {"reason": "takeover", "from": time(1.5), "to": time(7.5), "lost": None, "epoch": 1}
    records = {"rtc_1": Record(entries, gaps), "rtc_2": Record([entry(1, "gap", b"{}")], [gap])}
    deaths = [(BEGAN + 4.45, BEGAN + 4.5)]
    assert oracle.verify([quiet, loud], records, rss=0, loop_gap=0, deaths=deaths).gap_overhang_s == pytest.approx(0.9)
    alone = oracle.verify([quiet], {"rtc_2": records["rtc_2"]}, rss=0, loop_gap=0, deaths=deaths)
    assert alone.gap_overhang_s == pytest.approx(3.0)
