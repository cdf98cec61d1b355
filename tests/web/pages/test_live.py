"""The stream behind the page of live calls, over a real store and its writer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rtobserver.store import keys, ongoing, tables
from rtobserver.store.feed import Mark
from rtobserver.store.sqlite import SqliteDatabase
from rtobserver.web.pages import board, live
from tests.store import stored
from tests.store.stored import START, call, entry, ref
from tests.store.test_plans import steps
from tests.support.watch import Watch
from tests.web.event_stream import Event, Stream, streaming
from tests.web.operator_stage import Stage, stage

Json = dict[str, Any]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


def looking(api: Stage, key: str | None = None) -> AbstractAsyncContextManager[Stream]:
    return streaming(api.client, f"{api.url}/live/stream", key or api.key)


def record(api: Stage, call_id: str, seq: int, type_: str, **fields: Any) -> None:
    """Hand an event to the writer, as a recorder does."""
    row = entry(call_id, seq)
    payload = json.dumps({"type": type_, **fields}).encode()
    api.writer.entry(
        (ref(call_id), 1, seq, row["kind"], row["at"], row["offset_us"], type_, None, payload, tables.FLAG_JSON)
    )


async def change(api: Stage, call_id: str, **values: Any) -> None:
    where = tables.call.c.call_id == call_id
    await api.writer.run(lambda work: work.execute(tables.call.update().where(where).values(values)))


async def until(stream: Stream, call_id: str, **wanted: Any) -> Json:
    """Read on until what is known of a call is as wanted, as a page puts it together; gives it."""
    known: Json = {}
    while True:
        event = await stream.next("all", "some")
        for each in event.json["calls"]:
            if each["call_id"] == call_id:
                known |= each
        if known and all(known.get(name) == value for name, value in wanted.items()):
            return known


async def whole(stream: Stream) -> list[Json]:
    event = await stream.next()
    assert event.name == "all"
    found: list[Json] = event.json["calls"]
    return found


async def test_the_stream_begins_with_all_calls_that_go_on_newest_first(api: Stage) -> None:
    api.insert(
        tables.call,
        call("rtc_1", user="ann", tags=["vip"], cost_usd="0.0125", turn_count=2, gap_count=1),
        call("rtc_2", status="connecting", started_at=START + 5),
        call("rtc_3", status="ended", outcome="browser_left", ended_at=START + 9),
    )
    async with looking(api) as stream:
        newest, oldest = await whole(stream)
    assert (newest["call_id"], newest["status"]) == ("rtc_2", "connecting")
    assert oldest == {
        "call_id": "rtc_1",
        "status": "live",
        "outcome": None,
        "started_at": "2026-01-01T00:00:00.000000Z",
        "ended_at": None,
        "profile": "default",
        "model": "gpt-realtime",
        "user": "ann",
        "tags": ["vip"],
        "turn_count": 2,
        "interruption_count": 0,
        "error_count": 0,
        "gap_count": 1,
        "tampered": False,
        "cost_usd": "0.0125",
        "decision_count": 0,
        "last_policy": None,
        "paused": False,
        "user_speaking": False,
        "assistant_speaking": False,
        "user_words": "",
        "assistant_words": "",
    }


async def test_a_call_appears_within_a_second_and_its_words_while_they_are_said(api: Stage) -> None:
    async with looking(api) as stream:
        assert await whole(stream) == []
        row = call("rtc_1")
        await api.writer.run(lambda work: work.execute(tables.call.insert().values(row)))
        watch = Watch()
        event = await stream.next("some")
        assert watch.seconds() < 1
        assert [each["call_id"] for each in event.json["calls"]] == ["rtc_1"]
        record(api, "rtc_1", 1, "input_audio_buffer.speech_started", item_id="item_1")
        await until(stream, "rtc_1", user_speaking=True)
        record(api, "rtc_1", 2, "input_audio_buffer.speech_stopped", item_id="item_1")
        record(
            api,
            "rtc_1",
            3,
            "conversation.item.input_audio_transcription.completed",
            item_id="item_1",
            transcript="Where is my parcel?",
        )
        record(api, "rtc_1", 4, "output_audio_buffer.started", response_id="resp_1")
        record(api, "rtc_1", 5, "response.output_audio_transcript.delta", item_id="item_2", delta="It is ")
        await until(
            stream, "rtc_1", user_words="Where is my parcel?", assistant_words="It is ", assistant_speaking=True
        )
        record(api, "rtc_1", 6, "response.output_audio_transcript.delta", item_id="item_2", delta="on its way.")
        record(api, "rtc_1", 7, "output_audio_buffer.stopped", response_id="resp_1")
        await until(stream, "rtc_1", assistant_words="It is on its way.", assistant_speaking=False)


async def test_an_update_holds_only_what_changed(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"), call("rtc_2"))
    async with looking(api) as stream:
        await whole(stream)
        await change(api, "rtc_2", cost_usd="0.5")
        told = (await stream.next()).json
        assert told["calls"] == [{"call_id": "rtc_2", "cost_usd": "0.5"}]
        assert (told["gone"], told["is_cut"]) == ([], False)


async def test_what_was_said_before_anybody_looked_is_shown(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    own = {"call_key": ref("rtc_1").key, "day": ref("rtc_1").day}
    for number, (role, text) in enumerate([("user", "Hello"), ("assistant", "Good day"), ("user", "x" * 500 + " end")]):
        api.insert(tables.item, own | stored_item(number, role, text))
    api.insert(
        tables.entry,
        entry("rtc_1", 1, type="input_audio_buffer.speech_started"),
        entry("rtc_1", 2, type="input_audio_buffer.speech_stopped"),
        entry("rtc_1", 3, type="output_audio_buffer.started"),
    )
    async with looking(api) as stream:
        [shown] = await whole(stream)
    assert (shown["user_speaking"], shown["assistant_speaking"]) == (False, True)
    assert shown["assistant_words"] == "Good day"
    assert shown["user_words"] == "x" * 236 + " end"


def stored_item(number: int, role: str, text: str) -> Json:
    return {
        "item_id": f"item_{number}",
        "epoch": 1,
        "seq": number,
        "role": role,
        "kind": "speech",
        "text": text,
        "status": "completed",
        "interrupted": False,
        "out_of_band": False,
        "idle_timeout": False,
        "recovered": False,
    }


async def test_policies_pauses_and_the_end_of_a_call_are_shown_and_it_leaves_after_a_while(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    own = {"call_key": ref("rtc_1").key, "day": ref("rtc_1").day, "epoch": 1}
    async with looking(api) as stream:
        await whole(stream)
        for seq, policy in ((1, "calm"), (2, "refund")):
            api.insert(tables.decision, own | {"seq": seq, "policy": policy} | DECISION)
        pause = own | {"seq": 3, "from_at": START, "reason": "paused", "state": "open", "lost_by_type": "{}"}
        api.insert(tables.gap, pause | {"counted": True})
        await api.writer.run(lambda _: None)
        await until(stream, "rtc_1", decision_count=2, last_policy="refund", paused=True)
        record(api, "rtc_1", 4, "output_audio_buffer.started", response_id="resp_1")
        await until(stream, "rtc_1", assistant_speaking=True)
        await change(api, "rtc_1", status="ended", outcome="hung_up", ended_at=START + 1)
        await until(stream, "rtc_1", status="ended", outcome="hung_up", paused=False, assistant_speaking=False)
        api.clock.ahead += board.LINGER_SECONDS
        assert (await stream.next("some")).json["gone"] == ["rtc_1"]


DECISION: Json = {
    "policy_set": "abc",
    "trigger": "on",
    "mode": "observe",
    "acted": False,
    "actions": "[]",
    "received_at": START,
    "matched_at": START,
}


async def test_calls_that_nobody_observes_are_there_as_long_as_they_may_go_on(api: Stage) -> None:
    now = api.clock.now_us()
    gone = {"status": "unobserved", "outcome": "attach_failed"}
    api.insert(
        tables.call,
        call("rtc_1", started_at=now - 3_590_000_000, **gone),
        call("rtc_2", started_at=now - 3_610_000_000, **gone),
        call("rtc_3", started_at=now - 5_000_000, ended_at=now, **gone),
        call("neg_4", started_at=now, status="unobserved", outcome="no_location"),
        call("rtc_5", started_at=now, status="lost", outcome="lost"),
    )
    async with looking(api) as stream:
        assert [each["call_id"] for each in await whole(stream)] == ["rtc_5", "rtc_1"]


async def test_who_reads_too_slowly_gets_the_whole_board_again(api: Stage) -> None:
    watcher = board.Watcher()
    watcher.wants_all = False
    watcher.put(b"first")
    watcher.put(b"second")
    assert (watcher.block, watcher.wants_all) == (None, True)
    watcher.put(b"third")
    assert watcher.block is None


async def test_what_several_look_at_is_read_once(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    async with looking(api) as first, looking(api) as second:
        assert await whole(first) == await whole(second)
        await change(api, "rtc_1", turn_count=7)
        told: list[Event] = [await stream.next("some") for stream in (first, second)]
        assert told[0].data == told[1].data


async def test_however_many_calls_there_are_a_look_is_a_handful_of_questions(api: Stage) -> None:
    api.insert(tables.call, *[call(f"rtc_{number}", started_at=START + number) for number in range(200)])
    asked: list[str] = []
    assert isinstance(api.database, SqliteDatabase)
    engine = api.database._engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", lambda _1, _2, statement, *_: asked.append(statement))
    async with looking(api) as stream:
        assert len(await whole(stream)) == 200
        first = Counter(statement for statement in asked if "call_key" in statement)
        # the board may have looked again by now
        assert len(first) <= 7
        assert max(first.values()) < 10
        asked.clear()
        began = api.clock.mono()
        for number in range(200):
            record(api, f"rtc_{number}", 1, "response.output_text.delta", item_id="item_1", delta="Good day.")
        told = 0
        while told < 200:
            told += len((await stream.next("some")).json["calls"])
        # one may be under way, and one begin at once
        looks = 2 + (api.clock.mono() - began) / board.PAUSE_SECONDS
        assert len([statement for statement in asked if "FROM entry" in statement]) <= 3 * looks
        assert len([statement for statement in asked if "decision" in statement]) <= looks


async def test_a_stream_ends_within_a_second_of_its_key(api: Stage) -> None:
    key = api.make_key("read")
    async with looking(api, key) as stream:
        await whole(stream)
        [key_id] = [each.key_id for each, _ in await keys.listed(api.database) if each.name == "test"]
        watch = Watch()
        keys.revoke(api.path, key_id, now_us=api.clock.now_us())
        await stream.rest()
        assert watch.seconds() < 1


async def test_a_stream_is_audited_once_and_the_page_needs_the_scope(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    async with looking(api) as stream:
        await whole(stream)
        await change(api, "rtc_1", turn_count=7)
        await stream.next("some")
    rows = api.select(sa.select(tables.audit.c.action).where(tables.audit.c.action == "live.stream"))
    assert len(rows) == 1
    only_figures = api.make_key("metrics")
    assert (await api.get("/", key=only_figures)).status == 403
    assert (await api.get("/live/stream", key=only_figures)).status == 403
    assert (await api.get("/live/stream", key="")).status == 401


async def test_viewers_are_told_when_the_store_cannot_be_read_and_when_it_can_again(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    async with looking(api) as stream:
        await whole(stream)
        await api.writer.run(lambda work: work.execute(sa.text("ALTER TABLE gap RENAME TO away")))
        assert (await stream.next()).name == "stale"
        async with looking(api) as late:
            assert [(await late.next()).name for _ in range(2)] == ["all", "stale"]
        await api.writer.run(lambda work: work.execute(sa.text("ALTER TABLE away RENAME TO gap")))
        assert (await stream.next()).name == "some"


async def test_who_begins_to_look_while_the_store_cannot_be_read_is_told_too(api: Stage) -> None:
    await api.writer.run(lambda work: work.execute(sa.text("ALTER TABLE gap RENAME TO away")))
    async with looking(api) as stream:
        assert (await stream.next()).name == "stale"
        await api.writer.run(lambda work: work.execute(sa.text("ALTER TABLE away RENAME TO gap")))
        assert await whole(stream) == []


async def test_of_too_many_calls_the_newest_are_shown_and_that_there_are_more(
    api: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "MOST_CALLS", 2)
    api.insert(tables.call, *[call(f"rtc_{number}", started_at=START + number) for number in range(3)])
    async with looking(api) as stream:
        told = (await stream.next("all")).json
        assert ([each["call_id"] for each in told["calls"]], told["is_cut"]) == (["rtc_2", "rtc_1"], True)
        await change(api, "rtc_2", status="ended", outcome="hung_up", ended_at=START + 9)
        shown = await until(stream, "rtc_0", status="live")
        assert shown["started_at"].startswith("2026")


async def test_a_call_that_is_erased_leaves_at_once(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", user="ann"))
    async with looking(api) as stream:
        await whole(stream)
        await change(api, "rtc_1", status="ended", outcome="hung_up", ended_at=START + 9)
        await until(stream, "rtc_1", status="ended")
        assert (await api.delete("/api/v1/calls/rtc_1", key=api.make_key("erase"))).status == 204
        assert (await stream.next("some")).json["gone"] == ["rtc_1"]


async def test_a_stream_ends_now_and_then_so_that_a_sign_in_is_looked_at_again(api: Stage) -> None:
    async with looking(api) as stream:
        await whole(stream)
        api.clock.ahead += live.STREAM_SECONDS
        await change_nothing(api)
        await stream.rest()


async def change_nothing(api: Stage) -> None:
    """Begin a call, so that the stream has something to say and looks at the time."""
    await api.writer.run(lambda work: work.execute(tables.call.insert().values(call("rtc_new"))))


async def test_buttons_are_there_for_the_scope_control_alone_and_the_routes_refuse_others(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    reader = (await api.get("/")).body.decode()
    controller = (await api.get("/", key=api.make_key("read", "control"))).body.decode()
    for mark in ("data-order", "controls.js", "<dialog"):
        assert mark not in reader
        assert mark in controller
    for order in ("hangup", "say", "commands", "pause", "resume", "tags"):
        headers = {"Authorization": f"Bearer {api.key}"}
        async with api.client.post(f"{api.url}/api/v1/calls/rtc_1/{order}", json={}, headers=headers) as answer:
            assert answer.status == 403
    assert api.select(sa.select(tables.order.c.order_id)) == []


async def test_a_board_without_calls_says_what_to_do_next(api: Stage) -> None:
    page = (await api.get("/")).body.decode()
    assert "Nobody is on a call." in page
    assert "rtobserver demo" in page
    assert 'href="/calls?status=live"' in page
    api.facts.front = "http://127.0.0.1:8080/"
    page = (await api.get("/")).body.decode()
    assert '<a class="button" href="http://127.0.0.1:8080/"' in page


async def test_events_beyond_the_call_in_question_and_out_of_band_are_not_heard(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    async with looking(api) as stream:
        [before] = await whole(stream)
        record(api, "rtc_9", 1, "response.output_text.delta", item_id="item_1", delta="of an unknown call")
        record(api, "rtc_1", 1, "response.created", response={"id": "resp_x", "conversation_id": None})
        aside = {"response_id": "resp_x", "item_id": "item_1"}
        record(api, "rtc_1", 2, "response.output_text.delta", delta="nobody hears this", **aside)
        record(api, "rtc_1", 3, "response.text.delta", response_id="resp_y", item_id="item_2", delta="an old name")
        shown = await until(stream, "rtc_1", assistant_words="an old name")
        assert (before | shown)["user_words"] == ""


def test_every_question_of_the_board_uses_an_index(tmp_path: Path) -> None:
    path = stored.fresh(tmp_path)
    mark = Mark(1, 1, 1)
    for statement in (
        ongoing.calls_statement(5, 100),
        ongoing.calls_of_statement([1, 2]),
        ongoing.talk_statement(mark, mark, ["a"], 10),
        ongoing.lines_statement(100),
        ongoing.sounds_statement(["a"], ["b"]),
    ):
        read = [step for step in steps(path, statement) if step.startswith(("SEARCH", "SCAN"))]
        assert [
            step for step in read if step.startswith("SCAN") and "subquery" not in step and "ranked" not in step
        ] == []
        assert read
