"""Laws that hold for whatever upstream sends: nothing raises, and the same entries give the same rows."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.realtime.call import _STEPS as STEPS
from rtobserver.realtime.call import CallState, Changes
from rtobserver.realtime.events import read
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.realtime.transcript import transcript
from rtobserver.realtime.turns import turns

TYPES = [*sorted(name for name in STEPS if name), "rate_limits.updated", "of.tomorrow"]
IDS = ["U1", "U2", "S1", "S2", "F1", "O1", "R1", "R2", "call_1", "root", ""]

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(IDS)
    | st.sampled_from(["completed", "user", "assistant", "message", "function_call", "input_audio", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ids = st.sampled_from(IDS)
counts = st.integers(min_value=-5, max_value=10**30) | junk
parts = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["input_text", "input_audio", "output_audio", "output_text", "text"])},
        optional={"text": st.text(max_size=5) | junk, "transcript": st.text(max_size=5) | junk},
    ),
    max_size=2,
)
items = st.fixed_dictionaries(
    {"id": ids},
    optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", "mcp_call", "mcp_list_tools"]),
        "role": st.sampled_from(["user", "assistant", "system"]) | junk,
        "status": st.sampled_from(["completed", "incomplete", "in_progress"]) | junk,
        "content": parts | junk,
        "call_id": ids,
        "name": st.text(max_size=5),
        "arguments": st.text(max_size=5) | junk,
        "output": st.text(max_size=5) | junk,
        "error": junk,
    },
)
used = st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", "total_tokens", "seconds"]), counts)
responses = st.fixed_dictionaries(
    {"id": ids},
    optional={
        "status": st.sampled_from(["completed", "cancelled", "failed", "incomplete"]) | junk,
        "conversation_id": st.none() | st.just("conv_1"),
        "status_details": st.fixed_dictionaries({"reason": st.sampled_from(["turn_detected", "client_cancelled"])})
        | junk,
        "output": st.lists(items, max_size=2) | junk,
        "usage": used | junk,
    },
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        "item_id": ids | junk,
        "response_id": ids | junk,
        "previous_item_id": ids | junk,
        "delta": st.text(max_size=8) | junk,
        "item": items | junk,
        "response": responses | junk,
        "transcript": st.text(max_size=8) | junk,
        "text": st.text(max_size=8) | junk,
        "arguments": st.text(max_size=8) | junk,
        "audio_start_ms": counts,
        "audio_end_ms": counts,
        "content_index": counts,
        "usage": used | junk,
        "error": junk,
        "session": junk,
    },
)
calls = st.lists(events | junk, max_size=40)


class Folded:
    """A state, and the rows that it gave out last."""

    def __init__(self) -> None:
        self.state = CallState(model="gpt-realtime")
        self.seq = 0
        self.items: dict[str, ItemRow] = {}
        self.responses: dict[str, ResponseRow] = {}

    def feed(self, call: list[Any]) -> None:
        for value in call:
            frame = json.dumps(value).encode()
            self.seq += 1
            self.keep(self.state.apply(read(frame)[0], frame, self.seq * 1000, 1, self.seq))

    def keep(self, changes: Changes | None) -> None:
        if changes is not None:
            self.items |= {row.item_id: row for row in changes.items}
            self.responses |= {row.response_id: row for row in changes.responses}

    def everything(self) -> tuple[object, ...]:
        rows = self.state.items(), self.state.responses()
        return (*rows, self.state.totals(), transcript(rows[0]), turns(*rows))


def folded(call: list[Any]) -> Folded:
    fold = Folded()
    fold.feed(call)
    return fold


@given(calls)
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_events_is_refused_and_every_one_can_be_stored(call: list[Any]) -> None:
    fold = folded(call)
    fold.everything()
    fold.keep(fold.state.finish())
    rows: list[ItemRow | ResponseRow] = [*fold.items.values(), *fold.responses.values()]
    for row in rows:
        for name in row.__struct_fields__:
            value = getattr(row, name)
            if isinstance(value, str):
                value.encode()
                assert "\0" not in value
            if isinstance(value, int):
                assert abs(value) < 2**63


@given(calls)
@settings(max_examples=75, deadline=None)
def test_folding_twice_gives_the_same(call: list[Any]) -> None:
    assert folded(call).everything() == folded(call).everything()


@given(calls, st.integers(min_value=0, max_value=40))
@settings(max_examples=75, deadline=None)
def test_looking_at_a_call_halfway_changes_nothing(call: list[Any], half: int) -> None:
    fold = folded(call[:half])
    fold.everything()
    fold.feed(call[half:])
    assert fold.everything() == folded(call).everything()


@given(calls, st.integers(min_value=0, max_value=40))
@settings(max_examples=75, deadline=None)
def test_a_fork_goes_on_as_the_whole_would_and_leaves_the_other_alone(call: list[Any], half: int) -> None:
    fold = folded(call[:half])
    before = fold.everything()
    whole, forked = folded(call), folded(call[:half])
    forked.state = fold.state.fork()
    forked.feed(call[half:])
    assert forked.everything() == whole.everything()
    assert fold.everything() == before
    fold.feed(call[half:])
    assert fold.everything() == whole.everything()


@given(calls)
@settings(max_examples=150, deadline=None)
def test_the_rows_given_out_are_the_rows_at_the_end(call: list[Any]) -> None:
    fold = folded(call)
    fold.keep(fold.state.finish())
    assert fold.items == {row.item_id: row for row in fold.state.items()}
    assert fold.responses == {row.response_id: row for row in fold.state.responses()}
    assert fold.state.turn_count == sum(row.role == "user" and not row.idle_timeout for row in fold.items.values())
    assert fold.state.interruption_count == sum(row.interrupted for row in fold.responses.values())
    divided = turns(fold.items.values(), fold.responses.values())
    assert any(turn.interrupted for turn in divided) == (fold.state.interruption_count > 0)


def spoken_turn(number: int) -> list[dict[str, Any]]:
    user, said, response = f"U{number}", f"S{number}", f"R{number}"
    before = f"S{number - 1}" if number else None
    part = {"type": "output_audio", "transcript": f"answer {number}"}
    names = {"response_id": response, "item_id": said, "content_index": 0}
    message = {"id": said, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return [
        {"type": "input_audio_buffer.speech_started", "item_id": user},
        {"type": "input_audio_buffer.speech_stopped", "item_id": user},
        {"type": "input_audio_buffer.committed", "item_id": user, "previous_item_id": before},
        {"type": "response.created", "response": {"id": response, "conversation_id": "c"}},
        {"type": "response.output_item.added", "response_id": response, "item": {**message, "content": []}},
        {"type": "conversation.item.added", "previous_item_id": user, "item": {**message, "content": []}},
        {"type": "response.output_audio_transcript.delta", "delta": f"answer {number}", **names},
        {"type": "response.output_audio_transcript.done", "transcript": f"answer {number}", **names},
        {"type": "conversation.item.done", "item": message},
        {"type": "response.done", "response": {"id": response, "status": "completed", "conversation_id": "c"}},
    ]


@given(st.integers(min_value=1, max_value=6), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_transcriptions_may_come_in_any_order_and_twice(turn_count: int, chance: random.Random) -> None:
    call = [event for number in range(turn_count) for event in spoken_turn(number)]
    transcribed = [
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": f"U{number}",
            "transcript": f"question {number}",
            "usage": {"type": "duration", "seconds": 1},
        }
        for number in range(turn_count)
    ]
    shuffled = transcribed * 2
    chance.shuffle(shuffled)
    state = folded(call + shuffled).state
    assert [line.text for line in transcript(state.items())] == [
        text for number in range(turn_count) for text in (f"question {number}", f"answer {number}")
    ]
    assert [(turn.user_text, turn.assistant_text) for turn in turns(state.items(), state.responses())] == [
        (f"question {number}", f"answer {number}") for number in range(turn_count)
    ]
    totals = state.totals()
    assert (totals.turn_count, totals.transcription_seconds) == (turn_count, turn_count)
    assert (totals.missed, totals.open_links, totals.broken, totals.unfinished) == (False, (), (), ())


@given(st.lists(st.integers(min_value=0, max_value=59)))
@settings(max_examples=50, deadline=None)
def test_repeated_events_change_neither_text_nor_usage(repeated: list[int]) -> None:
    call = [event for number in range(6) for event in spoken_turn(number)]
    echoing = [
        event
        for index, event in enumerate(call)
        for _ in range(2 if index in repeated and not str(event["type"]).endswith(".delta") else 1)
    ]
    once, twice = folded(call).state, folded(echoing).state
    assert [(line.item_id, line.text) for line in transcript(once.items())] == [
        (line.item_id, line.text) for line in transcript(twice.items())
    ]
    assert once.totals().turn_count == twice.totals().turn_count
    assert once.totals().responses_without_usage == twice.totals().responses_without_usage
