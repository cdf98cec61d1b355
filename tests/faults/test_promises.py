"""The page of promises names tests that there are, and takes the figures of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts import promises
from tests.faults import oracle
from tests.faults.figures import Figures
from tests.faults.table import OVERHANG
from tests.faults.test_kills import LOST, RECOVERY, SHARED
from tests.faults.test_load import LAG, LAG_ALONE, LEFT, LOOP_GAP

pytestmark = [pytest.mark.faults, pytest.mark.quarter]

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "promises.md"
ROW = {
    **dict.fromkeys([*promises.SUMS, *promises.WORST, *promises.BESIDE], 1),
    "measured": "2026-11-23",
    "case": "A01",
    "variant": "once",
    "most": {"t_recover_s": 3.0},
    "least": {"rate": 18000.0},
    "more": {"rate": 19000, "t_recover_s": 0.5, "codes": {"a": 1001}, "gaps": [1, 2], "point": "", "nothing": None},
}


def test_each_promise_is_shown_by_a_test_that_there_is() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text())
    assert len(named) > 20
    for path, name in named:
        assert not name or f"def {name}(" in (TOP / path).read_text(), name


@pytest.mark.parametrize(
    ("promise", "limits"),
    [
        ("Gaps are tight", f"{OVERHANG:g} s longer than the outage, per gap"),
        (
            "A restarted daemon observes its calls again",
            f"{RECOVERY:g} s from its start, {RECOVERY + SHARED:g} s beside other cases on two processors",
        ),
        ("A killed daemon loses nothing that was committed", f"more than {LOST:g} s before the kill"),
        ("An event is in the database soon", f"within {LAG_ALONE:g} s; beside other cases {LAG:g} s"),
        ("Calls that have ended leave no task", f"{LEFT} more than before the first one"),
        ("A call that floods costs", f"committed within {LAG:g} s; the loop turns every {LOOP_GAP:g} ms"),
    ],
)
def test_a_limit_on_the_page_is_the_one_that_the_tests_hold(promise: str, limits: str) -> None:
    [line] = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {promise}")]
    assert limits in line


def test_each_column_of_the_figures_has_its_meaning_on_the_page() -> None:
    _, _, told = PAGE.read_text().partition("| Column | Meaning |")
    named = set(re.findall(r"`(\w+)`", told.partition(promises.BEGIN)[0]))
    assert set(promises.HEADS) - named == {"case", "runs"}


def test_each_excuse_for_a_forgotten_call_is_among_what_is_not_promised() -> None:
    _, _, rest = PAGE.read_text().partition("## What is not promised")
    told = " ".join(rest.partition("##")[0].split())
    assert [words for words in oracle.EXCUSES.values() if words not in told] == []


def test_figures_are_written_between_the_marks_and_nowhere_else() -> None:
    page = promises.written(PAGE.read_text(), [ROW, {**ROW, "variant": "again"}])
    before, _, rest = page.partition(promises.BEGIN)
    figures, _, after = rest.partition(promises.END)
    assert (before + after) == re.sub(f"{promises.BEGIN}.*{promises.END}", "", PAGE.read_text(), flags=re.DOTALL)
    assert "| A01 | 2 | 2 |" in figures
    assert "`chrt --rr 1`" in figures
    assert (
        "- A01 (once), 2026-11-23: rate 19000 (at least 18000), t_recover_s 0.5 (at most 3), codes a: 1001, gaps 1 2"
        in figures
    )
    assert promises.written(page, [ROW, {**ROW, "variant": "again"}]) == page


def test_the_page_has_every_figure_that_a_case_gives_and_the_days_on_which_they_were_measured() -> None:
    assert {*promises.SUMS, *promises.WORST, *promises.BESIDE} == set(Figures.__dataclass_fields__)
    older = {**ROW, "loop_gap": 3, "starved": 2, "measured": "2026-11-20", "gap_s": 0.25}
    [line] = [line for line in promises.table([ROW, older]).splitlines() if line.startswith("| A01")]
    assert line.endswith("| 1.25 | 1 | 1 | 3 | 2 | 2026-11-20 2026-11-23 |")


def test_a_case_of_which_a_row_lacks_a_figure_shows_none() -> None:
    older = {name: value for name, value in ROW.items() if name not in ("forgotten", "loop_gap")}
    [line] = [line for line in promises.table([ROW, older]).splitlines() if line.startswith("| A01")]
    assert line.count("| none |") == 2


def test_a_figure_of_which_nobody_knows_when_it_was_measured_is_refused(tmp_path: Path) -> None:
    figures = tmp_path / "figures.ndjson"
    figures.write_text(json.dumps({**ROW, "measured": None}) + "\n")
    with pytest.raises(ValueError, match="when these were measured: A01"):
        promises.rows(figures)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        promises.written("nothing here", [ROW])
