"""What a machine does about orders, told as plays."""

from __future__ import annotations

from typing import Any

import pytest

from rtobserver.observation import commands, speech
from rtobserver.observation.effects import HangUp, Send
from rtobserver.observation.plan import Resumption
from rtobserver.realtime.entries import COMMAND, CommandRow, OrderRow, Record
from tests.observation.play import START, Play, plan

UPDATE = {"type": "session.update", "session": {"type": "realtime"}}
BUSY = "conversation_already_has_active_response"


def _attached() -> Play:
    play = Play()
    play.attach()
    return play


def _created(response_id: str, metadata: object = None) -> dict[str, Any]:
    return {
        "type": "response.created",
        "response": {"id": response_id, "conversation_id": "conv_1", "metadata": metadata},
    }


def _done(response_id: str, status: str = "completed") -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": response_id, "conversation_id": "conv_1", "status": status}}


def _error(event_id: str, code: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "code": code, "event_id": event_id}}


OURS = {"rtobserver": "operator"}


def test_a_command_is_recorded_then_sent_then_acknowledged() -> None:
    play = _attached()
    effects = play.order("ord_1", UPDATE)
    assert [type(effect) for effect in effects] == [Record, CommandRow, Send, OrderRow]
    record = play.records[-1]
    assert (record.kind, record.type, record.event_id) == (COMMAND, "session.update", "rto_1_2")
    assert play.sent == [{**UPDATE, "event_id": "rto_1_2"}]
    assert play.orders["ord_1"].state == "sent"
    play.wait(0.1)
    play.frame({"type": "session.updated", "session": {}})
    assert (play.commands["rto_1_2"].state, play.commands["rto_1_2"].acknowledged_at) == ("acknowledged", play.at)
    row = play.orders["ord_1"]
    assert (row.state, row.event_id, row.sent_at, row.acknowledged_at) == ("acknowledged", "rto_1_2", START, play.at)
    assert not play.machine.control.is_attentive, "frames are left alone again"


@pytest.mark.parametrize(
    ("command", "others", "acknowledgement"),
    [
        (
            {"type": "conversation.item.delete", "item_id": "a"},
            [{"type": "conversation.item.deleted", "item_id": "b"}],
            {"type": "conversation.item.deleted", "item_id": "a"},
        ),
        (
            {"type": "conversation.item.retrieve", "item_id": "a"},
            [{"type": "conversation.item.retrieved", "item": {"id": "b"}}],
            {"type": "conversation.item.retrieved", "item": {"id": "a"}},
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 5},
            [],
            {"type": "conversation.item.truncated", "item_id": "a"},
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "message"}},
            [{"type": "conversation.item.added", "item": {"id": "b"}}],
            {"type": "conversation.item.added", "item": {"id": "rto_1_2"}},
        ),
        (
            {"type": "conversation.item.create", "item": {"id": "mine", "type": "message"}},
            [],
            {"type": "conversation.item.created", "item": {"id": "mine"}},
        ),
        (
            {"type": "response.cancel", "response_id": "r"},
            [_done("q", "cancelled"), _done("r")],
            _done("r", "cancelled"),
        ),
        ({"type": "response.cancel"}, [_done("q")], _done("q", "cancelled")),
        (
            {"type": "response.create", "response": {"metadata": {"a": "b"}}},
            [_created("q")],
            _created("r", {"a": "b"}),
        ),
        (
            {"type": "response.create", "response": {"conversation": "none"}},
            [_created("q")],
            {"type": "response.created", "response": {"id": "r", "conversation_id": None}},
        ),
        ({"type": "output_audio_buffer.clear"}, [], {"type": "output_audio_buffer.cleared"}),
        ({"type": "input_audio_buffer.commit"}, [], {"type": "input_audio_buffer.committed", "item_id": "a"}),
    ],
)
def test_an_acknowledgement_is_tied_to_its_command(
    command: dict[str, object], others: list[dict[str, object]], acknowledgement: dict[str, object]
) -> None:
    play = _attached()
    play.order("ord_1", command)
    for other in others:
        play.frame(other)
        assert play.orders["ord_1"].state == "sent"
    play.frame(acknowledgement)
    assert play.orders["ord_1"].state == "acknowledged"
    play.frame(acknowledgement)
    assert sum(row.state == "acknowledged" for row in play.of(OrderRow)) == 1


def test_acknowledgements_of_like_commands_come_in_the_order_of_the_commands() -> None:
    play = _attached()
    play.order("ord_1", UPDATE)
    play.order("ord_2", UPDATE)
    play.frame({"type": "session.updated"})
    assert (play.orders["ord_1"].state, play.orders["ord_2"].state) == ("acknowledged", "sent")


def test_an_error_that_names_the_command_is_its_failure() -> None:
    play = _attached()
    play.order("ord_1", UPDATE)
    play.frame(_error("somebody's", "invalid_value"))
    assert play.orders["ord_1"].state == "sent"
    play.frame(_error("rto_1_2", "unknown_parameter"))
    assert (play.orders["ord_1"].state, play.orders["ord_1"].error) == ("failed", "unknown_parameter")
    assert play.commands["rto_1_2"].state == "failed"


@pytest.mark.parametrize("ending", ["close", "drain", "time", "unsent"])
def test_what_cannot_be_known_any_more_is_unknown(ending: str) -> None:
    play = _attached()
    play.order("ord_1", UPDATE)
    if ending == "close":
        play.close()
    elif ending == "drain":
        play.drain()
    elif ending == "unsent":
        play.unsent("rto_1_2")
    else:
        play.wait(commands.PATIENCE)
        play.wake()
    assert play.commands["rto_1_2"].state == "unknown"
    assert play.orders["ord_1"].state == "sent"
    assert play.orders["ord_1"].error
    play.frame({"type": "session.updated"}) if ending != "drain" else None
    assert play.commands["rto_1_2"].state == "unknown"


def test_an_order_waits_for_the_sideband() -> None:
    play = _attached()
    play.close()
    assert play.order("ord_1", UPDATE) == []
    play.wait(2)
    play.attach()
    assert play.orders["ord_1"].state == "sent"


def test_an_order_that_waited_ten_seconds_expires() -> None:
    play = _attached()
    play.close()
    play.order("ord_1", UPDATE, age=4.0)
    assert play.machine.wake_at() == play.now + 6.0
    play.wait(6.0)
    play.wake()
    play.attach()
    assert play.orders["ord_1"].state == "expired"
    assert not play.sent


def test_orders_that_wait_are_given_back_at_a_drain_and_fail_at_the_end() -> None:
    for ending, state in (("drain", "waiting"), ("end", "failed")):
        play = _attached()
        play.frame(_created("r"))
        play.order("ord_1", {"type": "say", "text": "Hello"})
        if ending == "drain":
            play.drain()
        else:
            play.close()
            play.fail(404)
        assert play.orders["ord_1"].state == state
        assert not play.sent
        play.order("ord_2", UPDATE)
        assert play.orders["ord_2"].state == state, "so does one that comes later"


def test_words_are_said_when_no_response_is_active() -> None:
    play = _attached()
    play.frame(_created("r"))
    play.order("ord_1", {"type": "say", "text": "Hello there"})
    assert not play.sent
    play.frame(_done("other"))
    assert not play.sent
    play.frame(_done("r"))
    [event] = play.sent
    assert "Hello there" in event["response"]["instructions"]
    assert (event["response"]["conversation"], event["response"]["metadata"]) == ("auto", OURS)
    play.frame(_created("s", OURS))
    assert play.orders["ord_1"].state == "acknowledged"


def test_words_follow_one_another() -> None:
    play = _attached()
    for number in (1, 2):
        play.order(f"ord_{number}", {"type": "say", "text": str(number)})
    assert len(play.sent) == 1
    play.frame(_created("r", OURS))
    assert len(play.sent) == 1
    play.frame(_done("r"))
    assert len(play.sent) == 2


def test_an_out_of_band_response_holds_nothing_up() -> None:
    play = _attached()
    play.order("ord_0", UPDATE)
    play.frame({"type": "response.created", "response": {"id": "r", "conversation_id": None}})
    play.order("ord_1", {"type": "say", "text": "Hello"})
    assert len(play.sent) == 2


def test_a_refusal_because_of_another_response_is_tried_again_once() -> None:
    play = _attached()
    play.order("ord_1", {"type": "say", "text": "Hello"})
    play.frame(_created("r"))
    play.frame(_error(play.sent[0]["event_id"], BUSY))
    assert play.orders["ord_1"].state == "sent"
    assert len(play.sent) == 1
    play.frame(_done("r"))
    assert len(play.sent) == 2
    assert play.sent[0]["event_id"] != play.sent[1]["event_id"]
    play.frame(_error(play.sent[1]["event_id"], BUSY))
    assert (play.orders["ord_1"].state, play.orders["ord_1"].error) == ("failed", BUSY)
    assert len(play.sent) == 2


def test_a_response_that_nobody_announced_is_waited_for_all_the_same() -> None:
    play = _attached()
    play.order("ord_1", {"type": "say", "text": "Hello"})
    play.frame(_error(play.sent[0]["event_id"], BUSY))
    assert len(play.sent) == 1
    play.frame(_done("unseen"))
    assert len(play.sent) == 2


def test_a_refused_wish_does_not_wait_for_ever() -> None:
    play = _attached()
    play.order("ord_1", {"type": "say", "text": "Hello"})
    play.frame(_error(play.sent[0]["event_id"], BUSY))
    assert play.machine.wake_at() == play.now + speech.RETRY_SECONDS
    play.wait(speech.RETRY_SECONDS)
    play.wake()
    assert len(play.sent) == 2


def test_a_response_whose_end_may_have_been_missed_holds_nothing_up() -> None:
    play = _attached()
    play.frame(_created("r"))
    play.close()
    play.attach()
    play.order("ord_1", {"type": "say", "text": "Hello"})
    assert len(play.sent) == 1


def test_words_that_cannot_be_said_in_time_expire() -> None:
    play = _attached()
    play.frame(_created("r"))
    play.order("ord_1", {"type": "say", "text": "Hello"})
    play.wait(10)
    play.wake()
    play.frame(_done("r"))
    assert play.orders["ord_1"].state == "expired"
    assert not play.sent


def test_a_hang_up_is_settled_by_upstreams_answer() -> None:
    play = _attached()
    play.order("ord_1", {"type": "hangup"})
    assert len(play.of(HangUp)) == 1
    play.order("ord_2", {"type": "hangup"})
    assert len(play.of(HangUp)) == 1, "a second order changes nothing"
    play.hung_up(True)
    assert {row.state for row in play.orders.values()} == {"acknowledged"}


def test_a_hang_up_that_upstream_refuses_has_failed() -> None:
    play = _attached()
    play.order("ord_1", {"type": "hangup"})
    play.hung_up(None)
    assert play.orders["ord_1"].state == "failed"


@pytest.mark.parametrize(
    "ending",
    [
        {"type": "output_audio_buffer.stopped", "response_id": "r"},
        {"type": "output_audio_buffer.cleared", "response_id": "r"},
        _done("r", "failed"),
        _done("r", "cancelled"),
    ],
)
def test_a_call_is_hung_up_when_the_goodbye_was_heard_or_cannot_be(ending: dict[str, Any]) -> None:
    play = _attached()
    play.order("ord_1", {"type": "hangup", "goodbye": "Bye", "after": 20.0})
    assert "Bye" in play.sent[0]["response"]["instructions"]
    play.frame(_created("r", OURS))
    play.frame({"type": "output_audio_buffer.started", "response_id": "r"})
    play.frame({"type": "output_audio_buffer.stopped", "response_id": "other"})
    play.frame(_done("other", "failed"))
    assert not play.of(HangUp)
    play.frame(ending)
    assert len(play.of(HangUp)) == 1
    play.hung_up(True)
    assert play.orders["ord_1"].state == "acknowledged"


@pytest.mark.parametrize("stuck", ["unsaid", "unacknowledged", "unheard"])
def test_a_goodbye_has_its_time_and_no_more(stuck: str) -> None:
    play = _attached()
    if stuck == "unsaid":
        play.frame(_created("long"))
    play.order("ord_1", {"type": "hangup", "goodbye": "Bye", "after": 3.0})
    if stuck == "unheard":
        play.frame(_created("r", OURS))
    play.wait(2.9)
    play.wake()
    assert not play.of(HangUp)
    play.wait(0.2)
    play.wake()
    assert len(play.of(HangUp)) == 1


def test_a_goodbye_that_upstream_refuses_does_not_keep_the_call_alive() -> None:
    play = _attached()
    play.order("ord_1", {"type": "hangup", "goodbye": "Bye"})
    play.frame(_error(play.sent[0]["event_id"], "insufficient_quota"))
    assert len(play.of(HangUp)) == 1


def test_a_goodbye_is_cut_short_where_the_sideband_is_gone() -> None:
    play = _attached()
    play.order("ord_1", {"type": "hangup", "goodbye": "Bye"})
    play.close()
    assert len(play.of(HangUp)) == 1


def test_tags_are_a_set_that_keeps_its_order() -> None:
    play = Play(resumption=Resumption(watermark=START, last_position="1:5", was_live=True, tags=("old",)), epoch=2)
    play.attach()
    play.order("ord_1", {"type": "tags", "add": ["b", "a", "b"], "remove": []})
    assert play.columns["tags"] == ["old", "b", "a"]
    play.order("ord_2", {"type": "tags", "add": ["old"], "remove": ["b", "z"]})
    assert play.columns["tags"] == ["old", "a"]
    assert {row.state for row in play.orders.values()} == {"acknowledged"}
    assert [record.type for record in play.records if record.kind == COMMAND] == ["tags", "tags"]


def test_a_call_that_nobody_observes_can_be_hung_up_and_nothing_else() -> None:
    play = Play(plan(attach_timeout=0.0))
    play.order("ord_1", UPDATE)
    play.fail(503)
    assert play.orders["ord_1"].state == "failed"
    play.order("ord_2", {"type": "hangup"})
    assert len(play.of(HangUp)) == 1


def test_recorded_commands_hold_no_voice() -> None:
    play = _attached()
    audio = "AAAA" * 1000
    play.order("ord_1", {"type": "input_audio_buffer.append", "audio": audio})
    assert play.sent[0]["audio"] == audio
    assert audio.encode() not in play.records[-1].payload
