"""A pytest plugin: `--cost` tells at the end what was dear, in seconds of CPU for each file and each test.

Of the CPU and not of the clock, which tells what else the machine does. The processes that a test has started and
waited for are counted with it; what lives longer, as a browser does, is counted where it ends. A worker that is
killed tells nothing.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Generator
from typing import Any, NamedTuple

import pytest

SHOWN = 40
COLLECTING = "(collecting, in each worker)"


class Cost(NamedTuple):
    """Seconds of this process, of those that it has waited for, and of the clock."""

    own: float
    children: float
    clock: float

    def plus(self, other: Cost, sign: int = 1) -> Cost:
        """Add, or with -1 take away."""
        return Cost(*(mine + sign * its for mine, its in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return f"{self.own + self.children:8.2f} {self.own:8.2f} {self.children:8.2f} {self.clock:8.2f}"


NOTHING = Cost(0.0, 0.0, 0.0)


def _used() -> Cost:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime, time.perf_counter())


class Costs:
    """Add up what a worker uses; of the process that starts workers, what all of them told."""

    def __init__(self) -> None:
        self._tests: dict[str, Cost] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Measure the imports too: what was used since the process began."""
        before = time.perf_counter()
        result = yield
        used = _used()
        self._tests[COLLECTING] = used._replace(clock=used.clock - before)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure a test with what it sets up and takes down."""
        before = _used()
        result = yield
        self._tests[item.nodeid] = _used().plus(before, -1)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what a worker has found to the process that has started it."""
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["costs"] = {name: list(cost) for name, cost in self._tests.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has found."""
        for name, cost in getattr(node, "workeroutput", {}).get("costs", {}).items():
            self._tests[name] = self._tests.get(name, NOTHING).plus(Cost(*cost))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Write the tables, the dearest first."""
        files: dict[str, Cost] = {}
        for name, cost in self._tests.items():
            file = name.partition("::")[0]
            files[file] = files.get(file, NOTHING).plus(cost)
        whole = NOTHING
        for cost in files.values():
            whole = whole.plus(cost)
        for what, costs in (("file", {"(all)": whole} | files), ("test", self._tests)):
            terminalreporter.section(f"CPU seconds of each {what}: all, its own, its processes'; by the clock")
            dearest = sorted(costs.items(), key=lambda each: -(each[1].own + each[1].children))
            for name, cost in dearest[:SHOWN]:
                terminalreporter.line(f"{cost}  {name}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cost", action="store_true", help="tell which files and tests use how much CPU")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cost"):
        config.pluginmanager.register(Costs(), "costs")
