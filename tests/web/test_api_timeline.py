from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rtobserver.realtime.call import CallState, Changes
from rtobserver.realtime.events import read
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.store import folds, tables
from tests.store.stored import START, call, entry, ref
from tests.support.watch import uncollected
from tests.web.operator_stage import Stage, stage

REF = ref("rtc_1")
OWN = {"call_key": REF.key, "day": REF.day}
SECOND = 1_000_000


def record(api: Stage, events: list[dict[str, Any]], *, step_us: int = 1000) -> None:
    """Store events as the recorder would, with the rows that follow from them."""
    state, rows = CallState(), []
    items: dict[str, ItemRow] = {}
    responses: dict[str, ResponseRow] = {}

    def keep(changes: Changes | None) -> None:
        # a long call's state forgets what it gave out
        if changes is not None:
            items.update((row.item_id, row) for row in changes.items)
            responses.update((row.response_id, row) for row in changes.responses)

    for seq, event in enumerate(events, start=1):
        frame = json.dumps(event).encode()
        at = START + seq * step_us
        keep(state.apply(read(frame)[0], frame, at, 1, seq))
        rows.append(entry("rtc_1", seq, frame, type=event["type"], at=at))
    keep(state.finish())
    api.insert(tables.entry, *rows)
    if items:
        api.insert(tables.item, *[OWN | folds.item_values(row) for row in items.values()])
    for response in responses.values():
        api.insert(tables.response, OWN | folds.response_values(response))


def turn(number: int, deltas: int = 2) -> list[dict[str, Any]]:
    user, said, response = f"U{number}", f"S{number}", f"R{number}"
    names = {"response_id": response, "item_id": said, "content_index": 0}
    part = {"type": "output_audio", "transcript": "word " * deltas}
    message = {"id": said, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return [
        {"type": "input_audio_buffer.speech_started", "item_id": user},
        {"type": "input_audio_buffer.speech_stopped", "item_id": user},
        {"type": "input_audio_buffer.committed", "item_id": user, "previous_item_id": None},
        {"type": "response.created", "response": {"id": response, "conversation_id": "c"}},
        {"type": "response.output_item.added", "response_id": response, "item": {**message, "content": []}},
        {"type": "conversation.item.added", "previous_item_id": user, "item": {**message, "content": []}},
        {"type": "output_audio_buffer.started", "response_id": response},
        *[{"type": "response.output_audio_transcript.delta", "delta": "word ", **names} for _ in range(deltas)],
        {"type": "response.output_audio_transcript.done", "transcript": "word " * deltas, **names},
        {"type": "conversation.item.done", "item": message},
        {"type": "response.done", "response": {"id": response, "status": "completed", "conversation_id": "c"}},
        {"type": "output_audio_buffer.stopped", "response_id": response},
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, kind=request.param) as opened:
        yield opened


async def drawn(api: Stage, call_id: str = "rtc_1") -> Any:
    answer = await api.get(f"/api/v1/calls/{call_id}/timeline")
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_call_is_drawn_from_what_was_recorded(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended", outcome="hung_up", ended_at=START + SECOND))
    record(api, turn(1))
    found = await drawn(api)
    assert {name: found[name] for name in ("call_id", "started_at", "live", "duration_ms", "turns", "after")} == {
        "call_id": "rtc_1",
        "started_at": "2026-01-01T00:00:00.000000Z",
        "live": False,
        "duration_ms": 1000,
        "turns": [{"index": 0, "number": 1, "from_ms": 1, "to_ms": 13}],
        "after": "1:13",
    }
    speech, generation, playback = found["spans"]
    assert speech == {
        "id": "speech:1:1",
        "lane": "user",
        "kind": "speech",
        "from_ms": 1,
        "to_ms": 2,
        "label": "",
        "position": "1:1",
        "to_position": "1:2",
        "item_id": "U1",
        "response_id": None,
        "status": "completed",
        "interrupted": False,
    }
    assert (generation["from_ms"], generation["to_ms"], generation["label"]) == (4, 12, "word word")
    assert (playback["from_ms"], playback["to_ms"], playback["response_id"]) == (7, 13, "R1")
    assert [(mark["kind"], mark["at_ms"], mark["position"]) for mark in found["marks"]] == [
        ("began", 0, "1:1"),
        ("ended", 1000, "1:13"),
    ]
    assert found["marks"][1]["label"] == "hung_up"


async def test_its_turns_are_those_of_the_list_of_turns(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended", ended_at=START + SECOND))
    record(api, [event for number in range(4) for event in turn(number)])
    found = (await drawn(api))["turns"]
    listed = await api.all_pages("/api/v1/calls/rtc_1/turns")
    begun = [each["started_at"][-8:-1] for each in listed]
    assert [(each["index"], f"{each['from_ms'] / 1000:.6f}"[-7:]) for each in found] == [
        (each["index"], moment) for each, moment in zip(listed, begun, strict=True)
    ]


async def test_a_live_call_grows_and_keeps_its_ids(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    events = turn(1)
    record(api, events[:5])
    found = await drawn(api)
    assert (found["live"], found["duration_ms"], found["after"]) == (True, 5, "1:5")
    assert [(span["lane"], span["to_ms"]) for span in found["spans"]] == [("user", 2), ("assistant", None)]
    api.insert(
        tables.entry, entry("rtc_1", 6, b'{"type":"response.output_audio.delta"}', type="response.output_audio.delta")
    )
    grown = await drawn(api)
    assert grown["after"] == "1:6"
    assert [span["id"] for span in grown["spans"]] == [span["id"] for span in found["spans"]]


async def test_decisions_commands_and_gaps_are_drawn_too(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended", ended_at=START + SECOND))
    record(api, turn(1))
    api.insert(
        tables.decision,
        OWN
        | {
            "epoch": 1, "seq": 8, "policy": "ü<b>", "policy_set": "s", "trigger": "phrase", "mode": "enforce",
            "acted": True, "actions": '["cancel"]', "received_at": START + 8000, "matched_at": START + 8100,
            "sent_at": START + 8200, "outcome": "done", "item_id": "S1", "response_id": "R1",
        },
    )  # fmt: skip
    api.insert(
        tables.command,
        OWN
        | {
            "epoch": 1, "seq": 14, "event_id": "rto_1_14", "type": "response.cancel", "source": "policy",
            "policy": "ü<b>", "state": "acknowledged", "sent_at": START + 8200, "acknowledged_at": START + 9000,
        },
    )  # fmt: skip
    api.insert(
        tables.gap,
        OWN
        | {
            "epoch": 1, "seq": 15, "from_at": START + 500_000, "to_at": None, "reason": "reattach", "after": "1:13",
            "state": "final", "lost": None, "lost_by_type": "{}", "counted": True,
        },
    )  # fmt: skip
    found = await drawn(api)
    marks = {mark["kind"]: mark for mark in found["marks"]}
    assert (marks["decision"]["at_ms"], marks["decision"]["policy"], marks["decision"]["acted"]) == (8.1, "ü<b>", True)
    assert marks["decision"]["position"] == "1:8"
    assert (marks["command"]["at_ms"], marks["command"]["state"]) == (8.2, "acknowledged")
    assert marks["command"]["position"] == "1:14"
    [gap] = [span for span in found["spans"] if span["lane"] == "gaps"]
    assert (gap["from_ms"], gap["to_ms"], gap["label"], gap["position"]) == (500, 1000, "reattach", "1:15")


async def test_what_an_old_owner_still_received_is_left_out(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    late = b'{"type":"input_audio_buffer.speech_started","item_id":"U9"}'
    api.insert(
        tables.entry,
        entry("rtc_1", 1, late, type="input_audio_buffer.speech_started", flags=tables.FLAG_JSON | tables.FLAG_OVERLAP),
    )
    found = await drawn(api)
    assert (found["spans"], found["after"]) == ([], None)


async def test_a_large_frame_is_looked_into_too(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    record(api, [{"type": "error", "error": {"message": "x" * 40_000}}])
    [_, error] = (await drawn(api))["marks"]
    assert (error["kind"], len(error["label"])) == ("error", 80)


async def test_a_call_without_entries_is_an_empty_timeline(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="failed", outcome="refused", ended_at=START + 5000))
    found = await drawn(api)
    assert (found["spans"], found["turns"], found["after"], found["duration_ms"]) == ([], [], None, 5)
    assert [(mark["kind"], mark["position"]) for mark in found["marks"]] == [("began", None), ("ended", None)]


async def test_of_a_purged_call_nothing_is_drawn_that_is_gone(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended", ended_at=START + SECOND, purged_at=START + 2 * SECOND))
    api.insert(tables.response, OWN | folds.response_values(_response()))
    assert (await drawn(api))["spans"] == []


def _response() -> Any:
    state = CallState()
    frame = b'{"type":"response.created","response":{"id":"R1"}}'
    state.apply(read(frame)[0], frame, START, 1, 1)
    return state.responses()[0]


async def test_who_may_not_read_is_refused_and_who_asks_is_written_down(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1"))
    path = "/api/v1/calls/rtc_1/timeline"
    assert (await api.get(path, key=api.make_key("metrics"))).status == 403
    assert (await api.get("/api/v1/calls/rtc_2/timeline")).code == "call_not_found"
    await drawn(api)
    rows = (await api.get("/api/v1/audit", key=api.make_key("admin"))).json["data"]
    assert ("timeline.get", "rtc_1", 200) in [(row["action"], row["object"], row["status"]) for row in rows]


async def test_ten_thousand_entries_keep_nobody_waiting(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", status="ended", ended_at=START + 600 * SECOND))
    events = [event for number in range(100) for event in turn(number, deltas=88)]
    assert len(events) == 9_900
    record(api, events, step_us=60_000)
    await drawn(api)
    longest, done = 0.0, False

    async def watch() -> None:
        """Take the loop's own work between two of its turns; what else the machine does is not counted."""
        nonlocal longest
        while not done:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    turns = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch(), name="watch")
        with uncollected():
            for _ in range(5):
                longest = 0.0
                found = await drawn(api)
                turns.append(longest)
        done = True
    assert len(found["spans"]) == 300
    # a processor that others use takes longer for the same work now and then
    assert min(turns) < 0.1
