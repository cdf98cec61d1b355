"""Tails of live calls, under load and across everything that ends them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from pathlib import Path

import aiohttp
import pyarrow as pa
import pytest
from pyarrow import parquet

from rtobserver.simulator.scenario import Flood
from tests.support.stage import Entry, Stage, serving, simulating
from tests.support.watch import Watch
from tests.system.conftest import Play
from tests.system.ordering import live
from tests.web.event_stream import Stream, streaming


def url(stage: Stage, path: str) -> str:
    return f"{stage.daemon.operator_url}/api/v1{path}"


async def test_a_call_is_followed_from_its_first_entry_to_its_end(play: Play) -> None:
    async with play(scenario="three_turns") as stage, aiohttp.ClientSession() as client:
        call_id = await stage.call()
        async with streaming(client, url(stage, f"/calls/{call_id}/tail?after=0:0"), stage.key) as stream:
            lines, statuses = [], []
            while "ended" not in statuses:
                event = await stream.next("entry", "call")
                if event.name == "call":
                    statuses.append(event.json["status"])
                else:
                    lines.append(event.data)
        assert statuses[-1] == "ended"
        recorded = [line.decode() for line in await stage.lines(call_id)]
        assert [line.replace(f'"call_id":"{call_id}",', "", 1) for line in lines] == recorded


def committed(stage: Stage) -> list[str]:
    """List the entries of all calls as they were committed."""
    rows = stage.select("select call_id, entry.epoch, seq from entry join call using (call_key) order by entry.rowid")
    return [f"{call_id} {epoch}:{seq}" for call_id, epoch, seq in rows]


def _is_done(found: list[Entry]) -> bool:
    return any(entry.type == "response.done" for entry in found)


async def places(stream: Stream, count: int) -> list[str]:
    return [f"{event.json['call_id']} {event.json['position']}" for event in await stream.take(count, deadline=20)]


async def test_the_tail_of_all_calls_goes_on_after_a_restart_without_loss_or_repetition(tmp_path: Path) -> None:
    async with simulating(pace=1.0) as simulator, aiohttp.ClientSession() as client:
        async with serving(simulator, tmp_path / "calls.db") as stage:
            calls = [await live(stage) for _ in range(3)]
            async with streaming(client, url(stage, "/tail"), stage.key) as stream:
                # what begins now is certain to come
                calls.append(await live(stage))
                await stream.next("call")
                for call_id in calls:
                    simulator.perform(call_id, Flood(rate=50.0, seconds=6.0))
                seen = await places(stream, 40)
        async with serving(simulator, tmp_path / "calls.db") as stage:
            await simulator.until(
                lambda: all(call.conversation.active is None for call in simulator.calls.values()), 20
            )
            for call_id in calls:
                await stage.until_stored(call_id, _is_done)
            expected = committed(stage)
            expected = expected[expected.index(seen[0]) :]
            async with streaming(client, url(stage, "/tail"), stage.key, last_event_id=stream.last_id) as stream:
                seen += await places(stream, len(expected) - len(seen))
        assert seen == expected


class Counting:
    """Count the entries of a stream without parsing them, as 200 parsers would take the machine for themselves."""

    def __init__(self) -> None:
        self.entries = self.missed = 0
        self.is_open = asyncio.Event()
        self._rest = b""

    async def read(self, client: aiohttp.ClientSession, address: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        async with client.get(address, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as response:
            assert response.status == 200
            self.is_open.set()
            async for piece in response.content.iter_any():
                head, mark, self._rest = (self._rest + piece).rpartition(b"\n\n")
                whole = head + mark
                self.entries += whole.count(b"\nevent: entry\n")
                self.missed += whole.count(b"event: missed\n")


EXPORTS = ["what=entries&format=ndjson"] * 25 + ["what=calls&format=csv"] * 24 + ["what=entries&format=parquet"]


@pytest.mark.timeout(240)
async def test_200_tails_and_50_exports_lose_nothing_while_2000_events_a_second_are_recorded(play: Play) -> None:
    rate, seconds, calls, tails = 100.0, 4.0, 20, 200
    connector = aiohttp.TCPConnector(limit=0)
    async with play(pace=1.0) as stage, aiohttp.ClientSession(connector=connector) as client:
        ids = [await live(stage) for _ in range(calls)]
        watched = ids[0]
        counting = [Counting() for _ in range(tails)]
        files: list[tuple[str, bytes]] = []

        async def export(query: str) -> None:
            status, body = await stage.get(f"/api/v1/export?{query}")
            assert status == 200, body
            files.append((query, body))

        async with asyncio.TaskGroup() as group:
            address = url(stage, f"/calls/{watched}/tail?after=0:0")
            readers = [group.create_task(each.read(client, address, stage.key), name="tail") for each in counting]
            for each in counting:
                await each.is_open.wait()
            for call_id in ids:
                stage.simulator.perform(call_id, Flood(rate=rate, seconds=seconds))
            conversations = [stage.simulator.calls[call_id].conversation for call_id in ids]
            await stage.simulator.until(lambda: all(each.active for each in conversations), 20)
            began = time.monotonic()
            running = [group.create_task(export(query), name="export") for query in EXPORTS]
            await stage.simulator.until(lambda: not any(each.active for each in conversations), 60)
            took = time.monotonic() - began
            produced = len(stage.produced(watched))
            entries = await stage.until_stored(
                watched, lambda found: sum(entry.kind == "event" for entry in found) >= produced
            )
            behind = Watch()
            async with asyncio.timeout(60):
                while any(each.entries < len(entries) for each in counting):
                    await stage.row(watched)
            lag = behind.seconds()
            await asyncio.wait(running)
            export_seconds = time.monotonic() - began
            for reader in readers:
                reader.cancel()
        assert {each.entries for each in counting} == {len(entries)}
        assert not any(each.missed for each in counting)
        assert len(files) == len(EXPORTS)
        for query, body in files:
            if "parquet" in query:
                assert parquet.read_table(pa.BufferReader(body)).num_rows >= calls
            elif "csv" in query:
                assert len(list(csv.reader(io.StringIO(body.decode(), newline="")))) == 1 + calls
            else:
                assert {json.loads(line)["call_id"] for line in body.splitlines()} == set(ids)
        for call_id in ids:
            gaps = await stage.gaps(call_id)
            assert [gap["reason"] for gap in gaps] == ["before_attach"], "the recorder was not held up"
        rate_reached = sum(len(stage.produced(call_id)) for call_id in ids) / took
        print(  # noqa: T201
            f"{rate_reached:.0f} events/s, {len(files)} exports of {sum(len(body) for _, body in files) / 1e6:.1f} MB "
            f"in {export_seconds:.1f} s, the last tail was {lag:.2f} s behind"
        )
        assert lag < 10
