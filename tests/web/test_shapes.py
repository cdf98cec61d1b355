from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.store.entries import Entry
from rtobserver.store.tables import FLAG_JSON
from rtobserver.web import shapes


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_time_is_exact_to_the_microsecond(microseconds: int) -> None:
    text = shapes.time(microseconds)
    assert text is not None
    assert len(text) == len("2026-01-01T00:00:00.000000Z")
    moment = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert (moment.days * 86400 + moment.seconds) * 1_000_000 + moment.microseconds == microseconds


@given(st.text() | st.none(), st.text() | st.none())
def test_an_entry_is_one_line_whatever_its_type(kind: str | None, event_id: str | None) -> None:
    line = shapes.entry(Entry(1, 2, 1, 0, 1500, kind, event_id, FLAG_JSON, b'{"a":1}'))
    assert b"\n" not in line
    found = json.loads(line)
    assert (found["type"], found["event_id"], found["payload"]) == (kind, event_id, {"a": 1})
    assert found["offset_ms"] == 1.5


@pytest.mark.parametrize(("word", "number"), shapes.KINDS.items())
def test_every_kind_has_its_word(word: str, number: int) -> None:
    assert json.loads(shapes.entry(Entry(1, 2, number, 0, 0, None, None, 0, b"")))["kind"] == word
