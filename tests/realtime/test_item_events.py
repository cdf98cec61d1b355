"""How items enter a conversation, what is in them, and what of them was missed."""

from __future__ import annotations

from tests.realtime.script import Script


def test_an_mcp_call_holds_its_own_output() -> None:
    call = Script()
    call.types("U1", "Look it up.")
    call.creates("R1")
    value = {"id": "M1", "type": "mcp_call", "server_label": "docs", "name": "search", "arguments": ""}
    call.puts_out("R1", value, "U1")
    call.delta("response.mcp_call_arguments.delta", "R1", "M1", '{"q":"x"}')
    call.send("response.mcp_call_arguments.done", response_id="R1", item_id="M1", arguments='{"q":"x"}')
    call.at(100).send("response.mcp_call.in_progress", item_id="M1", output_index=0)
    call.at(400).send("response.mcp_call.completed", item_id="M1", output_index=0)
    call.send("conversation.item.done", item={**value, "arguments": '{"q":"x"}', "output": "found"})
    call.ends("R1")
    [tool] = call.turns()[0].tools
    assert (tool.name, tool.call_id, tool.arguments, tool.output) == ("search", None, '{"q":"x"}', "found")
    assert (tool.latency_ms, tool.status) == (300, "completed")


def test_a_failed_mcp_call_keeps_its_error() -> None:
    call = Script()
    call.types("U1", "Look it up.")
    call.creates("R1")
    value = {"id": "M1", "type": "mcp_call", "server_label": "docs", "name": "search", "arguments": "{}"}
    call.puts_out("R1", value, "U1")
    call.send("response.mcp_call.in_progress", item_id="M1", output_index=0)
    call.send("response.mcp_call.failed", item_id="M1", output_index=0)
    call.send("conversation.item.done", item={**value, "error": {"type": "protocol_error", "code": 32000}})
    row = call.item("M1")
    assert (row.status, row.error) == ("failed", "protocol_error")
    assert call.turns()[0].tools[0].status == "failed"


def test_servers_lists_and_approvals_are_no_lines() -> None:
    call = Script()
    call.adds({"id": "L1", "type": "mcp_list_tools", "server_label": "docs", "tools": []}, None)
    call.types("U1", "Hello", "L1")
    call.adds({"id": "A1", "type": "mcp_approval_request", "name": "search", "arguments": "{}"}, "U1")
    assert call.texts() == [("user", "Hello")]
    assert not call.state.totals().missed


def test_an_attach_in_the_middle_of_an_answer_misses_something() -> None:
    call = Script()
    call.says_part("R1", "S1", "of the answer.")
    assert call.state.totals().missed
    call.ends_message("R1", "S1", "The end of the answer.")
    call.ends("R1")
    assert call.texts() == [("assistant", "The end of the answer.")]
    totals = call.state.totals()
    assert (totals.missed, totals.open_links, totals.broken) == (True, ("S1",), ("S1",))


def test_an_attach_between_two_turns_misses_something() -> None:
    call = Script()
    call.speaks("U2", 0, 1000, "S1")
    totals = call.state.totals()
    assert (totals.missed, totals.open_links, totals.turn_count) == (True, ("S1",), 1)


def test_a_predecessor_that_comes_later_was_not_missed() -> None:
    call = Script()
    call.types("U2", "second", "U1")
    assert call.state.totals().missed
    call.types("U1", "first")
    assert not call.state.totals().missed
    assert call.texts() == [("user", "first"), ("user", "second")]


def test_what_is_lost_later_in_the_call_was_not_before_the_attach() -> None:
    call = Script()
    call.speaks("U1", 0, 1000)
    call.speaks("U3", 5000, 6000, "S2")
    totals = call.state.totals()
    assert (totals.missed, totals.open_links) == (False, ("S2",))


def test_deleted_items_stay_in_the_transcript_and_count_as_seen() -> None:
    call = Script()
    call.types("U1", "secret")
    call.send("conversation.item.deleted", item_id="U1")
    call.types("U2", "again", "U1")
    assert [(line.text, line.status) for line in call.lines()] == [("secret", "deleted"), ("again", "completed")]
    assert not call.state.totals().missed


def test_deltas_that_differ_from_the_final_text_are_found() -> None:
    call = Script()
    call.types("U1", "Hi")
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    call.says_part("R1", "S1", "one three")
    call.ends_message("R1", "S1", "one two three")
    assert call.state.totals().broken == ("S1",)
    assert call.item("S1").text == "one two three"


def test_a_delta_changes_no_row() -> None:
    call = Script()
    call.types("U1", "Hi")
    call.creates("R1")
    call.begins_message("R1", "S1", "U1")
    assert call.delta("response.output_audio_transcript.delta", "R1", "S1", "a") is None
    assert call.delta("response.output_audio_transcript.delta", "R1", "S1", "b") is None
    assert call.delta("response.output_audio.delta", "R1", "S1", {"bytes": 1, "hmac_sha256": "x"}) is None
