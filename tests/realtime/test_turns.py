from __future__ import annotations

from typing import Any

from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.realtime.turns import turns


def item(item_id: str, seq: int, previous: str | None, **fields: Any) -> ItemRow:
    values = {"role": "assistant", "kind": "speech", "text": item_id.lower(), **fields}
    return ItemRow(item_id=item_id, epoch=1, seq=seq, previous_item_id=previous, **values)


def user(item_id: str, seq: int, previous: str | None = None, **fields: Any) -> ItemRow:
    return item(item_id, seq, previous, role="user", **fields)


def response(response_id: str, seq: int, user_item_id: str | None, **fields: Any) -> ResponseRow:
    return ResponseRow(response_id=response_id, epoch=1, seq=seq, user_item_id=user_item_id, **fields)


def test_nothing_makes_no_turn() -> None:
    assert turns([], []) == []


def test_each_item_of_the_user_begins_a_turn_answered_or_not() -> None:
    rows = [user("U1", 1), user("U2", 2, "U1"), item("S1", 4, "U2", response_id="R1")]
    first, second = turns(rows, [response("R1", 3, "U2")])
    assert (first.index, first.user_item_id, first.response_ids) == (0, "U1", [])
    assert (second.index, second.user_item_id, second.response_ids) == (1, "U2", ["R1"])
    assert second.assistant_text == "s1"


def test_an_answer_belongs_to_whom_it_answers_even_if_it_stands_later() -> None:
    rows = [user("U1", 1), user("U2", 2, "U1"), item("S1", 4, "U2", response_id="R1")]
    first, second = turns(rows, [response("R1", 3, "U1")])
    assert (first.assistant_text, first.response_ids) == ("s1", ["R1"])
    assert (second.assistant_text, second.response_ids) == ("", [])


def test_a_response_without_items_or_user_goes_by_order() -> None:
    rows = [user("U1", 1), user("U2", 5, "U1")]
    greeting = response("R0", 0, None)
    assert [turn.response_ids for turn in turns(rows, [response("R1", 3, None), greeting])] == [["R0"], ["R1"], []]


def test_only_what_the_user_began_has_a_number() -> None:
    rows = [user("U1", 2), user("idle", 4, "U1", idle_timeout=True), user("U2", 6, "idle")]
    answers = [response("R0", 1, None), response("R1", 3, "U1"), response("R2", 5, "idle"), response("R3", 7, "U2")]
    assert [(turn.index, turn.number) for turn in turns(rows, answers)] == [(0, None), (1, 1), (2, None), (3, 2)]


def test_several_messages_are_several_lines() -> None:
    rows = [user("U1", 1), item("S1", 2, "U1", response_id="R1"), item("S2", 3, "S1", response_id="R1")]
    [turn] = turns(rows, [response("R1", 2, "U1")])
    assert turn.assistant_text == "s1\ns2"


def test_a_turn_lasts_from_the_first_to_the_last_of_its_times() -> None:
    rows = [user("U1", 1, started_at=10, ended_at=20), item("S1", 3, "U1", response_id="R1", started_at=30)]
    [turn] = turns(rows, [response("R1", 2, "U1", created_at=21, done_at=40, playback_ended_at=90)])
    assert (turn.started_at, turn.ended_at) == (10, 90)


def test_the_latency_of_a_turn_is_that_of_its_first_sound() -> None:
    rows = [user("U1", 1)]
    both = [response("R1", 2, "U1", generation_latency_ms=300), response("R2", 3, "U1", heard_latency_ms=900)]
    [turn] = turns(rows, both)
    assert (turn.generation_latency_ms, turn.heard_latency_ms) == (300, 900)


def test_tools_that_work_one_after_the_other_add_up() -> None:
    call = {"kind": "tool_call", "response_id": "R1"}
    out = {"role": "tool", "kind": "tool_output"}
    rows = [
        user("U1", 1),
        item("F1", 2, "U1", tool_call_id="c1", called_at=1_000_000, **call),
        item("O1", 3, "F1", tool_call_id="c1", started_at=1_200_000, **out),
        item("F2", 4, "O1", tool_call_id="c2", called_at=2_000_000, **call),
        item("O2", 5, "F2", tool_call_id="c2", started_at=2_300_000, **out),
        item("F3", 6, "O2", tool_call_id="c3", **call),
    ]
    [turn] = turns(rows, [response("R1", 2, "U1")])
    assert turn.tool_latency_ms == 500
    assert [(tool.latency_ms, tool.status) for tool in turn.tools] == [
        (200, "completed"),
        (300, "completed"),
        (None, "in_progress"),
    ]
    assert turn.assistant_text == ""


def test_system_items_and_what_is_out_of_band_belong_to_no_turn() -> None:
    rows = [
        item("Y1", 1, None, role="system", kind="text"),
        user("U1", 2, "Y1"),
        item("X1", 3, None, response_id="X", out_of_band=True),
    ]
    [turn] = turns(rows, [response("X", 3, None, out_of_band=True)])
    assert (turn.user_item_id, turn.response_ids, turn.assistant_text) == ("U1", [], "")
