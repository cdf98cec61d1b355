from __future__ import annotations

from rtobserver.realtime.fold import MAX_NAMED, Fold
from rtobserver.realtime.item import Item


def tool_call(fold: Fold, number: int) -> Item:
    item = fold.introduce_item(f"F{number}")
    assert item is not None
    fold.complete_item(item, {"type": "function_call", "call_id": f"call_{number}", "name": "look", "arguments": "{}"})
    return item


def test_a_tool_is_waited_for_until_its_output_comes() -> None:
    fold = Fold()
    tool_call(fold, 1)
    assert list(fold.waiting_tools) == ["call_1"]
    output = fold.introduce_item("O1")
    assert output is not None
    fold.complete_item(output, {"type": "function_call_output", "call_id": "call_1", "output": "seen"})
    assert fold.waiting_tools == {}
    assert (output.tool_name, output.text, output.status) == ("look", "seen", "completed")


def test_only_so_many_tools_are_waited_for() -> None:
    fold = Fold()
    for number in range(MAX_NAMED + 10):
        tool_call(fold, number)
    assert len(fold.waiting_tools) == MAX_NAMED


def test_naming_an_item_is_not_announcing_it() -> None:
    fold = Fold()
    named = fold.name_item("S1")
    assert named is not None
    assert not named.introduced
    assert list(fold.talk.absent) == ["S1"]
    assert fold.introduce_item("S1") is named
    assert list(fold.talk.absent) == []


def test_what_is_no_id_is_no_item() -> None:
    fold = Fold()
    values: list[object] = [None, "", 3, {}, "x" * 1000]
    for value in values:
        assert fold.name_item(value) is None
        assert fold.introduce_item(value) is None
