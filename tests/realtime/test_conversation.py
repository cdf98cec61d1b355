"""The bounds of what is held of a call, and what is left when they are reached."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from rtobserver.realtime import conversation
from rtobserver.realtime.item import MAX_DELTAS
from tests.realtime.script import Script, usage


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_ITEMS", 10)
    monkeypatch.setattr(conversation, "MAX_RESPONSES", 5)


def converse(call: Script, turn_count: int, begin: int = 0) -> None:
    before = f"S{begin - 1}" if begin else None
    for number in range(begin, begin + turn_count):
        call.types(f"U{number}", f"question {number}", before)
        call.creates(f"R{number}")
        call.says(f"R{number}", f"S{number}", f"U{number}", f"answer {number}")
        call.ends(f"R{number}", used=usage(1, 0, 1, 0))
        before = f"S{number}"


@pytest.mark.usefixtures("small")
def test_beyond_the_bound_the_oldest_are_forgotten_but_not_their_sums() -> None:
    call = Script()
    converse(call, 20)
    assert len(call.state.items()) <= 10
    assert len(call.state.responses()) <= 5
    assert call.texts()[-1] == ("assistant", "answer 19")
    totals = call.state.totals()
    assert (totals.turn_count, totals.usage.total_tokens) == (20, 40)
    assert (totals.missed, totals.open_links, totals.unfinished, totals.broken) == (False, (), (), ())


def test_a_call_of_hours_weighs_no_more_than_one_of_minutes() -> None:
    call = Script()
    converse(call, 100)
    tracemalloc.start()
    try:
        sizes = []
        for begin in (100, 300, 500):
            converse(call, 200, begin)
            call.changes.clear()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # what grows are the hashes of what was forgotten, and those have their bound too
    assert sizes[-1] - sizes[0] < 32 * 1024, sizes


@pytest.mark.usefixtures("small")
def test_percentiles_are_made_of_forgotten_responses_too() -> None:
    call = Script()
    for number in range(20):
        begin = number * 10_000
        call.speaks(f"U{number}", begin, begin + 1_000)
        call.at(begin + 1_000 + 10 * number).creates(f"R{number}")
        call.says(f"R{number}", f"S{number}", f"U{number}", "answer")
        call.plays(f"R{number}", begin + 2_000 + 10 * number, begin + 3_000)
        call.ends(f"R{number}", used=usage(1, 0, 1, 0))
    totals = call.state.totals()
    assert (totals.generation_p50_ms, totals.generation_p95_ms) == (90, 180)
    assert (totals.first_audio_p50_ms, totals.first_audio_p95_ms) == (1_090, 1_180)


def test_a_call_that_is_over_holds_nothing_but_its_sums() -> None:
    call = Script()
    converse(call, 20)
    totals = call.state.totals()
    call.state.release()
    assert (call.state.items(), call.state.responses()) == ([], [])
    assert call.state.totals() == totals
    assert totals.turn_count == 20


@pytest.mark.usefixtures("small")
def test_every_row_was_given_out_before_it_was_forgotten() -> None:
    call = Script()
    converse(call, 20)
    call.changes.append(call.state.finish())
    rows = {row.item_id: row for changes in call.changes for row in changes.items}
    assert [rows[f"S{number}"].text for number in range(20)] == [f"answer {number}" for number in range(20)]
    assert {rows[f"S{number}"].status for number in range(20)} == {"completed"}


@pytest.mark.usefixtures("small")
def test_what_comes_for_a_forgotten_item_is_ignored() -> None:
    call = Script()
    converse(call, 20)
    given = len(call.changes)
    call.is_transcribed("U0", "too late")
    call.ends("R0")
    assert len(call.changes) == given
    assert call.state.usage.total_tokens == 40


@pytest.mark.usefixtures("small")
def test_responses_that_never_end_stay_bounded() -> None:
    call = Script()
    for number in range(50):
        call.creates(f"R{number}")
    assert [row.response_id for row in call.state.responses()] == [f"R{number}" for number in range(45, 50)]
    assert call.state.active_response_id == "R49"


def test_long_texts_are_forgotten_by_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_TEXT_HELD", 1000)
    call = Script()
    for number in range(20):
        call.types(f"U{number}", "x" * 400, f"U{number - 1}" if number else None)
    assert len(call.state.items()) < 6
    assert call.state.turn_count == 20


def test_an_endless_answer_is_not_gathered_for_ever() -> None:
    call = Script()
    call.creates("R1")
    call.begins_message("R1", "S1", None)
    for _ in range(20):
        call.delta("response.output_audio_transcript.delta", "R1", "S1", "x" * 10_000)
    assert len(call.item("S1").text) <= MAX_DELTAS
    call.ends_message("R1", "S1", "x" * 200_000)
    assert call.item("S1").text == "x" * 200_000
    assert call.state.totals().broken == ()  # what was not gathered cannot be compared


def test_only_so_many_items_are_gathered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_OPEN", 2)
    call = Script()
    for number in range(4):
        call.begins_message("R1", f"S{number}", None)
        call.delta("response.output_audio_transcript.delta", "R1", f"S{number}", "abc")
    assert [line.text for line in call.lines() if line.text] == ["abc", "abc"]


def test_ids_that_are_named_and_never_seen_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_ABSENT", 3)
    call = Script()
    for number in range(10):
        call.delta("response.output_audio_transcript.delta", "R1", f"S{number}", "abc")
    totals = call.state.totals()
    assert (totals.missed, totals.open_links) == (True, ("S0", "S1", "S2"))
