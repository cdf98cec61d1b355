from __future__ import annotations

from rtobserver.realtime.item import MAX_DELTAS, Item


def begun() -> Item:
    return Item("S1", 1, 1, 0)


def test_parts_of_the_content_are_lines_of_the_text_in_their_order() -> None:
    item = begun()
    assert item.finish_part(1, "second")
    assert item.finish_part(0, "first")
    assert item.text == "first\nsecond"


def test_deltas_are_checked_against_the_final_text() -> None:
    item = begun()
    item.parts = ["He", "llo"]
    assert item.finish_part(0, "Hello")
    item.parts = ["He", "lo"]
    assert not item.finish_part(1, "Hello")


def test_an_empty_final_text_does_not_take_back_what_was_said() -> None:
    item = begun()
    item.finish_part(0, "Hello")
    item.finish_part(0, "")
    item.absorb({"type": "message", "role": "assistant", "content": []}, 0)
    assert item.text == "Hello"


def test_gathering_stops_at_its_limit_and_is_then_not_checked() -> None:
    item = begun()
    item.parts, item.size, item.open = ["x"] * 10, MAX_DELTAS + 1, True
    item.grow()
    assert (item.open, item.skipped, item.text) == (False, True, "")
    assert item.finish_part(0, "anything")


def test_a_user_s_speech_is_not_told_by_the_item() -> None:
    item = begun()
    item.absorb({"type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": "no"}]}, 0)
    assert (item.role, item.kind, item.text) == ("user", "speech", "")


def test_a_final_status_is_not_taken_back() -> None:
    item = begun()
    item.absorb({"type": "message", "role": "assistant", "status": "completed"}, 0)
    item.absorb({"type": "message", "role": "assistant", "status": "in_progress"}, 0)
    assert item.status == "completed"
    item.status = "deleted"
    item.fail({"code": "late"})
    assert (item.status, item.error) == ("deleted", "late")


def test_text_that_no_column_can_hold_is_made_storable() -> None:
    item = begun()
    item.parts = ["a\0b"]
    assert item.text == "a\N{REPLACEMENT CHARACTER}b"
