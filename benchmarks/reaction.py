"""Measure how long a reaction takes while much is recorded, beside loops that record nothing.

    python benchmarks/reaction.py [--quick] [--json FILE]

A probe is a delta in which the model says a forbidden word; the clock runs from its sending until the
`response.cancel` is on the wire, in a process that does nothing else. Meanwhile 100 other calls send events at a
given rate. The daemon, the same without its writer (the floor) and a bare client take turns, round by round.
Exit code 1 if a target was missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.prober import FORBIDDEN
from benchmarks.sides import Name, Sender, Servant, Side, Void, running, spawned
from benchmarks.talk import TURN_EVENTS

LOAD_CALLS, PROBED_CALLS = 100, 20
RATES = (1_000, 5_000)
WARMING = 20
"""Probes of a run that do not count."""
LEAD = 0.3
"""Seconds of load before the first probe."""
PER_PROBE = 0.02
"""Seconds that a probe takes in the mean, with its pause; for a load that lasts longer, calls repeat themselves."""
P50_MS, P99_MS, P99_RATIO = 0.4, 5.0, 1.3
"""Targets: the first two at the lower rate, the ratio at the higher one."""

POLICY = f"""
[[policy]]
id = "forbidden"
mode = "enforce"
phrase = {{ speaker = "assistant", any = ["{FORBIDDEN}"] }}
limit = {{ per_minute = 0 }}
do = [{{ cancel_response = true }}]

[observer]
idle_probe = "1h"
"""


@dataclass(slots=True)
class Reacted:
    """Hold the milliseconds of all probes of one side at one rate, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def median(self, share: float) -> float:
        """Give the median over the rounds of a percentile."""
        return statistics.median(percentile(each, share) for each in self.rounds)

    def pooled(self, share: float) -> float:
        """Give a percentile of all rounds together."""
        return percentile([ms for each in self.rounds for ms in each], share)


def percentile(values: list[float], share: float) -> float:
    """Give the value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(slots=True)
class Turns:
    """Let one side react, round by round."""

    side: Side
    sender: Sender
    prober: Servant
    reacted: dict[int, Reacted] = field(default_factory=lambda: {rate: Reacted() for rate in RATES})
    cancelled: int = 0
    """Responses, each by a command that is recorded too."""

    async def take(self, rate: int, probes: int) -> None:
        """React to so many probes under load."""
        await self.sender.ask(f"load {rate}")
        await asyncio.sleep(LEAD)
        seconds = await self.prober.ask(f"probe {probes + WARMING}")
        self.cancelled += len(seconds)
        await self.sender.ask("rest")
        self.reacted[rate].rounds.append([each * 1000 for each in seconds[WARMING:]])

    async def end(self) -> None:
        """See that the daemon has stored every event, of probes too."""
        if self.side.name == "daemon":
            sent = {**await self.sender.ask("sent"), **await self.prober.ask("sent")}
            await self.side.stored(sum(count for count, _ in sent.values()) + self.cancelled)
            self.side.verify(sent)


@asynccontextmanager
async def taking_turns(name: Name, events: int, folder: Path) -> AsyncIterator[Turns]:
    """Start a side, the upstream that it is attached to, and its prober."""
    calls = LOAD_CALLS + PROBED_CALLS
    of_call = 1 + 2 * TURN_EVENTS + events // LOAD_CALLS
    path = str(folder / f"prober-of-{name}")
    async with AsyncExitStack() as stack:
        upstream = ["benchmarks.probing", str(LOAD_CALLS), str(PROBED_CALLS), str(of_call)]
        process, said = await stack.enter_async_context(spawned(upstream))
        sender = Sender(process, said["port"])
        probing, _ = await stack.enter_async_context(spawned(["benchmarks.prober", path]))
        side = await stack.enter_async_context(running(name, sender, calls, folder, more=POLICY))
        await side.place_calls()
        await sender.ask("attached")
        await sender.ask(f"hand {path}")
        await sender.ask("warm")
        turns = Turns(side, sender, Servant(probing))
        yield turns
        await turns.end()


async def measure(rounds: int, probes: int, step: Callable[[str], None]) -> dict[str, dict[int, Reacted]]:
    """Run all rounds; gives what was measured, by side and rate."""
    events = int(rounds * sum(RATES) * (LEAD + (probes + WARMING) * PER_PROBE)) + LOAD_CALLS
    with tempfile.TemporaryDirectory(prefix="rtobserver-bench-") as name:
        folder = Path(name)
        async with (
            taking_turns("reacting", events, folder) as bare,
            taking_turns("unrecorded", events, folder) as floor,
            taking_turns("daemon", events, folder) as daemon,
        ):
            for number in range(rounds):
                for rate in RATES:
                    step(f"{rate:,} events/s, round {number + 1} of {rounds}")
                    for each in (daemon, floor, bare) if number % 2 else (bare, floor, daemon):
                        await each.take(rate, probes)
        return {"bare client": bare.reacted, "floor": floor.reacted, "daemon": daemon.reacted}


# --- what is shown --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """Be one target, and what it was compared with."""

    what: str
    value: float
    target: float

    @property
    def is_met(self) -> bool:
        return self.value <= self.target


def figures(found: dict[str, dict[int, Reacted]]) -> list[Figure]:
    """Compare with the targets."""
    low, high = RATES
    daemon, floor = found["daemon"], found["floor"]
    ratios = [
        percentile(own, 0.99) / percentile(least, 0.99)
        for own, least in zip(daemon[high].rounds, floor[high].rounds, strict=True)
    ]
    return [
        Figure(f"p50 at {low:,}/s, ms", daemon[low].median(0.5), P50_MS),
        Figure(f"p99 at {low:,}/s, ms", daemon[low].median(0.99), P99_MS),
        Figure(f"p99 at {high:,}/s, times the floor's", statistics.median(ratios), P99_RATIO),
    ]


def show(console: Console, found: dict[str, dict[int, Reacted]]) -> None:
    """Print the distributions, then the targets."""
    table = Table("events/s", "side", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", box=None, pad_edge=False)
    for rate in RATES:
        for name, reacted in found.items():
            each = reacted[rate]
            shown = [f"{each.median(share):.3f}" for share in (0.5, 0.9, 0.99)]
            table.add_row(f"{rate:,}", name, *shown, f"{each.pooled(0.999):.3f}", f"{each.pooled(1.0):.3f}")
    console.print(table)
    console.print("p50, p90, p99: median of the rounds; p99.9 and max: of all probes", style="dim")
    for rate in RATES:
        own, least = found["daemon"][rate], found["floor"][rate]
        ratio = ", ".join(
            f"p{share * 100:g} {own.median(share) / least.median(share):.2f}" for share in (0.5, 0.9, 0.99)
        )
        console.print(f"{rate:,}/s, times the floor: {ratio}")
    for figure in figures(found):
        verdict = "[green]met[/]" if figure.is_met else "[red]missed[/]"
        console.print(f"{figure.what}: {figure.value:.2f}, target <= {figure.target:g}: {verdict}")
    console.print(f"every event was found stored; {_machine()}", style="dim")


def _machine() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}, {platform.system()}"


def _as_json(found: dict[str, dict[int, Reacted]]) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "figures": [{**asdict(figure), "met": figure.is_met} for figure in figures(found)],
        "milliseconds": {name: {rate: each.rounds for rate, each in by.items()} for name, by in found.items()},
    }


@click.command()
@click.option("--quick", is_flag=True, help="100 probes a run instead of 400.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write all times to a file.")
def main(quick: bool, json_file: Path | None) -> None:
    """Measure reactions beside the floor."""
    rounds, probes = 3, 100 if quick else 400
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("start", total=rounds * len(RATES) + 1)
        try:
            found = asyncio.run(
                measure(rounds, probes, lambda what: progress.update(task, description=what, advance=1))
            )
        except* (Void, TimeoutError) as group:
            problems = "; ".join(str(each) or repr(each) for each in group.exceptions)
            raise click.ClickException(f"no figures: {problems}") from None
    show(console, found)
    if json_file is not None:
        json_file.write_text(json.dumps(_as_json(found), indent=2) + "\n")
    sys.exit(0 if all(figure.is_met for figure in figures(found)) else 1)


if __name__ == "__main__":
    main()
