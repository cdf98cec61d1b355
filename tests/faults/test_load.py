"""One call floods beside calm ones (A18), and many calls for long (soak)."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from rtobserver.simulator.scenario import Flood, Repeat, Scenario
from tests.faults import oracle
from tests.faults.acts import FIRST, place
from tests.faults.disks import Disk
from tests.faults.ground import QUIET, TOP, Site, record, site, stream
from tests.faults.oracle import Told
from tests.faults.table import Case
from tests.process.stage import PATIENCE, Daemon, until
from tests.process.test_killed import observed
from tests.support.stage import Entry

RATE = 20_000
BATCH = 0.01
"""Seconds between two handfuls of a flood."""
ANSWER = "resp_flood"
LOOP_GAP = 250.0
"""Milliseconds that the loop may stand still, by the wall's time."""
LAG = 1.0
"""Seconds from upstream to the database, for 99 of 100 events, beside a flood or beside other cases."""
LAG_ALONE = 0.5
"""The same for 500 calls, where a case has the machine for itself."""
LOOKED_AT = 10
"""Calls that are looked at from outside: the daemon's own figure knows of no flush before its end."""
LEFT = 8
"""Descriptors and tasks that may be more than before the first call."""


def delta(number: int, size: int) -> tuple[bytes, str]:
    """Make one delta of the answer that floods, and its event id."""
    event_id = f"event_flood_{number}"
    head = f'{{"type":"response.output_audio_transcript.delta","event_id":"{event_id}","response_id":"{ANSWER}",'
    body = f'"item_id":"item_flood","output_index":0,"content_index":0,"delta":" {number}","obfuscation":"'
    return f'{head}{body}{"x" * max(0, size - len(head) - len(body) - 2)}"}}'.encode(), event_id


async def pour(here: Site, call_id: str, seconds: float, *, size: int) -> tuple[int, float]:
    """Produce deltas at the flood's rate; gives how many they were and the rate that was reached."""
    simulator = here.simulator
    response = {"id": ANSWER, "object": "realtime.response", "status": "in_progress", "conversation_id": "conv_1"}
    simulator.produce(call_id, {"type": "response.created", "response": response})
    began, count, whole = time.monotonic(), 0, int(RATE * seconds)
    while count < whole:
        due = min(whole, int(RATE * (time.monotonic() - began)))
        simulator.emit_all(call_id, [delta(number, size) for number in range(count, due)])
        count = due
        await asyncio.sleep(BATCH)
    took = time.monotonic() - began
    ended = {"response_id": ANSWER, "item_id": "item_flood", "output_index": 0, "content_index": 0}
    simulator.produce(call_id, {"type": "response.output_audio_transcript.done", **ended, "transcript": "a lot"})
    simulator.produce(call_id, {"type": "response.done", "response": {**response, "status": "completed"}})
    return count, count / took


async def taken(here: Site, call_id: str, patience: float) -> float:
    """Wait until the daemon has read what was sent; gives how long that took."""
    began, call = time.monotonic(), here.simulator.calls[call_id]
    # the calm calls speak all the while, so that this is looked at again and again
    await here.simulator.until(lambda: not any(each.unsent_bytes for each in call.open_sidebands), patience)
    return time.monotonic() - began


async def is_written(daemon: Daemon) -> bool | None:
    """Tell whether nothing waits for the database."""
    return await metric(daemon, "rtobserver_queue_bytes") < 1_000_000 or None


class Lags:
    """Keep how far each of some calls is committed, as another process sees it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, told: Told, entries: Sequence[Entry]) -> list[float]:
        """Give, for the events of a call that were looked at, the seconds from upstream to the database."""
        sent = {each.event_id: each.at for each in told.events}
        # the last line may be half a one
        looks = [json.loads(line) for line in self._path.read_bytes().split(b"\n")[:-1]]
        seen = [(tuple(newest[told.call_id]), at) for at, newest in looks if told.call_id in newest]
        found, place = [], 0
        for entry in entries:
            while place < len(seen) and seen[place][0] < entry.position:
                place += 1
            if entry.fields["event_id"] not in sent:
                continue
            since = sent[entry.fields["event_id"]]
            # what the first look shows was there before anybody looked
            if 0 < place < len(seen):
                found.append(seen[place][1] - since)
            elif seen and place == len(seen) and since < seen[-1][1]:
                # at least so late
                found.append(seen[-1][1] - since)
        return found


@asynccontextmanager
async def looking(here: Site, call_ids: Sequence[str]) -> AsyncIterator[Lags]:
    """Look at calls for the length of the block."""
    path = here.folder / "looks.ndjson"
    words = [*FIRST, sys.executable, "-m", "tests.faults.looks", str(here.store), *call_ids]
    with path.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*words, cwd=TOP, stdout=file)
    try:
        yield Lags(path)
        assert process.returncode is None, "nobody looked any more"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def flood(
    case: Case,
    here: Site,
    daemon: Daemon,
    seconds: float,
    *,
    size: int = 256,
    disk: Disk | None = None,
    least: float = 0.9 * RATE,
) -> int:
    """Have one call of fifty flood, at `least` so many events a second; gives how much of it was shed."""
    call_ids = await place(daemon, here, 50, events=0)
    [flooded], calm = call_ids[:1], call_ids[1:]
    before = here.measured.rss
    async with looking(here, calm[:5]) as lags:
        if disk is not None:
            disk.slow("sync", "calls.db", 8_000)
        count, rate = await pour(here, flooded, seconds, size=size)
        behind = await taken(here, flooded, 60 + 10 * seconds)
        if disk is not None:
            disk.heal()
            # until then the API answers 503: without an audit there is no answer
            await until(lambda: is_written(daemon))
    await here.end(daemon, call_ids)
    gap = here.measured_loop_gap()[0]
    growth = here.measured.rss - before
    calm_figures = await here.figures_of(daemon, calm)
    ledger = await asyncio.to_thread(oracle.read_ledger, here.ledger, call_ids[:6])
    told = ledger[flooded]
    late = sorted([each for id_ in calm[:5] for each in lags.of(ledger[id_], (await record(daemon, id_)).entries)])
    lag = late[int(len(late) * 0.99)]
    found = await record(daemon, flooded)
    shed: int = sum(each["lost"] for each in found.gaps if each["lost"])
    figures = await here.figures(daemon, call_ids)
    case.show(
        figures,
        loop_gap=LOOP_GAP,
        # of a disk that takes eight seconds for a sync nobody can be told sooner
        most={"calm_missing": 0, "rss_growth": 350} | ({"calm_lag_p99_ms": LAG * 1000} if disk is None else {}),
        # a flood that upstream cannot keep up is none
        least={"rate": least},
        calm_lag_p99_ms=round(lag * 1000),
        calm_lag_max_ms=round(late[-1] * 1000),
        flooded=count,
        rate=round(rate),
        behind_s=round(behind, 2),
        shed=shed,
        calm_missing=calm_figures.missing,
        rss_growth=round(growth, 1),
        loop_gap_in_the_flood=round(gap, 1),
    )
    assert calm_figures.gap_s == 0
    # to the last frame: what is not there is counted, by its type
    assert shed == len(told.events) - (figures.stored - calm_figures.stored)
    assert shed == sum(sum(each["lost_by_type"].values()) for each in found.gaps if each["lost"])
    assert {name for each in found.gaps if each["lost"] for name in each["lost_by_type"]} <= {
        "response.output_audio_transcript.delta"
    }
    await daemon.command.stopped()
    return shed


def scenario_for(_offer: str, number: int) -> Scenario:
    return QUIET if number == 1 else stream(10)


@pytest.mark.quarter
@pytest.mark.timeout(240)
@pytest.mark.case("A18")
async def test_a_short_flood_costs_its_neighbours_nothing(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario_for=scenario_for, remember=False) as here, here.serving(prefix=FIRST) as daemon:
        # it belongs to every run, also to those on machines that are busy
        await flood(case, here, daemon, 1, least=RATE / 4)


@pytest.mark.timeout(600)
@pytest.mark.case("A18")
async def test_a_flood_of_ten_seconds_costs_its_neighbours_nothing(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario_for=scenario_for, remember=False) as here, here.serving(prefix=FIRST) as daemon:
        await flood(case, here, daemon, 10)


@pytest.mark.timeout(600)
@pytest.mark.case("A18")
async def test_a_flood_that_a_slow_disk_cannot_take_is_shed_and_counted_to_the_last_frame(
    case: Case, tmp_path: Path
) -> None:
    disk = Disk(tmp_path)
    async with (
        site(tmp_path, scenario_for=scenario_for, remember=False) as here,
        here.serving(prefix=FIRST, **disk.environ) as daemon,
    ):
        shed = await flood(case, here, daemon, 10, disk=disk)
    assert shed > 1_000


# --- soak -------------------------------------------------------------------------------------------


def descriptors(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.process.pid}/fd").iterdir())


async def metric(daemon: Daemon, name: str) -> float:
    """Read a figure that the daemon gives of itself."""
    headers = {"Authorization": f"Bearer {daemon.key}"}
    async with daemon.http.get(f"{daemon.operator}/metrics", headers=headers) as answer:
        found = re.search(rf"^{name} (\S+)$", await answer.text(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


EACH = 10
"""Events a second of each call."""
ANSWERS = Scenario(name="answers", steps=(Repeat(times=0, steps=(Flood(rate=EACH, seconds=5),)),))
"""Short answers: a call reaches the bounds of what it holds (64 of them) within half of the soak."""


async def at_rest(look: Callable[[], Awaitable[float]], most: float) -> float:
    """Give a figure when it has come down so far, or as it is when it does not."""
    found = await look()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while found > most:
                found = await look()
    return found


async def many(
    case: Case, here: Site, daemon: Daemon, calls: int, seconds: float, *, growth_mib: float, lag: float
) -> None:
    """Have many calls speak for long, and look at what grows."""

    async def opened() -> float:
        return descriptors(daemon)

    async def tasks() -> float:
        return await metric(daemon, "rtobserver_loop_tasks")

    base, tasks_before = descriptors(daemon), await tasks()
    call_ids = [await daemon.place() for _ in range(calls)]
    await observed(here.simulator, call_ids)
    produced = here.simulator.calls.values()
    memory: list[float] = []
    async with looking(here, call_ids[:LOOKED_AT]) as lags:
        began, before = time.monotonic(), sum(each.produced_count for each in produced)
        while time.monotonic() < began + seconds:
            memory.append(await metric(daemon, "process_resident_memory_bytes") / 2**20)
            await asyncio.sleep(0.25)
        rate = (sum(each.produced_count for each in produced) - before) / (time.monotonic() - began)
    busy = await tasks()
    await here.end(daemon, call_ids)
    live = await at_rest(lambda: metric(daemon, "rtobserver_live_calls"), 0)
    left, tasks_left = await at_rest(opened, base + LEFT), await at_rest(tasks, tasks_before + LEFT)
    figures = await here.figures(daemon, call_ids)
    told = await asyncio.to_thread(oracle.read_ledger, here.ledger, call_ids[:LOOKED_AT])
    late = sorted([each for id_ in told for each in lags.of(told[id_], (await record(daemon, id_)).entries)])
    # before that, calls fill up to what they may hold, and SQLite its cache
    fifth = len(memory) // 5
    growth = sum(memory[-fifth:]) / fifth - sum(memory[-2 * fifth : -fifth]) / fifth
    case.show(
        figures,
        most={
            "commit_lag_p99_ms": lag * 1000,
            "rss_growth_in_the_last_fifth": growth_mib,
            "descriptors_left": LEFT,
            "tasks_left": LEFT,
            "live_calls": 0,
        },
        least={"events_per_s": calls * EACH * 0.95, "looked_at": 0.9 * EACH * seconds * LOOKED_AT},
        calls=calls,
        events_per_s=round(rate),
        looked_at=len(late),
        commit_lag_p50_ms=round(late[len(late) // 2] * 1000),
        commit_lag_p99_ms=round(late[int(len(late) * 0.99)] * 1000),
        commit_lag_max_ms=round(late[-1] * 1000),
        rss_growth_in_the_last_fifth=round(growth, 1),
        rss_mib=[round(each) for each in memory[:: max(1, len(memory) // 10)]],
        descriptors_left=left - base,
        tasks_left=tasks_left - tasks_before,
        tasks_while_busy=busy,
        live_calls=live,
    )
    assert figures.missing == 0
    # a figure that says the same whatever goes on would show no leak
    assert busy >= calls
    await daemon.command.stopped()


@pytest.mark.timeout(300)
@pytest.mark.case("A19")
async def test_200_calls_for_a_minute_lose_nothing_and_leave_nothing(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=ANSWERS, remember=False) as here, here.serving(prefix=FIRST) as daemon:
        # in its first minute SQLite fills its cache of 64 MiB
        await many(case, here, daemon, 200, 60, growth_mib=40, lag=LAG)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.case("A19")
async def test_500_calls_for_ten_minutes_lose_nothing_and_leave_nothing(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=ANSWERS, remember=False) as here, here.serving(prefix=FIRST) as daemon:
        await many(case, here, daemon, 500, 600, growth_mib=5, lag=LAG_ALONE)
