"""What a gap swallowed is asked for at upstream; transcript, search, verdict and a rebuild have it."""

from __future__ import annotations

import asyncio
from typing import Any

from rtobserver.realtime.call import CallState
from rtobserver.rebuild import rebuild
from tests.support.stage import PATIENCE, Json, Stage, serving, simulating
from tests.system.conftest import Play
from tests.system.ordering import sent
from tests.system.test_observing import close, until_open

COLUMNS = "SELECT item_id, role, kind, text, status, recovered, started_at FROM item ORDER BY item_id"


def message(item_id: str, role: str, words: str | None) -> Json:
    part = {"type": "input_audio" if role == "user" else "output_audio", "transcript": words}
    content = [part] if words is not None or role == "user" else []
    status = "in_progress" if words is None and role == "assistant" else "completed"
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": content,
    }


def begin(stage: Stage, call_id: str) -> None:
    """Let the user say something and the model begin to answer; how that went on, upstream knows."""
    response = {"id": "resp_1", "status": "in_progress", "conversation_id": "conv_1"}
    answer, place = message("item_a", "assistant", None), {"response_id": "resp_1", "item_id": "item_a"}
    for event in (
        {"type": "session.updated", "session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}},
        {"type": "input_audio_buffer.committed", "item_id": "item_u", "previous_item_id": None},
        {"type": "conversation.item.added", "item": message("item_u", "user", None), "previous_item_id": None},
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "response_id": "resp_1", "item": answer},
        {"type": "conversation.item.added", "item": answer, "previous_item_id": "item_u"},
        {"type": "response.output_audio_transcript.delta", **place, "delta": "Your par"},
    ):
        stage.simulator.produce(call_id, event)
    talk = stage.simulator.calls[call_id].conversation
    for item_id, role, words in (
        ("item_u", "user", "Where is my parcel?"),
        ("item_a", "assistant", "Your parcel is at the border."),
        ("item_t", "user", "Which border?"),
    ):
        talk.items[item_id] = message(item_id, role, words)
        talk.audio_seconds[item_id] = 2.0


async def until_healed(stage: Stage, call_id: str, *texts: str) -> None:
    """Wait until these lines stand in the transcript as recovered."""
    found: Any = None
    try:
        async with asyncio.timeout(PATIENCE):
            while found != list(texts):
                lines = (await stage.document(f"/api/v1/calls/{call_id}/transcript"))["data"]
                found = [line["text"] for line in lines if line["recovered"]]
    except TimeoutError:
        raise AssertionError(f"not recovered: {found}") from None


async def test_the_words_that_a_gap_swallowed_are_in_transcript_search_and_verdict(play: Play) -> None:
    async with play() as stage:
        call_id = await stage.call()
        await stage.until(call_id, status="live")
        begin(stage, call_id)
        await stage.until_stored(call_id, lambda entries: (entries[-1].type or "").endswith(".delta"))
        await close(stage, call_id, 1001)
        await until_open(stage, call_id, 2)
        await until_healed(stage, call_id, "Where is my parcel?", "Your parcel is at the border.")
        assert [gap["state"] for gap in await stage.gaps(call_id)] == ["bounded", "recovered"]
        last = {**message("item_v", "user", "That one."), "content": [{"type": "input_text", "text": "That one."}]}
        added = {"type": "conversation.item.added", "item": last, "previous_item_id": "item_t"}
        stage.simulator.produce(call_id, added)
        await until_healed(stage, call_id, "Where is my parcel?", "Your parcel is at the border.", "Which border?")
        await stage.simulator.end_call(call_id)
        row = await stage.ended(call_id)
        assert (row["completeness"], row["gap_count"], row["turn_count"]) == ("complete_with_gaps", 1, 3)
        assert [gap["state"] for gap in await stage.gaps(call_id)] == ["final", "recovered"]
        commands = await stage.commands(call_id)
        assert {(each["type"], each["source"], each["state"]) for each in commands} == {
            ("conversation.item.retrieve", "system", "acknowledged")
        }
        assert len(commands) == 3
        retrieved = [each for each in await stage.entries(call_id) if each.type == "conversation.item.retrieved"]
        assert all(each.fields["stripped"] for each in retrieved)
        [hit] = (await stage.document("/api/v1/search?q=border%20parcel"))["data"]
        assert hit["call_id"] == call_id
        [(checks,)] = stage.select("SELECT checks FROM call")
        assert '"recovered_items":["item_u","item_a","item_t"]' in checks.replace(" ", "")
        before = stage.select(COLUMNS)
        assert {line[0]: (line[3], line[5], line[6] is None) for line in before} == {
            "item_u": ("Where is my parcel?", 1, False),
            "item_a": ("Your parcel is at the border.", 1, False),
            "item_t": ("Which border?", 1, True),
            "item_v": ("That one.", 0, False),
        }
    async for rebuilt in rebuild(stage.path, lambda _, model: CallState(model=model)):
        assert not rebuilt.left_alone
    assert stage.select(COLUMNS) == before
    [(checks,)] = stage.select("SELECT checks FROM call")
    assert "item_t" in checks


async def test_a_daemon_that_starts_again_asks_for_what_was_said_meanwhile(tmp_path: Any) -> None:
    async with simulating() as simulator:
        path = tmp_path / "calls.db"
        async with serving(simulator, path) as stage:
            call_id = await stage.call()
            await stage.until(call_id, status="live")
            begin(stage, call_id)
            await stage.until_stored(call_id, lambda entries: (entries[-1].type or "").endswith(".delta"))
        async with serving(simulator, path) as stage:
            await until_healed(stage, call_id, "Where is my parcel?", "Your parcel is at the border.")
            assert [gap["state"] for gap in await stage.gaps(call_id)] == ["bounded", "recovered"]


async def test_a_call_without_a_gap_is_asked_for_nothing(play: Play) -> None:
    async with play(scenario="default") as stage:
        call_id = await stage.call()
        await stage.ended(call_id)
        assert await stage.commands(call_id) == []
        assert sent(stage, call_id, "conversation.item.retrieve") == []
