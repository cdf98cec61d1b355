from __future__ import annotations

import pytest

from rtobserver.realtime.response import Response


def ended(**fields: object) -> Response:
    response = Response("R1", 1, 1)
    for name, value in fields.items():
        setattr(response, name, value)
    return response


@pytest.mark.parametrize(
    ("fields", "interrupted"),
    [
        ({}, False),
        ({"reason": "turn_detected"}, True),
        ({"reason": "client_cancelled"}, False),
        ({"cleared": True}, True),
        ({"truncated": True}, True),
        ({"cleared": True, "reason": "client_cancelled"}, False),
        ({"cleared": True, "reason": "client_cancelled", "barged": True}, True),
        ({"barged": True}, True),
        ({"barged": True, "null_conversation": True}, False),
    ],
)
def test_an_interruption_is_the_user_s_doing(fields: dict[str, object], interrupted: bool) -> None:
    assert ended(**fields).is_interrupted is interrupted


def test_a_response_whose_items_joined_the_conversation_is_not_out_of_band() -> None:
    assert ended(null_conversation=True).is_out_of_band
    assert not ended(null_conversation=True, in_conversation=True).is_out_of_band


def test_a_latency_is_never_negative() -> None:
    response = ended(user_end=2000, first_output_at=1000, generated_first=True)
    assert response.generation_latency_ms is None
    response.first_output_at = 5000
    assert response.generation_latency_ms == 3


def test_only_the_first_of_a_turn_has_a_latency() -> None:
    assert ended(user_end=0, first_output_at=5000, playback_started_at=9000).make_row().heard_latency_ms is None


def test_played_time_is_known_only_for_what_was_cleared() -> None:
    assert ended(playback_started_at=1, playback_ended_at=5).cleared_after_us is None
    assert ended(playback_started_at=1, playback_ended_at=5, cleared=True).cleared_after_us == 4
    assert ended(playback_ended_at=5, cleared=True).cleared_after_us is None
