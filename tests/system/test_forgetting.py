"""A recorded call that is erased, and one that grows too old, under a running daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from rtobserver.clock import SystemClock
from rtobserver.store import sqlite, tables
from tests.support.stage import PATIENCE, Json, Stage, serving, simulating
from tests.system.conftest import Play

CANARY = "kanarienvogel"
DAY = 86_400


class Later(SystemClock):
    """Tell the time of some days hence."""

    def __init__(self, days: float) -> None:
        self._ahead = round(days * DAY * 1_000_000)

    def now_us(self) -> int:
        return super().now_us() + self._ahead


def spoken(text: str) -> list[Json]:
    """Let upstream say that a user spoke."""
    item: Json = {"id": "item_1", "type": "message", "role": "user", "status": "completed"}
    return [
        {
            "type": "conversation.item.added",
            "previous_item_id": None,
            "item": item | {"content": [{"type": "input_audio", "transcript": None}]},
        },
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": "item_1",
            "content_index": 0,
            "transcript": text,
        },
    ]


async def recorded(stage: Stage, text: str) -> str:
    """Record a call in which a user says something."""
    call_id = await stage.call(f"/v1/realtime/calls?labels=%7B%22team%22%3A%22{text}%22%7D")
    await stage.until(call_id, status="live")
    for event in spoken(f"my {text} sings"):
        stage.simulator.produce(call_id, event)
    await stage.simulator.end_call(call_id)
    await stage.ended(call_id)
    return call_id


def in_files(path: Path, word: str) -> int:
    return sum(file.read_bytes().count(word.encode()) for file in path.parent.glob(f"{path.name}*"))


async def test_an_erased_call_leaves_no_byte_in_the_files_once_the_audit_says_so(play: Play) -> None:
    async with play() as stage:
        kept, gone = await recorded(stage, "bystander"), await recorded(stage, CANARY)
        assert [hit["call_id"] for hit in (await stage.document(f"/api/v1/search?q={CANARY}"))["data"]] == [gone]
        assert in_files(stage.path, CANARY) > 2
        headers = {"Authorization": f"Bearer {stage.key}"}
        async with stage.http.delete(f"{stage.daemon.operator_url}/api/v1/calls/{gone}", headers=headers) as answer:
            assert answer.status == 204
        assert (await stage.get(f"/api/v1/calls/{gone}/transcript"))[0] == 410
        assert (await stage.document(f"/api/v1/search?q={CANARY}"))["data"] == []
        async with asyncio.timeout(PATIENCE):
            while not (await stage.document(f"/api/v1/audit?action=calls.erased&object={gone}"))["data"]:
                pass
        assert in_files(stage.path, CANARY) == 0
        assert in_files(stage.path, "bystander") > 2
        assert [row["call_id"] for row in await stage.calls()] == [kept]


async def test_what_was_said_goes_when_its_time_is_over_and_the_call_when_its_own_is(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    async with simulating() as simulator:
        async with serving(simulator, path) as stage:
            call_id = await recorded(stage, CANARY)
            assert (await stage.row(call_id))["entry_count"] > 0
        async with serving(simulator, path, clock=Later(days=31)) as stage, asyncio.timeout(PATIENCE):
            while (await stage.document(f"/api/v1/calls/{call_id}/entries"))["data"]:
                pass
            assert (await stage.document(f"/api/v1/search?q={CANARY}"))["data"] == []
            assert (await stage.row(call_id))["entry_count"] > 0
        async with serving(simulator, path, clock=Later(days=366)) as stage, asyncio.timeout(PATIENCE):
            while (await stage.get(f"/api/v1/calls/{call_id}"))[0] != 404:
                pass
        with sqlite.transaction(path) as connection:
            for table in tables.PER_CALL:
                assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0, table.name
