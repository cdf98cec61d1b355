"""Look at the page of a long call as a person does, and say how soon it answers and how smoothly it moves.

    python benchmarks/pages.py [--entries 10000] [--quick] [--json FILE]

The daemon is `rtobserver serve` in a process of its own, on a store that holds one ended call of so
many entries; the browser is Debian's Chromium without a GPU, signed in, with an empty cache.

Interactive is a page whose timeline and list of entries have both done what was asked of them by a
click: the script clicks with every frame from the beginning, and looks at the clock of the page,
which starts with the navigation, when the window of the timeline has moved and an entry is chosen.

Frames are counted by the distances between animation frames while something moves in each of them:
the list scrolls, the timeline's window is dragged or zoomed. The last rows do so with a drawing of
as many elements as the call has entries, about 25 times as many as a call of that length has.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
from playwright.async_api import Browser, Page
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.talk import Talk
from rtobserver.clock import SystemClock
from rtobserver.realtime.call import CallState
from rtobserver.realtime.events import read
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.store import folds, keys, schema, sqlite, tables
from rtobserver.store.identity import call_key, day_of
from tests.browser.chromium import browsing
from tests.browser.dashboard import dashboard

CALL_ID = "rtc_pages"
START_US = 1_793_000_000_000_000
EVENT_US = 250_000
"""Four events a second, the usual pace of a spoken call."""
INTERACTIVE_MS = 1500.0
FRAMES = 30.0
"""Frames per second that 95 of 100 distances must reach."""
PATIENCE = 60.0

_CLICKING = """
    addEventListener("DOMContentLoaded", () => {
        const began = performance.now();
        const look = () => {
            const timeline = document.querySelector("rto-timeline");
            timeline?.querySelector('button[aria-label="Zoom in"]')?.click();
            document.querySelector('rto-entries [role="option"][data-position]:not([data-position=""])')?.click();
            const isMoved = timeline?.document?.spans.length && timeline.view?.follows === "free";
            const isChosen = document.querySelector('rto-entries [aria-selected="true"]');
            if (isMoved && isChosen) window.interactive = performance.now();
            else if (performance.now() - began < 30_000) requestAnimationFrame(look);
        };
        look();
    });
"""
_FRAMES = """async ([what, seconds]) => {
    const timeline = document.querySelector("rto-timeline");
    const list = document.querySelector("rto-entries [role=listbox]");
    let number = 0;
    const moves = {
        scroll: () => { list.scrollTop += 140; },
        pan: () => timeline.pan(number % 240 < 120 ? 0.03 : -0.03),
        zoom: () => timeline.zoom(number % 120 < 60 ? 1.06 : 1 / 1.06),
    };
    timeline.fit();
    if (what === "pan") timeline.zoom(4);
    const gaps = [];
    let last = 0;
    await new Promise((done) => {
        const step = (now) => {
            if (last) gaps.push(now - last);
            last = now;
            number += 1;
            moves[what]();
            if (gaps.reduce((sum, gap) => sum + gap, 0) < seconds * 1000) requestAnimationFrame(step);
            else done();
        };
        requestAnimationFrame(step);
    });
    return gaps;
}"""
_CROWD = """(count) => {
    const timeline = document.querySelector("rto-timeline");
    const lanes = ["user", "assistant", "playback", "tools"];
    const spans = Array.from({length: count}, (_, number) => ({
        id: `span ${number}`, lane: lanes[number % 4], kind: "speech", from_ms: number * 250, to_ms: number * 250 + 900,
        label: `words of number ${number}`, position: `1:${number + 1}`, to_position: null, item_id: `item ${number}`,
        response_id: null, status: "completed", interrupted: number % 40 === 2,
    }));
    timeline.document = {...timeline.document, spans, duration_ms: count * 250 + 1000};
}"""


@dataclass(frozen=True, slots=True)
class Figure:
    """Be what was found and what it must be."""

    what: str
    value: float
    unit: str
    target: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


def fill(path: Path, entries: int) -> None:
    """Make a store with one call."""
    schema.migrate(path)
    frames = list(islice(Talk(1).frames(), entries))
    state = CallState(model="gpt-realtime")
    items: dict[str, ItemRow] = {}
    responses: dict[str, ResponseRow] = {}
    place = {"call_key": call_key(CALL_ID), "day": day_of(START_US)}
    rows: list[dict[str, Any]] = []
    for seq, frame in enumerate(frames, start=1):
        event, _ = read(frame)
        at = START_US + seq * EVENT_US
        changes = state.apply(event, frame, at, 1, seq)
        if changes is not None:
            items |= {row.item_id: row for row in changes.items}
            responses |= {row.response_id: row for row in changes.responses}
        rows.append(
            place
            | {"epoch": 1, "seq": seq, "kind": tables.KIND_EVENT, "at": at, "offset_us": seq * EVENT_US}
            | {"type": event.type, "event_id": event.event_id, "payload": frame, "flags": tables.FLAG_JSON}
        )
    changes = state.finish()
    items |= {row.item_id: row for row in changes.items}
    responses |= {row.response_id: row for row in changes.responses}
    with sqlite.transaction(path) as connection:
        connection.execute(tables.call.insert(), [place | _call(entries, folds.call_values(state.totals()))])
        connection.execute(tables.entry.insert(), rows)
        connection.execute(tables.item.insert(), [folds.item_values(row) | place for row in items.values()])
        connection.execute(tables.response.insert(), [folds.response_values(row) | place for row in responses.values()])


def _call(entries: int, totals: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "call_id": CALL_ID, "protocol": "realtime", "status": "ended", "outcome": "browser_left",
        "started_at": START_US, "ended_at": START_US + (entries + 1) * EVENT_US, "profile": "default",
        "model": "gpt-realtime", "user": "ada", "labels": "{}", "tags": "[]", "max_duration_us": 0, "epoch": 1,
        "entry_count": entries, "tampered": False, "attach_latency_ms": 80, "completeness": "complete",
        "checks": "{}", "gap_count": 0,
    }  # fmt: skip
    return own | totals


@asynccontextmanager
async def serving(folder: Path, path: Path) -> AsyncIterator[str]:
    """Run the daemon on a store; gives the address of its operator listener."""
    config = folder / "rtobserver.toml"
    config.write_text(f"""
[upstream]
provider = "azure"
base_url = "http://127.0.0.1:9/openai/v1"
auth = "api-key"
api_key = "bench-key"
[public]
port = 0
[operator]
port = 0
[store]
url = "sqlite:///{path}"
[[profile]]
name = "default"
session = {{ type = "realtime", model = "gpt-realtime" }}
""")
    config.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rtobserver", "serve", "--log-format", "json", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = ""
    try:
        async with asyncio.timeout(PATIENCE):
            while line := await process.stderr.readline():
                if b'"listening"' in line:
                    break
                said += line.decode()
        if not line:
            raise click.ClickException(f"the daemon did not start:\n{said}")
        yield str(json.loads(line)["operator"])
    finally:
        if process.returncode is None:
            process.terminate()
        # what it says as it stops must not block it
        await process.stderr.read()
        await process.wait()


async def interactive(browser: Browser, url: str, key: str) -> float:
    """Load the page with an empty cache; gives the milliseconds until it did what it was asked."""
    async with dashboard(browser, url, key, "/login") as shown:
        await shown.page.add_init_script(_CLICKING)
        await shown.page.goto(f"{url}/calls/{CALL_ID}")
        await shown.until("window.interactive > 0")
        return float(await shown.page.evaluate("window.interactive"))


async def frames(page: Page, what: str, seconds: float) -> list[float]:
    """Move something in each frame; gives the distances between frames in milliseconds."""
    return list(await page.evaluate(_FRAMES, [what, seconds]))


async def measure(entries: int, rounds: int, seconds: float) -> tuple[list[Figure], dict[str, list[float]]]:
    """Take all figures."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="rtobserver-bench-") as name:
        folder = Path(name)
        path = folder / "calls.db"
        await asyncio.to_thread(fill, path, entries)
        key = await asyncio.to_thread(lambda: keys.create(path, name="bench", now_us=SystemClock().now_us()))
        async with serving(folder, path) as url, browsing() as browser:
            found["interactive"] = [await interactive(browser, url, key) for _ in range(rounds)]
            async with dashboard(browser, url, key, f"/calls/{CALL_ID}") as shown:
                page = shown.page
                await shown.until("document.querySelector('rto-entries [role=option]')?.dataset.position")
                for what in ("scroll", "pan", "zoom"):
                    found[what] = await frames(page, what, seconds)
                await page.evaluate(_CROWD, entries)
                for what in ("pan", "zoom"):
                    found[f"{what}, {entries:,} elements"] = await frames(page, what, seconds)
    return list(_figures(found, entries)), found


def _figures(found: dict[str, list[float]], entries: int) -> Iterator[Figure]:
    loads = found["interactive"]
    yield Figure(
        f"interactive, {entries:,} entries, median of {len(loads)}", statistics.median(loads), "ms", INTERACTIVE_MS
    )
    yield Figure(f"interactive, {entries:,} entries, worst of {len(loads)}", max(loads), "ms", INTERACTIVE_MS)
    names = {"scroll": "entries scrolled", "pan": "timeline dragged", "zoom": "timeline zoomed"}
    for what, gaps in found.items():
        if what == "interactive":
            continue
        verb, comma, rest = what.partition(",")
        slow = sorted(gaps)[int(len(gaps) * 0.95)]
        yield Figure(f"{names[verb]}{comma}{rest}, p95", round(1000 / slow, 1), "frames/s", FRAMES - 0.1, at_least=True)


def _machine() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}, {platform.system()}"


@click.command()
@click.option("--entries", default=10_000, help="Entries of the call.")
@click.option("--quick", is_flag=True, help="Three loads and two seconds of motion each, instead of seven and five.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write all times to a file.")
def main(entries: int, quick: bool, json_file: Path | None) -> None:
    """Measure the page of a long call."""
    figures, found = asyncio.run(measure(entries, 3 if quick else 7, 2.0 if quick else 5.0))
    table = Table("what", "found", "target", "", box=None, pad_edge=False)
    for each in figures:
        target = f"{'>=' if each.at_least else '<='} {round(each.target)} {each.unit}"
        verdict = "[green]met[/]" if each.is_met else "[red]missed[/]"
        table.add_row(each.what, f"{each.value:,.1f} {each.unit}", target, verdict)
    console = Console()
    console.print(table)
    console.print(_machine(), style="dim")
    if json_file is not None:
        told = {"machine": _machine(), "figures": [{**asdict(each), "met": each.is_met} for each in figures]}
        json_file.write_text(json.dumps(told | {"milliseconds": found}, indent=2) + "\n")
    sys.exit(0 if all(each.is_met for each in figures) else 1)


if __name__ == "__main__":
    main()
