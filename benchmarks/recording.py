"""Measure what recording an event costs, beside the floor and the article's own way, in one run.

    python benchmarks/recording.py [--quick] [--json FILE]

Rounds alternate: each starts every side afresh in a process of its own, lets it record a paced load
and a burst, and checks in SQL that each event that was sent is there. Ratios are taken within a
round; the median counts. Exit code 1 if a target was missed.
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
from collections.abc import Callable
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
    article: int
    """Events that the article's way gets, paced and in a burst; it is slow."""
    tls_calls: int
    """Calls whose memory is measured with TLS; 0 leaves it out."""
    rounds: int = 3
    paced_ratio: float
    burst_ratio: float
    article_ratio: float
    durable: int | None = None


QUICK = Plan(
    calls=200, rate=2_000, paced=10_000, burst=40_000, article=2_000, tls_calls=0,
    paced_ratio=1.6, burst_ratio=2.2, article_ratio=15,
)  # fmt: skip
FULL = Plan(
    calls=1_000, rate=3_000, paced=30_000, burst=120_000, article=3_000, tls_calls=300,
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


@dataclass(frozen=True, slots=True)
class Round:
    """Hold what was measured of one side."""

    paced: Phase
    burst: Phase
    memory: float
    """Bytes of resident memory per call that came with the calls and the paced load."""


@dataclass(slots=True)
class Results:
    """Hold everything that was measured."""

    rounds: dict[Name, list[Round]] = field(default_factory=dict)
    tls_memory: dict[Name, float] = field(default_factory=dict)

    def median(self, name: Name, of: Callable[[Round], float]) -> float:
        return statistics.median(map(of, self.rounds[name]))

    def ratios(self, over: Name, under: Name, of: Callable[[Round], float]) -> list[float]:
        return [of(a) / of(b) for a, b in zip(self.rounds[over], self.rounds[under], strict=False)]


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


async def measure(plan: Plan, step: Callable[[str], None]) -> Results:
    """Run all rounds."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="rtobserver-bench-") as folder:
        for number in range(plan.rounds):
            order: list[Name] = ["floor", "daemon"] if number % 2 == 0 else ["daemon", "floor"]
            for name in order:
                step(f"round {number + 1}: {name}")
                results.rounds.setdefault(name, []).append(await _round(name, plan, Path(folder)))
        step("the article's way")
        results.rounds["article"] = [await _round("article", plan, Path(folder))]
        if plan.tls_calls:
            for name in ("floor", "daemon"):
                step(f"memory with TLS: {name}")
                results.tls_memory[name] = await _tls_memory(name, plan, Path(folder))
    return results


async def _round(name: Name, plan: Plan, folder: Path) -> Round:
    paced, burst = (plan.article, plan.article) if name == "article" else (plan.paced, plan.burst)
    events = 1 + TURN_EVENTS + (paced + burst) * 11 // (plan.calls * 10) + TURN_EVENTS
    async with (
        sending(plan.calls, events) as sender,
        running(name, sender, plan.calls, folder, tls=None) as side,
    ):
        before = side.resident()
        sent = await _warm(side, sender)
        first, sent = await _phase(side, sender, f"paced {plan.rate} {paced}", sent)
        memory = (side.resident() - before) / plan.calls
        second, sent = await _phase(side, sender, f"burst {burst}", sent)
        side.verify(await sender.ask("sent"))
        return Round(first, second, memory)


async def _tls_memory(name: Name, plan: Plan, folder: Path) -> float:
    certificate = make_certificate(folder / "certificate.pem")
    paced = plan.tls_calls * TURN_EVENTS
    async with (
        sending(plan.tls_calls, 3 * TURN_EVENTS, certificate) as sender,
        running(name, sender, plan.tls_calls, folder, tls=certificate) as side,
    ):
        before = side.resident()
        sent = await _warm(side, sender)
        await _phase(side, sender, f"paced {plan.rate} {paced}", sent)
        side.verify(await sender.ask("sent"))
        return (side.resident() - before) / plan.tls_calls


async def _warm(side: Side, sender: Sender) -> int:
    """Attach to all calls and begin each of them; gives how many events were sent."""
    await side.place_calls()
    await sender.ask("attached")
    sent = int((await sender.ask("warm"))["sent"])
    await side.stored(sent)
    await asyncio.sleep(TAIL)
    return sent


async def _phase(side: Side, sender: Sender, order: str, before: int) -> tuple[Phase, int]:
    began, used = time.perf_counter(), side.cpu()
    count = int((await sender.ask(order))["sent"])
    await side.stored(before + count)
    seconds = time.perf_counter() - began
    await asyncio.sleep(TAIL)
    return Phase((side.cpu() - used) / count * 1e6, count / seconds), before + count


# --- what is shown --------------------------------------------------------------------------------


def figures(plan: Plan, results: Results) -> list[Figure]:
    """Compare with the targets."""
    paced: Callable[[Round], float] = lambda each: each.paced.cpu_us  # noqa: E731
    burst: Callable[[Round], float] = lambda each: each.burst.cpu_us  # noqa: E731
    found = []
    for what, of, target in (
        (f"CPU per event at {plan.rate:,}/s", paced, plan.paced_ratio),
        ("CPU per event in a burst", burst, plan.burst_ratio),
    ):
        own, floor = results.median("daemon", of), results.median("floor", of)
        ratio = results.ratios("daemon", "floor", of)
        found.append(Figure(what, f"{own:.1f} us", f"{floor:.1f} us, the floor", ratio, target, most=True))
    for what, of in (("paced", paced), ("burst", burst)):
        own, other = results.median("daemon", of), results.median("article", of)
        found.append(
            Figure(
                f"times cheaper than the article's way, {what}",
                f"{own:.1f} us",
                f"{other:,.0f} us, the article's way",
                [other / own],
                plan.article_ratio,
                most=False,
            )
        )
    rate, floor_rate = (results.median(name, lambda each: each.burst.durable) for name in ("daemon", "floor"))
    durable = "durable events/s in a burst"
    value = f"{rate:,.0f}/s"
    if plan.durable:
        found.append(
            Figure(
                f"{durable}, of {plan.durable:,}/s",
                value,
                f"{floor_rate:,.0f}/s, the floor",
                [rate / plan.durable],
                1.0,
                most=False,
            )
        )
    for name, memory in results.tls_memory.items():
        if name == "daemon":
            floor_memory = f"{results.tls_memory['floor'] / 1000:.0f} KB, the floor"
            figure = Figure(
                f"memory per live call with TLS, of {TLS_MEMORY // 1000} KB",
                f"{memory / 1000:.0f} KB",
                floor_memory,
                [memory / TLS_MEMORY],
                1.0,
                most=True,
            )
            found.append(figure)
    return found


def show(console: Console, plan: Plan, results: Results) -> None:
    """Print the table of figures, and what else was seen."""
    table = Table("figure", "rtobserver", "beside", "ratio", "target", "", box=None, pad_edge=False)
    for figure in figures(plan, results):
        spread = f" [{min(figure.ratio):.2f}-{max(figure.ratio):.2f}]" if len(figure.ratio) > 1 else ""
        sign = "<=" if figure.most else ">="
        verdict = "[green]met[/]" if figure.is_met else "[red]missed[/]"
        ratio = f"{statistics.median(figure.ratio):.2f}{spread}".replace("[", "\\[")
        table.add_row(figure.what, figure.value, figure.beside, ratio, f"{sign} {figure.target:g}", verdict)
    console.print(table)
    for name in ("daemon", "floor", "article"):
        durable = results.median(name, lambda each: each.burst.durable)
        memory = results.median(name, lambda each: each.memory)
        console.print(
            f"{name}: {durable:,.0f} durable events/s in a burst, {memory / 1000:.0f} KB per call", style="dim"
        )
    console.print(f"every event was found stored; {_machine()}", style="dim")


def _machine() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}, {platform.system()}"


def _as_json(plan: Plan, results: Results) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "plan": asdict(plan),
        "figures": [
            {**asdict(figure), "median": statistics.median(figure.ratio), "met": figure.is_met}
            for figure in figures(plan, results)
        ],
        "rounds": {name: [asdict(each) for each in rounds] for name, rounds in results.rounds.items()},
        "tls_memory_per_call": results.tls_memory,
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
    steps = plan.rounds * 2 + 1 + (2 if plan.tls_calls else 0)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("begin", total=steps)
        try:
            results = asyncio.run(measure(plan, lambda what: _advance(progress, task, what)))
        except* (Void, TimeoutError) as group:
            problems = "; ".join(str(each) or repr(each) for each in group.exceptions)
            raise click.ClickException(f"no figures: {problems}") from None
    show(console, plan, results)
    if json_file is not None:
        json_file.write_text(json.dumps(_as_json(plan, results), indent=2) + "\n")
    sys.exit(0 if all(figure.is_met for figure in figures(plan, results)) else 1)


def _advance(progress: Progress, task: TaskID, what: str) -> None:
    began = progress.tasks[0].description == "begin"
    progress.update(task, description=what, advance=0 if began else 1)


if __name__ == "__main__":
    main()
