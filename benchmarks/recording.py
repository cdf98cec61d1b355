"""Measure what recording an event costs, beside the floor and the article's own way, in one run.

    python benchmarks/recording.py [--quick] [--json FILE]

Floor and daemon run side by side, each in a process of its own, and take turns: while one records, the
other is idle. Ratios are taken within a round, so that what else the machine does meets both alike; the
median counts. At the end SQL must have each event that was sent. Exit code 1 if a target was missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.certificate import make_certificate
from benchmarks.sides import Name, Sender, Side, Void, running, sending
from benchmarks.talk import TURN_EVENTS

TAIL = 1.2
"""Seconds that still count after the last event is durable: sums are written once a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Say how much is measured, and what it may cost."""

    calls: int
    rate: int
    paced: int
    burst: int
    """Events of one turn; the article's way, which is slow, gets `article` instead."""
    article: int
    tls_calls: int
    """Calls whose memory is measured with TLS; 0 leaves it out."""
    rounds: int
    paced_ratio: float
    burst_ratio: float
    article_ratio: float
    durable: int | None = None


QUICK = Plan(
    calls=200, rate=2_000, paced=4_000, burst=20_000, article=2_000, tls_calls=0, rounds=5,
    paced_ratio=1.6, burst_ratio=2.2, article_ratio=15,
)  # fmt: skip
FULL = Plan(
    calls=1_000, rate=3_000, paced=15_000, burst=60_000, article=3_000, tls_calls=300, rounds=5,
    paced_ratio=1.4, burst_ratio=2.0, article_ratio=20, durable=30_000,
)  # fmt: skip
TLS_MEMORY = 130_000
"""Bytes that a live call may take with TLS."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Hold what was measured of one load on one side."""

    cpu_us: float
    """CPU microseconds per event."""
    durable: float
    """Events per second, from the order to send them until the last was committed."""


@dataclass(slots=True)
class Measured:
    """Hold what was measured of one side."""

    paced: list[Phase] = field(default_factory=list)
    burst: list[Phase] = field(default_factory=list)
    memory: float = 0.0
    """Bytes of resident memory per call that came with the calls and the paced load, without SQLite's cache."""
    tls_memory: float = 0.0


class Turns:
    """Let one side record, load by load."""

    def __init__(self, side: Side, sender: Sender) -> None:
        self._side, self._sender = side, sender
        self._idle_memory = side.resident()
        self._sent = 0
        self.measured = Measured()

    async def begin(self) -> None:
        """Attach to all calls, and begin each of them."""
        await self._side.place_calls()
        await self._sender.ask("attached")
        self._sent = int((await self._sender.ask("warm"))["sent"])
        await self._side.stored(self._sent)
        await asyncio.sleep(TAIL)

    async def take(self, order: str) -> Phase:
        """Record what is sent at an order, to the last event and what follows from it."""
        began, used = time.perf_counter(), self._side.cpu()
        count = int((await self._sender.ask(order))["sent"])
        self._sent += count
        await self._side.stored(self._sent)
        seconds = time.perf_counter() - began
        await asyncio.sleep(TAIL)
        return Phase((self._side.cpu() - used) / count * 1e6, count / seconds)

    def memory(self) -> float:
        """Give the memory that came per call since the start, without the database's own cache."""
        cached = 0 if self._side.name == "article" else self._side.cached()
        return (self._side.resident() - self._idle_memory - cached) / self._side.calls

    async def end(self) -> None:
        """See that everything is stored."""
        self._side.verify(await self._sender.ask("sent"))


@asynccontextmanager
async def taking_turns(
    name: Name, calls: int, events: int, folder: Path, *, tls: Path | None = None
) -> AsyncIterator[Turns]:
    """Start a side and its sender, for so many events in all."""
    # a burst may favour some calls, and each has some events behind it when it begins
    of_call = 1 + 2 * TURN_EVENTS + events * 11 // (calls * 10)
    async with sending(calls, of_call, tls) as sender, running(name, sender, calls, folder, tls=tls) as side:
        turns = Turns(side, sender)
        await turns.begin()
        yield turns
        await turns.end()


async def measure(plan: Plan, step: Callable[[str], None]) -> dict[Name, Measured]:
    """Run all rounds."""
    with tempfile.TemporaryDirectory(prefix="rtobserver-bench-") as name:
        folder = Path(name)
        step("start")
        found = await _side_by_side(plan, folder, step)
        step("the article's way")
        found["article"] = await _article(plan, folder)
        if plan.tls_calls:
            step("memory with TLS")
            certificate = make_certificate(folder / "certificate.pem")
            for each in ("floor", "daemon"):
                found[each].tls_memory = await _tls_memory(each, plan, folder, certificate)
        return found


async def _side_by_side(plan: Plan, folder: Path, step: Callable[[str], None]) -> dict[Name, Measured]:
    events = plan.rounds * (plan.paced + plan.burst)
    async with (
        taking_turns("floor", plan.calls, events, folder) as floor,
        taking_turns("daemon", plan.calls, events, folder) as daemon,
    ):
        for number in range(plan.rounds):
            step(f"paced load, round {number + 1} of {plan.rounds}")
            for each in _order(floor, daemon, number):
                each.measured.paced.append(await each.take(f"paced {plan.rate} {plan.paced}"))
        for each in (floor, daemon):
            each.measured.memory = each.memory()
        for number in range(plan.rounds):
            step(f"burst, round {number + 1} of {plan.rounds}")
            for each in _order(floor, daemon, number):
                each.measured.burst.append(await each.take(f"burst {plan.burst}"))
        return {"floor": floor.measured, "daemon": daemon.measured}


def _order(floor: Turns, daemon: Turns, number: int) -> tuple[Turns, Turns]:
    return (daemon, floor) if number % 2 else (floor, daemon)


async def _article(plan: Plan, folder: Path) -> Measured:
    async with taking_turns("article", plan.calls, 2 * plan.article, folder) as article:
        article.measured.paced.append(await article.take(f"paced {plan.rate} {plan.article}"))
        article.measured.memory = article.memory()
        article.measured.burst.append(await article.take(f"burst {plan.article}"))
        return article.measured


async def _tls_memory(name: Name, plan: Plan, folder: Path, certificate: Path) -> float:
    events = plan.tls_calls * TURN_EVENTS
    async with taking_turns(name, plan.tls_calls, events, folder, tls=certificate) as turns:
        await turns.take(f"paced {plan.rate} {events}")
        return turns.memory()


# --- what is shown --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """Be one line of the table: a figure beside what it is measured against."""

    what: str
    value: str
    beside: str
    ratio: list[float]
    target: float
    most: bool
    """True where the target is the most that the ratio may be, False where it is the least."""

    @property
    def is_met(self) -> bool:
        middle = statistics.median(self.ratio)
        return middle <= self.target if self.most else middle >= self.target


def figures(plan: Plan, found: dict[Name, Measured]) -> list[Figure]:
    """Compare with the targets."""
    daemon, floor, article = found["daemon"], found["floor"], found["article"]
    made = [
        _beside_floor(f"CPU per event at {plan.rate:,}/s", daemon.paced, floor.paced, plan.paced_ratio),
        _beside_floor("CPU per event in a burst", daemon.burst, floor.burst, plan.burst_ratio),
    ]
    own, other = _cpu(daemon.burst), _cpu(article.burst)
    made.append(
        Figure(
            "times cheaper than the article's way, burst",
            f"{own:.1f} us",
            f"{other:,.0f} us",
            [other / own],
            plan.article_ratio,
            most=False,
        )
    )
    if plan.durable:
        rate = _durable(daemon.burst)
        beside = f"{_durable(floor.burst):,.0f}/s, floor"
        ratio = [rate / plan.durable]
        what = f"durable events in a burst, of {plan.durable:,}/s"
        made.append(Figure(what, f"{rate:,.0f}/s", beside, ratio, 1.0, most=False))
    if plan.tls_calls:
        beside = f"{floor.tls_memory / 1000:.0f} KB, floor"
        ratio = [daemon.tls_memory / TLS_MEMORY]
        what = f"memory per call with TLS, of {TLS_MEMORY // 1000} KB"
        made.append(Figure(what, f"{daemon.tls_memory / 1000:.0f} KB", beside, ratio, 1.0, most=True))
    return made


def _beside_floor(what: str, daemon: list[Phase], floor: list[Phase], target: float) -> Figure:
    ratios = [own.cpu_us / least.cpu_us for own, least in zip(daemon, floor, strict=True)]
    return Figure(what, f"{_cpu(daemon):.1f} us", f"{_cpu(floor):.1f} us, floor", ratios, target, most=True)


def _cpu(phases: list[Phase]) -> float:
    return statistics.median(phase.cpu_us for phase in phases)


def _durable(phases: list[Phase]) -> float:
    return statistics.median(phase.durable for phase in phases)


def show(console: Console, plan: Plan, found: dict[Name, Measured]) -> None:
    """Print the table of figures, and what else was seen."""
    table = Table("figure", "rtobserver", "beside", "ratio", "target", "", box=None, pad_edge=False)
    for figure in figures(plan, found):
        spread = f" ({min(figure.ratio):.2f}-{max(figure.ratio):.2f})" if len(figure.ratio) > 1 else ""
        sign = "<=" if figure.most else ">="
        verdict = "[green]met[/]" if figure.is_met else "[red]missed[/]"
        ratio = f"{statistics.median(figure.ratio):.2f}{spread}"
        table.add_row(figure.what, figure.value, figure.beside, ratio, f"{sign} {figure.target:g}", verdict)
    console.print(table)
    for name, measured in found.items():
        rates = f"{_durable(measured.burst):,.0f} durable events/s in a burst"
        console.print(
            f"{name}: paced {_cpu(measured.paced):,.1f} us, burst {_cpu(measured.burst):,.1f} us, {rates}, "
            f"{measured.memory / 1000:.0f} KB per call",
            style="dim",
        )
    console.print(f"every event was found stored; {_machine()}", style="dim")


def _machine() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}, {platform.system()}"


def _as_json(plan: Plan, found: dict[Name, Measured]) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "plan": asdict(plan),
        "figures": [
            {**asdict(figure), "median": statistics.median(figure.ratio), "met": figure.is_met}
            for figure in figures(plan, found)
        ],
        "measured": {name: asdict(measured) for name, measured in found.items()},
    }


@click.command()
@click.option("--quick", is_flag=True, help="200 calls in about two minutes, with looser targets.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write all figures to a file.")
def main(quick: bool, json_file: Path | None) -> None:
    """Measure recording beside the floor."""
    plan = QUICK if quick else FULL
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    console = Console()
    steps = 2 + plan.rounds * 2 + bool(plan.tls_calls)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("begin", total=steps)
        try:
            found = asyncio.run(measure(plan, lambda what: _advance(progress, task, what)))
        except* (Void, TimeoutError) as group:
            problems = "; ".join(str(each) or repr(each) for each in group.exceptions)
            raise click.ClickException(f"no figures: {problems}") from None
    show(console, plan, found)
    if json_file is not None:
        json_file.write_text(json.dumps(_as_json(plan, found), indent=2) + "\n")
    sys.exit(0 if all(figure.is_met for figure in figures(plan, found)) else 1)


def _advance(progress: Progress, task: TaskID, what: str) -> None:
    began = progress.tasks[0].description == "begin"
    progress.update(task, description=what, advance=0 if began else 1)


if __name__ == "__main__":
    main()
