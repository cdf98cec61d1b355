"""Envelopes are read from whatever arrives, and embedding is judged by the grammar."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.realtime.events import Event, depth, fields, read


def test_the_head_of_an_event_is_read() -> None:
    frame = b'{"type":"t","event_id":"e","item_id":"i","response_id":"r","delta":"d","other":{"type":"x"}}'
    assert read(frame) == (Event("t", "e", "i", "r", "d"), True)


@pytest.mark.parametrize(
    ("frame", "embeddable"),
    [
        (b"", False),
        (b" ", False),
        (b"{}", True),
        (b"null", True),
        (b"[1,2]", True),
        (b'"text"', True),
        (b'{"a":"\\u0000"}', True),
        (b'{"a":"\x00"}', False),
        (b'{"a":"\t"}', False),
        (b'{"a":"\\ud83d"}', True),
        (b'{"a":"\\ude00\\ud83d"}', True),
        (b'{"a":NaN}', False),
        (b'{"a":-Infinity}', False),
        (b'{"a":1e999}', True),
        (b'{"a":' + b"9" * 5000 + b"}", True),
        (b'{"a":01}', False),
        (b'{"a":1,}', False),
        (b'{"a":1} x', False),
        (b'{"a":1}{"a":1}', False),
        (b"\xef\xbb\xbf{}", False),
        (b'{"a":"\xff"}', False),
        (b'{"a":"\xed\xa0\xbd"}', False),
        ('{"a":"ü😀\u2028"}'.encode(), True),
        ('{"a":"ü"}'.encode("utf-16"), False),
        (b'{"a":1,"a":2}', True),
        (b'{\n"a":1}', False),
        (b'{\r"a":1}', False),
        (b'{"a":"\\n"}', True),
        (b"[" * 100 + b"]" * 100, True),
        (b"[" * 101 + b"]" * 101, False),
        (b'["' + b"[" * 500 + b'"]', True),
        (b"[" * 5000, False),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, False),
    ],
)
def test_what_can_be_embedded_is_strict_json_on_one_line_of_bounded_depth(frame: bytes, *, embeddable: bool) -> None:
    assert read(frame)[1] is embeddable


@pytest.mark.parametrize(
    "frame",
    [b'{"type":3,"event_id":"e"}', b'{"type":null,"event_id":"e"}', b'{"type":["a"],"event_id":"e"}'],
)
def test_a_head_of_the_wrong_type_counts_as_absent(frame: bytes) -> None:
    event, embeddable = read(frame)
    assert (event.type, event.event_id, embeddable) == (None, "e", True)


def test_text_that_no_database_could_hold_counts_as_absent() -> None:
    event, embeddable = read(b'{"type":"\\ud83d","event_id":"e"}')
    assert (event.type, event.event_id, embeddable) == (None, "e", True)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(frame: bytes) -> None:
    event, _ = read(frame)
    for name in Event.__struct_fields__:
        value = getattr(event, name)
        assert value is None or value.encode() is not None
    assert isinstance(fields(frame), dict)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(_json, st.booleans())
def test_the_judgement_agrees_with_the_standard_library(value: object, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        frame = text.encode()
        json.loads(frame, parse_constant=refuse)
        valid = True
    except UnicodeEncodeError:
        return
    except ValueError:
        valid = False
    assert read(frame)[1] is valid


@given(st.integers(0, 150), st.text(max_size=5))
def test_depth_counts_brackets_outside_of_strings(levels: int, text: str) -> None:
    frame = b"[" * levels + json.dumps(text + '["\\').encode() + b"]" * levels
    assert depth(frame) == levels
