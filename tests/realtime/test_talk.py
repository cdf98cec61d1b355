from __future__ import annotations

import json
from typing import Any

from rtobserver.realtime.talk import TYPES, WORDS_CHARACTERS, Talk

DELTA = "response.output_audio_transcript.delta"
DONE = "response.output_audio_transcript.done"
HEARD = "conversation.item.input_audio_transcription.completed"
HEARING = "conversation.item.input_audio_transcription.delta"


def told(talk: Talk, type_: str, **fields: Any) -> None:
    talk.take(type_, json.dumps({"type": type_, **fields}).encode())


def test_deltas_of_one_line_are_joined_and_those_of_the_next_begin_anew() -> None:
    talk = Talk()
    told(talk, DELTA, item_id="a", delta="Good ")
    told(talk, DELTA, item_id="a", delta="day.")
    assert talk.assistant.words == "Good day."
    told(talk, DELTA, item_id="b", delta="How")
    assert talk.assistant.words == "How"
    told(talk, HEARING, item_id="c", delta="Well")
    assert (talk.user.words, talk.assistant.words) == ("Well", "How")


def test_the_final_text_takes_the_place_of_deltas_that_were_missed() -> None:
    talk = Talk(assistant="before")
    told(talk, DELTA, item_id="a", delta="rd half.")
    told(talk, DONE, item_id="a", transcript="The third half.")
    assert talk.assistant.words == "The third half."
    told(talk, HEARD, item_id="b", transcript="  ")
    assert talk.user.words == ""
    told(talk, HEARD, item_id="b", transcript="Yes.")
    assert talk.user.words == "Yes."


def test_only_the_end_of_a_line_is_kept() -> None:
    talk = Talk(user="x" * 10_000)
    assert len(talk.user.words) == WORDS_CHARACTERS
    for _ in range(1000):
        told(talk, DELTA, item_id="a", delta="long ")
    told(talk, DELTA, item_id="a", delta="end")
    assert len(talk.assistant.words) == WORDS_CHARACTERS
    assert talk.assistant.words.endswith("long end")


def test_who_speaks_is_told_by_the_buffers() -> None:
    talk = Talk()
    for type_, user, assistant in (
        ("input_audio_buffer.speech_started", True, False),
        ("output_audio_buffer.started", True, True),
        ("output_audio_buffer.cleared", True, False),
        ("input_audio_buffer.speech_stopped", False, False),
        ("input_audio_buffer.speech_started", True, False),
        ("input_audio_buffer.committed", False, False),
        ("output_audio_buffer.started", False, True),
        ("output_audio_buffer.stopped", False, False),
    ):
        told(talk, type_)
        assert (talk.is_user_speaking, talk.is_assistant_speaking) == (user, assistant), type_


def test_what_is_typed_is_the_users_line_and_other_items_are_not() -> None:
    talk = Talk()
    content = [{"type": "input_text", "text": "I typed"}, {"type": "input_image", "image_url": "data:"}]
    told(talk, "conversation.item.added", item={"id": "a", "role": "user", "content": content})
    told(talk, "conversation.item.added", item={"id": "b", "role": "system", "content": content})
    assert (talk.user.words, talk.assistant.words) == ("I typed", "")


def test_what_belongs_to_no_conversation_is_nobodys_line() -> None:
    talk = Talk()
    told(talk, "response.created", response={"id": "aside", "conversation_id": None})
    told(talk, "response.created", response={"id": "said"})
    told(talk, DELTA, response_id="aside", item_id="a", delta="a judgement")
    told(talk, DONE, response_id="aside", item_id="a", transcript="a judgement")
    assert talk.assistant.words == ""
    told(talk, DELTA, response_id="said", item_id="b", delta="an answer")
    assert talk.assistant.words == "an answer"


def test_whatever_comes_changes_nothing_or_is_storable() -> None:
    talk = Talk()
    for type_ in (*TYPES, "unknown"):
        for payload in (b"", b"{", b"[]", b'{"delta": 1, "item": [], "response": 7}', b"\xff"):
            talk.take(type_, payload)
    assert (talk.user.words, talk.assistant.words) == ("", "")
    talk.take(DELTA, b'{"item_id": "a", "delta": "\\ud800\\u0000"}')
    assert talk.assistant.words in ("", "?\N{REPLACEMENT CHARACTER}")


def test_old_names_of_events_are_known() -> None:
    talk = Talk()
    told(talk, "response.audio_transcript.delta", item_id="a", delta="old")
    assert talk.assistant.words == "old"
    assert "response.audio_transcript.delta" in TYPES
