"""A pytest plugin: a case must give its figures, and the run ends with a table of all of them.

A plain run has a quarter of the cases, `-m faults` all but those that take long, `-m soak` these.
`--figures FILE` keeps them as JSON lines; `--whole` fails a run in which a case did not take place.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.faults.figures import Figures

Json = dict[str, Any]

OVERHANG = 2.0
"""Seconds that a gap may be longer than what it stands for."""
EXPECTED = (
    Counter(A01=1, A02=3, A04=1, A05=3, A06=4, A07=2, A08=6, A09=15, A10=1, A11=1, A13=1, A14=1, A15=1, A16=1)
    + Counter(A17=1, A18=3, A19=1, A20=1, A22=1, A23=1, A24=1, A25=1)
    + Counter(
        C01=1,
        C02=1,
        C03=1,
        C04=2,
        C06=1,
        C07=7,
        C08=1,
        C09=1,
        C10=5,
        C11=8,
        C12=2,
        C14=45,
        C15=1,
        C16=8,
        C17=10,
        C18=1,
        C19=2,
    )
    + Counter(D01=5, D02=24, D04=11, D13=1, D14=1, D16=4, D18=3)
)
"""For each case how many tests of it there are at least: without the figures of all, a whole run is no run."""
SOAK = Counter(A05=1, A06=1, A19=1, A25=1, C01=1, C02=1, C07=2, D01=1, D03=1, D10=1)
"""Those of `make soak`."""
QUARTER = 0.25
"""The part of the tests that every run has."""
SHARE = pytest.StashKey[tuple[int, int]]()
"""Of a configuration: how many cases every run has, of how many there are; (0, 0) where not all of them were found."""
NONE: Mapping[str, float] = MappingProxyType({})
_PROPERTY = "figures"
_rows: list[Json] = []


class Case:
    """Take the figures of one case."""

    def __init__(self, request: pytest.FixtureRequest, name: str) -> None:
        self._node = request.node
        self._name = name
        self._began = time.monotonic()
        self.rows: list[Json] = []

    def show(
        self,
        figures: Figures,
        *,
        overhang: float = OVERHANG,
        closes_by_us: int = 0,
        forgotten: int = 0,
        overcounted: int = 0,
        loop_gap: float | None = None,
        allowance: float = 0.0,
        most: Mapping[str, float] = NONE,
        least: Mapping[str, float] = NONE,
        **more: Any,
    ) -> None:
        """Print figures as one line of JSON and hold them to the law and to the case's limits; `more` are its own.

        `loop_gap` is in ms, of the true time, whoever had the processor; `allowance` is what the case grants beyond.
        `most` and `least` are limits of the case's own figures: what is shown as a limit is what is demanded.
        """
        row = {
            "case": self._name,
            "test": self._node.name,
            "variant": _variant(self._node.name) or str(more.get("point", "")),
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "took_s": round(time.monotonic() - self._began, 1),
            **asdict(figures),
            "loop_gap_limit": loop_gap,
            "loop_gap_allowance": allowance,
            "most": dict(most),
            "least": dict(least),
            "more": more,
        }
        self.rows.append(row)
        self._node.user_properties.append((_PROPERTY, json.dumps(row)))
        sys.stdout.write(f"{json.dumps(row)}\n")
        assert figures.overcounted <= overcounted, figures
        assert replace(figures, overcounted=0).is_lawful, figures
        assert figures.gap_overhang_s <= overhang, figures
        assert figures.closes_by_us == closes_by_us, figures
        assert figures.forgotten == forgotten, figures
        assert loop_gap is None or figures.loop_gap <= loop_gap + allowance, figures
        for name, limit in most.items():
            assert more[name] <= limit, (name, more[name], limit)
        for name, limit in least.items():
            assert more[name] >= limit, (name, more[name], limit)


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
    config.stash[SHARE] = _share(items)
    # unless somebody asks for them by name: `-m faults`, `-m soak`
    asked = str(config.option.markexpr)
    left_out = [item for item in items if not _is_wanted(item, asked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_wanted(item, asked)]


def _share(items: list[pytest.Item]) -> tuple[int, int]:
    cases = [item for item in items if item.get_closest_marker("case") and not item.get_closest_marker("soak")]
    found = Counter(str(item.get_closest_marker("case").args[0]) for item in cases)  # type: ignore[union-attr]
    chosen = [item for item in cases if item.get_closest_marker("quarter")]
    return (len(chosen), len(cases)) if found >= EXPECTED else (0, 0)


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
    if session.config.getoption("--whole") and _missing(session.config):
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
    console = Console(width=260, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    terminalreporter.write_line(captured.get())
    if terminalreporter.config.getoption("--whole") and (missing := _missing(terminalreporter.config)):
        told = ", ".join(f"{name} ({count} of them)" for name, count in sorted(missing.items()))
        terminalreporter.write_line(f"no figures of {told}", red=True)


def _place(row: Json) -> tuple[str, str]:
    return str(row["case"]), str(row["variant"])


def _missing(config: pytest.Config) -> Counter[str]:
    """Count, by case, the tests that gave no figures."""
    asked = str(config.option.markexpr).replace("not soak", "")
    given = {(str(row["case"]), str(row["test"])) for row in _rows}
    return (SOAK if "soak" in asked else EXPECTED) - Counter(case for case, _ in given)
