from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from rtobserver.errors import StoreUnavailable
from rtobserver.store import erasure, tables
from rtobserver.store.places import Server
from tests.store.stored import START, call, entry, ref
from tests.web.operator_stage import Stage, stage

CANARY = "kanarienvogel"
REST = ("", "/entries", "/gaps", "/commands")


@pytest.fixture
async def on_file(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.key = opened.make_key("erase", "read", "admin")
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        opened.key = opened.make_key("erase", "read", "admin")
        yield opened


def item(call_id: str, number: int, text: str) -> dict[str, object]:
    return {
        "call_key": ref(call_id).key,
        "day": ref(call_id).day,
        "item_id": f"item_{number}",
        "epoch": 1,
        "seq": number,
        "role": "user",
        "kind": "speech",
        "text": text,
        "status": "completed",
        "interrupted": False,
        "out_of_band": False,
        "idle_timeout": False,
        "recovered": False,
    }


def order(call_id: str) -> dict[str, object]:
    return {
        "order_id": f"ord_{call_id}",
        "call_id": call_id,
        "call_key": ref(call_id).key,
        "state": "sent",
        "command": f'{{"text":"{CANARY}"}}',
        "actor": "key",
        "ordered_at": START,
    }


async def record(api: Stage, call_id: str, word: str, entries: int = 40) -> None:
    """Record an ended call that is full of a word, through the writer as observers do."""
    values = {"user": word, "labels": {"team": word}, "tags": [word], "token_id": word}
    values["session"] = f'{{"instructions":"{word}"}}'
    api.insert(tables.call, call(call_id, status="ended", outcome="hung_up", entry_count=entries, **values))
    where = ref(call_id)
    for seq in range(1, entries + 1):
        row = entry(call_id, seq, b'{"delta":"%s %s"}' % (word.encode(), b"x" * (5000 if seq % 7 == 0 else 50)))
        api.writer.entry((where, *[row[name] for name in list(row)[2:]]))
    for number in range(20):
        nulls = {column.name: None for column in tables.item.columns} | item(
            call_id, number, f"I keep a {word} {number}"
        )
        api.writer.fact(tables.item, where, {name: nulls[name] for name in list(nulls)[2:]})
    position = {"call_key": where.key, "day": where.day, "epoch": 1, "seq": 1}
    api.insert(
        tables.command,
        position
        | {
            "event_id": "rto_1",
            "type": "response.create",
            "source": "operator",
            "state": "failed",
            "error": f"no {word}",
        },
    )
    api.insert(
        tables.decision,
        position
        | {
            "policy": "p",
            "policy_set": "s",
            "trigger": f"phrase {word}",
            "mode": "observe",
            "acted": False,
            "actions": f'["{word}"]',
            "received_at": 1,
            "matched_at": 1,
            "match": word,
            "detail": word,
            "item_id": word,
            "response_id": word,
        },
    )
    api.insert(tables.quarantine, position | {"at": 1, "problem": "odd", "payload": word.encode()})
    await api.writer.readable()


def found(api: Stage, word: str) -> int:
    """Count a word in all files of the database; on a server in all that anybody could read, and in the journal."""
    if isinstance(api.place, Server):
        kept = b"".join(path.read_bytes() for path in (api.folder / "journal").rglob("*") if path.is_file())
        tables_ = [sa.select(*table.c) for table in tables.metadata.tables.values()]
        return (kept + repr([api.select(each) for each in tables_]).encode()).count(word.encode())
    return sum(path.read_bytes().count(word.encode()) for path in api.path.parent.glob(f"{api.path.name}*"))


async def test_an_erased_call_is_gone_for_every_reader_and_from_the_files(api: Stage) -> None:
    await record(api, "rtc_kept", "bystander")
    await record(api, "rtc_1", CANARY)
    api.insert(tables.order, order("rtc_1"))
    assert found(api, CANARY) > 60
    assert (await api.delete("/api/v1/calls/rtc_1")).status == 204
    for rest in REST:
        answer = await api.get(f"/api/v1/calls/rtc_1{rest}")
        assert (answer.status, answer.code) == (410, "call_erased")
    assert (await api.delete("/api/v1/calls/rtc_1")).code == "call_erased"
    of_order = await api.get("/api/v1/orders/ord_rtc_1")
    assert (of_order.status, of_order.code) == (410, "call_erased")
    assert [row["call_id"] for row in (await api.get("/api/v1/calls")).json["data"]] == ["rtc_kept"]

    assert await done(api, "calls.erased") == []
    await completed(api)
    assert await done(api, "calls.erased") == ["rtc_1"]
    assert found(api, CANARY) == 0
    assert found(api, "bystander") > 60
    assert len((await api.get("/api/v1/calls/rtc_kept/entries?limit=1000")).json["data"]) == 40


async def completed(api: Stage) -> None:
    """Have erasures ended, as soon as the journal has given up what it holds of them."""
    async with asyncio.timeout(20):
        while True:
            await api.housekeeping.complete()
            if (await api.get("/api/v1/system")).json["store"]["erasures_pending"] == 0:
                return
            await asyncio.sleep(0.05)


async def done(api: Stage, action: str) -> list[str]:
    return [row["object"] for row in (await api.get(f"/api/v1/audit?action={action}")).json["data"]]


async def test_nothing_that_comes_later_is_written(api: Stage) -> None:
    await record(api, "rtc_1", CANARY, entries=3)
    where = ref("rtc_1")
    late = entry("rtc_1", 4, b'"late canary"')
    row = (where, *[late[name] for name in list(late)[2:]])
    erasing = asyncio.gather(api.delete("/api/v1/calls/rtc_1"), api.delete("/api/v1/calls/rtc_1"))
    while not erasing.done():
        api.writer.entry(row)
        api.writer.fact(tables.call, where, {"tags": '["late canary"]', "status": "ended"})
        await asyncio.sleep(0)
    assert sorted(answer.status for answer in await erasing) == [204, 410]
    api.writer.entry(row)
    api.writer.fact(tables.gap, where, {})
    await completed(api)
    async with asyncio.timeout(20):
        # a journal gives its files up when all that they hold was shipped, or refused
        while True:
            if not found(api, "late canary"):
                break
            await asyncio.sleep(0.05)
    assert api.select(sa.select(sa.func.count()).select_from(tables.entry)) == [(0,)]


@pytest.mark.parametrize("status", ["live", "connecting"])
async def test_a_call_that_goes_on_cannot_be_erased(api: Stage, status: str) -> None:
    api.insert(tables.call, call("rtc_1", status=status))
    answer = await api.delete("/api/v1/calls/rtc_1")
    assert (answer.status, answer.code) == (409, "call_live")
    rows = (await api.get("/api/v1/audit?action=calls.erase")).json["data"]
    assert [(row["object"], row["status"]) for row in rows] == [("rtc_1", 409), ("rtc_1", 200)]
    assert rows[0]["request_id"] == rows[1]["request_id"]
    assert (await api.get("/api/v1/calls/rtc_1")).status == 200


async def test_erasing_needs_its_scope_and_a_call(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended"))
    assert (await api.delete("/api/v1/calls/rtc_1", key=api.make_key("read", "control"))).status == 403
    assert (await api.delete("/api/v1/calls/rtc_1", key="")).status == 401
    assert (await api.delete("/api/v1/calls/rtc_2")).status == 404
    assert (await api.get("/api/v1/calls/rtc_1")).status == 200


async def test_who_erased_is_in_the_audit_before_it_is_done(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended"))
    await api.writer.close()
    assert (await api.delete("/api/v1/calls/rtc_1")).status == 503
    assert api.select(sa.select(tables.tombstone)) == []


async def test_an_erasure_that_a_crash_interrupted_is_ended_later(api: Stage) -> None:
    await record(api, "rtc_1", CANARY)
    await api.writer.run(erasure.begin(ref("rtc_1"), actor="key", at=api.clock.now_us()))
    assert (await api.get("/api/v1/calls/rtc_1")).status == 410
    assert (await api.get("/api/v1/system")).json["store"]["erasures_pending"] == 1
    assert found(api, CANARY) > 0
    await completed(api)
    assert found(api, CANARY) == 0
    assert (await api.get("/api/v1/system")).json["store"]["erasures_pending"] == 0


async def test_a_reader_in_the_way_delays_what_the_audit_says(on_file: Stage) -> None:
    api = on_file
    await record(api, "rtc_1", CANARY)
    async with api.database.reading() as connection:
        await connection.execute(sa.text("BEGIN"))
        await connection.execute(sa.text("SELECT count(*) FROM entry"))
        await api.delete("/api/v1/calls/rtc_1")
        with pytest.raises(StoreUnavailable):
            await api.housekeeping.complete()
        await connection.execute(sa.text("COMMIT"))
    assert await done(api, "calls.erased") == []
    await api.housekeeping.complete()
    assert found(api, CANARY) == 0
