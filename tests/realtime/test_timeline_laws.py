"""Laws that hold for whatever upstream sends, and for what the real service said: a drawing agrees with the rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.realtime.call import CallState
from rtobserver.realtime.events import read
from rtobserver.realtime.moments import TYPES, Moments
from rtobserver.realtime.timeline import Drawing, Subject, draw
from rtobserver.realtime.turns import turns
from tests.realtime.test_call_laws import calls, spoken_turn
from tests.support import outside

SPEAKING = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.cleared",
    "output_audio_buffer.started",
    "output_audio_buffer.stopped",
    "output_audio_buffer.cleared",
]
sounds = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(SPEAKING)},
        optional={"item_id": st.sampled_from(["U1", "U2"]), "response_id": st.sampled_from(["R1", "R2"])},
    ),
    max_size=20,
)
talks = calls | st.builds(lambda some, more: [*spoken_turn(0), *some, *spoken_turn(1), *more], sounds, sounds)


class Drawn:
    """A call that is folded and drawn; `only` what the store would read for a timeline."""

    def __init__(self, *, step_us: int = 1000, sifted: bool = False) -> None:
        self.state = CallState()
        self.moments = Moments()
        self.seq = 0
        self._step_us = step_us
        self._sifted = sifted

    def feed(self, events: list[Any]) -> None:
        for value in events:
            frame = json.dumps(value).encode()
            event, _ = read(frame)
            self.seq += 1
            at = self.seq * self._step_us
            self.state.apply(event, frame, at, 1, self.seq)
            if self._sifted and event.type not in TYPES:
                self.moments.reach(at, 1, self.seq)
            else:
                self.moments.take(event.type, frame, at, 1, self.seq)

    def drawing(self, *, live: bool = False) -> Drawing:
        ended_at = None if live else self.seq * self._step_us
        subject = Subject(started_at=0, ended_at=ended_at, is_live=live, status="x", outcome=None)
        return draw(subject, self.moments, items=self.state.items(), responses=self.state.responses())


def drawn(events: list[Any], **how: Any) -> Drawn:
    found = Drawn(**how)
    found.feed(events)
    return found


def check(call: Drawn, *, live: bool) -> None:
    drawing = call.drawing(live=live)
    positions = {f"1:{seq}" for seq in range(1, call.seq + 1)}
    assert [span.from_at for span in drawing.spans] == sorted(span.from_at for span in drawing.spans)
    assert [mark.at for mark in drawing.marks] == sorted(mark.at for mark in drawing.marks)
    assert len({span.id for span in drawing.spans}) == len(drawing.spans)
    assert len({mark.id for mark in drawing.marks}) == len(drawing.marks)
    for span in drawing.spans:
        assert span.position in positions
        assert span.to_position is None or span.to_position in positions
        assert live or span.to_at is not None
        assert span.to_at is None or span.from_at <= span.to_at <= drawing.until_at
    for mark in drawing.marks:
        assert mark.position is None or mark.position in positions
        assert mark.at <= drawing.until_at
    rows = {row.response_id: row for row in call.state.responses()}
    generated = {span.response_id: span for span in drawing.spans if span.lane == "assistant"}
    assert generated.keys() == rows.keys()
    for response_id, row in rows.items():
        assert generated[response_id].interrupted == row.interrupted
        assert (generated[response_id].kind == "out_of_band") == row.out_of_band
    interrupted = {mark.response_id for mark in drawing.marks if mark.kind == "barge_in"}
    assert all(rows[response_id or ""].interrupted for response_id in interrupted)
    assert [mark.kind for mark in drawing.marks].count("error") == call.state.error_count
    assert drawing.turns == [turn for turn in turns(call.state.items(), call.state.responses()) if turn.started_at]


@given(talks, st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_span_and_mark_is_in_order_and_stands_at_an_entry(call: list[Any], live: bool) -> None:
    check(drawn(call), live=live)


@given(talks, st.integers(min_value=0, max_value=60))
@settings(max_examples=75, deadline=None)
def test_folding_in_two_portions_is_folding_at_once(call: list[Any], cut: int) -> None:
    twice = drawn(call[:cut])
    before = twice.drawing(live=True)
    twice.feed(call[cut:])
    assert twice.drawing() == drawn(call).drawing()
    # what was drawn while the call went on keeps its ids
    after = twice.drawing()
    assert {span.id for span in before.spans if span.lane != "tools"} <= {span.id for span in after.spans}
    assert {mark.id for mark in before.marks if mark.kind in ("cleared", "error", "began")} <= {
        mark.id for mark in after.marks
    }


@given(talks)
@settings(max_examples=75, deadline=None)
def test_the_types_that_the_store_reads_are_enough(call: list[Any]) -> None:
    assert drawn(call, sifted=True).drawing() == drawn(call).drawing()


@given(talks)
@settings(max_examples=50, deadline=None)
def test_events_of_tomorrow_change_nothing_but_where_the_call_is(call: list[Any]) -> None:
    strange = [
        {"type": f"{value.get('type')}.of.tomorrow", "item_id": "U1"} for value in call if isinstance(value, dict)
    ]
    known = drawn(call)
    before = known.drawing(live=True)
    known.feed(strange)
    assert known.drawing(live=True).spans == before.spans


@pytest.mark.parametrize(
    ("name", "lanes", "tools"),
    [
        ("azure_spoken_turn_with_tool", {"user": 1, "assistant": 2, "tools": 1}, ["remember_name"]),
        ("openai_three_spoken_turns", {"user": 3, "assistant": 3}, []),
        ("azure_history_seeding", {"user": 2, "assistant": 1}, []),
        ("azure_sideband_text_turn", {"user": 1, "assistant": 1}, []),
        ("openai_sideband_audio_turn", {"user": 1, "assistant": 1, "playback": 1}, []),
    ],
)
def test_what_the_real_service_said_is_drawn_as_the_api_tells_it(
    name: str, lanes: dict[str, int], tools: list[str]
) -> None:
    received = [each["data"] for each in outside.interactions(name) if each.get("direction") == "received"]
    call = drawn(received, step_us=1_000_000)
    check(call, live=False)
    drawing = call.drawing()
    found = [span.lane for span in drawing.spans]
    assert {lane: found.count(lane) for lane in found} == lanes
    assert [span.label for span in drawing.spans if span.lane == "tools"] == tools
    assert not any(span.status == "unfinished" for span in drawing.spans)
    by_id = {str(index): frame for index, frame in enumerate(received, start=1)}
    for span in drawing.spans:
        begin = by_id[span.position.partition(":")[2]]["type"]
        assert (
            begin
            in {
                "user": {"input_audio_buffer.speech_started", "conversation.item.added", "conversation.item.created"},
                "assistant": {"response.created"},
                "playback": {"output_audio_buffer.started"},
                "tools": {"response.function_call_arguments.done"},
            }[span.lane]
        )
