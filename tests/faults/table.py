"""A pytest plugin: a case must give its figures, and the run ends with a table of all of them.

A plain run has a quarter of the cases, `-m faults` all but those that take long, `-m soak` these.
`--figures FILE` keeps them as JSON lines; `--whole` fails a run in which a case did not take place.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.faults.figures import Figures

Json = dict[str, Any]

OVERHANG = 2.0
"""Seconds that a gap may be longer than what it stands for."""
EXPECTED = {
    "A": (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25),
    "C": (8, 10, 11, 12, 14, 16, 17, 18, 19),
    "D": (1, 2, 4, 13, 14, 16, 18),
}
"""Cases without whose figures a whole run is no run."""
_PROPERTY = "figures"
_rows: list[Json] = []


class Case:
    """Take the figures of one case."""

    def __init__(self, request: pytest.FixtureRequest, name: str) -> None:
        self._node = request.node
        self._name = name
        self.rows: list[Json] = []

    def show(self, figures: Figures, *, overhang: float = OVERHANG, **more: object) -> None:
        """Print figures as one line of JSON and hold them to the law; `more` are the case's own."""
        row = {
            "case": self._name,
            "variant": _variant(self._node.name) or str(more.get("point", "")),
            **asdict(figures),
            "more": more,
        }
        self.rows.append(row)
        self._node.user_properties.append((_PROPERTY, json.dumps(row)))
        sys.stdout.write(f"{json.dumps(row)}\n")
        assert figures.is_lawful, figures
        assert figures.gap_overhang_s <= overhang, figures


def _variant(name: str) -> str:
    return name.partition("[")[2].removesuffix("]")


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """Give what takes the figures of a test marked `case(NAME)`; a test that gives none has failed."""
    [name] = request.node.get_closest_marker("case").args
    return Case(request, name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="write the figures of all cases to this file")
    parser.addoption("--whole", action="store_true", help="fail if a case gave no figures")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("case") is not None:
            item.add_marker("faults")
    # unless somebody asks for them by name: `-m faults`, `-m soak`
    asked = str(config.option.markexpr)
    left_out = [item for item in items if not _is_wanted(item, asked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_wanted(item, asked)]


def _is_wanted(item: pytest.Item, asked: str) -> bool:
    has = {name for name in ("soak", "faults", "quarter") if item.get_closest_marker(name) is not None}
    if "soak" in has:
        return "soak" in asked
    return "faults" not in has or "quarter" in has or "faults" in asked


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mute = _PROPERTY not in dict(item.user_properties)
    if report.when == "call" and report.passed and mute and item.get_closest_marker("case") is not None:
        report.outcome, report.longrepr = "failed", "the case gave no figures"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == _PROPERTY:
                _rows.append({**json.loads(str(value))})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    path: Path | None = session.config.getoption("--figures")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in sorted(_rows, key=_place)))
    if session.config.getoption("--whole") and _missing():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not (_rows or terminalreporter.config.getoption("--whole")):
        return
    columns = list(Figures.__dataclass_fields__)
    table = Table(
        "case", "variant", *columns, title=f"{len(_rows)} rows of {len({row['case'] for row in _rows})} cases"
    )
    for row in sorted(_rows, key=_place):
        table.add_row(row["case"], row["variant"], *(f"{row[name]:g}" for name in columns))
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    terminalreporter.write_line(captured.get())
    if terminalreporter.config.getoption("--whole") and _missing():
        terminalreporter.write_line(f"no figures of {', '.join(_missing())}", red=True)


def _place(row: Json) -> tuple[str, str]:
    return str(row["case"]), str(row["variant"])


def _missing() -> list[str]:
    expected = {f"{letter}{number:02}" for letter, numbers in EXPECTED.items() for number in numbers}
    return sorted(expected - {row["case"] for row in _rows})
