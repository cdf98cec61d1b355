"""`rtobserver rebuild` makes the rows again that the live calls wrote."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from rtobserver.simulator.scenario import (
    BargeIn,
    Failed,
    Flood,
    Frame,
    Hold,
    Scenario,
    SessionUpdate,
    Spoken,
    ToolCall,
    Typed,
)
from rtobserver.simulator.server import Simulator, SimulatorOptions
from rtobserver.store import sqlite
from tests.process.stage import ground, run
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TABLES = ("item", "response", "call", "gap", "command")

TALK = Scenario(
    name="talk",
    transcription="gpt-realtime-whisper",
    steps=(
        SessionUpdate(session={"tools": [{"type": "function", "name": "get_weather"}]}),
        Spoken(),
        Typed(),
        BargeIn(when="response"),
        BargeIn(when="playback", interruption=""),
        ToolCall(),
        Failed(),
        Hold(),
        Frame(text="no JSON at all"),
        Spoken(transcription_error="DeploymentNotFound"),
        Flood(rate=20, seconds=2.0),
    ),
)


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read what a rebuild makes again, and what it must leave alone."""
    with contextlib.closing(sqlite.open_writer(path)) as connection:
        found = {}
        for table in TABLES:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            # the order in which upserts came is not part of a row
            found[table] = sorted((dict(zip(names, row, strict=True)) for row in cursor), key=repr)
        return found


def spoil(path: Path) -> None:
    """Make derived rows wrong."""
    with contextlib.closing(sqlite.open_writer(path)) as connection:
        connection.execute("DELETE FROM response WHERE rowid % 2 = 0")
        connection.execute("UPDATE item SET text = 'wrong'")
        connection.execute(
            "UPDATE call SET turn_count = 99, entry_count = 0, usage = '{}', checks = '{}', gap_count = 9"
        )


async def test_a_rebuild_gives_the_rows_that_the_live_calls_wrote(tmp_path: Path) -> None:
    options = SimulatorOptions(scenario=TALK, pace=0.1, begin="attached")
    async with ground(tmp_path, Simulator(options)) as here:
        upstream = here.simulator
        async with here.serving() as first:
            whole = [await first.place() for _ in range(2)]
            for call_id in whole:
                upstream.release(call_id)
                await first.call_with(call_id, status="ended")
            torn, dropped = await first.place(), await first.place()
            await further(upstream, [torn, dropped], 30)
            await upstream.close_sidebands(dropped)
            await first.call_with(dropped, gap_count=1)
            first.process.kill()
            await first.command.ended()
        async with here.serving() as second:
            await observed(upstream, [torn, dropped])
            for call_id in (torn, dropped):
                upstream.release(call_id)
                await second.call_with(call_id, status="ended")
            calls = {call_id: await second.get(f"/calls/{call_id}") for call_id in (*whole, torn, dropped)}
            await second.command.stopped()
        written = rows(here.store)
        assert await _rebuilt(tmp_path) == "4 calls rebuilt\n"
        again = rows(here.store)
        spoil(here.store)
        assert rows(here.store) != written
        await _rebuilt(tmp_path)
        mended = rows(here.store)

    for table in TABLES:
        assert again[table] == written[table], table
        assert mended[table] == written[table], table
    assert len(written["item"]) > 40
    assert calls[whole[0]]["completeness"] == "complete"
    assert calls[whole[0]]["interruption_count"] == 2
    assert {calls[torn]["gap_count"], calls[dropped]["gap_count"]} == {1, 2}


async def test_calls_whose_entries_are_gone_are_left_alone_and_named(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator(SimulatorOptions(scenario="typed", pace=0.1, begin="attached"))) as here:
        async with here.serving() as daemon:
            gone, kept = await daemon.place(), await daemon.place()
            for call_id in (gone, kept):
                await daemon.call_with(call_id, status="ended")
            await daemon.command.stopped()
        with contextlib.closing(sqlite.open_writer(here.store)) as connection:
            connection.execute(
                "DELETE FROM entry WHERE call_key = (SELECT call_key FROM call WHERE call_id = ?)", (gone,)
            )
        written = rows(here.store)
        said = await _rebuilt(tmp_path)
        lines = [json.loads(line) for line in (await _rebuilt(tmp_path, "--json")).splitlines()]
        assert rows(here.store) == written
    assert said == f"1 calls rebuilt\nleft alone, its entries are gone: {gone}\n"
    assert {line["call_id"]: line["left_alone"] for line in lines} == {gone: True, kept: False}


async def test_there_must_be_a_database_to_rebuild(tmp_path: Path) -> None:
    async with ground(tmp_path, Simulator()):
        code, _, log = await run("rebuild", "--config", "config.toml", folder=tmp_path)
    assert (code, f"there is no {tmp_path}/calls.db" in log) == (2, True)


async def _rebuilt(folder: Path, *words: str) -> str:
    code, out, log = await run("rebuild", "--config", "config.toml", *words, folder=folder)
    assert code == 0, log
    return out
