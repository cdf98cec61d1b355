"""Recorded voice is replaced, and nothing else is touched."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import resource

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.realtime.redaction import MIN_AUDIO_CHARS, strip_audio

KEY = b"key"


def _item(audio: str) -> bytes:
    return b'{"type":"conversation.item.retrieved", "item":{"content":[{"audio" : "%s","x":1}]} }' % audio.encode()


def test_a_long_audio_string_becomes_its_length_and_hash_in_place() -> None:
    audio = b"\x01\x02\x03" * 1000
    frame, stripped = strip_audio(_item(base64.b64encode(audio).decode()), "conversation.item.retrieved", KEY)
    assert stripped
    digest = hmac.new(KEY, audio, hashlib.sha256).hexdigest()
    summary = f'{{"bytes":3000,"hmac_sha256":"{digest}"}}'
    expected = _item("MARK").replace(b'"MARK"', summary.encode())
    assert frame == expected


def test_short_audio_stays() -> None:
    frame = _item("A" * MIN_AUDIO_CHARS)
    assert strip_audio(frame, "conversation.item.retrieved", KEY) == (frame, False)


def test_an_audio_delta_is_replaced_however_short() -> None:
    frame, stripped = strip_audio(
        b'{"type":"response.output_audio.delta","delta":"AAAA"}', "response.output_audio.delta", KEY
    )
    assert stripped
    assert json.loads(frame)["delta"]["bytes"] == 3


def test_the_delta_of_a_transcript_stays() -> None:
    frame = b'{"type":"response.output_audio_transcript.delta","delta":"AAAA"}'
    assert strip_audio(frame, "response.output_audio_transcript.delta", KEY) == (frame, False)


def test_several_strings_and_escaped_slashes_are_found() -> None:
    audio = "a\\/b+" * 400
    both = b'[{"audio":"%s"},{"audio":"%s"}]' % (audio.encode(), audio.encode())
    frame, stripped = strip_audio(both, None, KEY)
    assert stripped
    assert [one["audio"]["bytes"] for one in json.loads(frame)] == [1200, 1200]


def test_escapes_of_any_kind_hide_no_audio() -> None:
    audio = bytes(range(256)) * 8
    text = base64.b64encode(audio).decode()
    escaped = text.replace("+", "\\u002B").replace("/", "\\u002f").replace("=", "\\u003D")
    assert escaped != text
    frame, stripped = strip_audio(_item(escaped), None, KEY)
    assert stripped
    assert json.loads(frame)["item"]["content"][0]["audio"]["bytes"] == len(audio)
    assert frame == strip_audio(_item(text), None, KEY)[0]


def test_a_string_that_is_no_base64_stays() -> None:
    for odd in ("A" * 2000 + '\\"' + "A" * 2000, "A" * 2000 + "\\n", "A" * 2000 + "\\u00e9", "ü" * 2000):
        frame = b'{"type":"x","audio":"%s"}' % odd.encode()
        assert strip_audio(frame, "x", KEY) == (frame, False)


def test_32_mib_of_audio_take_little_more_memory_than_they_are() -> None:
    frame = _item("A" * 32 * 1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, stripped = strip_audio(frame, None, KEY)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert stripped
    assert grown < 4 * len(frame)


def test_a_session_object_named_audio_stays() -> None:
    frame = json.dumps({"session": {"audio": {"input": {"format": "x" * 2000}}}}).encode()
    assert strip_audio(frame, "session.updated", KEY) == (frame, False)


@given(st.text(max_size=50), st.binary(min_size=900, max_size=1200))
def test_text_that_looks_like_audio_inside_a_string_stays(text: str, audio: bytes) -> None:
    speech = text + '"audio":"' + base64.b64encode(audio).decode() + '"'
    frame = json.dumps({"type": "x", "text": speech}).encode()
    assert strip_audio(frame, "x", KEY) == (frame, False)


@given(st.binary(min_size=1000, max_size=3000))
def test_what_is_left_is_json_that_differs_in_the_audio_only(audio: bytes) -> None:
    event = {"type": "t", "a": "ü\n", "item": {"audio": base64.b64encode(audio).decode(), "b": [1.5, None]}}
    frame, stripped = strip_audio(json.dumps(event).encode(), "t", KEY)
    found = json.loads(frame)
    assert stripped
    assert found["item"]["audio"]["bytes"] == len(audio)
    found["item"]["audio"] = event["item"]["audio"]  # type: ignore[index]
    assert found == event
