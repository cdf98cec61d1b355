"""The commands of `rtobserver calls` and `purge`, in processes of their own, against a real API."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from rtobserver.store import sqlite, tables
from rtobserver.store.identity import day_of
from tests.process.stage import COMMAND, configure, run
from tests.store.stored import START, call, entry, fresh, insert, ref
from tests.test_housekeeping import DAY_US
from tests.web.operator_stage import Stage, stage
from tests.web.test_api_erasure import item

PATIENCE = 30.0


@dataclass
class Terminal:
    api: Stage

    async def type(self, *words: str | Path, **environ: str) -> tuple[int, str, str]:
        """Run `rtobserver calls` with these words; gives exit code, stdout and stderr."""
        setting = {"RTOBSERVER_URL": self.api.url, "RTOBSERVER_KEY": self.api.key} | environ
        return await run("calls", *words, folder=None, **setting)

    async def lines(self, *words: str) -> list[dict[str, object]]:
        code, out, err = await self.type(*words, "--json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with stage(tmp_path) as api:
        api.key = api.make_key("admin")
        for number in range(3):
            began = START + number * 1_000_000
            ended = {"status": "ended", "outcome": "hung_up", "ended_at": began + 61_000_000}
            api.insert(tables.call, call(f"rtc_{number}", started_at=began, user=f"u{number}", **ended))
        api.insert(tables.entry, *[entry("rtc_1", seq, b'{"seq": %d}' % seq) for seq in range(1, 4)])
        api.insert(tables.item, item("rtc_1", 1, "where is\x1b[31m my refund [link=x]"))
        yield Terminal(api)


async def test_calls_are_listed_for_people_and_for_programs(terminal: Terminal) -> None:
    code, out, _ = await terminal.type("list", "--limit", "2")
    head, *rows = out.splitlines()
    assert (code, head.split()[:3]) == (0, ["call", "status", "outcome"])
    assert [row.split()[0] for row in rows] == ["rtc_2", "rtc_1"]
    assert "1:01" in rows[0]
    assert [row["call_id"] for row in await terminal.lines("list")] == ["rtc_2", "rtc_1", "rtc_0"]


async def test_a_list_is_filtered_as_the_api_does(terminal: Terminal) -> None:
    api = terminal.api
    api.insert(tables.call, call("rtc_x", labels={"team": "blue"}, tags=["a", "b"], gap_count=1))
    words = ("--label", "team=blue", "--tag", "a", "--tag", "b", "--has", "gap", "--status", "live")
    assert [row["call_id"] for row in await terminal.lines("list", *words)] == ["rtc_x"]
    assert [row["call_id"] for row in await terminal.lines("list", "--q", "refund")] == ["rtc_1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("list", "--status", "bogus"), "connecting"),
        (("search", "refund", "--since", "soon"), "2026-01-31T08:00:00Z"),
        (("export", "--what", "entries", "--format", "csv"), "ndjson"),
        (("list", "--url", "nonsense"), "'nonsense' is no address such as http://127.0.0.1:8081"),
        (("list", "--url", "http://["), "is no address"),
        (("list", "--url", "ftp://127.0.0.1"), "is no address"),
    ],
)
async def test_wrong_input_is_wrong_usage(terminal: Terminal, words: tuple[str, ...], says: str) -> None:
    code, out, err = await terminal.type(*words)
    assert (code, out) == (2, "")
    assert says in err


async def test_a_call_is_shown_with_what_was_said(terminal: Terminal) -> None:
    code, out, err = await terminal.type("show", "rtc_1")
    assert code == 0, err
    assert "ended (hung_up)" in out
    assert "where is [31m my refund [link=x]" in out
    assert "\x1b" not in out
    assert [row["user"] for row in await terminal.lines("show", "rtc_1")] == ["u1"]


async def test_an_unknown_call_fails_with_words(terminal: Terminal) -> None:
    code, out, err = await terminal.type("show", "rtc_9")
    assert (code, out) == (1, "")
    assert "There is no call of this id. (404 call_not_found)" in err


async def test_what_was_said_is_found(terminal: Terminal) -> None:
    [hit] = await terminal.lines("search", "refund")
    assert hit["call_id"] == "rtc_1"
    code, out, _ = await terminal.type("search", "refund", "--user", "u1")
    assert code == 0
    assert "rtc_1" in out
    assert await terminal.lines("search", "refund", "--user", "u2") == []


async def test_exports_go_to_stdout_or_to_a_file(terminal: Terminal, tmp_path: Path) -> None:
    code, out, _ = await terminal.type("export", "--what", "entries")
    assert (code, len(out.splitlines())) == (0, 3)
    path = tmp_path / "calls.parquet"
    code, out, err = await terminal.type("export", "--format", "parquet", "-o", path, "--user", "u1")
    assert (code, out) == (0, ""), err
    table = parquet.read_table(pa.BufferReader(path.read_bytes()))
    assert table.column("call_id").to_pylist() == ["rtc_1"]


async def test_calls_are_erased_when_that_is_meant(terminal: Terminal) -> None:
    code, _, err = await terminal.type("delete", "rtc_1")
    assert code == 1
    assert "Erase 1 call(s) for good?" in err
    code, out, err = await terminal.type("delete", "--yes", "rtc_1", "rtc_9", "rtc_2")
    assert code == 1
    assert out.splitlines() == ["rtc_1 is erased", "rtc_2 is erased"]
    assert "rtc_9: There is no call of this id." in err
    assert (await terminal.api.get("/api/v1/calls/rtc_1")).status == 410


async def test_a_tail_follows_a_call_to_its_end(terminal: Terminal) -> None:
    api = terminal.api
    api.insert(tables.call, call("rtc_live"))
    environ = os.environ | {"RTOBSERVER_URL": api.url, "RTOBSERVER_KEY": api.key}
    process = await asyncio.create_subprocess_exec(
        COMMAND, "calls", "tail", "rtc_live", "--after", "0:0", stdout=asyncio.subprocess.PIPE, env=environ
    )
    assert process.stdout is not None
    where = ref("rtc_live")
    row = entry("rtc_live", 1, b'"\\ud83d"', type="session.created")
    api.writer.entry((where, *[row[name] for name in list(row)[2:]]))
    async with asyncio.timeout(PATIENCE):
        while b"session.created" not in await process.stdout.readline():
            pass
        api.writer.fact(tables.call, where, {"status": "ended", "outcome": "expired", "ended_at": START})
        rest, _ = await process.communicate()
    assert b"rtc_live  ended  expired" in rest
    assert process.returncode == 0


async def test_without_a_key_or_a_daemon_it_says_what_to_do(terminal: Terminal) -> None:
    code, _, err = await terminal.type("list", RTOBSERVER_KEY="")
    assert code == 2
    assert "RTOBSERVER_KEY" in err
    code, _, err = await terminal.type("list", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "http://127.0.0.1:9/api/v1 does not answer" in err
    code, _, err = await terminal.type("list", "--key", "rto_wrong")
    assert code == 1
    assert "401" in err


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_purge_says_what_goes(tmp_path: Path, dry_run: bool) -> None:
    path = fresh(tmp_path)
    path = path.rename(tmp_path / "calls.db")
    insert(path, tables.call, call("rtc_old", started_at=START - 100 * DAY_US, status="ended"))
    insert(path, tables.entry, entry("rtc_old", 1, day=day_of(START - 100 * DAY_US)))
    config = configure(tmp_path, "http://127.0.0.1:9/openai/v1")
    words: list[str | Path] = ["purge", "--config", config]
    words += ["--dry-run"] if dry_run else []
    code, out, err = await run(*words)
    assert code == 0, err
    assert "1 calls" in out
    assert "1 entries" in out
    with sqlite.transaction(path) as connection:
        left = len(connection.execute(tables.entry.select()).all())
    assert left == (1 if dry_run else 0)


async def test_a_purge_is_refused_while_a_daemon_runs(tmp_path: Path) -> None:
    fresh(tmp_path).rename(tmp_path / "calls.db")
    config = configure(tmp_path, "http://127.0.0.1:9/openai/v1")
    with sqlite.hold(tmp_path / "calls.db"):
        code, _, err = await run("purge", "--config", config)
    assert code == 1
    assert "another rtobserver runs" in err
