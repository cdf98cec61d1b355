"""The page of promises names tests that there are, and takes the figures of a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import promises

pytestmark = [pytest.mark.faults, pytest.mark.quarter]

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "promises.md"
ROW = {
    **dict.fromkeys([*promises.SUMS, *promises.WORST], 1),
    "case": "A01",
    "variant": "once",
    "more": {"t_recover_s": 0.5, "codes": {"a": 1001}, "gaps": [1, 2], "point": "", "nothing": None},
}


def test_each_promise_is_shown_by_a_test_that_there_is() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text())
    assert len(named) > 20
    for path, name in named:
        assert not name or f"def {name}(" in (TOP / path).read_text(), name


def test_figures_are_written_between_the_marks_and_nowhere_else() -> None:
    page = promises.written(PAGE.read_text(), [ROW, {**ROW, "variant": "again"}])
    before, _, rest = page.partition(promises.BEGIN)
    figures, _, after = rest.partition(promises.END)
    assert (before + after) == re.sub(f"{promises.BEGIN}.*{promises.END}", "", PAGE.read_text(), flags=re.DOTALL)
    assert "| A01 | 2 | 2 |" in figures
    assert "- A01 (once): t_recover_s 0.5, codes a: 1001, gaps 1 2" in figures
    assert promises.written(page, [ROW, {**ROW, "variant": "again"}]) == page


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        promises.written("nothing here", [ROW])
