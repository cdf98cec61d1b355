"""Look at the page of live calls while 1,000 of them talk, and say what that costs the recorder.

    python benchmarks/live.py [--calls 1000] [--rate 3000] [--seconds 5] [--rounds 3] [--browser]

In this process: the writer, into which entries go as a recorder hands them over, at a steady rate,
each a delta of some call's answer; and the operator's application. In another: whoever looks on. So
the CPU that is counted is the recorder's and the page's own. Rounds with and without viewers alternate.

A stall is CPU time that the one task behind all live pages keeps from the event loop at once: for
so long a policy's command waits. With `--browser` a Chromium shows the page, and its frames are counted.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rtobserver.store import tables
from tests.browser.chromium import browsing
from tests.browser.dashboard import dashboard
from tests.store.stored import START, call, ref
from tests.web.event_stream import streaming
from tests.web.operator_stage import Stage, stage

FOLLOWER = "follow the calls that go on"
DELTA = "response.output_audio_transcript.delta"
BATCHES = 50
"""How often a second entries are handed over."""
_FRAMES = """() => {
    window.distances = [];
    let last = performance.now();
    const look = (now) => { distances.push(now - last); last = now; requestAnimationFrame(look); };
    requestAnimationFrame(look);
}"""


@dataclass
class Round:
    """Be what was measured with so many viewers."""

    cpu_us: list[float] = field(default_factory=list)
    """CPU per event, by round."""
    stalls: list[float] = field(default_factory=list)
    """Longest stall of each round, in milliseconds."""
    gaps: list[float] = field(default_factory=list)
    """Seconds between the updates that each viewer got."""


class Stalls:
    """Time what the follower's task does between two waits."""

    def __init__(self) -> None:
        self.longest = 0.0
        run = asyncio.events.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if isinstance(task, asyncio.Task) and task.get_name() == FOLLOWER:
                self.longest = max(self.longest, time.thread_time() - begun)

        asyncio.events.Handle._run = timed  # type: ignore[assignment,method-assign]


async def talk(api: Stage, calls: int, rate: int, seconds: float, epoch: int) -> int:
    """Hand entries over as recorders do; gives how many."""
    refs = [ref(f"rtc_{number}") for number in range(calls)]
    ends, count = time.monotonic() + seconds, 0
    while (begun := time.monotonic()) < ends:
        for _ in range(rate // BATCHES):
            seq, number = divmod(count, calls)
            words = {"type": DELTA, "event_id": "event_abcdefgh", "item_id": f"item_{seq // 40}", "delta": " word"}
            payload = json.dumps(words).encode()
            at = START + count
            api.writer.entry(
                (refs[number], epoch, seq + 1, tables.KIND_EVENT, at, count, DELTA, None, payload, tables.FLAG_JSON)
            )
            count += 1
        await asyncio.sleep(max(0.0, 1 / BATCHES - (time.monotonic() - begun)))
    return count


async def watch(url: str, key: str, viewers: int) -> None:
    """Look on until nobody waits for it any more, and print the seconds between updates."""
    gaps: list[float] = []

    async def one(client: aiohttp.ClientSession) -> None:
        async with streaming(client, f"{url}/live/stream", key) as stream:
            last = None
            while True:
                event = await stream.next(deadline=60.0)
                now = time.monotonic()
                if event.name == "some" and last is not None:
                    gaps.append(now - last)
                if last is None:
                    print("looking", flush=True)
                last = now

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(client), name=f"viewer {number}") for number in range(viewers)]
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
    print(json.dumps(gaps))


@asynccontextmanager
async def viewing(api: Stage, viewers: int, found: Round) -> AsyncIterator[None]:
    """Have somebody look on from another process."""
    if not viewers:
        yield
        return
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--watch", api.url, "--key", api.key, "--viewers", str(viewers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    for _ in range(viewers):
        assert await child.stdout.readline() == b"looking\n"
    yield
    told, _ = await child.communicate(b"")
    found.gaps += json.loads(told)


async def measure(calls: int, rate: int, seconds: float, rounds: int, *, browser: bool) -> None:
    """Run all rounds and print them."""
    found = {viewers: Round() for viewers in (0, 1, 10)}
    stalls = Stalls()
    with tempfile.TemporaryDirectory() as folder:
        async with stage(Path(folder)) as api:
            api.insert(tables.call, *[call(f"rtc_{number}", user=f"user {number}") for number in range(calls)])
            # as `serve` does: what is there for good is no work for the collector
            gc.freeze()
            epoch = 0
            for _ in range(rounds):
                for viewers, round_ in found.items():
                    epoch += 1
                    async with viewing(api, viewers, round_):
                        stalls.longest, begun = 0.0, time.process_time()
                        count = await talk(api, calls, rate, seconds, epoch)
                        await api.writer.run(lambda _: None)
                        round_.cpu_us.append((time.process_time() - begun) * 1e6 / count)
                        round_.stalls.append(stalls.longest * 1000)
            show(found, calls, rate)
            if browser:
                await show_frames(api, calls, rate, seconds, epoch + 1)


def show(found: dict[int, Round], calls: int, rate: int) -> None:
    """Print what was measured."""
    table = Table("viewers", "CPU per event, us", "beside nobody", "longest stall, ms", "updates apart, s")
    table.title = f"{calls:,} live calls, {rate:,} events/s, all of them words"
    alone = statistics.median(found[0].cpu_us)
    for viewers, round_ in found.items():
        cpu = statistics.median(round_.cpu_us)
        apart = f"{statistics.median(round_.gaps):.2f}" if round_.gaps else ""
        stall = f"{statistics.median(round_.stalls):.1f}" if viewers else ""
        table.add_row(str(viewers), f"{cpu:.0f}", f"{cpu / alone:.2f}", stall, apart)
    Console().print(table)


async def show_frames(api: Stage, calls: int, rate: int, seconds: float, epoch: int) -> None:
    """Count a browser's frames while it shows all of it."""
    async with browsing() as chromium, dashboard(chromium, api.url, api.key) as shown:
        await shown.until(f"document.querySelectorAll('.live-call').length === {calls}")
        await shown.page.evaluate(_FRAMES)
        await talk(api, calls, rate, seconds, epoch)
        distances: list[Any] = sorted(await shown.page.evaluate("distances"))
        slow = distances[int(len(distances) * 0.95)]
        Console().print(f"in a browser: {len(distances) / seconds:.0f} frames/s, 95 of 100 within {slow:.0f} ms")


@click.command()
@click.option("--calls", default=1000)
@click.option("--rate", default=3000)
@click.option("--seconds", default=5.0)
@click.option("--rounds", default=3)
@click.option("--browser", is_flag=True)
@click.option("--watch", "url", default="", hidden=True)
@click.option("--key", default="", hidden=True)
@click.option("--viewers", default=1, hidden=True)
def main(calls: int, rate: int, seconds: float, rounds: int, browser: bool, url: str, key: str, viewers: int) -> None:
    """Measure."""
    if url:
        asyncio.run(watch(url, key, viewers))
    else:
        asyncio.run(measure(calls, rate, seconds, rounds, browser=browser))


if __name__ == "__main__":
    main()
