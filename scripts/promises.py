"""Write the figures of a run of the fault cases into docs/promises.md, between its two marks.

Run it as `python scripts/promises.py FIGURES…`; `make faults` does, with those of the last soak if there are any.
Each figure stands there with the day on which it was measured: a soak may be older than the cases beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "promises.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SUMS = (
    *("produced", "stored", "missing", "missing_unexplained", "forgotten", "empty_gaps", "overcounted"),
    *("double_gaps", "false_verdicts"),
    *("dup", "holes", "conflicts", "inversions", "closes_by_us", "gap_s"),
)
WORST = ("gap_overhang_s", "rss", "loop_gap")
BESIDE = {"starved": "loop_gap"}
"""What belongs to the worst of another column."""
PRIORITY = (
    "Where a case times the loop, a restart or a commit (A18, A19, C08, C12, C17, D01), its daemon runs before all else"
    " on the machine (`chrt --rr 1`) if that is allowed: `loop_gap` there is that of a machine of its own."
)
HEADS = ("case", "runs", *SUMS, *WORST, *BESIDE, "measured")


def rows(figures: Path) -> list[dict[str, Any]]:
    """Read what a run has written.

    Raises: ValueError, if a figure does not say when it was measured.
    """
    found = [json.loads(line) for line in figures.read_text().splitlines()]
    if undated := sorted({str(row["case"]) for row in found if not row.get("measured")}):
        raise ValueError(f"{figures.name} does not say when these were measured: {', '.join(undated)}")
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Give one line per case: sums of what is counted, the worst of what is measured."""
    lines = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    for case, of_case in groupby(sorted(found, key=lambda row: str(row["case"])), key=lambda row: str(row["case"])):
        group = list(of_case)
        cells = [case, str(len(group))]
        cells += [_cell(group, name, lambda values: round(sum(values), 3)) for name in SUMS]
        cells += [_cell(group, name, max) for name in WORST]
        cells += [_cell(_worst(group, of), name, max) for name, of in BESIDE.items()]
        cells.append(" ".join(sorted({row["measured"] for row in group})))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _worst(group: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return sorted((row for row in group if name in row), key=lambda row: float(row[name]))[-1:]


def _cell(group: list[dict[str, Any]], name: str, fold: Callable[[list[float]], float]) -> str:
    """Fold a column; a run from before there was that figure leaves its case without one."""
    values = [row[name] for row in group if name in row]
    return f"{fold(values):.10g}" if values and len(values) == len(group) else "none"


def own(found: list[dict[str, Any]]) -> str:
    """Give what cases measured beyond the common figures."""
    lines = []
    for row in found:
        more = {name: value for name, value in row["more"].items() if name != "point" and value is not None}
        if more:
            told = ", ".join(f"{name} {_short(value)}{_limits(row, name)}" for name, value in more.items())
            variant = f" ({row['variant']})" if row["variant"] else ""
            lines.append(f"- {row['case']}{variant}, {row['measured']}: {told}")
    return "\n".join(lines)


def _limits(row: dict[str, Any], name: str) -> str:
    """Say what the case demands of a figure; a run from before that was told says nothing."""
    words = (
        f"at {which} {limit:g}" for which in ("most", "least") if (limit := row.get(which, {}).get(name)) is not None
    )
    told = ", ".join(words)
    return f" ({told})" if told else ""


def written(page: str, found: list[dict[str, Any]]) -> str:
    """Put the figures between the marks of a page.

    Raises: ValueError, if it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no marks to write between")
    machine = f"{os.cpu_count()} processors, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    unit = "`rss` in MiB, `loop_gap` and `starved` in ms, `none` where the run is older than the column"
    text = f"Measured on {machine}; {unit}.\n{PRIORITY}\n\n{table(found)}\n\nBeside these:\n\n{own(found)}"
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {each}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, nargs="+")
    found = [row for figures in parser.parse_args().figures for row in rows(figures)]
    PAGE.write_text(written(PAGE.read_text(), found))
    print(f"{PAGE.name}: {len(found)} rows")


if __name__ == "__main__":
    main()
